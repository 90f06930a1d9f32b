#!/bin/bash
# The verbs as engines use them: exit statuses, signals, pid file, create/start/delete, detach, what each says when it fails.
. "$(dirname "$0")/lib.sh"

rootfs_busybox "$work/rootfs"
sleeper='trap "exit 33" TERM; trap "echo usr1" USR1; trap "exit 34" INT; echo ready; while :; do sleep 0.1; done'

is_in() { grep -q "$1" "$2"; }
status_of() { "$hull" state "$1" | jq -r .status; }
has_status() { [ "$(status_of "$1")" = "$2" ]; }

# --- run -------------------------------------------------------------------------------------------------------------
for status in 0 1 42 137 255; do
	bundle "$work/b" "$work/rootfs" sh -c "exit $status"
	"$hull" run -b "$work/b" "exit$status" </dev/null >"$work/out" 2>"$work/err"
	same "run: exit status $status" "$status" $?
done
same "run: nothing on stderr" "" "$(cat "$work/err")"
bundle "$work/b" "$work/rootfs" sh -c 'kill -9 $$; sleep 5; echo still here'
"$hull" run -b "$work/b" suicide </dev/null >"$work/out" 2>&1
same "run: pid 1 is deaf to its own SIGKILL, as in any pid namespace" "0 still here" "$? $(cat "$work/out")"

bundle "$work/b" "$work/rootfs" sh -c "$sleeper"
for case in "KILL 137" "9 137" "TERM 33" "SIGINT 34"; do
	read -r signal expected <<<"$case"
	"$hull" run -b "$work/b" "kill$signal" </dev/null >"$work/out" 2>&1 &
	pid=$!
	soon "kill $signal: it starts" is_in ready "$work/out"
	"$hull" kill "kill$signal" "$signal"
	wait "$pid"
	same "kill $signal: exit status $expected of run" "$expected" $?
done
"$hull" run -b "$work/b" forward </dev/null >"$work/out" 2>&1 &
pid=$!
soon "forward: it starts" is_in ready "$work/out"
kill -USR1 "$pid"
soon "forward: SIGUSR1 reaches the container" is_in usr1 "$work/out" && ok "run passes SIGUSR1 on"
kill -TERM "$pid"
wait "$pid"
same "run passes SIGTERM on" 33 $?
same "run: nothing is left" "" "$(leftovers)"


bundle "$work/b" "$work/rootfs" sh -c 'i=0; while [ $i -lt 300 ]; do echo $i; echo $((i + 1)) >&2; i=$((i + 2)); done'
"$hull" run -b "$work/b" order </dev/null >"$work/out" 2>&1
same "2>&1 keeps the order of what was written" "$(seq 0 299)" "$(cat "$work/out")"
"$hull" run -b "$work/b" separate </dev/null 2>"$work/err" >"$work/out"
same "stdout and stderr are kept apart" "0 298 150 1 299 150" \
	"$(head -n 1 "$work/out") $(tail -n 1 "$work/out") $(wc -l <"$work/out") $(head -n 1 "$work/err") $(tail -n 1 "$work/err") $(wc -l <"$work/err")"
bundle "$work/b" "$work/rootfs" sh -c 'nproc; awk "/MemTotal/ { print (\$2 > 900000) }" /proc/meminfo'
edit "$work/b" '.annotations={"hull.vcpus":"2","hull.memory":"1G"}'
same "annotations decide about CPUs and memory" "2 1" "$("$hull" run -b "$work/b" size </dev/null | tr '\n' ' ' | sed 's/ $//')"

# The process ends, but nobody takes what it has written: SIGKILL ends that too.
bundle "$work/b" "$work/rootfs" sh -c 'head -c 200000 /dev/zero'
mkfifo "$work/stuck"
sleep 1000 <"$work/stuck" &
reader=$!
"$hull" run -d -b "$work/b" stuck </dev/null >"$work/stuck" 2>/dev/null
sleep 2
same "output that nobody takes keeps the container" running "$(status_of stuck)"
check "SIGKILL gives the output up" "$hull" kill stuck KILL
soon "it stops" has_status stuck stopped && ok "then it stops"
check "and can be deleted" "$hull" delete stuck
kill "$reader"

