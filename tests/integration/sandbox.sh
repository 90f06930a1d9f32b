#!/bin/bash
# Several containers in one virtual machine: what they share and what they do not, each with its exit status, ended and
# deleted in any order, also after kill -9 of what serves them.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
rootfs_busybox "$work/other"
echo "the other root" >"$work/other/name"
mkdir -p "$work/volume"
forever='trap "exit 3" TERM; echo ready; while :; do sleep 0.1; done'

pod() { # ID COMMAND [JQ]: starts a sandbox container
	bundle "$work/$1" "$work/rootfs" sh -c "$2"
	edit "$work/$1" "${3-.}"
	"$hull" run -d --pid-file "$work/$1.pid" -b "$work/$1" "$1" </dev/null >"$work/$1.out" 2>&1
}
member() { # ID POD COMMAND [JQ]: makes a container that joins the sandbox of POD
	bundle "$work/$1" "$work/rootfs" sh -c "$3"
	edit "$work/$1" ".annotations = {\"hull.sandbox\":\"$2\"} | ${4-.}"
	"$hull" create --pid-file "$work/$1.pid" -b "$work/$1" "$1" </dev/null >"$work/$1.out" 2>&1
}
status() { "$hull" state "$1" 2>/dev/null | jq -r .status; }
wait_status() { # ID STATUS
	local i
	for ((i = 0; i < 600; i++)); do
		[ "$(status "$1")" = "$2" ] && return 0
		sleep 0.1
	done
	return 1
}
wait_text() { # FILE TEXT
	local i
	for ((i = 0; i < 600; i++)); do
		grep -q -- "$2" "$1" && return 0
		sleep 0.1
	done
	return 1
}
count() { pgrep -x -r D,R,S,T "$1" | wc -l; }
# Adopts what hull leaves behind, as an engine's shim does, and prints how each ended: PID STATUS.
reap() { # COMMAND...
	python3 - "$@" <<'PY'
import ctypes, os, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, check=False)
deadline = time.time() + 60
while time.time() < deadline:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        break
    if pid == 0:
        time.sleep(0.05)
        continue
    print(pid, os.waitstatus_to_exitcode(status))
PY
}

# --- three containers -----------------------------------------------------------------------------------------------
pod p "$forever"
check "a sandbox container" wait_text "$work/p.out" ready
joined=$(cat "$work/p.pid")
look='for kind in pid net ipc uts; do readlink /proc/self/ns/$kind; done; hostname; cat /name /volume/file; echo end; '"$forever"
echo volume >"$work/volume/file"
with_volume=".mounts += [{destination:\"/volume\", type:\"bind\", source:\"$work/volume\", options:[\"bind\"]}] | .root.path = \"$work/other\""
check "a second container, with namespaces of its own" member a p "$look" "$with_volume"
same "is created" created "$(status a)"
check "its process on the host is not the machine" test "$(cat "$work/a.pid")" != "$joined"
same "and lives" proxy "$(tr '\0' '\n' <"/proc/$(cat "$work/a.pid")/cmdline" | grep -x proxy)"
share=".linux.namespaces |= map(if .type == \"pid\" then .path = \"/proc/$joined/ns/pid\" elif .type == \"ipc\" then .path = \"/proc/$joined/ns/ipc\"
	elif .type == \"uts\" then .path = \"/proc/$joined/ns/uts\" elif .type == \"network\" then .path = \"/proc/$joined/ns/net\" else . end) | del(.hostname)"
check "a third one, in the namespaces of the first" member b p "$look" "$with_volume | $share"
"$hull" start b
"$hull" start a
check "they run" wait_text "$work/a.out" '^end$'
check "both" wait_text "$work/b.out" '^end$'
same "one machine for all" "1 1" "$(count hull-vmm) $(count hull-fsd)"
for i in "1 pid" "2 network" "3 ipc" "4 uts"; do
	check "${i#* }: not the same" test "$(sed -n "${i% *}p" "$work/a.out")" != "$(sed -n "${i% *}p" "$work/b.out")"
done
same "each sees its own root and volume" "the other root
volume" "$(sed -n 6,7p "$work/a.out")"
same "the list has all three" "a running
b running
p running" "$("$hull" list --format json | jq -r '.[] | "\(.id) \(.status)"')"
"$hull" kill a TERM
check "one ends" wait_status a stopped
same "the others go on" "running running" "$(status b) $(status p)"
check "it is deleted" "$hull" delete a
refused=$(member a p true ".mounts += [{destination:\"/data\", type:\"ext4\", source:\"/nowhere\"}]" 2>&1 || cat "$work/a.out")
check "the same id joins again" member a p 'cat /name; exit 4' ".root.path = \"$work/other\""
"$hull" start a
check "and ends" wait_status a stopped
same "with its output" "the other root" "$(cat "$work/a.out")"
check "deleted" "$hull" delete a
refused=$("$hull" delete b 2>&1)
check "one that runs is not deleted" grep -q 'cannot delete container b that is not stopped: running' <<<"$refused"
check "but by force" "$hull" delete --force b
same "and what it had is gone" "" "$(ls "/run/hull" | grep -x b)"

