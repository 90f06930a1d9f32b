#!/bin/bash
# Hooks on the host: when they run, what they are told, what they can do with the pid, what happens when they fail; beside runc.
. "$(dirname "$0")/lib.sh"

rootfs_busybox "$work/rootfs"
# Appends to the file that is its first argument: its other arguments, environment and stdin; and looks at the pid. One
# static program, since starting others is what takes time here; `seen` makes the states comparable.
cat >"$work/record" <<'END'
#!/bin/busybox sh
file=$1; shift
state=$(cat)
pid=$(echo "$state" | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
{
	# This shell exports a PATH of its own where there is none.
	echo "$* env=$(env | grep -vE '^((PWD|SHLVL|_)=|PATH=/sbin:/usr/sbin:/bin:/usr/bin$)' | xargs)"
	echo "in $(pwd)"
	echo "$state"
	if [ "$pid" ]; then
		[ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ] && echo "a network namespace of its own"
		nsenter --net=/proc/$pid/ns/net ip -o link | wc -l
	fi
} >>"$file" 2>&1
END
seen() { # LOG: its states sorted, without what differs from run to run
	jq -rRcS '. as $line | (try (fromjson | objects | del(.ociVersion) | .pid |= (if . then "a pid" else . end)) catch $line) // $line' "$1"
}
chmod 755 "$work/record"
hook() { # KIND [JQ]: one hook that records
	jq -nc --arg r "$work/record" --arg l "$work/log" "{path:\$r, args:[\"record\",\$l,\"$1\"]} ${2:+* $2}"
}
everything=$(for kind in prestart createRuntime poststart poststop; do
	echo "\"$kind\":[$(hook $kind '{env:[]}'),$(hook "$kind-second" '{env:["A=b","C=d e"],timeout:20}')]"
done | paste -sd,)

# --- the same hooks under both ---------------------------------------------------------------------------------------
bundle "$work/b" "$work/rootfs" true
edit "$work/b" ".hooks={$everything} | .annotations={\"org.example\":\"value\"}"
for runtime in runc "$hull"; do
	rm -f "$work/log"
	name=$(basename "$runtime")
	"$runtime" run -b "$work/b" hooked </dev/null >"$work/out" 2>&1 || not_ok "$name run with hooks" "$(cat "$work/out")"
	# runc runs poststart before the process runs, against the specification; here it may have ended already.
	seen "$work/log" | awk '/env=/ { after_start = /^poststart/ } !after_start || /env=/' >"$work/log.$name"
done
if difference=$(diff "$work/log.runc" "$work/log.hull"); then ok "run: order, arguments, environment and state as runc's ($(wc -l <"$work/log.hull") lines)"; else not_ok "run: hooks as runc's" "$difference"; fi
[ "$(grep -c 'namespace of its own' "$work/log.hull")" -ge 4 ] && ok "the pid has a network namespace of its own" || not_ok "the pid has a network namespace of its own" "$(cat "$work/log.hull")"

kinds() { [ -f "$work/log" ] && awk '/env=/ {printf "%s ", $1}' "$work/log"; rm -f "$work/log"; }
bundle "$work/b" "$work/rootfs" sleep 1000
edit "$work/b" ".hooks={$everything,\"createContainer\":[$(hook createContainer)]}"
make() { # DESCRIPTION FLAGS...: the container c1, whose output must not keep us
	local description=$1
	shift
	if "$hull" create -b "$work/b" "$@" c1 </dev/null >"$work/out" 2>&1; then ok "$description"; else not_ok "$description" "$(cat "$work/out")"; fi
}
rm -f "$work/log"
make "create"
same "createContainer runs in the root file system, the others in the bundle" "$work/b 4 $work/rootfs 1" "$(grep "^in " "$work/log" | sort | uniq -c | awk '{ printf "%s%s %s", (NR > 1 ? " " : ""), $3, $1 }')"
same "create runs three kinds in order" "prestart prestart-second createRuntime createRuntime-second createContainer " "$(kinds)"
check "start" "$hull" start c1
same "start runs poststart" "poststart poststart-second " "$(kinds)"
"$hull" kill c1 KILL
for ((i = 0; i < 600; i++)); do "$hull" state c1 | grep -q '"status": "stopped"' && break; sleep 0.1; done
rm -f "$work/b/config.json"
check "delete, with the bundle gone" "$hull" delete c1
same "delete runs poststop" "poststop poststop-second " "$(kinds)"
same "nothing is left" "" "$(leftovers)"

# The namespace can be kept and given an interface, as Docker's hook does.
cat >"$work/network" <<'END'
#!/bin/bash
pid=$(/usr/bin/jq .pid)
/bin/touch /run/kept-netns && /bin/mount --bind /proc/$pid/ns/net /run/kept-netns &&
	/sbin/ip link add name hooked0 type dummy && /sbin/ip link set hooked0 netns $pid
END
chmod 755 "$work/network"
bundle "$work/b" "$work/rootfs" sleep 1000
edit "$work/b" ".hooks={prestart:[{path:\"$work/network\"}]}"
make "create with a hook that sets a network up" --pid-file "$work/pid"
same "the interface is in the container's namespace" 1 "$(nsenter --net="/proc/$(cat "$work/pid")/ns/net" ip -o link | grep -c hooked0)"
"$hull" delete --force c1
umount /run/kept-netns
same "nothing is left" "" "$(leftovers)"

# --- failures --------------------------------------------------------------------------------------------------------
fails() { # DESCRIPTION PATTERN: run fails with the words, runs poststop, and leaves nothing
	rm -f "$work/log"
	if "$hull" run -b "$work/b" failing </dev/null >"$work/out" 2>&1; then not_ok "$1: it fails"; fi
	if [ "$(wc -l <"$work/out")" = 1 ] && grep -q -- "$2" "$work/out"; then ok "$1: $2"; else not_ok "$1" "$(cat "$work/out")"; fi
	same "$1: poststop runs" "poststop " "$(kinds)"
	same "$1: nothing is left" "" "$(leftovers)"
}
bundle "$work/b" "$work/rootfs" echo hello
for kind in prestart createRuntime createContainer; do
	edit "$work/b" ".hooks={$kind:[{path:\"/bin/true\"},{path:\"/bin/sh\",args:[\"sh\",\"-c\",\"echo why >&2; exit 7\"]}],poststop:[$(hook poststop)]}"
	fails "$kind hook" "error running $kind hook #1: exit status 7, stdout: , stderr: why"
done
edit "$work/b" ".hooks={prestart:[{path:\"/bin/sleep\",args:[\"sleep\",\"1000\"],timeout:1}],poststop:[$(hook poststop)]}"
fails "hook that hangs" "hook ran past specified timeout of 1.0s"
edit "$work/b" ".hooks={prestart:[{path:\"/no/such/hook\"}],poststop:[$(hook poststop)]}"
fails "hook that is not there" "No such file or directory"
edit "$work/b" ".hooks={prestart:[$(hook prestart)],poststop:[$(hook poststop)]} | .process.args=[\"/no/such\"]"
rm -f "$work/log"
"$hull" run -b "$work/b" failing </dev/null >"$work/out" 2>&1 && not_ok "no such program"
same "when the process cannot be made: prestart and poststop" "prestart poststop " "$(kinds)"
edit "$work/b" ".hooks.prestart[0].timeout=0"
"$hull" run -b "$work/b" failing </dev/null >"$work/out" 2>&1 && not_ok "a timeout of 0"
same "a hook that cannot be: nothing runs" "" "$(kinds)"
check "and it is named" grep -q 'config.json: hooks.prestart.0..timeout must be' "$work/out"

bundle "$work/b" "$work/rootfs" echo hello
edit "$work/b" ".hooks={poststart:[{path:\"/bin/false\"},$(hook poststart)],poststop:[{path:\"/bin/false\"},$(hook poststop)]}"
same "one that names no environment has hull's own" "A=b" "$(rm -f "$work/log"; edit "$work/b" ".hooks={prestart:[$(hook prestart)]}"; env -i A=b "$hull" run -b "$work/b" bare </dev/null >/dev/null 2>&1; sed -n 's/^prestart env=//p' "$work/log")"
rm -f "$work/log"
edit "$work/b" ".hooks={poststart:[{path:\"/bin/false\"},$(hook poststart)],poststop:[{path:\"/bin/false\"},$(hook poststop)]}"
same "poststart and poststop that fail are warnings" "hello 0" "$("$hull" run -b "$work/b" warned </dev/null 2>"$work/err") $?"
same "two warnings" 2 "$(grep -c 'level=warning.*error running post[a-z]* hook #0: exit status 1' "$work/err")"
same "and the others run" "poststart poststop " "$(kinds)"

# A signal while a hook runs undoes the creation.
edit "$work/b" '.hooks={prestart:[{path:"/bin/sleep",args:["sleep","4321"]}]}'
"$hull" create -b "$work/b" interrupted </dev/null >"$work/out" 2>&1 &
for ((i = 0; i < 200; i++)); do pgrep -f 'sleep 4321' >/dev/null && break; sleep 0.1; done
kill -TERM $!
wait $! && not_ok "create interrupted in a hook fails"
pgrep -f 'sleep 4321' >/dev/null && not_ok "the hook is gone" || ok "the hook is gone"
same "nothing is left" "" "$(leftovers)"
