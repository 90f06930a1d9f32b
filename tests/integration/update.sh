#!/bin/bash
# hull update: limits changed while a container runs, on the host and in the guest.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/cgroup_lib.sh"

rootfs_busybox "$work/rootfs"

new
edit "$work/b" '.linux.cgroupsPath="/limits/c" | .linux.resources={memory:{limit:134217728}, cpu:{shares:512}, pids:{limit:50}} | .process.args=["sh","-c","trap \"cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu.weight /sys/fs/cgroup/pids.max\" USR1; echo ready; while :; do sleep 0.1; done"]'
"$hull" run -d -b "$work/b" --pid-file "$work/c.pid" c </dev/null >>"$work/out" 2>&1 || not_ok "run -d for update" "$(cat "$work/out")"
wait_for grep -q ready "$work/out"
has_lines() { [ "$(wc -l <"$work/out")" -ge "$1" ]; }
inside() { # what the container sees now
	: >"$work/out"
	"$hull" kill c USR1
	wait_for has_lines 4
	xargs <"$work/out"
}
same "before update, inside" "134217728 max 100000 20 50" "$(inside)"
check "update with flags" "$hull" update --memory 64M --cpu-quota 70000 --cpu-period 140000 --cpu-share 1024 --pids-limit 33 c
same "update: inside" "67108864 70000 140000 39 33" "$(inside)"
same "update: on the host" "70000 140000 39 max" "$(value cpu.max) $(value cpu.weight) $(value pids.max)"
check "update -r -" sh -c "echo '{\"cpu\":{\"quota\":-1},\"memory\":{\"limit\":0}}' | '$hull' update -r - c"
same "update: what is 0 or not named stays" "67108864 max 140000 39 33" "$(inside)"
echo '{"memory":{"limit":100663296,"reservation":0,"swap":100663296,"kernel":0},"cpu":{"shares":0,"quota":70000,"period":100000},"blockIO":{"weight":0}}' >"$work/resources"
check "update --resources=FILE" "$hull" update "--resources=$work/resources" c
same "update: as an engine gives it, inside" "100663296 70000 100000 39 33" "$(inside)"
same "update: swap on the host" 0 "$(value memory.swap.max)"
"$hull" update --memory 2G --memory-swap 2G c 2>"$work/err" && grep -q 'level=warning.*only .* MiB of memory' "$work/err" && ok "a limit beyond the machine is a warning" || not_ok "a limit beyond the machine is a warning" "$(cat "$work/err")"
says "update of a CPU that is not there" any "linux.resources.cpu.cpus: write .*4000" "$hull" update --cpuset-cpus 4000 c
same "which changes nothing" "70000 100000" "$(value cpu.max)"
echo '{"unified":{"cpu.max":"80000 200000","cpu.weight":"16","pids.max":"10","cpuset.cpus":"0"}}' >"$work/resources"
check "update of unified" "$hull" update -r "$work/resources" c
same "unified: inside" "80000 200000 16 10" "$(inside | cut -d" " -f2-)"
same "unified: on the host" "80000 200000 16 0 max" "$(value cpu.max) $(value cpu.weight) $(value cpuset.cpus) $(value pids.max)"
says "update with a bad number" any 'invalid value for memory: .*lots' "$hull" update --memory lots c
says "update with bad JSON" any 'invalid JSON' sh -c "echo '{' | '$hull' update -r - c"
says "update with Intel RDT" any 'l3 cache schema is not enabled' "$hull" update --l3-cache-schema x c
"$hull" kill c KILL
wait_for sh -c "'$hull' state c | grep -q stopped"
says "update of a stopped container" any "container not running" "$hull" update --memory 64M c
"$hull" delete c
says "update of an unknown container" any "does not exist" "$hull" update --memory 64M c
rmdir $top/limits
same "update: nothing is left" "" "$(leftovers)"