# --- create, start, state, delete ------------------------------------------------------------------------------------
bundle "$work/b" "$work/rootfs" sh -c "$sleeper"
mkfifo "$work/fifo"
cat "$work/fifo" >"$work/out" &
reader=$!
edit "$work/b" '.annotations={"org.example.key":"value <&>"}'
exec 10>"$work/stray" 11<"$work/b/config.json"
"$hull" create --bundle "$work/b" --pid-file "$work/pid" c1 </dev/null >"$work/fifo" 2>&1
same "create succeeds" 0 $?
exec 10>&- 11<&-
pid=$(cat "$work/pid")
same "descriptors of the caller do not leak into hull-vmm" "" "$(find "/proc/$pid/fd" -printf '%l\n' | grep -e stray -e config.json)"
same "nor into hull-fsd" "" "$(find "/proc/$(pgrep -x hull-fsd)/fd" -printf '%l\n' | grep -e stray -e config.json)"
same "hull-vmm has no environment" 0 "$(wc -c <"/proc/$pid/environ")"
same "pid file: hull-vmm" hull-vmm "$(cat "/proc/$pid/comm")"
same "pid file: no newline" "${#pid}" "$(stat -c %s "$work/pid")"
"$hull" state c1 >"$work/state"
same "state: members" '["annotations","bundle","created","id","ociVersion","owner","pid","rootfs","status"]' "$(jq -c keys "$work/state")"
same "state of a created container" "c1 created $pid $work/b $work/rootfs value <&>" \
	"$(jq -r '"\(.id) \(.status) \(.pid) \(.bundle) \(.rootfs) \(.annotations["org.example.key"])"' "$work/state")"
same "its process has not run yet" "" "$(cat "$work/out")"
says "a second create of that id" 1 "container with given ID already exists" "$hull" create -b "$work/b" c1
same "list" "c1 $pid created $work/b root" "$("$hull" list | awk 'NR > 1 {print $1, $2, $3, $4, $6}')"
same "list -q" c1 "$("$hull" list -q)"
same "list -f json" "c1 created root" "$("$hull" list -f json | jq -r '.[] | "\(.id) \(.status) \(.owner)"')"
check "start succeeds" "$hull" start c1
soon "the process runs" is_in ready "$work/out" && ok "the process runs"
same "state of a running container" running "$(status_of c1)"
says "a second start" 1 "cannot start an already running container" "$hull" start c1
says "delete of a running container" 1 "that is not stopped: running" "$hull" delete c1
says "an unknown signal" 1 'unknown signal' "$hull" kill c1 NOSUCH
check "signal 0" "$hull" kill c1 0
check "kill --all" "$hull" kill --all c1 USR1
soon "kill --all reaches it" is_in usr1 "$work/out" && ok "kill --all reaches it"
check "kill without a signal is SIGTERM" "$hull" kill c1
soon "the container stops" has_status c1 stopped && ok "the container stops"
same "pid of a stopped container" 0 "$("$hull" state c1 | jq .pid)"
says "kill of a stopped container" 1 "container not running" "$hull" kill c1 TERM
says "start of a stopped container" 1 "cannot start a container that has stopped" "$hull" start c1
check "delete" "$hull" delete c1
wait "$reader"
says "state of a deleted container" 1 "does not exist" "$hull" state c1
says "delete of a deleted container" 1 "does not exist" "$hull" delete c1
check "delete --force of a deleted container" "$hull" delete --force c1
same "create: nothing is left" "" "$(leftovers)"

# --- what an engine sees of the process ------------------------------------------------------------------------------
# This shell is the parent that stays: a subreaper gets hull-vmm as its child, with its exit status.
cat >"$work/engine.py" <<'PYTHON'
import ctypes, os, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
hull, bundle = sys.argv[1:]
subprocess.run([hull, "create", "-b", bundle, "--pid-file", bundle + "/pid", "engine"], stdin=subprocess.DEVNULL, check=True)
pid = int(open(bundle + "/pid").read())
assert os.stat(f"/proc/{pid}").st_uid != 0, "hull-vmm runs as root"
subprocess.run([hull, "start", "engine"], check=True)
while True:
    ended, status = os.waitpid(-1, 0)
    if ended == pid:
        break
