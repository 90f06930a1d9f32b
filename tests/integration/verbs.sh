#!/bin/bash
# The verbs around a running container: events, logs, console, explain, features, checkpoint and restore; shapes as runc's.
. "$(dirname "$0")/lib.sh"

rootfs_busybox "$work/rootfs"
# The path of every leaf with its type; raw figures and lists by length would differ by kernel.
shape() { jq -S 'del(.data.memory.raw, .data.memory.usage.max, .data.memory.swap.max, .data.blkio, .data.cpu.usage.percpu, .data.cpuset.cpus, .data.cpuset.mems, .data.hugetlb) | [paths(scalars or . == {} or . == null) as $p | "\($p | map(tostring) | join(".")) \(getpath($p) | type)"] | sort'; }

# --- events ----------------------------------------------------------------------------------------------------------
bundle "$work/b" "$work/rootfs" sh -c 'dd if=/dev/zero of=/tmp/x bs=1M count=5 2>/dev/null; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1000 & echo ready; wait'
edit "$work/b" '.mounts += [{destination:"/tmp",type:"tmpfs",source:"tmpfs"}] | .linux.resources.memory.limit=134217728 | .linux.resources.pids.limit=100'
runc run -d -b "$work/b" e1 </dev/null >"$work/out.runc" 2>&1
soon "runc: ready" grep -q ready "$work/out.runc"
runc events --stats e1 >"$work/stats.runc" || not_ok "runc events --stats"
runc delete --force e1
"$hull" run -d -b "$work/b" e1 </dev/null >"$work/out.hull" 2>&1 || not_ok "run -d" "$(cat "$work/out.hull")"
soon "hull: ready" grep -q ready "$work/out.hull"
check "events --stats" sh -c "'$hull' events --stats e1 >'$work/stats.hull'"
same "one line" 1 "$(wc -l <"$work/stats.hull")"
if difference=$(diff <(shape <"$work/stats.runc") <(shape <"$work/stats.hull")); then ok "its members are runc's"; else not_ok "its members are runc's" "$difference"; fi
figure() { jq "$1" "$work/stats.hull"; }
same "memory limit" 134217728 "$(figure .data.memory.usage.limit)"
same "pids limit" 100 "$(figure .data.pids.limit)"
same "type and id" '"stats" "e1"' "$(figure .type) $(figure .id)"
[ "$(figure .data.memory.usage.usage)" -gt 5000000 ] && [ "$(figure .data.memory.usage.usage)" -lt 60000000 ] && ok "memory: what the container uses, not the machine" || not_ok "memory usage" "$(figure .data.memory)"
[ "$(figure .data.cpu.usage.total)" -gt 1000000 ] && [ "$(figure '.data.cpu.usage | .total >= .user + .kernel - 2000000')" = true ] && ok "CPU time in nanoseconds" || not_ok "CPU time" "$(figure .data.cpu)"
same "processes" 2 "$(figure .data.pids.current)"
[ "$(figure '.data.memory.raw.shmem')" -ge 5000000 ] && ok "raw figures" || not_ok "raw figures" "$(figure .data.memory.raw)"
timeout 400 "$hull" events --interval 500ms e1 >"$work/events" 2>&1 &
follower=$!
soon "figures come again and again" sh -c "[ \$(grep -c stats '$work/events') -ge 3 ]" && ok "figures come again and again"
"$hull" kill e1 KILL
wait "$follower"
same "events ends with the container" 0 $?
same "events says nothing else" "" "$(grep -v '"type":"stats"' "$work/events")"
soon "stopped" sh -c "'$hull' state e1 | grep -q stopped"
says "events of a stopped container" any "not running" "$hull" events e1
"$hull" delete e1
says "events of an unknown container" any "does not exist" "$hull" events e1
says "a bad interval" any 'invalid value .*5.* for flag -interval' "$hull" events --interval 5 e1
says "an interval of 0" any "duration interval must be greater than 0" "$hull" events --interval 0s e1

# Without limits, the figures are what cgroup v2 knows as max.
bundle "$work/b" "$work/rootfs" sleep 1000
"$hull" run -d -b "$work/b" e2 </dev/null >"$work/out" 2>&1
same "no limit is 2^64 - 1" 1 "$("$hull" events --stats e2 | grep -c '"usage":{"limit":18446744073709551615,')"