# --- exit statuses, in the foreground and as a subreaper sees them ------------------------------------------------------
bundle "$work/c" "$work/rootfs" sh -c 'echo out; echo err >&2; exit 7'
edit "$work/c" '.annotations = {"hull.sandbox":"p"}'
same "run: output and status" "out
err
7" "$("$hull" run -b "$work/c" c 2>&1 </dev/null; echo $?)"
bundle "$work/c" "$work/rootfs" sleep 1000
edit "$work/c" '.annotations = {"hull.sandbox":"p"}'
(wait_status c running && "$hull" kill c KILL) &
same "run: killed" 137 "$("$hull" run -b "$work/c" c >/dev/null 2>&1 </dev/null; echo $?)"
bundle "$work/c" "$work/rootfs" sh -c 'exit 9'
edit "$work/c" '.annotations = {"hull.sandbox":"p"}'
same "a subreaper gets the status" 9 "$(reap "$hull" run -d -b "$work/c" c | cut -d' ' -f2)"
check "deleted" "$hull" delete c
bundle "$work/c" "$work/rootfs" sh -c 'cat'
edit "$work/c" '.annotations = {"hull.sandbox":"p"}'
head -c 300000 /dev/urandom >"$work/data"
same "what goes in comes out" "$(sha256sum <"$work/data")" "$("$hull" run -b "$work/c" c <"$work/data" 2>&1 | sha256sum)"
same "the sandbox is still there" running "$(status p)"

# --- what is refused -------------------------------------------------------------------------------------------------
refuse() { # DESCRIPTION PATTERN JQ
	local text
	bundle "$work/r" "$work/rootfs" true
	edit "$work/r" ".annotations = {\"hull.sandbox\":\"p\"} | $3"
	if text=$("$hull" run -b "$work/r" r 2>&1 </dev/null); then
		not_ok "$1" "it was accepted: $text"
	elif grep -qE -- "$2" <<<"$text"; then
		ok "$1"
	else
		not_ok "$1" "$text"
	fi
}
refuse "a sandbox that is not there" 'sandbox nobody: container does not exist' '.annotations = {"hull.sandbox":"nobody"}'
refuse "itself" 'cannot join itself' '.annotations = {"hull.sandbox":"r"}'
refuse "a program that does not exist" 'executable file not found' '.process.args = ["nosuch"]'
refuse "a namespace of the host" 'linux.namespaces\[.*\].path: `/proc/1/ns/ipc` is not a namespace of a container in the same sandbox' \
	'.linux.namespaces |= map(if .type == "ipc" then .path = "/proc/1/ns/ipc" else . end)'
refuse "a namespace without a sandbox" 'linux.namespaces\[.*\].path: .* is not a namespace of a container in the same sandbox' \
	"del(.annotations) | .linux.namespaces |= map(if .type == \"ipc\" then .path = \"/proc/$joined/ns/ipc\" else . end)"
truncate -s 1M "$work/disk.img"
refuse "a disk" 'cannot bring disks' ".annotations[\"hull.disk.a\"] = \"$work/disk.img\""
same "nothing of them is left" "p" "$(ls /run/hull)"

# --- the annotations of engines -----------------------------------------------------------------------------------------
bundle "$work/k" "$work/rootfs" sh -c 'hostname; exit 5'
edit "$work/k" "$share | .annotations = {\"io.kubernetes.cri.container-type\":\"container\", \"io.kubernetes.cri.sandbox-id\":\"p\"}"
same "containerd's" "runc
5" "$("$hull" run -b "$work/k" k 2>&1 </dev/null; echo $?)"
edit "$work/k" '.annotations = {"io.kubernetes.cri-o.ContainerType":"container", "io.kubernetes.cri-o.SandboxID":"p"}'
same "CRI-O's and Podman's" "runc
5" "$("$hull" run -b "$work/k" k 2>&1 </dev/null; echo $?)"

# --- kill -9 --------------------------------------------------------------------------------------------------------------
member a p "$forever" && "$hull" start a
check "one more runs" wait_text "$work/a.out" ready
kill -9 "$(cat "$work/a.pid")"
check "kill -9 of its proxy ends it" wait_status a stopped
# Once is enough: a shell that has forked and not yet executed is there twice.
member b p 'n=0; until c=$(ps -o args | grep -c "[w]hile :"); [ "$c" = 1 ] || [ $n = 300 ]; do n=$((n + 1)); sleep 0.1; done; echo $c' "$share" &&
	"$hull" start b && wait_status b stopped
