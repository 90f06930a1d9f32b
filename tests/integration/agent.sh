#!/bin/bash
# The agent's orders, asked directly: several containers in one machine, orders that come at the wrong time, messages that are
# none, and containers that turn against the agent.
. "$(dirname "$0")/lib.sh"
build=$repository/build
rootfs_busybox "$work/rootfs"

# One machine for each group. Orders go in and answers come out by two fifos, so that a test can look at each answer.
begin() {
	rm -rf "$work/io" && mkdir "$work/io"
	mkfifo "$work/io/orders" "$work/io/answers"
	"$build/tests/agent_host" "${HULL_VMM:-$build/bin/hull-vmm}" "${HULL_FSD:-$build/bin/hull-fsd}" \
		"${HULL_KERNEL:-$build/share/hull/vmlinux}" "${HULL_INITRAMFS:-$build/share/hull/initramfs}" "$work/rootfs" "$work/io" \
		<"$work/io/orders" >"$work/io/answers" &
	exec 5>"$work/io/orders" 6<"$work/io/answers"
}
end() {
	exec 5>&- 6<&-
	wait
}
ask() { # LINE: sends it and prints the answer
	printf '%s\n' "$1" >&5
	local answer
	IFS= read -r -t "$WAIT_SECONDS" answer <&6 || answer="no answer within $WAIT_SECONDS s"
	printf '%s\n' "$answer"
}
answers() { # DESCRIPTION PATTERN LINE
	local answer
	answer=$(ask "$3")
	if grep -q -E -- "$2" <<<"$answer"; then ok "$1"; else not_ok "$1" "$answer"; fi
}
"$hull" spec -b "$work" >/dev/null 2>&1 || (cd "$work" && "$hull" spec)
create() { # ID N COMMAND [JQ]: the order that makes a container which runs COMMAND in a shell, with the streams of group N
	jq -c --arg id "$1" --argjson n "$2" --arg command "$3" '.process.terminal = false | .process.args = ["sh", "-c", $command]
		| .linux.namespaces += [{type:"cgroup"}] | .linux.namespaces |= unique '"${4:+| $4}"' | {order:"create", id:$id, machine:($n == 0), spec:.,
		rootfs:{export:"rootfs"}, mounts:{}, stdio:{stdin:null, stdout:(1041 + 3 * $n), stderr:(1042 + 3 * $n)}}' "$work/config.json"
}
order() { # NAME ID [MEMBERS]
	echo "{\"order\":\"$1\",\"id\":\"$2\"${3:+,$3}}"
}
# Asks again until the answer is that, or for too long.
comes_to() { # DESCRIPTION PATTERN LINE
	has_come() { grep -q -E -- "$1" <<<"$(ask "$2")"; }
	wait_for has_come "$2" "$3"
	answers "$@"
}
wait_for_text() { wait_for grep -q -- "$2" "$1"; } # FILE TEXT
refused='"ok": ?false'
done_='"ok": ?true'

# --- two containers in one machine --------------------------------------------------------------------------------------
begin
answers "an unknown container" 'container \\"a\\" does not exist' "$(order state a)"
answers "a container is made" "$done_" "$(create a 0 'echo first; exit 3')"
answers "a second one in the same machine" "$done_" "$(create b 1 'trap "echo terminated; exit 9" TERM; echo ready; while :; do sleep 0.1; done')"
answers "an id that is taken" 'container with id exists: b' "$(create b 1 true)"
answers "a program that does not exist" 'executable file not found in' "$(create c 1 '' '.process.args = ["nosuch"]' | jq -c '.stdio = {}')"
answers "its container is gone" 'does not exist' "$(order state c)"
answers "an export that does not exist" "$refused" "$(create d 1 true | sed 's/"export":"rootfs"/"export":"other"/')"
answers "a stream port that nobody registered" "$refused" "$(create d 1 true | sed 's/1044/1999/')"
answers "made, not started" '"status": ?"created"' "$(order state a)"
answers "one that lives cannot be deleted" "$refused" "$(order delete a)"
answers "the second is started" "$done_" "$(order start b)"
check "and runs" wait_for_text "$work/io/out1" ready
answers "it cannot be started twice" 'cannot start an already running container' "$(order start b)"
answers "a signal to all of it" "$done_" "$(order kill b '"signal":15,"all":true')"
check "reaches its process" wait_for_text "$work/io/out1" terminated
comes_to "it has ended" '"exitStatus": ?9' "$(order state b)"
answers "a signal to one that has ended" 'container not running' "$(order kill b '"signal":9')"
answers "deleted" "$done_" "$(order delete b)"
answers "and forgotten" 'does not exist' "$(order state b)"
answers "the first is started" "$done_" "$(order start a)"
same "its status is the machine's" "status 3" "$(ask wait)"
same "its output" first "$(cat "$work/io/out0")"
end

