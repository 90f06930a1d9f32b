#!/bin/bash
# The host's cgroup of a container: where it is (as with runc), what is in it, its limits, that it goes; the size of the machine.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/cgroup_lib.sh"

rootfs_busybox "$work/rootfs"
make() { # RUNTIME ID [FLAGS BEFORE THE VERB...]: a created container
	local runtime=$1 id=$2
	shift 2
	"$runtime" "$@" create -b "$work/b" --pid-file "$work/$id.pid" "$id" </dev/null >"$work/out" 2>&1
}

# --- where, beside runc ----------------------------------------------------------------------------------------------
before=$(find $top -type d | sort)
for path in "" /engine/one relative/two /engine/../three //four/./x ../five; do
	new
	[ -z "$path" ] || edit "$work/b" ".linux.cgroupsPath=\"$path\""
	make runc r || not_ok "runc create ($path)" "$(cat "$work/out")"
	expected=$(place r | sed 's/r$/ID/')
	runc delete --force r
	make "$hull" r || not_ok "create ($path)" "$(cat "$work/out")"
	same "cgroupsPath \"$path\": where runc puts it ($expected)" "$expected" "$(place r | sed 's/r$/ID/')"
	same "cgroupsPath \"$path\": the file server is there too" "$(place r)" "$(sed -n 's/^0:://p' "/proc/$(pgrep -x hull-fsd)/cgroup")"
	there=$(place r)
	"$hull" delete --force r
	[ -e "$top$there" ] && not_ok "cgroupsPath \"$path\": delete removes it" "$(cat "$top$there/cgroup.procs")" || ok "cgroupsPath \"$path\": delete removes it"
done
rmdir $top/engine $top/relative $top/four 2>/dev/null
same "nothing else is left in the hierarchy" "$before" "$(find $top -type d | sort)"

# --- limits ----------------------------------------------------------------------------------------------------------
new
edit "$work/b" '.linux.cgroupsPath="/limits/c" | .linux.resources={devices:[{allow:false,access:"rwm"}],
	memory:{limit:134217728,swap:268435456,reservation:67108864}, cpu:{shares:512,quota:150000,period:100000,cpus:"0-1",mems:"0"}}'
make runc c || not_ok "runc create with limits" "$(cat "$work/out")"
for file in cpu.weight cpu.max cpuset.cpus cpuset.mems memory.swap.max; do value $file; done >"$work/expected"
runc delete --force c
make "$hull" c || not_ok "create with limits" "$(cat "$work/out")"
for file in cpu.weight cpu.max cpuset.cpus cpuset.mems memory.swap.max; do value $file; done >"$work/actual"
same "cpu, cpuset and swap as runc sets them" "$(cat "$work/expected")" "$(cat "$work/actual")"
memory=$("$hull" state c >/dev/null && jq .machine.memory /run/hull/c/state.json)
[ "$memory" -gt 134217728 ] && [ "$memory" -lt 300000000 ] && ok "the machine's memory is the limit and some more ($((memory >> 20)) MiB)" || not_ok "the machine's memory is the limit and some more" "$memory"
same "two vCPUs for a quota of 1.5" 2 "$(jq .machine.vcpus /run/hull/c/state.json)"
same "memory.max: the machine's and the overhead" $((memory + (64 << 20) + memory / 128)) "$(value memory.max)"
[ "$(value memory.low)" -ge 67108864 ] && ok "memory.low" || not_ok "memory.low" "$(value memory.low)"
same "pids are not limited on the host" max "$(value pids.max)"
[ "$(value memory.current)" -gt 10000000 ] && ok "the guest's memory is counted there ($(($(value memory.current) >> 20)) MiB)" || not_ok "the guest's memory is counted there" "$(value memory.current)"
# A crash of everything: delete removes the cgroup nevertheless.
kill -9 "$(cat "$work/c.pid")" "$(pgrep -x hull-fsd)"
wait_for has_ended "$(cat "$work/c.pid")"
check "delete after kill -9 of all" "$hull" delete c
[ -e $top/limits/c ] && not_ok "it has removed the cgroup" || ok "it has removed the cgroup"
rmdir $top/limits

new
edit "$work/b" '.linux.cgroupsPath="/limits/c" | .linux.resources={memory:{limit:-1}, cpu:{idle:1}, blockIO:{weight:500}}'
make "$hull" c || not_ok "create with other limits" "$(cat "$work/out")"
same "memory.limit -1" "max max" "$(value memory.max) $(value memory.swap.max)"
same "cpu.idle" 1 "$(value cpu.idle)"
[ -e $top/limits/c/io.bfq.weight ] && weight=io.bfq.weight || weight=io.weight
[ ! -e $top/limits/c/$weight ] || same "blockIO.weight ($weight)" "$([ $weight = io.weight ] && echo default 4950 || echo default 500)" "$(value $weight)"
"$hull" delete --force c
rmdir $top/limits

disk=$(stat -c '%Hr:%Lr' "$(awk '$2 == "/scratch" {print $1}' /proc/mounts)" 2>/dev/null)
if [ -n "$disk" ]; then
	new
	edit "$work/b" ".linux.cgroupsPath=\"/limits/c\" | .linux.resources.blockIO={throttleReadBpsDevice:[{major:${disk%:*},minor:${disk#*:},rate:1048576}]}"
	make "$hull" c || not_ok "create with a throttle" "$(cat "$work/out")"
	same "blockIO.throttleReadBpsDevice" "$disk rbps=1048576 wbps=max riops=max wiops=max" "$(value io.max)"
	"$hull" delete --force c
	rmdir $top/limits
