#!/bin/bash
# What pods need of several containers in one machine: the machine that ends with the last of them; terminals and process
# descriptors of members; that a member with privileges does not see what is exported for the others; and what is said when
# the guest's kernel panics.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
forever='trap "exit 3" TERM; echo ready; while :; do sleep 0.1; done'

pod() { # ID COMMAND [JQ]: starts a sandbox container
	bundle "$work/$1" "$work/rootfs" sh -c "$2"
	edit "$work/$1" "${3-.}"
	"$hull" run -d -b "$work/$1" "$1" </dev/null >"$work/$1.out" 2>&1
}
member() { # ID POD COMMAND [JQ]: makes a container that joins the sandbox of POD
	bundle "$work/$1" "$work/rootfs" sh -c "$3"
	edit "$work/$1" ".annotations = {\"hull.sandbox\":\"$2\"} | ${4-.}"
	"$hull" create --pid-file "$work/$1.pid" -b "$work/$1" "$1" </dev/null >"$work/$1.out" 2>&1
}
status() { "$hull" state "$1" 2>/dev/null | jq -r .status; }
is() { [ "$(status "$1")" = "$2" ]; }
shows() { grep -q -- "$2" "$1"; } # FILE TEXT

# --- a machine that ends with the last container ------------------------------------------------------------------------
last='.annotations = {"hull.sandbox.ends-with":"last"}'
bundle "$work/p" "$work/rootfs" sh -c "$forever"
edit "$work/p" "$last"
"$hull" run -b "$work/p" p </dev/null >"$work/p.out" 2>&1 &
running=$!
check "a sandbox container whose machine ends with the last one" wait_for shows "$work/p.out" ready
member a p "$forever" && "$hull" start a
check "another one" wait_for shows "$work/a.out" ready
member b p "$forever"
"$hull" kill p TERM
over() { "$hull" kill p CONT 2>&1 | grep -q 'process already finished'; }
check "its own process ends" wait_for over
same "the others stay" "running created" "$(status a) $(status b)"
same "as does the machine" "running" "$(status p)"
same "and works" "hello" "$("$hull" exec a echo hello </dev/null)"
says "exec in the one that has ended" any 'cannot exec in a stopped container' "$hull" exec p true
bundle "$work/c" "$work/rootfs" sh -c 'echo late; exit 4'
edit "$work/c" '.annotations = {"hull.sandbox":"p"}'
same "it can still be joined" "late
4" "$("$hull" run -b "$work/c" c 2>&1 </dev/null; echo $?)"
"$hull" start b && wait_for shows "$work/b.out" ready
"$hull" kill a TERM
check "one ends" wait_for is a stopped
same "the machine stays" "running running" "$(status p) $(status b)"
"$hull" delete --force b
wait "$running"
same "and ends when the last one is deleted, with the status of its own container" 3 $?
check "deleted" "$hull" delete a
same "nothing is left" "" "$(leftovers)"

pod p 'exit 6' "$last"
check "alone, it ends with its container" wait_for is p stopped
check "deleted" "$hull" delete p
pod p "$forever" "$last"
member a p "$forever" && "$hull" start a
check "deleted by force, it takes the others along" "$hull" delete --force p
check "which end" wait_for is a stopped
check "and are deleted" "$hull" delete a
bundle "$work/r" "$work/rootfs" true
edit "$work/r" '.annotations = {"hull.sandbox.ends-with":"first"}'
says "an end that does not exist" any 'annotations.hull.sandbox.ends-with: `first` is neither last nor container' "$hull" run -b "$work/r" r
same "nothing is left" "" "$(leftovers)"

# --- terminals and process descriptors of members --------------------------------------------------------------------------
pod p "$forever"
edit "$work/r" '.annotations = {"hull.sandbox":"p", "hull.sandbox.ends-with":"last"}'
says "a member does not decide when the machine ends" any 'the machine is that of sandbox p' "$hull" run -b "$work/r" r
bundle "$work/hull-console" "$work/rootfs" sh
edit "$work/hull-console" '.process.terminal = true | .process.env += ["PS1=# "] | .annotations = {"hull.sandbox":"p"}'
python3 "$(dirname "$0")/terminal.py" "$hull" "$work" pod_member

