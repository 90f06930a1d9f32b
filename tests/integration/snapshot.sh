#!/bin/bash
# Machines that are saved and restored, by hull-vmm alone: clones that run at once, time in them, two CPUs, a clone that is saved
# again, and everything that is to be refused.
. "$(dirname "$0")/lib.sh"
build=$repository/build
rootfs_busybox "$work/rootfs"
# On tmpfs, as templates are.
files=$work/files
mkdir -p "$files" && mount -t tmpfs -o mode=755 none "$files"
mkfifo "$work/lines" "$work/answers"
"$build/tests/snapshot_host" "${HULL_VMM:-$build/bin/hull-vmm}" "${HULL_FSD:-$build/bin/hull-fsd}" "${HULL_KERNEL:-$build/share/hull/vmlinux}" \
	"${HULL_INITRAMFS:-$build/share/hull/initramfs}" "$work/rootfs" "$files" <"$work/lines" >"$work/answers" &
exec 5>"$work/lines" 6<"$work/answers"
ask() { # LINE: sends it and prints the answer
	printf '%s\n' "$1" >&5
	local answer
	IFS= read -r -t 120 answer <&6 || answer="no answer within 120 s"
	printf '%s\n' "$answer"
}
answers() { # DESCRIPTION PATTERN LINE
	local answer
	answer=$(ask "$3")
	if grep -q -E -- "$2" <<<"$answer"; then ok "$1"; else not_ok "$1" "$answer
$(tail -n 5 "$files"/*.log 2>&1)"; fi
}
"$hull" spec -b "$work" >/dev/null 2>&1 || (cd "$work" && "$hull" spec)
create() { # COMMAND: the order that makes the container `a`, which runs COMMAND in a shell and whose end is the machine's
	jq -c --arg command "$1" '.process.terminal = false | .process.args = ["sh", "-c", $command] | {order:"create", id:"a", machine:true, time:"@NOW@",
		spec:., rootfs:{export:"rootfs"}, mounts:{}, stdio:{stdin:null, stdout:1041, stderr:1042}}' "$work/config.json" | sed 's/"@NOW@"/@NOW@/'
}
memory=268435456
quiet='order %s {"order":"state","id":"a"}' nobody='does not exist'
done_='"ok": ?true'
alive() { # DESCRIPTION NAME
	# shellcheck disable=SC2059
	answers "$1" "$nobody" "$(printf "$quiet" "$2")"
}
runs() { # NAME COMMAND: makes and starts the container
	answers "$1: makes a container" "$done_" "time $1 $(create "$2")"
	answers "$1: starts it" "$done_" "order $1 {\"order\":\"start\",\"id\":\"a\"}"
}
ended() { # NAME STATUS OUTPUT-PATTERN
	same "$1: its status is the machine's" "status $2" "$(ask "wait $1")"
	same "$1: and its result" "exited $2" "$(cat "$files/$1.result")"
	if grep -q -E -- "$3" "$files/$1.out"; then ok "$1: its output"; else not_ok "$1: its output" "$(cat "$files/$1.out" "$files/$1.err" "$files/$1.log")"; fi
}

# --- save and go on, save and end -----------------------------------------------------------------------------------------
began=$(date +%s)
answers "a machine boots" ok "boot first 1 $memory"
alive "its agent answers" first
answers "it is saved" '^ok$' "save first early"
alive "and goes on" first
answers "it is saved again, to end" '^ok$' "save first one end"
same "and ends" "status 0" "$(ask "wait first")"
same "its result says so" saved "$(cat "$files/first.result")"
check "pages without content are not in the file" test "$(stat -c %s "$files/one.memory")" -lt $((memory / 4))
check "nor has it holes" test "$(stat -c %b "$files/one.memory")" -ge $(($(stat -c %s "$files/one.memory") / 512))

# --- clones ---------------------------------------------------------------------------------------------------------------
# Each waits until all are there, so that they are there at once.
look='i=0; last=0; while [ $i -lt 300 ]; do read -r now rest </proc/uptime; [ ${now%.*}${now#*.} -ge $last ] || echo backwards; last=${now%.*}${now#*.}; i=$((i + 1)); done
	echo uptime ${last%??}; echo date $(date +%s); echo cpus $(grep -c ^processor /proc/cpuinfo); until [ -e /go ]; do sleep 0.1; done; echo here; exit'
for clone in a b c; do
	answers "clone $clone" ok "restore $clone 1 $memory one"
done
for clone in a b c; do
	runs "$clone" "$look 7"
done
touch "$work/rootfs/go"
for clone in a b c; do
	ended "$clone" 7 '^here$'
	now=$(date +%s)
	date=$(sed -n 's/^date //p' "$files/$clone.out") uptime=$(sed -n 's/^uptime //p' "$files/$clone.out")
	check "$clone: the time of day is the host's" test "$date" -ge "$began" -a "$date" -le "$now"
	check "$clone: its clock has not run ahead" test "$uptime" -le $((now - began))
	check "$clone: nor backwards" test "$(grep -c backwards "$files/$clone.out")" = 0
done
rm "$work/rootfs/go"
same "what they have written is not in the file" "$(sha256sum <"$files/one.memory")" "$(cp "$files/one.memory" "$files/copy" && sha256sum <"$files/copy")"
answers "a clone of the one that went on" ok "restore d 1 $memory early"
alive "answers" d
answers "and is saved itself" '^ok$' "save d later end"
same "and ends" "status 0" "$(ask "wait d")"
answers "a clone of the clone" ok "restore e 1 $memory later"
runs e 'echo hello; exit 3'
ended e 3 '^hello$'

# --- two CPUs -------------------------------------------------------------------------------------------------------------
answers "a machine of two CPUs" ok "boot two 2 $memory"
alive "answers" two
answers "is saved, and goes on" '^ok$' "save two pair"
runs two 'exit 4'
ended two 4 ''
touch "$work/rootfs/go"
answers "a clone of it" ok "restore f 2 $memory pair"
runs f "(taskset 1 sh -c 'i=0; while [ \$i -lt 3000 ]; do i=\$((i + 1)); done; echo left'; ) & taskset 2 sh -c 'echo right'; wait; $look 5"
ended f 5 '^cpus 2$'
same "both CPUs work" "left right" "$(grep -E '^(left|right)$' "$files/f.out" | sort | xargs)"
check "their clocks agree" test "$(grep -c backwards "$files/f.out")" = 0

# --- what cannot be saved -------------------------------------------------------------------------------------------------
answers "a machine with a container" ok "restore g 1 $memory one"
answers "is there" "$done_" "time g $(create 'exit 6')"
answers "cannot be saved" '^error Device or resource busy$' "save g never"
check "the log says why" grep -q 'not saved: fs: the guest has mounted its file system' "$files/g.log"
answers "and goes on" "$done_" 'order g {"order":"start","id":"a"}'
ended g 6 ''

# --- what cannot be restored ----------------------------------------------------------------------------------------------
refused() { # DESCRIPTION PATTERN VCPUS MEMORY FROM [IDENTITY]
	ask "restore bad $3 $4 $5${6:+ $6}" >/dev/null
	same "$1: refused" "status 125" "$(ask "wait bad")"
	check "$1: with the reason" grep -q -E -- "^failed restore: .*$2" "$files/bad.result"
}
variant() { # NAME: a copy to be spoiled
	cp "$files/one.state" "$files/$1.state"
	cp "$files/one.memory" "$files/$1.memory"
	chmod 600 "$files/$1.state" "$files/$1.memory"
}
locked() {
	chmod 400 "$files/$1.state" "$files/$1.memory"
}
refused "another size of memory" 'bytes of memory' 1 $((2 * memory)) one
refused "another number of CPUs" 'has 1 CPUs, not 2' 2 $memory one
refused "another kernel" 'of another guest' 1 $memory one other
variant short && truncate -s -8 "$files/short.state" && locked short
refused "a truncated state" 'truncated' 1 $memory short
variant empty && truncate -s 0 "$files/empty.state" && locked empty
refused "an empty state" 'truncated' 1 $memory empty
variant corrupt && printf X | dd of="$files/corrupt.state" bs=1 seek=5000 conv=notrunc status=none && locked corrupt
refused "a corrupt state" 'corrupt' 1 $memory corrupt
variant version && printf '\xff' | dd of="$files/version.state" bs=1 seek=8 conv=notrunc status=none && locked version
refused "another version" 'of version' 1 $memory version
variant cut && truncate -s -4096 "$files/cut.memory" && locked cut
refused "a truncated memory file" 'memory file: has .* bytes, not' 1 $memory cut
variant open
refused "a memory file that may change" 'could still be changed' 1 $memory open
variant mixed && cat "$files/early.memory" >"$files/mixed.memory" && locked mixed
refused "the memory of another machine" 'memory file' 1 $memory mixed
variant foreign && locked foreign && chown 65534 "$files/foreign.state"
refused "the state of another user" 'belongs to user 65534' 1 $memory foreign
answers "and the good one still serves" ok "restore h 1 $memory one"
alive "as before" h
answers "ended" ok "kill h"
exec 5>&- 6<&-
wait
umount "$files"
