#!/bin/bash
# hull exec a thousand times in a row: every exit status right, and nothing grows or stays, on the host or in the guest.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
bundle "$work/b" "$work/rootfs" sh -c 'while :; do sleep 1000; done'
"$hull" run -d -b "$work/b" c </dev/null >/dev/null 2>&1
descriptors() { for program in hull-vmm hull-fsd; do find "/proc/$(pgrep -x "$program")/fd" | wc -l; done; }
# Of the guest: what the container can see, and what its cgroup counts.
guest() { "$hull" exec c sh -c 'ls -d /proc/[0-9]* | wc -l; cat /sys/fs/cgroup/cgroup.procs | wc -l'; }
host() {
	descriptors
	pgrep -c -x 'hull.*'
	find /run/hull | wc -l
	grep -c hull /proc/net/unix
	wc -l </proc/mounts
	find /sys/fs/cgroup -type d | wc -l
}
memory() { # RSS of all that hull runs, the guest's memory included, KiB
	local pid
	for pid in $(pgrep -x 'hull-vmm|hull-fsd'); do cat "/proc/$pid/smaps_rollup"; done | awk '/^Rss:/ { sum += $2 } END { print sum }'
}

for _ in $(seq 100); do "$hull" exec c true </dev/null; done
before="$(host) $(guest)" memory=$(memory) wrong=0
for ((i = 1; i <= 1000; i++)); do
	output=$("$hull" exec c sh -c "echo $i; exit $((i % 256))" </dev/null 2>&1)
	[ $? = $((i % 256)) ] && [ "$output" = "$i" ] || { wrong=$((wrong + 1)) && echo "# $i: $output"; }
done
same "1,000 in a row: every exit status and output" 0 "$wrong"
same "descriptors, processes, files, sockets, mounts and cgroups have not grown" "$before" "$(host) $(guest)"
grown=$(($(memory) - memory))
check "memory, the guest's included, has grown by less than 4 MiB ($grown KiB)" [ "$grown" -lt 4096 ]
"$hull" delete --force c
same "nothing is left" "" "$(leftovers)"
