#!/bin/bash
# Templates: what is forked from them is a machine of its own; they are made once, replaced, refused, removed; and nothing
# that becomes of their files keeps a container from starting.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
templates=/run/hull-templates
echo '{"template":"auto"}' >"$work/auto.json"
auto=("$hull" --config "$work/auto.json")
"$hull" template rm --all

names() { "$hull" template list | awk 'NR > 1 { print $1 }'; }
size_of() { "$hull" template list | awk -v name="$1" '$1 == name { print $2, $3 }'; }
made() { [ "$(names | wc -l)" = "${1:-1}" ] && ! pgrep -x hull-template; }
bundle "$work/b" "$work/rootfs" sh -c 'cat /proc/sys/kernel/random/boot_id; head -c 16 /dev/urandom | md5sum; date +%s; cat /proc/uptime'
run() { # [FLAG...]: what the container says in $out, what hull says in $log
	out=$("$hull" --log "$work/log" "$@" run -b "$work/b" fork 2>"$work/err" </dev/null)
	status=$?
	log=$(cat "$work/log" 2>/dev/null)
	rm -f "$work/log"
}

# --- by hand ---------------------------------------------------------------------------------------------------------
same "there is none" "" "$(names)"
name=$("$hull" template create)
same "create prints its name" "$name" "$(names)"
same "its size is the default" "512 1" "$(size_of "$name")"
check "verify" test "$("$hull" template verify)" = "$name ok"
check "verify by name" "$hull" template verify "$name"
same "nobody else can read it" "700 400 400" "$(stat -c %a "$templates" "$templates/$name/state" "$templates/$name/memory" | xargs)"
same "create again replaces it" "$name" "$("$hull" template create)"
check "one of another size" "$hull" template create --memory 128M --vcpus 2
same "has that size" "128 2" "$("$hull" template list | awk -v not="$name" 'NR > 1 && $1 != not { print $2, $3 }')"
says "a size that is none" 1 'is not a size' "$hull" template create --memory 1K
says "verify of one that is not there" 1 'does not exist' "$hull" template verify 0123456789abcdef
says "rm of one that is not there" 1 'does not exist' "$hull" template rm 0123456789abcdef
says "rm of what is no name" 1 'is not the name' "$hull" template rm ../hull
says "rm of nothing" 1 'either names or --all' "$hull" template rm
says "what template does not know" 1 'knows create' "$hull" template burn
check "rm" "$hull" template rm "$(names | grep -v "$name")"
same "the other stays" "$name" "$(names)"

# --- forked machines are their own ------------------------------------------------------------------------------------
began=$(date +%s)
for i in 1 2 3; do
	run
	same "container $i in a forked machine" 0 "$status"
	sed -n 1p <<<"$out" >>"$work/boot_ids"
	sed -n 2p <<<"$out" >>"$work/random"
	time=$(sed -n 3p <<<"$out")
	check "its time of day" test "$time" -ge "$began" -a "$time" -le "$(date +%s)"
done
same "each has its own boot id" 3 "$(sort -u "$work/boot_ids" | wc -l)"
same "each its own random bytes" 3 "$(sort -u "$work/random" | wc -l)"
"$hull" --debug run -b "$work/b" fork >"$work/debug" 2>&1 </dev/null
same "with a template there is nothing to complain of" 0 "$(grep -c 'template' "$work/debug")"
vmm_file() { grep -c -E "$templates|/memory" "/proc/$1/maps"; }
bundle "$work/s" "$work/rootfs" sleep 1000
"$hull" run -d --pid-file "$work/pid" -b "$work/s" mapped </dev/null >/dev/null 2>&1
check "its memory is the template's" test "$(vmm_file "$(cat "$work/pid")")" -gt 0
read -r private shared < <("$hull" list --memory --format json | jq -r '.[] | select(.id == "mapped") | "\(.private) \(.shared)"')
check "list --memory: it has some megabytes of its own ($private) and shares more ($shared)" \
	test "$private" -gt 1000000 -a "$private" -lt 16000000 -a "$shared" -gt "$private"
"$hull" template rm --all
check "it goes on when the template is removed" "$hull" exec mapped true
"$hull" delete --force mapped
run
same "without a template it boots" 0 "$status"
same "and none is made by itself: manual" "" "$(names)"

