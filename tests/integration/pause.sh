#!/bin/bash
# pause, resume, ps and kill --all, beside runc where it says the same.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
counter='trap "echo term; exit 5" TERM; trap "echo usr1" USR1; i=0; while :; do i=$((i + 1)); echo $i >/tmp/count; sleep 0.05; done'
bundle "$work/b" "$work/rootfs" sh -c "$counter"
edit "$work/b" '.linux.cgroupsPath = "/hull-pause-test"'

status_of() { "$hull" state c | jq -r .status; }
has_status() { [ "$(status_of)" = "$1" ]; }
count() { cat "$work/rootfs/tmp/count"; }
counts() { # whether it goes on, on a host that may be slow
	local before
	before=$(count)
	has_changed() { [ "$(count)" != "$before" ]; }
	wait_for has_changed
}
stands_still() {
	local before
	before=$(count)
	sleep 2
	[ "$(count)" = "$before" ]
}

"$hull" run -d -b "$work/b" c </dev/null >"$work/out" 2>&1
wait_for test -s "$work/rootfs/tmp/count"
check "it counts" counts
says "resume of a running container" 1 "container not paused" "$hull" resume c
check "pause" "$hull" pause c
same "state: paused" paused "$(status_of)"
same "list: paused" paused "$("$hull" list -f json | jq -r '.[0].status')"
check "it stands still" stands_still
[ "$("$hull" state c | jq .pid)" -gt 0 ] && ok "a paused container has a pid" || not_ok "a paused container has a pid"
says "pause of a paused container" 1 "container not running" "$hull" pause c
says "start of a paused container" 1 "paused state" "$hull" start c
says "delete of a paused container" 1 "that is not stopped: paused" "$hull" delete c
says "exec into a paused container" 255 "cannot exec in a paused container (use --ignore-paused to override)" "$hull" exec c true
"$hull" exec --ignore-paused c sh -c 'echo after; exit 6' </dev/null >"$work/exec" 2>&1 &
pid=$!
check "a signal for a paused container" "$hull" kill c USR1
sleep 2
same "neither the exec nor the signal has happened yet" "" "$(cat "$work/exec" "$work/out")"
check "resume" "$hull" resume c
same "state: running" running "$(status_of)"
wait $pid
same "the exec goes on" "6 after" "$? $(cat "$work/exec")"
check "so does the signal" wait_for grep -q usr1 "$work/out"
check "it counts again" counts

