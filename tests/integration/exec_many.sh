#!/bin/bash
# hull exec a thousand times in a row: every exit status right, and nothing grows.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
bundle "$work/b" "$work/rootfs" sh -c 'while :; do sleep 1; done'
"$hull" run -d -b "$work/b" c </dev/null >/dev/null 2>&1
vmm=$(pgrep -x hull-vmm)
descriptors() { find "/proc/$vmm/fd" | wc -l; }
processes() { "$hull" exec c sh -c 'find /proc -maxdepth 1 -name "[0-9]*" | wc -l'; }
memory() { awk '/^Rss:/ { print $2 }' "/proc/$vmm/smaps_rollup"; }

for _ in $(seq 100); do "$hull" exec c true </dev/null; done
before="$(descriptors) $(processes)" memory=$(memory) wrong=0
for i in $(seq 1000); do
	"$hull" exec c sh -c "echo $i; exit $((i % 256))" </dev/null >"$work/out" 2>&1
	[ $? = $((i % 256)) ] && [ "$(cat "$work/out")" = "$i" ] || wrong=$((wrong + 1))
done
same "1,000 in a row: every exit status and output" 0 "$wrong"
same "descriptors of hull-vmm and processes of the guest have not grown" "$before" "$(descriptors) $(processes)"
grown=$(($(memory) - memory))
check "hull-vmm, guest included, has grown by less than 4 MiB ($grown KiB)" [ "$grown" -lt 4096 ]
"$hull" delete --force c
same "nothing is left" "" "$(leftovers)"