fi

# --- small and large machines ----------------------------------------------------------------------------------------
for limit in 6 64 700; do
	bundle "$work/b" "$work/rootfs" sh -c 'free -m | awk "/Mem/ {print \$2, \$4}"; nproc'
	edit "$work/b" ".linux.resources.memory.limit=$((limit << 20))"
	read -r -d '' total free cpus <<<"$("$hull" run -b "$work/b" size 2>"$work/err" </dev/null; echo "status $?" >>"$work/err")"
	[ "${free:-0}" -ge "$limit" ] && ok "memory limit $limit MiB: the guest has $total MiB, $free of them free" || not_ok "memory limit $limit MiB: the guest has $total MiB, $free free" "$(cat "$work/err")"
	same "and nothing to complain of" "status 0" "$(cat "$work/err")"
done
bundle "$work/b" "$work/rootfs" nproc
edit "$work/b" '.linux.resources.cpu={cpus:"0,1"}'
same "as many vCPUs as the list has" 2 "$("$hull" run -b "$work/b" cpus </dev/null)"
edit "$work/b" '.linux.resources.cpu={quota:100000,period:100000,cpus:"0,1"}'
same "no more than the quota can use" 1 "$("$hull" run -b "$work/b" cpus </dev/null)"
edit "$work/b" '.annotations={"hull.vcpus":"2"}'
same "the annotation goes before the limits" 2 "$("$hull" run -b "$work/b" cpus </dev/null)"
bundle "$work/b" "$work/rootfs" sh -c 'nproc; awk "/MemTotal/ { print (\$2 > 700000) }" /proc/meminfo'
echo '{"vcpus":2,"memory":"800M"}' >"$work/hull.json"
same "the configuration file sizes the machine" "2 1" "$("$hull" --config "$work/hull.json" run -b "$work/b" cpus </dev/null | xargs)"
same "HULL_CONFIG names it" "2 1" "$(HULL_CONFIG="$work/hull.json" "$hull" run -b "$work/b" cpus </dev/null | xargs)"
echo '{"vcpus":2,"memroy":"800M"}' >"$work/hull.json"
says "its errors name file and member" any "$work/hull.json.*unknown member .*memroy" "$hull" --config "$work/hull.json" run -b "$work/b" x
says "it must be there" any "/nowhere/x" "$hull" --config /nowhere/x run -b "$work/b" x

# --- refused ---------------------------------------------------------------------------------------------------------
new
edit "$work/b" '.linux.cgroupsPath="/busy/c"'
mkdir -p $top/busy/c
sleep 100 &
echo $! >$top/busy/c/cgroup.procs
says "a cgroup with processes in it" any "container's cgroup is not empty: 1 process(es) found" "$hull" run -b "$work/b" x
same "it is still there" "$!" "$(cat $top/busy/c/cgroup.procs)"
kill $!
wait
echo 1 >$top/busy/c/cgroup.freeze
says "a frozen cgroup" any "container's cgroup unexpectedly frozen" "$hull" run -b "$work/b" x
echo 0 >$top/busy/c/cgroup.freeze
bundle "$work/b" "$work/rootfs" true
edit "$work/b" '.linux.cgroupsPath="/busy/c"'
check "an empty one is used" "$hull" run -b "$work/b" x
[ -e $top/busy/c ] && not_ok "and removed" || ok "and removed"
edit "$work/b" '.linux.cgroupsPath="/"'
says "the root" any "config.json: linux.cgroupsPath" "$hull" run -b "$work/b" x
edit "$work/b" '.linux.cgroupsPath="/busy/c" | .linux.resources.memory={limit:1000000,swap:1}'
says "swap below memory" any "linux.resources.memory.swap: memory+swap limit should be >= memory limit" "$hull" run -b "$work/b" x
edit "$work/b" '.linux.resources={cpu:{cpus:"4000"}}'
says "a CPU that is not there" any "linux.resources.cpu.cpus: write .*4000.* to cpuset.cpus" "$hull" run -b "$work/b" x
edit "$work/b" '.linux.resources={}'
says "--systemd-cgroup needs another cgroupsPath" any 'expected cgroupsPath to be of format .*slice:prefix:name' "$hull" --systemd-cgroup run -b "$work/b" x
edit "$work/b" 'del(.linux.cgroupsPath)'
[ -d /run/systemd/system ] || says "--systemd-cgroup without systemd" any "connect to systemd at" "$hull" --systemd-cgroup run -b "$work/b" x
mount -o remount,ro $top
says "no right to make it" any "make cgroup .*Read-only file system" "$hull" run -b "$work/b" x
check "no cgroup when rootless" "$hull" --rootless=true run -b "$work/b" x
echo '{"cgroupManager":"disabled"}' >"$work/hull.json"
check "no cgroup when disabled" "$hull" --config "$work/hull.json" run -b "$work/b" x
mount -o remount,rw $top
rmdir $top/busy
same "nothing is left" "" "$(leftovers)"
same "nothing is left in the hierarchy" "$before" "$(find $top -type d | sort)"