# --- ps --------------------------------------------------------------------------------------------------------------
"$hull" exec -d --pid-file "$work/pid" c sh -c 'sleep 4901; true' </dev/null >/dev/null 2>&1
"$hull" exec -d c sleep 4902 </dev/null >/dev/null 2>&1
has_child() { "$hull" ps c | grep -q ' sleep 4901$'; }
wait_for has_child # the shell may not have come to it yet
"$hull" ps c >"$work/ps"
same "ps: header" "UID PID PPID C STIME TTY TIME CMD" "$(head -n 1 "$work/ps" | tr -s ' ')"
same "ps: the first process" "root 1 0" "$(awk '$2 == 1 { print $1, $2, $3 }' "$work/ps")"
parent=$(awk '/sh -c sleep 490[1]/ { print $2 }' "$work/ps")
same "ps: a child knows its parent" "$parent" "$(awk '$8 == "sleep" && $9 == 4901 { print $3 }' "$work/ps")"
same "ps: a process of exec has its parent outside" 0 "$(awk '$8 == "sleep" && $9 == 4902 { print $3 }' "$work/ps")"
same "ps: the numbers are the container's" "$("$hull" exec c ps -o pid,args | awk '$2 == "sleep" && $3 == 4902 { print $1 }')" "$(awk '$8 == "sleep" && $9 == 4902 { print $2 }' "$work/ps")"
same "ps -ef is the same" "$(awk '{ print $2 }' "$work/ps" | head -n 2)" "$("$hull" ps c -ef | awk '{ print $2 }' | head -n 2)"
says "exec: a cgroup that is not the container's" 255 "bad sub cgroup path: .. is not a sub cgroup path" "$hull" exec --cgroup .. c true
says "exec: a cgroup that is not there" 255 "error adding pid of the process to cgroups: /nowhere/cgroup.procs: no such file or directory" "$hull" exec --cgroup nowhere c true
same "ps -e -x: as ps has it" "PID TTY STAT TIME COMMAND" "$("$hull" ps c -e -x | head -n 1 | tr -s ' ' | sed 's/^ //')"
same "ps -o: the columns asked for, as the container's own ps sees them" "$("$hull" exec c ps -o pid,args | awk '$2 == "sleep" && $3 > 4900 { print $1, $2, $3 }' | sort)" "$("$hull" ps c -eo pid,args | awk '$2 == "sleep" && $3 > 4900 { print $1, $2, $3 }' | sort)"
same "ps aux: memory, state" "root 1 memory state" "$("$hull" ps c aux | awk '$2 == 1 { print $1, $2, ($6 > 0 && $5 > $6 ? "memory" : $5 " " $6), ($8 ~ /^[RSD]/ ? "state" : $8) }')"
says "ps with options that are not known" 1 "option -l is not supported" "$hull" ps c -el
says "ps --format x" 1 "invalid format option" "$hull" ps --format x c
"$hull" ps --format json c >"$work/ps.json"
same "ps --format json: host processes, hull-vmm first" "$("$hull" state c | jq .pid) 3" "$(jq -r '"\(.[0]) \(length)"' "$work/ps.json")"
same "ps --format json: the pid file's is one of them" true "$(jq "index($(cat "$work/pid")) != null" "$work/ps.json")"
wrong=
for pid in $(jq '.[]' "$work/ps.json"); do
	case $(cat "/proc/$pid/comm") in hull-vmm | hull-proxy) ;; *) wrong="$wrong $pid" ;; esac
done
same "ps --format json: each exists" "" "$wrong"

# --- kill ------------------------------------------------------------------------------------------------------------
check "kill --all" "$hull" kill --all c TERM
check "it has reached the container's process" wait_for has_status stopped
same "which has ended by its own will" term "$(grep term "$work/out")"
"$hull" delete c
for signal in SIGRTMIN RTMIN+3 sigrtmax SIGRTMAX-2 34 64 IOT POLL SIGCLD; do
	bundle "$work/k" "$work/rootfs" sh -c 'sleep 1000'
	"$hull" create -b "$work/k" k </dev/null >/dev/null 2>&1
	check "kill of a created container: $signal is a signal" "$hull" kill k "$signal"
	"$hull" delete --force k
done
for signal in SIGRTMIN+31 RTMAX+1 65 -1 SIG FOO; do
	"$hull" create -b "$work/k" k </dev/null >/dev/null 2>&1
	says "kill: $signal is none" 1 "unknown signal\|flag" "$hull" kill k "$signal"
	"$hull" delete --force k
done

"$hull" run -d -b "$work/b" c </dev/null >"$work/out" 2>&1
check "pause" "$hull" pause c
check "SIGKILL of a paused container" "$hull" kill c KILL
check "ends it" wait_for has_status stopped
same "ps of it: an empty table" 1 "$("$hull" ps c | wc -l)"
same "ps of it: nothing as JSON" null "$("$hull" ps --format json c)"
check "delete" "$hull" delete c
"$hull" create -b "$work/b" c </dev/null >"$work/out" 2>&1
check "pause of a created container" "$hull" pause c
same "state: paused" paused "$(status_of)"
check "resume of it" "$hull" resume c
same "state: created" created "$(status_of)"
check "start" "$hull" start c
check "pause" "$hull" pause c
check "delete --force of a paused container" "$hull" delete --force c
says "pause of no container" 1 "does not exist" "$hull" pause c
same "at the end nothing is left" "" "$(leftovers)"
