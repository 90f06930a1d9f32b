#!/bin/bash
# Terminals: a person at a shell, vi, less and top; job control; sizes; hang-ups; and engines with console sockets, beside
# runc.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
for name in shell hull-console runc-console; do
	bundle "$work/$name" "$work/rootfs" sh
	edit "$work/$name" '.process.terminal = true | .process.env += ["PS1=# "]'
done
bundle "$work/c" "$work/rootfs" sh -c 'while :; do sleep 1; done'
edit "$work/c" '.process.env += ["PS1=# "]'
"$hull" run -d -b "$work/c" c </dev/null >/dev/null 2>&1
python3 "$(dirname "$0")/terminal.py" "$hull" "$work"
"$hull" delete --force c
"$hull" delete --force person
"$hull" delete --force console

refused() { # DESCRIPTION PATTERN COMMAND...
	local description=$1 pattern=$2 output
	shift 2
	output=$("$@" </dev/null 2>&1)
	if [ $? -ne 0 ] && grep -q "$pattern" <<<"$output"; then ok "$description"; else not_ok "$description" "$output"; fi
}
refused "create with a terminal and no console socket" "cannot allocate tty" "$hull" create -b "$work/shell" t
refused "run -d with a terminal and no console socket" "cannot allocate tty" "$hull" run -d -b "$work/shell" t
refused "run with a console socket" "cannot use console socket" "$hull" run --console-socket /tmp/x -b "$work/shell" t
refused "create without a terminal, with a console socket" "cannot use console socket" \
	"$hull" create --console-socket /tmp/x -b "$work/c" t
refused "a console socket that is not there" "console socket" "$hull" create --console-socket "$work/none" -b "$work/shell" t
refused "run with a terminal where there is none" "/dev/tty" setsid -w "$hull" run -b "$work/shell" t
same "at the end nothing is left" "" "$(leftovers)"
