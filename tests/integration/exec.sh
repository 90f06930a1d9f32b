#!/bin/bash
# hull exec beside runc exec in the same bundle: what the process is, how it ends, what it is fed, and that nothing grows.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
echo 'user:x:1000:1000::/home/user:/bin/sh' >>"$work/rootfs/etc/passwd"

bundle "$work/b" "$work/rootfs" sh -c 'trap "exit 3" TERM; trap "echo usr1" USR1; while :; do sleep 0.1; done'
edit "$work/b" '.process.env += ["SPEC=1"] | .process.oomScoreAdj = 123 |
	.process.capabilities.inheritable = ["CAP_KILL"] |
	.linux.seccomp = {"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}'
"$hull" run -d -b "$work/b" c </dev/null >"$work/out" 2>&1
same "the container runs" 0 $?
runc --root "$work/runc" run -d -b "$work/b" r </dev/null >"$work/runc.out" 2>&1
same "so does runc's" 0 $?

ours() { "$hull" exec "$@"; }
theirs() { runc --root "$work/runc" exec "$@"; }
# What it prints, then what it says, then its status: runc copies the two streams by a thread each, so that their order in one
# file is chance.
apart() { # COMMAND...
	local status
	"$@" </dev/null 2>"$work/apart.err"
	status=$?
	sed 's/^/stderr: /' "$work/apart.err"
	echo "status $status"
}
# Runs the same under both: CONTAINER stands for the id.
equal() { # DESCRIPTION ARG...
	local description=$1 expected actual
	shift
	expected=$(apart theirs "${@/#CONTAINER/r}")
	actual=$(apart ours "${@/#CONTAINER/c}")
	same "$description" "$(clean "$expected")" "$(clean "$actual")"
}
# Log lines differ in their time only.
clean() { sed -e 's/^stderr: time="[^"]*" /stderr: /' -e 's/^stderr: runc run failed: /stderr: /' <<<"$1"; }

# --- what the process is ---------------------------------------------------------------------------------------------
equal "exit status 0" CONTAINER true
equal "exit status 42" CONTAINER sh -c 'exit 42'
equal "exit status 255" CONTAINER sh -c 'exit 255'
equal "killed by SIGKILL" CONTAINER sh -c 'kill -9 $$'
equal "killed by SIGSEGV" CONTAINER sh -c 'kill -SEGV $$'
equal "both outputs" CONTAINER sh -c 'echo out; echo err >&2'
equal "user, groups, capabilities, no_new_privs, seccomp" CONTAINER sh -c \
	'id; grep -E "^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)" /proc/self/status; cat /proc/self/oom_score_adj'
equal "environment" CONTAINER env
equal "limits" CONTAINER sh -c 'grep -E "open files|processes|core" /proc/self/limits'
equal "working directory and umask" CONTAINER sh -c 'pwd; umask'
equal "the system call filter is in force" CONTAINER mkdir /tmp/x
equal "--user" --user 1000 CONTAINER sh -c 'id; echo $HOME; grep ^Cap /proc/self/status'
equal "--user with a group" --user 1000:1001 CONTAINER id
equal "--additional-gids" -u 1000:1000 -g 5 -g 6 CONTAINER id
equal "--user that is none" -u root CONTAINER id
equal "--env" -e A=B -e SPEC=2 -e 'C=d e' CONTAINER sh -c 'echo $A $SPEC $C'
equal "--cwd" --cwd /tmp CONTAINER pwd
equal "--cwd that is relative" --cwd tmp CONTAINER pwd
equal "--cap" --cap CAP_CHOWN CONTAINER sh -c 'grep ^Cap /proc/self/status'
edit "$work/b" '.process.noNewPrivileges = false'
equal "without no_new_privs" CONTAINER grep NoNewPrivs /proc/self/status
equal "--no-new-privs" --no-new-privs CONTAINER grep NoNewPrivs /proc/self/status
equal "flags of the command are its own" CONTAINER ls -d /tmp
same "it sees the container's processes" "1" "$(ours c sh -c 'ps -o pid,args | grep "trap.*usr1" | grep -v grep | head -n 1 | tr -s " " | cut -d" " -f2')"
same "and is in its namespaces" "$(ours c sh -c 'for n in mnt pid uts ipc net; do readlink /proc/1/ns/$n; done')" \
	"$(ours c sh -c 'for n in mnt pid uts ipc net; do readlink /proc/self/ns/$n; done')"

# --- process.json ----------------------------------------------------------------------------------------------------
cat >"$work/process.json" <<'JSON'
{"terminal":false,"user":{"uid":1000,"gid":1000,"additionalGids":[7]},"args":["sh","-c","id; umask; pwd; echo $X $PATH; grep ^Cap /proc/self/status; ulimit -c; cat /proc/self/oom_score_adj"],
"env":["PATH=/bin","X=y"],"cwd":"/tmp","rlimits":[{"type":"RLIMIT_CORE","soft":512,"hard":1024}],
"capabilities":{"bounding":["CAP_CHOWN"],"permitted":["CAP_CHOWN"]},"noNewPrivileges":true}
JSON
equal "--process" --process "$work/process.json" CONTAINER
jq 'del(.capabilities, .rlimits, .noNewPrivileges)' "$work/process.json" >"$work/process2.json"
equal "--process that leaves much open" -p "$work/process2.json" CONTAINER
# runc's takes it from the container.
jq '.user.umask = 63 | .args = ["sh", "-c", "umask"]' "$work/process.json" >"$work/process3.json"
same "umask of process.json" 0077 "$(ours -p "$work/process3.json" c)"
for bad in 'del(.cwd)' '.cwd="tmp"' '.args=[]' '.args="ls"' '.user.uid="x"'; do
	jq "$bad" "$work/process.json" >"$work/bad.json"
	ours -p "$work/bad.json" c >"$work/bad.out" 2>&1
	same "process.json with $bad: 255 and one line" "255 1" "$? $(wc -l <"$work/bad.out")"
done
echo '{"args":["ls"],"cwd":"/"},"id":"x"' >"$work/bad.json"
ours -p "$work/bad.json" c >/dev/null 2>&1
same "process.json that is not one object" 255 $?

# --- errors ----------------------------------------------------------------------------------------------------------
equal "no such program" CONTAINER nosuchprogram
equal "no such file" CONTAINER /no/such/file
equal "a file that is no program" CONTAINER /etc/passwd
equal "a directory" CONTAINER /etc
equal "a path through a file" CONTAINER /etc/passwd/x
equal "a working directory that does not exist" --cwd /no/such CONTAINER pwd
equal "no such container" nosuch ls
ours --preserve-fds 100 c true >/dev/null 2>&1
same "descriptors that are not there" 255 $?

# --- streams ---------------------------------------------------------------------------------------------------------
same "stdin" "hello" "$(echo hello | ours c cat)"
same "stdin at its end" 0 "$(ours c wc -c </dev/null | tr -d ' ')"
dd if=/dev/urandom of="$work/block" bs=1M count=4 2>/dev/null
expected=$(for _ in $(seq 25); do cat "$work/block"; done | md5sum)
same "100 MiB on stdin" "$expected" "$(for _ in $(seq 25); do cat "$work/block"; done | ours c md5sum)"
same "4 MiB through and back" "$(cksum <"$work/block")" "$(ours c cat <"$work/block" | cksum)"
same "2>&1 keeps the order" "$(seq 0 99)" \
	"$(ours c sh -c 'i=0; while [ $i -lt 100 ]; do echo $i; echo $((i + 1)) >&2; i=$((i + 2)); done' 2>&1)"
timeout 240 "$hull" exec c yes | head -n 1 >"$work/yes"
same "a reader that goes away ends the writer" y "$(cat "$work/yes")"

# --- signals ---------------------------------------------------------------------------------------------------------
has_process() { ours c ps -o args | grep -q "^$1"; }
has_none() { ! has_process "$1"; }
check "no process of that writer is left" wait_for has_none yes
"$hull" exec c sh -c 'trap "exit 21" TERM; trap "exit 22" HUP; echo ready; while :; do sleep 0.1; done' >"$work/ready" &
pid=$!
wait_for grep -q ready "$work/ready"
kill -TERM $pid
wait $pid
same "SIGTERM is passed on" 21 $?
"$hull" exec c sleep 4711 &
pid=$!
wait_for has_process 'sleep 4711'
kill -INT $pid
wait $pid
same "so is SIGINT, and its death is the exit status" 130 $?
"$hull" exec c sleep 4712 &
pid=$!
wait_for has_process 'sleep 4712'
kill -KILL $pid
wait $pid 2>/dev/null
check "SIGKILL of hull exec kills the process in the guest" wait_for has_none 'sleep 4712'

# --- detached --------------------------------------------------------------------------------------------------------
cat >"$work/engine.py" <<'PYTHON'
import ctypes, os, signal, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
hull, work = sys.argv[1:]
def start(*command):
    subprocess.run([hull, "exec", "--detach", "--pid-file", work + "/exec.pid", "c", *command], stdin=subprocess.DEVNULL, check=True)
    return int(open(work + "/exec.pid").read())
def end(wanted):
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == wanted:
            return os.waitstatus_to_exitcode(status)
print(end(start("sh", "-c", "exit 77")))
pid = start("sleep", "4713")
def comm():
    return open(f"/proc/{pid}/comm").read().strip()
for _ in range(1800): # it names itself a moment after it has begun
    if comm() == "hull-proxy":
        break
    time.sleep(0.1)
print(comm(), len(open(f"/proc/{pid}/environ").read()))
os.kill(pid, signal.SIGTERM)
print(end(pid))
pid = start("sleep", "4714")
os.kill(pid, signal.SIGKILL)
print(end(pid))
PYTHON
same "--detach: the proxy is the engine's child and ends as the process does" "77 hull-proxy 0 143 -9" \
	"$(python3 "$work/engine.py" "$hull" "$work" 2>&1 | tr '\n' ' ' | sed 's/ $//')"
check "SIGKILL of the proxy kills the process in the guest" wait_for has_none 'sleep 4714'
ours --detach c sh -c 'echo detached; sleep 1; echo later' >"$work/detached" 2>&1
wait_for grep -q later "$work/detached"
same "--detach: output comes after hull has gone" "detached later" "$(tr '\n' ' ' <"$work/detached" | sed 's/ $//')"
ours --detach --pid-file /no/such/dir/pid c sleep 4715 >/dev/null 2>&1
same "--pid-file that cannot be written: 255" 255 $?
check "and no process is left" wait_for has_none 'sleep 4715'

# --- many ------------------------------------------------------------------------------------------------------------
wait_for has_none "sleep 47"
vmm=$(pgrep -x hull-vmm)
figures() { echo "$(find "/proc/$vmm/fd" | wc -l) $(ours c sh -c 'find /proc -maxdepth 1 -name "[0-9]*" | wc -l')"; }
before=$(figures)
for i in $(seq 50); do
	"$hull" exec c sh -c "echo $i; cat; exit $i" <"$work/process.json" >"$work/many.$i" 2>&1 &
	pids[i]=$!
done
wrong=
for i in $(seq 50); do
	wait "${pids[i]}"
	[ $? = "$i" ] && cmp -s "$work/many.$i" <(echo "$i"; cat "$work/process.json") || wrong="$wrong $i"
done
same "50 at once: each its output and exit status" "" "$wrong"
no_more_than_before() {
	local descriptors processes descriptors_before processes_before
	read -r descriptors_before processes_before <<<"$before"
	read -r descriptors processes <<<"$(figures)"
	[ "$descriptors" -le "$descriptors_before" ] && [ "$processes" -le "$processes_before" ]
}
check "and nothing of them is left" wait_for no_more_than_before

# --- into containers that begin and end --------------------------------------------------------------------------------
"$hull" exec c sleep 4716 &
pid=$!
wait_for has_process 'sleep 4716'
"$hull" kill c TERM
wait $pid
same "the container ends: so does what runs beside" 137 $?
stopped() { [ "$("$@" | jq -r .status)" = stopped ]; } # COMMAND that prints the state
wait_for stopped "$hull" state c
runc --root "$work/runc" kill r KILL
wait_for stopped runc --root "$work/runc" state r
equal "exec into a stopped container" CONTAINER ls
"$hull" delete c
runc --root "$work/runc" delete r
"$hull" create -b "$work/b" c </dev/null >/dev/null 2>&1
runc --root "$work/runc" create -b "$work/b" r </dev/null >/dev/null 2>&1
equal "exec into a created container" CONTAINER sh -c 'echo here; ls -d /proc/1'
"$hull" kill c KILL
runc --root "$work/runc" delete --force r
wait_for "$hull" delete c
same "at the end nothing is left" "" "$(leftovers)"