same "in the guest as well" 1 "$(cat "$work/b.out")"
check "deleted" "$hull" delete a
check "deleted" "$hull" delete b
# hull is killed at many points of a creation.
bundle "$work/x" "$work/rootfs" sh -c "$forever"
edit "$work/x" '.annotations = {"hull.sandbox":"p"}'
bad=""
for delay in 0.02 0.05 0.1 0.15 0.2 0.3 0.4 0.6; do
	"$hull" create -b "$work/x" x </dev/null >"$work/x.out" 2>&1 &
	creator=$!
	sleep "$delay"
	kill -9 "$creator" 2>/dev/null
	wait "$creator" 2>/dev/null
	"$hull" delete --force x >"$work/x.delete" 2>&1 || bad+="delete after $delay s: $(cat "$work/x.delete")
"
done
same "a creation that is killed is cleaned up" "" "$bad"
check "and made again" member x p "$forever"
"$hull" delete --force x
same "the file server has the sandbox's exports only" 1 "$(ls -l "/proc/$(pgrep -x hull-fsd)/fd" 2>/dev/null | grep -c -- '-> /$')"
same "the sandbox is still there" running "$(status p)"

# --- the end of the sandbox -------------------------------------------------------------------------------------------------
member a p "$forever" && "$hull" start a && wait_text "$work/a.out" ready
member b p "$forever"
"$hull" kill p TERM
check "when the sandbox container ends, so do all" wait_status a stopped
check "also one that was not started" wait_status b stopped
check "and it" wait_status p stopped
for id in p a b; do check "$id is deleted" "$hull" delete "$id"; done
same "nothing is left" "" "$(leftovers)"

for victim in hull-vmm hull-fsd; do
	pod p "$forever"
	member a p "$forever" && "$hull" start a && wait_text "$work/a.out" ready
	pkill -9 -x "$victim"
	check "kill -9 of $victim ends all" wait_status a stopped
	check "also the sandbox container" wait_status p stopped
	for id in a p; do check "$id is deleted" "$hull" delete "$id"; done
	same "nothing is left" "" "$(leftovers)"
done
pod p "$forever"
member a p "$forever" && "$hull" start a && wait_text "$work/a.out" ready
check "the sandbox deleted by force" "$hull" delete --force p
check "takes the others along" wait_status a stopped
check "which are deleted afterwards" "$hull" delete a
same "nothing is left" "" "$(leftovers)"

# --- many -------------------------------------------------------------------------------------------------------------------
# It starts no programs of its own, whose files would be open in hull-vmm at one time and not at another.
pod p 'echo ready; exec sleep 100000'
wait_text "$work/p.out" ready
before=$(awk '/^Pss:/ {print $2}' "/proc/$(cat "$work/p.pid")/smaps_rollup")
bundle "$work/m" "$work/rootfs" sh -c 'exit 6'
edit "$work/m" '.annotations = {"hull.sandbox":"p"}'
# A program that ends while its file is being read ahead: the file is still open when the container's mounts go.
head -c 4M /dev/urandom >"$work/rootfs/file"
bundle "$work/ahead" "$work/rootfs" dd if=/file of=/dev/null bs=256k count=1
edit "$work/ahead" '.annotations = {"hull.sandbox":"p"}'
bad=0
for i in $(seq 20); do
	for name in m ahead; do
		"$hull" run -b "$work/$name" "$name$i" </dev/null >"$work/m.out" 2>&1
		status=$?
		[ "$name $status" = "m 6" ] || [ "$name $status" = "ahead 0" ] || { bad=$((bad + 1)); echo "#   $name$i: status $status: $(head -n 5 "$work/m.out")"; }
	done
done
same "40 in a row" 0 "$bad"
fds() { ls "/proc/$1/fd" | wc -l; }
sleep 1
vmm_fds=$(fds "$(pgrep -x hull-vmm)") fsd_fds=$(fds "$(pgrep -x hull-fsd)")
for i in $(seq 10); do "$hull" run -b "$work/m" "m$i" </dev/null >/dev/null 2>&1; done
# Connections close in their own time.
for ((i = 0; i < 300; i++)); do [ "$vmm_fds $fsd_fds" = "$(fds "$(pgrep -x hull-vmm)") $(fds "$(pgrep -x hull-fsd)")" ] && break; sleep 0.1; done
same "no descriptor is left of them" "$vmm_fds $fsd_fds" "$(fds "$(pgrep -x hull-vmm)") $(fds "$(pgrep -x hull-fsd)")"
after=$(awk '/^Pss:/ {print $2}' "/proc/$(cat "$work/p.pid")/smaps_rollup")
check "the machine has not grown by more than 24 MiB ($before to $after KiB)" test $((after - before)) -lt 24576
"$hull" delete --force p
same "nothing is left" "" "$(leftovers)"
