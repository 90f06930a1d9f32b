#!/bin/bash
# 200 containers one after another and 50 at once leave nothing behind.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
bundle "$work/b" "$work/rootfs" sh -c 'echo out; echo err >&2; exit 5'

snapshot() { # what a leak would change
	ls /proc/self/fd | wc -l
	wc -l </proc/mounts
	find /sys/fs/cgroup -type d | wc -l
	# What lies on the build machine's own file system would show what goes on there.
	find /run /dev/shm -xdev 2>/dev/null | grep -v -e "$work" | wc -l
	wc -l </proc/net/unix
	ps --ppid 2 -p 2 --deselect -o comm= | grep -c . # without the kernel's own
}
"$hull" run --bundle "$work/b" warm >/dev/null 2>&1 </dev/null
before=$(snapshot)
wrong=0
began=$SECONDS
for i in $(seq 200); do
	output=$("$hull" run --bundle "$work/b" "one$i" 2>/dev/null </dev/null)
	[ "$?/$output" = 5/out ] || wrong=$((wrong + 1))
done
same "200 containers one after another: those that went wrong" 0 "$wrong"
echo "# 200 one after another took $((SECONDS - began)) s"
same "they leave nothing" "" "$(leftovers)"

began=$SECONDS
for i in $(seq 50); do
	("$hull" run --bundle "$work/b" "many$i" >"$work/out$i" 2>"$work/err$i" </dev/null; echo $? >"$work/status$i") &
	children+=" $!"
done
wait $children
echo "# 50 at once took $((SECONDS - began)) s"
wrong=""
for i in $(seq 50); do
	[ "$(cat "$work/status$i")/$(cat "$work/out$i")/$(cat "$work/err$i")" = 5/out/err ] ||
		wrong+="$i: $(cat "$work/status$i" "$work/err$i" | tr '\n' ' ')
"
done
same "50 containers at once: those that went wrong" "" "$wrong"
same "they leave nothing" "" "$(leftovers)"
same "descriptors, mounts, cgroups, files, sockets, processes as before" "$before" "$(snapshot)"
echo "# before, and after: $(xargs <<<"$before")"
