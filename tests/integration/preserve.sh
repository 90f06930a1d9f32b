#!/bin/bash
# --preserve-fds under runc and under hull: streams of the caller beside stdin, stdout and stderr.
. "$(dirname "$0")/lib.sh"
rootfs_busybox "$work/rootfs"
# What is written to 5 last must be delivered before the end.
script='ls /proc/self/fd | tr "\n" " "; for fd in 3 4 5; do readlink /proc/self/fd/$fd | sed "s/[0-9][0-9]*/N/"; done
	read line <&3; echo "got $line" >&3; md5sum <&3 >&3; cat <&4 >&5; echo x >&6; seq 0 19999 >&5; exit 5'
streams() { python3 "$repository/tests/integration/preserve.py" "$@"; }
compare() { # DESCRIPTION RUNC'S HULL'S: files
	local difference
	if difference=$(diff -a -U1 "$2" "$3"); then ok "$1 ($(wc -l <"$3") lines)"; else not_ok "$1" "$difference"; fi
}
bundle "$work/b" "$work/rootfs" sh -c "$script"
for runtime in runc "$hull"; do
	streams timeout 100 "$runtime" run --preserve-fds 4 -b "$work/b" p1 >"$work/run.$(basename "$runtime")" 2>&1
done
compare "run: a socket, two pipes and /dev/null" "$work/run.runc" "$work/run.hull"
check "run: there was something to compare" grep -q 'pipe: 108905 .* True' "$work/run.hull"

# Socket activation: these come first, and the process is told.
bundle "$work/b" "$work/rootfs" sh -c "env | grep LISTEN; $script"
for runtime in runc "$hull"; do
	streams sh -c 'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"' sh "$runtime" run --preserve-fds 3 -b "$work/b" p1 >"$work/activated.$(basename "$runtime")" 2>&1
done
compare "run: socket activation with a connected socket" "$work/activated.runc" "$work/activated.hull"
check "run: the process is told" grep -q 'LISTEN_FDS=1' "$work/activated.hull"
python3 -c 'import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(b"\0hull-test-activation"); s.listen(); os.dup2(s.fileno(), 3); os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid())); os.execv(sys.argv[1], sys.argv[1:])' "$hull" run -b "$work/b" p1 >"$work/listening" 2>&1 </dev/null
check "run: socket activation with a listening socket is refused" grep -q 'descriptor 3 is a listening socket: only' "$work/listening"

# create: its caller goes; the descriptors stay the container's.
bundle "$work/b" "$work/rootfs" sh -c 'read line <&4; echo "got $line" >&5; while read line <&4; do echo "$line" >&5; done'
mkfifo "$work/to" "$work/from"
for runtime in runc "$hull"; do
	name=$(basename "$runtime")
	cat "$work/from" >"$work/create.$name" &
	"$runtime" create --preserve-fds 3 -b "$work/b" p2 3</dev/null 4<>"$work/to" 5>"$work/from" </dev/null >"$work/err" 2>&1
	echo "status $?" >>"$work/create.status.$name"
	"$runtime" delete --force p2 >/dev/null 2>&1
	wait
done
same "create: runc takes a fifo that is open for both ways, hull cannot relay one" "status 0 status 1" "$(cat "$work/create.status.runc" "$work/create.status.hull" | paste -sd ' ')"
check "create: and says so" grep -q 'preserve-fds: descriptor 4 is a fifo that is open for both reading and writing: only' "$work/err"
for runtime in runc "$hull"; do
	name=$(basename "$runtime")
	cat "$work/from" >"$work/create.$name" &
	reader=$!
	(sleep 1; printf 'one\ntwo\n') >"$work/to" &
	"$runtime" create --preserve-fds 3 -b "$work/b" p2 3</dev/null 4<"$work/to" 5>"$work/from" </dev/null >"$work/err" 2>&1 ||
		not_ok "$name create" "$(cat "$work/err")"
	"$runtime" start p2
	wait "$reader"
	for ((i = 0; i < 300; i++)); do "$runtime" delete p2 2>/dev/null && break; sleep 0.2; done
	wait
done
compare "create and start: fifos" "$work/create.runc" "$work/create.hull"
same "create and start: what went through" "got one two" "$(paste -sd ' ' "$work/create.hull")"

# exec, in the foreground and with --detach, where a proxy stays until all is delivered.
bundle "$work/b" "$work/rootfs" sleep 10000
# Two ids: without a cgroupsPath these name the cgroups.
for runtime in runc "$hull"; do
	"$runtime" run -d -b "$work/b" "p3-$(basename "$runtime")" </dev/null >/dev/null 2>&1
done
for runtime in runc "$hull"; do
	streams timeout 100 "$runtime" exec --preserve-fds 4 "p3-$(basename "$runtime")" sh -c "$script" >"$work/exec.$(basename "$runtime")" 2>&1
	streams timeout 100 "$runtime" exec -d --preserve-fds 4 "p3-$(basename "$runtime")" sh -c "$script" >"$work/detached.$(basename "$runtime")" 2>&1
done
compare "exec: the same" "$work/exec.runc" "$work/exec.hull"
compare "exec --detach: the same" "$work/detached.runc" "$work/detached.hull"
for runtime in runc "$hull"; do
	streams timeout 100 "$runtime" exec --preserve-fds 1 "p3-$(basename "$runtime")" sh -c 'ls /proc/self/fd | tr "\n" " "; md5sum <&3' >"$work/one.$(basename "$runtime")" 2>&1
done
compare "exec: no more than asked for" "$work/one.runc" "$work/one.hull"
refused() { # DESCRIPTION WORDS: exec --preserve-fds 1 with the caller's descriptor 3
	local output
	output=$("$hull" exec --preserve-fds 1 p3-hull true 2>&1 </dev/null)
	same "$1: refused" 255 $?
	grep -qF -- "$2" <<<"$output" && ok "$1: $2" || not_ok "$1: $2" "$output"
}
refused "a file of both directions" "descriptor 3 is a file that is open for both reading and writing: only pipes, fifos, files that are open in one direction and connected stream sockets can be relayed into a guest" 3<>"$work/both"
for runtime in runc "$hull"; do
	"$runtime" exec --preserve-fds 2 "p3-$(basename "$runtime")" sh -c 'cat /proc/self/fd/3 && echo written >&4' 3<"$work/b/config.json" 4>"$work/written.$(basename "$runtime")" >"$work/file.$(basename "$runtime")" 2>&1
	cat "$work/written.$(basename "$runtime")" >>"$work/file.$(basename "$runtime")"
done
compare "exec: files" "$work/file.runc" "$work/file.hull"
refused "nothing" "unable to stat preserved-fd 0 (of 1): stat /proc/self/fd/3: no such file or directory" 3<&-
for runtime in runc "$hull"; do check "delete --force" "$runtime" delete --force "p3-$(basename "$runtime")"; done

# A container that joins a sandbox: its proxy has the streams.
bundle "$work/pod" "$work/rootfs" sleep 10000
"$hull" run -d -b "$work/pod" pod </dev/null >/dev/null 2>&1
bundle "$work/b" "$work/rootfs" sh -c "$script"
edit "$work/b" '.annotations={"hull.sandbox":"pod"}'
streams timeout 100 "$hull" run --preserve-fds 4 -b "$work/b" member >"$work/member" 2>&1
compare "a second container of a sandbox: the same" "$work/run.runc" "$work/member"
check "delete --force of the sandbox" "$hull" delete --force pod
same "nothing is left" "" "$(leftovers)"