# --- made by who needs one --------------------------------------------------------------------------------------------
"${auto[@]}" run -b "$work/b" first >/dev/null 2>&1 </dev/null
check "the first start has one made" wait_for made
edit "$work/b" '.annotations={"hull.template":"off"} | .linux.resources.memory.limit=100000000'
"${auto[@]}" run -b "$work/b" off >/dev/null 2>&1 </dev/null
check "with the annotation off, none of its size" made
edit "$work/b" '.annotations={"hull.template":"auto"}'
"$hull" run -b "$work/b" second >/dev/null 2>&1 </dev/null
check "the annotation goes before the setting" wait_for made 2
edit "$work/b" '.annotations={"hull.template":"maybe"}'
says "another word" 1 'hull.template must be' "$hull" run -b "$work/b" third
edit "$work/b" '.annotations={} | del(.linux.resources.memory)'
"$hull" template rm --all
for i in $(seq 20); do
	"${auto[@]}" run -b "$work/b" "race$i" >"$work/race.$i" 2>&1 </dev/null &
	pids[i]=$!
done
wrong=
for i in $(seq 20); do wait "${pids[i]}" || wrong="$wrong $i"; done
same "20 at once without a template" "" "$wrong"
check "one is made" wait_for made
for i in $(seq 20); do
	"${auto[@]}" run -b "$work/b" "race$i" >"$work/race.$i" 2>&1 </dev/null &
	pids[i]=$!
done
for i in $(seq 20); do wait "${pids[i]}" || wrong="$wrong $i"; done
same "20 at once with it" "" "$wrong"
same "each its own boot id" 20 "$(cat "$work"/race.* | grep -cE '^[0-9a-f]{8}-')"
same "no two of them the same" 20 "$(cat "$work"/race.* | grep -E '^[0-9a-f]{8}-' | sort -u | wc -l)"
check "it is still one" made

# --- what cannot be used is not, and goes -----------------------------------------------------------------------------
name=$(names)
spoil() { # DESCRIPTION PATTERN COMMAND...: the container starts all the same, and the log says why it booted
	local description=$1 pattern=$2
	shift 2
	"$hull" template create >/dev/null
	"$@"
	run
	same "$description: the container runs" 0 "$status"
	check "$description: the log has the reason" grep -q -E "$pattern" <<<"$log"
	same "$description: it is gone" "" "$(names)"
}
rewrite() { # FILE COMMAND...: changes a file that nobody may change
	local file=$templates/$name/$1
	shift
	chmod 600 "$file"
	"$@" "$file"
	chmod 400 "$file"
}
spoil "a truncated state" 'truncated' rewrite state truncate -s 100
spoil "an empty state" 'truncated' rewrite state truncate -s 0
overwrite() { printf XXXXXXXX | dd of="$2" bs=1 seek="$1" conv=notrunc status=none; }
spoil "a damaged state" 'corrupt' rewrite state overwrite 3000
spoil "a truncated memory file" 'memory file: has' rewrite memory truncate -s 1M
spoil "a memory file that may change" 'could still be changed' chmod 644 "$templates/$name/memory"
spoil "of another user" 'belongs to user 1000' chown 1000 "$templates/$name/state"
"$hull" template create >/dev/null
touch -d '2 days ago' "$templates/$name/state"
run --debug
check "one that is too old is not used" grep -q 'is older than' <<<"$log"
echo '{"template":"manual","templateAge":360000}' >"$work/age.json"
run --debug --config "$work/age.json"
same "how old is a setting" 0 "$(grep -c 'is older than' <<<"$log")"
chmod 755 "$templates"
run
check "a folder that others can read is not believed" grep -q 'with mode 755' <<<"$log"
same "the container boots" 0 "$status"
chmod 700 "$templates"
# Cut while it is mapped: the machine that has it may end, and nothing else.
"$hull" template create >/dev/null
"$hull" run -d -b "$work/s" cut </dev/null >/dev/null 2>&1
"$hull" template rm --all
check "others do not hear of it" "$hull" template create
"$hull" delete --force cut

# --- makers that are killed, and no room -------------------------------------------------------------------------------
"$hull" template rm --all
"$hull" template create >/dev/null &
maker=$!
wait_for test -e "$templates/new/control"
kill -9 "$maker"
wait "$maker" 2>/dev/null
no_machine() { ! pgrep -x hull-vmm; }
check "a maker that is killed takes its machine along" wait_for no_machine
same "there is no template" "" "$(names)"
check "the next one is made all the same" "$hull" template create
same "nothing else is in the folder" "lock $(names)" "$(ls "$templates" | sort -r | xargs)"
"$hull" template rm --all
mount -t tmpfs -o size=4m,mode=700 tmpfs "$templates"
says "a full folder" 1 'No space left' "$hull" template create
same "leaves nothing in it" "lock" "$(ls "$templates")"
run
same "a container starts" 0 "$status"
umount "$templates"
"$hull" template create >/dev/null
same "at the end nothing is left" "" "$(leftovers)"
