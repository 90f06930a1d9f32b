#!/bin/bash
# A process that the guest's kernel kills for want of memory shows on the host: in memory.events of the container's cgroup,
# as under runc, where engines look for it.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
top=/sys/fs/cgroup
hog='dd if=/dev/zero of=/dev/null bs=200M count=1'
limited() { # SHELL-COMMAND
	bundle "$work/b" "$work/rootfs" sh -c "$1"
	edit "$work/b" '.linux.cgroupsPath = "/oom/c" | .linux.resources.memory = {limit: 67108864, swap: 67108864}'
}
kills() { sed -n 's/^oom_kill //p' $top/oom/c/memory.events; }
start() { # RUNTIME
	"$1" create -b "$work/b" --pid-file "$work/pid" oom </dev/null >"$work/out" 2>&1 && "$1" start oom
}
ends() { wait_for has_ended "$(cat "$work/pid")"; }
# Prints yes when there were kills. While the container goes on, it takes a moment.
counted() {
	is_counted() { [ "$(kills)" -gt 0 ]; }
	wait_for is_counted && echo yes || echo "no: $(paste -sd ' ' $top/oom/c/memory.events)"
}

# --- the container's own process: everything is there when it has ended ---------------------------------------------------
for runtime in runc "$hull"; do
	limited "exec $hog"
	start "$runtime"
	check "$(basename "$runtime"): it ends" ends
	[ "$(kills)" -gt 0 ] && ok "$(basename "$runtime"): the kill is counted" || not_ok "$(basename "$runtime"): the kill is counted" "$(cat $top/oom/c/memory.events)"
	"$runtime" delete --force oom
done

# --- a process of it, which goes on -----------------------------------------------------------------------------------
for runtime in runc "$hull"; do
	limited "while [ ! -e /go ]; do sleep 0.1; done; $hog 2>/dev/null; echo \$? >/status; while :; do sleep 1; done"
	rm -f "$work/rootfs/go" "$work/rootfs/status"
	start "$runtime"
	same "$(basename "$runtime"): nothing is counted before" 0 "$(kills)"
	touch "$work/rootfs/go"
	same "$(basename "$runtime"): the kill is counted" yes "$(counted)"
	wait_for test -s "$work/rootfs/status"
	same "$(basename "$runtime"): it was the process" 137 "$(cat "$work/rootfs/status")"
	sleep 1
	same "$(basename "$runtime"): the container goes on" running "$("$runtime" state oom | jq -r .status)"
	"$runtime" delete --force oom
done

# --- when there is no stand-in --------------------------------------------------------------------------------------------
bundle "$work/b" "$work/rootfs" sleep 1000
start "$hull"
same "no limit: nobody stands by" "" "$(pgrep -x hull-oom)"
"$hull" delete --force oom
limited "sleep 1000"
start "$hull"
wait_for pgrep -x hull-oom # it names itself a moment after it has begun
echo "# the process that stands by: $(awk '/^Pss:/ { print $2 }' "/proc/$(pgrep -x hull-oom)/smaps_rollup") KiB (PSS)"
same "a limit: one stands by, in the container's cgroup" /oom/c "$(sed -n 's/^0:://p' "/proc/$(pgrep -x hull-oom)/cgroup")"
kill -9 "$(cat "$work/pid")"
nobody_stands_by() { ! pgrep -x hull-oom; }
check "it goes with the machine" wait_for nobody_stands_by
"$hull" delete --force oom
limited "$hog 2>/dev/null; echo \$?; sleep 3"
same "a machine that the host would rather kill is spared" 137 "$(echo 500 >/proc/self/oom_score_adj && "$hull" run -b "$work/b" oom 2>&1 </dev/null)"
rmdir $top/oom
same "nothing is left" "" "$(leftovers)"
