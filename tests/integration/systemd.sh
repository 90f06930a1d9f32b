#!/bin/bash
# --systemd-cgroup with a real systemd, process 1 of a pid and cgroup namespace of its own: scopes as runc makes them.
. "$(dirname "$0")/lib.sh"

rootfs_busybox "$work/rootfs"
mkdir -p /sys/fs/cgroup/systemd-test
bash -c 'echo $$ >/sys/fs/cgroup/systemd-test/cgroup.procs
	exec unshare --pid --fork --mount --cgroup --uts --ipc --mount-proc bash -c "
		mount -t cgroup2 cgroup2 /sys/fs/cgroup; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp
		exec env -i container=other PATH=/usr/bin:/bin:/usr/sbin:/sbin /lib/systemd/systemd --system --unit=sysinit.target --log-target=console --show-status=no"' >"$work/systemd.log" 2>&1 </dev/null &
outside=$!
for ((i = 0; i < 600; i++)); do
	inside=$(pgrep -P $outside)
	[ -n "$inside" ] && [ -S "/proc/$inside/root/run/systemd/private" ] && break
	sleep 0.1
done
# Not in the way of systemd's own tree.
echo $outside >/sys/fs/cgroup/command/cgroup.procs
in_systemd() { nsenter -t "$inside" -m -p -C -u -i -- "$@"; }
for ((i = 0; i < 600; i++)); do
	in_systemd systemctl show -p Version >/dev/null 2>&1 && break
	sleep 0.1
done
in_systemd systemctl show -p Version >"$work/out" 2>&1 && ok "systemd runs ($(cat "$work/out"))" || not_ok "systemd runs" "$(tail -n 20 "$work/systemd.log" "$work/out")"

bundle "$work/b" "$work/rootfs" sleep 1000
make() { # RUNTIME ID
	in_systemd "$1" --systemd-cgroup create -b "$work/b" --pid-file "$work/$2.pid" "$2" </dev/null >"$work/out" 2>&1
}
place() { in_systemd sed -n 's/^0:://p' "/proc/$(cat "$work/$1.pid")/cgroup"; }
properties="Slice,Delegate,MemoryMax,MemoryLow,MemorySwapMax,CPUWeight,CPUQuotaPerSecUSec,AllowedCPUs,MemoryAccounting,CPUAccounting,TasksAccounting,IOAccounting,DefaultDependencies,ActiveState"
show() { in_systemd systemctl show -p "$properties" "$1" | sort; }

for path in "" "machine.slice:libpod:c1" "machine-libpod_pod_7.slice:libpod:c2" ":x:c3"; do
	[ -z "$path" ] && edit "$work/b" 'del(.linux.cgroupsPath)' || edit "$work/b" ".linux.cgroupsPath=\"$path\""
	edit "$work/b" '.linux.resources={devices:[], memory:{limit:134217728,swap:134217728}, cpu:{shares:512,quota:150000,period:100000,cpus:"0-1"}}'
	make runc c || not_ok "runc create ($path)" "$(cat "$work/out")"
	place c | sed 's/runc-c/NAME-c/' >"$work/expected"
	scope=$(basename "$(place c)")
	show "$scope" | grep -v -e MemoryMax -e MemoryLow >>"$work/expected"
	in_systemd runc delete --force c
	make "$hull" c || not_ok "create ($path)" "$(cat "$work/out")"
	place c | sed 's/hull-c/NAME-c/' >"$work/actual"
	scope=$(basename "$(place c)")
	show "$scope" | grep -v -e MemoryMax -e MemoryLow >>"$work/actual"
	same "cgroupsPath \"$path\": place and properties as runc's ($(head -n 1 "$work/expected"))" "$(cat "$work/expected")" "$(cat "$work/actual")"
	memory=$(in_systemd jq .machine.memory /run/hull/c/state.json)
	same "cgroupsPath \"$path\": MemoryMax of the unit is memory.max of the cgroup" "MemoryMax=$((memory + (64 << 20) + memory / 128))" "$(show "$scope" | grep MemoryMax)"
	same "cgroupsPath \"$path\": hull-vmm and hull-fsd are in it, nothing else" 2 "$(wc -l <"/sys/fs/cgroup/systemd-test$(place c)/cgroup.procs")"
	in_systemd "$hull" update --memory-reservation 32M --cpu-share 1024 c || not_ok "update"
	same "update changes the unit" "CPUWeight=39" "$(show "$scope" | grep CPUWeight)"
	there=/sys/fs/cgroup/systemd-test$(place c)
	in_systemd "$hull" delete --force c || not_ok "delete --force"
	[ -e "$there" ] && not_ok "cgroupsPath \"$path\": delete removes it" "$(cat "$there/cgroup.procs")" || ok "cgroupsPath \"$path\": delete removes it"
	same "the unit is gone" "ActiveState=inactive" "$(show "$scope" | grep ActiveState)"
done
edit "$work/b" '.linux.cgroupsPath="machine.slice:libpod:c1"'
make "$hull" c
scope=libpod-c1.scope
in_systemd sh -c 'kill -9 $(cat '"$work/c.pid"') $(pgrep -x hull-fsd)'
sleep 0.5
in_systemd "$hull" delete c && ok "delete after kill -9 of all" || not_ok "delete after kill -9 of all"
same "the unit is gone" "ActiveState=inactive" "$(show $scope | grep ActiveState)"
edit "$work/b" '.process.args=["/no/such"]'
make "$hull" c && not_ok "create fails"
same "after a create that fails the unit is gone" "ActiveState=inactive" "$(show $scope | grep ActiveState)"
edit "$work/b" '.linux.cgroupsPath="machine.slice:libpod:c1/../x" | .process.args=["true"]'
make "$hull" c && not_ok "a name that systemd does not take"
[ "$(wc -l <"$work/out")" = 1 ] && grep -q 'level=error.*systemd: .*libpod-c1/../x.scope' "$work/out" && ok "systemd's refusal is told" || not_ok "systemd's refusal is told" "$(cat "$work/out")"
same "nothing is left" "" "$(in_systemd pgrep -l -x 'hull|hull-vmm')"
kill -9 "$inside"
wait 2>/dev/null
for ((i = 0; i < 50; i++)); do find /sys/fs/cgroup/systemd-test -depth -type d -exec rmdir {} + 2>/dev/null && break; sleep 0.1; done