# --- what containers of one machine share, and what they do not -----------------------------------------------------------
joined() { jq -c ".namespaces = $1"; }
begin
answers "a sandbox container" "$done_" "$(create a 0 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done' '.hostname = "first"')"
answers "starts" "$done_" "$(order start a)"
check "and runs" wait_for_text "$work/io/out0" ready
look='for kind in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$kind; done; hostname; ip link show lo | grep -c LOOPBACK,UP; echo pids $(ls -d /proc/[0-9]* | wc -l); echo end'
answers "a second one, with namespaces of its own" "$done_" "$(create b 1 "$look; sleep 1000")"
answers "starts" "$done_" "$(order start b)"
check "and runs" wait_for_text "$work/io/out1" '^end$'
cp "$work/io/out1" "$work/own"
same "its name is its own" runc "$(sed -n 7p "$work/own")"
same "its loopback interface is up" 1 "$(sed -n 8p "$work/own")"
answers "a third one, in the namespaces of the first" "$done_" "$(create c 2 "$look" '.hostname = ""' | joined '{pid:"a", network:"a", ipc:"a", uts:"a"}')"
answers "starts" "$done_" "$(order start c)"
check "and runs" wait_for_text "$work/io/out2" '^end$'
cp "$work/io/out2" "$work/shared"
for i in "1 pid" "2 network" "3 ipc" "4 uts"; do
	check "${i#* }: another one than that of its own" test "$(sed -n "${i% *}p" "$work/own")" != "$(sed -n "${i% *}p" "$work/shared")"
done
check "mount: its own all the same" test "$(sed -n 5p "$work/own")" != "$(sed -n 5p "$work/shared")"
same "it sees the first one's name" first "$(sed -n 7p "$work/shared")"
check "and its processes" test "$(sed -n 9p "$work/shared" | cut -d' ' -f2)" -ge 4
comes_to "it ends" '"exitStatus": ?0' "$(order state c)"
answers "deleted" "$done_" "$(order delete c)"
answers "the second deleted" "$done_" "$(order delete b '"force":true')"
answers "one that leaves processes behind" "$done_" "$(create d 3 'sleep 1000 & sleep 1001 & echo left; exit 7' | joined '{pid:"a"}')"
answers "starts" "$done_" "$(order start d)"
check "and ends" wait_for_text "$work/io/out3" left
comes_to "with its status" '"exitStatus": ?7' "$(order state d)"
answers "deleted" "$done_" "$(order delete d)"
answers "nothing of it is left" "$done_" "$(create e 4 'ps -o args | grep -c "[s]leep 100"; echo end' | joined '{pid:"a"}')"
answers "starts" "$done_" "$(order start e)"
check "and looks" wait_for_text "$work/io/out4" '^end$'
same "for what is left" 0 "$(head -n 1 "$work/io/out4")"
answers "a namespace of nobody" 'container .*nobody.* is not there' "$(create f 4 true | joined '{ipc:"nobody"}')"
answers "a namespace of one that has ended" 'is not there or has stopped' "$(create f 4 true | joined '{ipc:"e"}')"
answers "a kind that is not shared" 'namespaces.mount cannot be shared' "$(create f 4 true | joined '{mount:"a"}')"
answers "a path of who knows what" 'is not of this sandbox' "$(create f 4 true '.linux.namespaces |= map(if .type == "ipc" then .path = "/proc/1/ns/ipc" else . end)')"
answers "one that would go on for ever" "$done_" "$(create g 5 'sleep 1000' '.linux.namespaces += [{type:"cgroup"}] | .linux.namespaces |= unique' | jq -c '.stdio = {}')"
answers "starts" "$done_" "$(order start g)"
answers "and runs" '"status": ?"running"' "$(order state g)"
answers "the sandbox container is told to end" "$done_" "$(order kill a '"signal":15')"
same "and everything with it" "status 5" "$(ask wait)"
end

# --- messages that are none ---------------------------------------------------------------------------------------------
begin
answers "an unknown order" 'unknown order `dance`' "$(order dance a)"
answers "an order without a name" 'its name is missing' '{"id":"a"}'
answers "a kill without a signal" 'signal must be a number' "$(order kill a)"
answers "a create without a spec" 'spec must be an object' "$(order create a)"
for bytes in '\x00\x00\x00\x00' '\xff\xff\xff\xff' '\x05\x00\x00\x00[1,2]' '\x03\x00\x00\x00{}x' '\x02\x00\x00\x00{"'; do
	answers "a message of $bytes ends its connection" '^closed$' "raw $bytes"
done
answers "the others go on" "$done_" "$(create a 0 'sleep 1000')"
answers "a container that was not started is deaf to TERM" "$done_" "$(order kill a '"signal":15')"
answers "and still there" '"status": ?"created"' "$(order state a)"
answers "deleted by force" "$done_" "$(order delete a '"force":true')"
same "which ends the machine" "status 137" "$(ask wait)"
end

# --- containers against the agent ----------------------------------------------------------------------------------------
begin
answers "a container with a cgroup that it may write" "$done_" "$(create a 0 'cd /sys/fs/cgroup; mkdir -p x/y/z; echo 1 >pids.max; cat pids.max
	bomb() { bomb | bomb & }; echo ready; bomb; sleep 1000' '(.mounts[] | select(.type == "cgroup") | .options) = ["rw"]')"
answers "starts" "$done_" "$(order start a)"
check "it cannot change its own limits" wait_for_text "$work/io/out0" '^max$'
check "it floods the machine with processes" wait_for_text "$work/io/out0" ready
sleep 3
answers "the agent still answers" '"status": ?"running"' "$(order state a)"
answers "and kills it" "$done_" "$(order delete a '"force":true')"
same "all of it" "status 137" "$(ask wait)"
end