# --- logs, console ---------------------------------------------------------------------------------------------------
"$hull" logs --kernel e2 >"$work/kernel"
check "logs --kernel: the boot is in it" grep -qE '^\[ +0\.[0-9]+\] Linux version' "$work/kernel"
check "logs: what the programs said" "$hull" logs e2
timeout 400 "$hull" console e2 >"$work/console" 2>&1 &
follower=$!
soon "console shows the log" sh -c "grep -q 'Linux version' '$work/console'" && ok "console shows the log"
"$hull" delete --force e2
wait "$follower"
same "console ends with the container" 0 $?
edit "$work/b" '.process.args=["true"]'
"$hull" run --keep -b "$work/b" e3 </dev/null
says "logs --kernel of a stopped container" any "were not kept" "$hull" logs --kernel e3
"$hull" delete e3
edit "$work/b" '.annotations={"hull.console":"true"}'
"$hull" run --keep -b "$work/b" e3 </dev/null
same "with hull.console they are kept" 1 "$("$hull" logs --kernel e3 | grep -c 'Linux version')"
"$hull" delete e3

# --- out of memory ---------------------------------------------------------------------------------------------------
bundle "$work/b" "$work/rootfs" sh -c 'until [ -e /first ]; do sleep 0.1; done; (head -c 100000000 /dev/zero | tail >/dev/null); echo survived $?
	until [ -e /last ]; do sleep 0.1; done; exec tail /dev/zero'
edit "$work/b" '.linux.resources.memory={limit:33554432}'
"$hull" run -d -b "$work/b" hog </dev/null >"$work/out" 2>&1
timeout 400 "$hull" events --interval 1s hog >"$work/events" 2>"$work/err" &
follower=$!
# Figures show that it follows: it asks for events before it waits for anything.
soon "events follows" grep -q stats "$work/events"
touch "$work/rootfs/first"
soon "an OOM event for the child" grep -q oom "$work/events" && ok "an OOM event for the child"
soon "the shell goes on" grep -q survived "$work/out"
touch "$work/rootfs/last"
wait "$follower"
same "events of a memory hog: an OOM event for each" '{"type":"oom","id":"hog"}' "$(grep -v '"type":"stats"' "$work/events" | sort -u)"
same "the child and the last process" 2 "$(grep -vc '"type":"stats"' "$work/events")"
same "nothing on stderr" "" "$(cat "$work/err")"
check "the shell has survived its child" grep -q 'survived' "$work/out"
soon "it stops" sh -c "'$hull' state hog | grep -q stopped"
"$hull" delete hog

# --- explain, features, the rest -------------------------------------------------------------------------------------
bundle "$work/b" "$work/rootfs" true
check "explain" sh -c "'$hull' explain '$work/b' >'$work/explained'"
check "explain names the value and who" grep -q '^guest *process.cwd = "/"' "$work/explained"
same "explain --format json" "host" "$("$hull" explain --format json "$work/b" | jq -r '.[] | select(.field == "ociVersion") | .by')"
edit "$work/b" '.linux.intelRdt={closID:"x"}'
says "explain fails where create would" any "linux.intelRdt" "$hull" explain "$work/b"
same "features: the document" '"1.0.0" true ["enabled"]' "$("$hull" features | jq -rc '[(.ociVersionMin | tojson), (.linux.cgroup.v2 | tojson), (.linux.apparmor | keys | tojson)] | join(" ")')"
if difference=$(diff <(runc features | jq -S 'keys, (.linux | keys)') <("$hull" features | jq -S 'del(.potentiallyUnsafeConfigAnnotations, .linux.mountExtensions, .linux.intelRdt) | keys, (.linux | keys)')); then ok "features: members as runc's"; else not_ok "features: members as runc's" "$difference"; fi
says "checkpoint" any "not supported yet" "$hull" checkpoint --image-path /x --leave-running c
says "restore" any "not supported yet" "$hull" restore -d --bundle /x c
same "nothing is left" "" "$(leftovers)"