print(os.waitstatus_to_exitcode(status))
subprocess.run([hull, "delete", "engine"], check=True)
PYTHON
bundle "$work/b" "$work/rootfs" sh -c 'exit 77'
same "hull-vmm is the engine's child and has the exit status" 77 "$(python3 "$work/engine.py" "$hull" "$work/b" 2>&1)"

# --- SIGKILL before start; detach; keep ------------------------------------------------------------------------------
bundle "$work/b" "$work/rootfs" sh -c "$sleeper"
"$hull" create -b "$work/b" c2 </dev/null >"$work/out" 2>&1
check "SIGKILL of a created container" "$hull" kill c2 KILL
soon "it stops" has_status c2 stopped && ok "a created container that is killed stops"
check "it can be deleted" "$hull" delete c2
"$hull" run -d -b "$work/b" --pid-file "$work/pid" c3 </dev/null >"$work/out" 2>&1
same "run -d returns 0" 0 $?
same "run -d: it runs" running "$(status_of c3)"
check "delete --force of a running container" "$hull" delete --force c3
check "delete --force has waited for hull-vmm" has_ended "$(cat "$work/pid")"
bundle "$work/b" "$work/rootfs" true
check "run --keep" "$hull" run --keep -b "$work/b" c4
same "run --keep: it is still there" stopped "$(status_of c4)"
check "run --keep: delete" "$hull" delete c4

for flag in "" --rootless; do
	mkdir -p "$work/ours$flag" "$work/runc$flag"
	"$hull" spec $flag --bundle "$work/ours$flag"
	runc spec $flag --bundle "$work/runc$flag"
	check "spec $flag: the same as runc's" cmp "$work/ours$flag/config.json" "$work/runc$flag/config.json"
done
says "spec does not overwrite" 1 "File config.json exists" "$hull" spec --bundle "$work/ours"

# --- errors before a container's process runs ------------------------------------------------------------------------
bundle "$work/b" "$work/rootfs" /no/such/program
says "create with a program that does not exist" 1 "no such file or directory" "$hull" create -b "$work/b" e1
says "run with a program that does not exist" 1 "no such file or directory" "$hull" run -b "$work/b" e1
bundle "$work/b" "$work/rootfs" nosuchprogram
says "create with a program that is not on PATH" 1 'executable file not found in $PATH' "$hull" create -b "$work/b" e1
bundle "$work/b" "$work/rootfs" /etc/passwd
says "create with a program that is not executable" 1 "[Pp]ermission denied" "$hull" create -b "$work/b" e1
"$hull" --log "$work/log.json" --log-format json create -b "$work/b" e1 >/dev/null 2>"$work/err"
same "--log: level and message" "error $(cat "$work/err")" "$(jq -r '"\(.level) \(.msg)"' "$work/log.json")"
same "exec is refused with 255" 255 "$("$hull" exec c1 ls >/dev/null 2>&1; echo $?)"
check "--root elsewhere" "$hull" --root "$work/a/b/root" list
bundle "$work/b" "$work/rootfs" sh -c 'exit 9'
long=$work/$(printf 'r%.0s' {1..200})/$(printf 's%.0s' {1..100})
"$hull" --root "$long" run -b "$work/b" "$(printf 'i%.0s' {1..200})" </dev/null >/dev/null 2>"$work/err"
same "--root and id far longer than a socket's address" 9 $?
same "closed stdio descriptors" 9 "$("$hull" run -b "$work/b" closed <&- >&- 2>&-; echo $?)"
# One that was never started goes with its process, as with runc.
"$hull" create -b "$work/b" --pid-file "$work/pid" unstarted </dev/null >/dev/null 2>&1
runc --root "$work/runc" create -b "$work/b" unstarted </dev/null >/dev/null 2>&1
# (Which may say on the way that the cgroup is not empty yet, and succeeds nevertheless.)
same "delete of a created container" "$(runc --root "$work/runc" delete unstarted >/dev/null 2>&1; echo $?)" "$("$hull" delete unstarted 2>&1; echo $?)"
check "its process has ended" has_ended "$(cat "$work/pid")"
same "at the end nothing is left" "" "$(leftovers)"