# Receives a descriptor from the command, prints whose it is, has the container killed, and waits for its end.
with_pidfd() { # SOCKET ID COMMAND...
	python3 - "$@" <<'PY'
import array, re, select, socket, subprocess, sys
path, identifier, command = sys.argv[1], sys.argv[2], sys.argv[3:]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path)
listener.listen(1)
listener.settimeout(60)
subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
connection, _ = listener.accept()
_, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
pidfd = array.array("i", control[0][2][:4])[0]
print(re.search(r"^Pid:\s*(\d+)", open(f"/proc/self/fdinfo/{pidfd}").read(), re.M).group(1))
poll = select.poll()
poll.register(pidfd, select.POLLIN)
print("ended" if poll.poll(0) else "lives")
subprocess.run([command[0], "kill", identifier, "KILL"], check=True)
print("ended" if poll.poll(60000) else "lives")
PY
}
bundle "$work/d" "$work/rootfs" sh -c "$forever"
edit "$work/d" '.annotations = {"hull.sandbox":"p"}'
seen=$(cd "$work" && with_pidfd pidfd.sock d "$hull" run -d --pidfd-socket pidfd.sock --pid-file "$work/d.pid" -b "$work/d" d 2>&1)
same "--pidfd-socket: the descriptor of a member's process" "$(cat "$work/d.pid")
lives
ended" "$seen"
check "deleted" "$hull" delete --force d

# --- what privileges do not reach -------------------------------------------------------------------------------------------
# All capabilities, nothing read-only, no user namespace: as a privileged container.
all=$("$hull" features | jq -c '.linux.capabilities')
privileged=".process.capabilities = {bounding:$all, effective:$all, permitted:$all} | del(.linux.maskedPaths, .linux.readonlyPaths)
	| .linux.resources.devices = [{allow:true, access:\"rwm\"}]"
cp "$repository/build/tests/outside" "$work/rootfs/bin/outside"
mkdir -p "$work/rootfs/mnt"
member e p 'outside mount tmpfs x
	outside mount virtiofs hull
	unshare -m outside mount virtiofs hull
	unshare -p -f outside mount virtiofs hull
	outside handles; echo end' "$privileged" && "$hull" start e
check "a privileged member" wait_for shows "$work/e.out" '^end$'
same "mounts file systems, but not the tree with all exports, and opens no files of it" "mounted
Operation not permitted
Operation not permitted
Operation not permitted
own
end" "$(cat "$work/e.out")"
"$hull" delete --force e
# The kernel would start the helper outside of all containers.
member e p 'echo "|/proc/%P/root/bin/busybox touch /proc/%P/root/tmp/helper" >/proc/sys/kernel/core_pattern; cat /proc/sys/kernel/core_pattern
	ulimit -c unlimited; sh -c "kill -SEGV \$\$"; sleep 2; ls -A /tmp; echo core >/proc/sys/kernel/core_pattern; echo end' "$privileged" && "$hull" start e
check "a member that names a helper for core dumps" wait_for shows "$work/e.out" '^end$'
same "gets it named but not started" "|/proc/%P/root/bin/busybox touch /proc/%P/root/tmp/helper
end" "$(grep -v -e '^Segmentation fault' "$work/e.out")"
"$hull" delete --force e
"$hull" delete --force p
same "nothing is left" "" "$(leftovers)"

# --- a panic is told ----------------------------------------------------------------------------------------------------------
# A kernel without memory and without a process that it may kill gives up.
hog='.process.oomScoreAdj = -1000 | .annotations["hull.memory"] = "96M"'
why='the guest kernel panicked: System is deadlocked on memory'
bundle "$work/h" "$work/rootfs" tail /dev/zero
edit "$work/h" "$hog"
text=$("$hull" run -b "$work/h" h 2>&1 </dev/null)
same "a panic: status" 125 $?
check "and why" grep -q "$why" <<<"$text"
pod p "$forever" "$hog"
wait_for shows "$work/p.out" ready
bundle "$work/h" "$work/rootfs" tail /dev/zero
edit "$work/h" '.process.oomScoreAdj = -1000 | .annotations = {"hull.sandbox":"p"}'
text=$("$hull" run -b "$work/h" h 2>&1 </dev/null)
same "a panic by a member: status" 125 $?
check "and why" grep -q "sandbox p: $why" <<<"$text"
check "the kernel's last words are in the log" grep -q 'guest: .*Kernel panic - not syncing: System is deadlocked' <<<"$("$hull" logs p)"
"$hull" delete p
same "nothing is left" "" "$(leftovers)"
