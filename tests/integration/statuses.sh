#!/bin/bash
# Exit statuses with each kind of C library: what a process says itself, and what a signal makes of it.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/busybox"
rootfs_musl "$work/musl"
rootfs_debian "$work/debian"

ends_with() { # DESCRIPTION STATUS ROOTFS ARG...
	local description=$1 expected=$2 rootfs=$3
	shift 3
	bundle "$work/b" "$rootfs" "$@"
	"$hull" run -b "$work/b" status </dev/null >"$work/out" 2>"$work/err"
	same "$description" "$expected, stderr: " "$?, stderr: $(cat "$work/err")"
}
is_killed() { # DESCRIPTION ROOTFS ARG...: while it waits
	local description=$1 rootfs=$2 pid
	shift 2
	bundle "$work/b" "$rootfs" "$@"
	"$hull" run -b "$work/b" status </dev/null >"$work/out" 2>"$work/err" &
	pid=$!
	wait_for test -s "$work/out"
	check "$description" "$hull" kill status KILL
	wait_for has_ended "$pid" || kill -KILL "$pid"
	wait "$pid"
	same "$description: exit status" 137 $?
}

for status in 0 1 42 137 143; do
	ends_with "musl: exit status $status" $status "$work/musl" /bin/program $status
	for rootfs in busybox debian; do
		ends_with "$rootfs: exit status $status" $status "$work/$rootfs" /bin/sh -c "exit $status"
	done
done
is_killed "musl: hull kill" "$work/musl" /bin/program wait
for rootfs in busybox debian; do
	is_killed "$rootfs: hull kill" "$work/$rootfs" /bin/sh -c 'echo waits; while :; do sleep 1; done'
	# Of the first process of a pid namespace SIGTERM is only what it has a handler for; its children know no such thing.
	for signal in TERM KILL; do
		ends_with "$rootfs: a child that SIG$signal ends" $((128 + $(kill -l $signal))) "$work/$rootfs" \
			/bin/sh -c "exec 2>/dev/null; sh -c 'kill -$signal \$\$'; exit \$?"
	done
done
umount "$work/debian"
same "nothing is left" "" "$(leftovers)"
