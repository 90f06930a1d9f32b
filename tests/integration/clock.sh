#!/bin/bash
# The guest's wall clock is the host's: soon after the start, when the host's is set, and after the machine has stood still.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
probe=$repository/build/tests/clock_probe
cp "$probe" "$work/rootfs/probe"
bundle "$work/b" "$work/rootfs" /probe answer
mkfifo "$work/in" "$work/out"
"$hull" run --bundle "$work/b" --pid-file "$work/pid" clock <"$work/in" >"$work/out" 2>"$work/err" &
exec 3>"$work/in" 4<"$work/out"

# How far the guest is ahead, in microseconds, and by how much that may be wrong.
look() { "$probe" ask 2>&1 >&3 <&4; }
# is_within MICROSECONDS: beyond what cannot be told apart
is_within() {
	local ahead uncertainty
	read -r ahead uncertainty <<<"$(look)"
	seen="$ahead ± $uncertainty us"
	[ "${ahead#-}" -le $(($1 + uncertainty)) ]
}
comes_within() { # DESCRIPTION MICROSECONDS SECONDS
	local end=$(($(monotonic) + $3))
	while ! is_within "$2"; do
		if [ "$(monotonic)" -ge "$end" ]; then
			not_ok "$1" "$seen"
			return
		fi
		sleep 1
	done
	ok "$1 ($seen)"
}
monotonic() { cut -d. -f1 /proc/uptime; }

comes_within "the first comparison" 2000 240
date -s "@$(($(date +%s) + 100000))" >/dev/null
comes_within "the host's clock is set forward" 20000 120
date -s "@$(($(date +%s) - 100000))" >/dev/null
comes_within "and back" 20000 120
"$hull" pause clock
sleep 3
"$hull" resume clock
comes_within "after a pause of 3 s" 50000 120
kill -STOP "$(cat "$work/pid")"
sleep 5
kill -CONT "$(cat "$work/pid")"
comes_within "after the machine has stood still for 5 s" 50000 120
exec 3>&- 4<&-
wait
"$hull" delete --force clock
same "nothing is left" "" "$(leftovers)"
