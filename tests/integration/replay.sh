#!/bin/bash
# What engines call, replayed: the recorded config files (samples/) and calls of Docker 20.10, Podman 4.3 and containerd 1.6, with their
# exact arguments and environment, first with runc, then with hull; each call must give what runc gave.
. "$(dirname "$0")/lib.sh"

samples=$repository/tests/integration/samples
rootfs_busybox "$work/rootfs"
mkdir -p "$work/rootfs/sbin" "$work/files/img" "$work/files/shm"
for file in hostname hosts resolv.conf .containerenv docker-init; do echo "$file" >"$work/files/$file"; done
cat >"$work/files/docker-init.sh" <<'END'
#!/bin/sh
shift
exec "$@"
END
mv "$work/files/docker-init.sh" "$work/files/docker-init"
chmod 755 "$work/files/docker-init"
echo content >"$work/files/img/file"
id=$(printf '2%.0s' {1..64})
# Docker's hook keeps the network namespace of the pid on its stdin.
cat >"$work/hook" <<'END'
#!/bin/bash
state=$(/bin/cat)
/usr/bin/jq -c '[.id, .status, (.pid > 0)]' <<<"$state" >>@WORK@/hooked
/bin/readlink "/proc/$(/usr/bin/jq .pid <<<"$state")/ns/net" >@WORK@/hooked.net
echo "$*" >>@WORK@/hooked
END
sed -i "s#@WORK@#$work#" "$work/hook"
chmod 755 "$work/hook"
ip netns add replay

# A network namespace by path is for members of a sandbox only, until hull has networks: as "--network none" gives it, there is no path.
no_path='(.linux.namespaces[] | select(.type == "network")) |= del(.path)'

# Runs one call as the engine does, in the bundle, and keeps status and words. What the runtime prints about time and place is taken out.
declare -A seen
call() { # RUNTIME KEY COMMAND...
	local runtime=$1 key=$2
	shift 2
	(cd "$bundle" && "$@" >"$work/call.out" 2>"$work/call.err" </dev/null)
	seen[$runtime/$key]="$? $(normalize <"$work/call.out")"
	seen[$runtime/$key.err]=$(normalize <"$work/call.err")
}
# In the shell alone: starting programs again and again is what would keep others from ending.
exec_has_ended() { # PID-FILE
	local pid
	[ -s "$1" ] || return 0
	pid=$(<"$1")
	kill -0 "$pid" || return 0
	[[ $(<"/proc/$pid/status") == *State:*Z\ \(zombie\)* ]]
}
# The same for exec --detach: its process writes when the call has returned, and has ended when its pid is gone.
call_exec() { # RUNTIME KEY PID-FILE COMMAND...
	local runtime=$1 key=$2 exec_pid=$3
	shift 3
	rm -f "$exec_pid"
	call "$runtime" "$key" "$@"
	wait_for exec_has_ended "$exec_pid"
	seen[$runtime/$key]="${seen[$runtime/$key]%% *} $(normalize <"$work/call.out")"
}
normalize() { sed -E 's/time="[^"]*" //; s/"time":"[^"]*"//; s/[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ "]*/TIME/g; s/"(pid|init_pid)": ?[0-9]+/"\1":PID/g; s/\[([0-9]+,?)+\]/[PIDS]/'; }
both() { # DESCRIPTION KEY
	same "$1: $2: status and output as runc's" "${seen[runc/$2]}" "${seen[hull/$2]}"
}
prepare() { # SAMPLE: fills the bundle
	rm -rf "$bundle"
	mkdir -p "$bundle"
	sed -e "s#@ROOTFS@#$work/rootfs#; s#@FILES@#$work/files#; s#@HOOK@#$work/hook#; s#@NETNS@#/run/netns/replay#" "$samples/$1" >"$bundle/config.json"
}
has_stopped() { "$@" state "$id" | grep -q '"status": "stopped"'; }
# An engine's own process: a subreaper that gets the container's, and tells its exit status.
cat >"$work/engine.py" <<'PYTHON'
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
pid_file, status_file = sys.argv[1:3]
status = subprocess.run(sys.argv[3:], stdin=subprocess.DEVNULL).returncode
print(status, file=open(status_file + ".created", "w"), flush=True)
if status == 0:
    pid = int(open(pid_file).read())
    while True:
        ended, code = os.waitpid(-1, 0)
        if ended == pid:
            break
    print(os.waitstatus_to_exitcode(code) % 256 if os.waitstatus_to_exitcode(code) >= 0 else 128 - os.waitstatus_to_exitcode(code), file=open(status_file, "w"))
PYTHON
create() { # RUNTIME CALL...: by an engine that stays
	local runtime=$1
	shift
	rm -f "$work/exit" "$work/exit.created"
	(cd "$bundle" && exec python3 "$work/engine.py" "$pid_file" "$work/exit" "$@") >"$work/$runtime.out" 2>"$work/$runtime.err" &
	engine=$!
	wait_for test -s "$work/exit.created"
	seen[$runtime/create]="$(cat "$work/exit.created" 2>&1) $(normalize <"$work/$runtime.err")"
	seen[$runtime/cgroup]=$(sed -n 's/^0:://p' "/proc/$(cat "$pid_file")/cgroup" 2>&1)
}
ended() { # RUNTIME: the engine has seen the end
	wait_for test -s "$work/exit"
	seen[$1/exit]="status $(cat "$work/exit" 2>&1)"
	wait "$engine"
}

# --- Docker: docker run -d -p -m --cpus -v; exec; pause; update; top; stop; rm ------------------------------------------
bundle=$work/docker
pid_file=$bundle/init.pid
docker() { # RUNTIME PROGRAM
	local runtime=$1 all=("$2" --root "$work/state.$1" --log "$bundle/log.json" --log-format json) pid
	prepare docker-config.json
	rm -f "$work/hooked"
	create "$runtime" env PATH=/opt/containerd/bin:/usr/bin:/bin TTRPC_ADDRESS=/run/containerd/containerd.sock.ttrpc \
		"${all[@]}" create --bundle "$bundle" --pid-file "$pid_file" "$id"
	seen[$runtime/hook]=$(cat "$work/hooked" 2>&1)
	[ "$(cat "$work/hooked.net")" = "$(readlink "/proc/$(cat "$pid_file")/ns/net")" ] && seen[$runtime/netns]="the pid's" || seen[$runtime/netns]="another"
	call "$runtime" start "${all[@]}" start "$id"
	jq '.terminal=false | .args=["sh","-c","id -u; cat /img/file; echo $TERM; exit 3"]' "$samples/docker-exec-tty-process.json" >"$work/runc-process1"
	call_exec "$runtime" exec "$bundle/exec.pid" "${all[@]}" exec --process "$work/runc-process1" --detach --pid-file "$bundle/exec.pid" "$id"
	jq '.terminal=false | .args=["nosuch"]' "$samples/docker-exec-tty-process.json" >"$work/runc-process2"
	call "$runtime" exec-nosuch "${all[@]}" exec --process "$work/runc-process2" --detach --pid-file "$bundle/exec2.pid" "$id"
	call "$runtime" pause "${all[@]}" pause "$id"
	seen[$runtime/paused]=$("${all[@]}" state "$id" | jq -r .status)
	call "$runtime" resume "${all[@]}" resume "$id"
	call "$runtime" update sh -c '"$@" <'"$samples/docker-update-resources.json" sh "${all[@]}" update --resources - "$id"
	call "$runtime" top "${all[@]}" ps --format json "$id"
	call "$runtime" create-again "${all[@]}" create --bundle "$bundle" --pid-file "$bundle/other.pid" "$id"
	call "$runtime" delete-running "${all[@]}" delete "$id"
	call "$runtime" stop "${all[@]}" kill "$id" 15
	ended "$runtime"
	wait_for has_stopped "${all[@]}"
	call "$runtime" kill-dead "${all[@]}" kill "$id" 9
	call "$runtime" kill-all-dead "${all[@]}" kill --all "$id" 9
	call "$runtime" delete "${all[@]}" delete "$id"
	call "$runtime" delete-force "${all[@]}" delete --force "$id"
	call "$runtime" delete-unknown "${all[@]}" delete "$id"
	call "$runtime" kill-unknown "${all[@]}" kill "$id" 9
	seen[$runtime/log]=$(jq -r 'select(.level == "error") | .msg' "$bundle/log.json" | tail -n 1)
}
docker runc runc
docker hull "$hull"
for key in create cgroup hook netns start exec paused pause resume update top exit delete delete-force; do both docker "$key"; done
for key in exec-nosuch create-again delete-running kill-dead kill-all-dead delete-unknown kill-unknown; do
	same "docker: $key: status as runc's" "${seen[runc/$key]%% *}" "${seen[hull/$key]%% *}"
done
words() { # DESCRIPTION KEY PATTERN: the words that the engine looks for
	grep -qiE "$3" <<<"${seen[hull/$2.err]}" && ok "$1: $2 says what the engine looks for" || not_ok "$1: $2 says what the engine looks for" "runc: ${seen[runc/$2.err]}
hull: ${seen[hull/$2.err]}"
}
words docker exec-nosuch 'nosuch.*(executable file not found|no such file or directory)'
words docker create-again 'already exists'
words docker kill-dead 'process already finished|container not running|no such process'
words docker kill-unknown 'does not exist'
words docker delete-unknown 'does not exist'
grep -q 'does not exist' <<<"${seen[hull/log]}" && ok "docker: the last error of log.json is the message" || not_ok "docker: the last error of log.json" "${seen[hull/log]}"
same "docker: nothing is left" "" "$(leftovers)"

# --- Docker's other configurations: run to their end --------------------------------------------------------------------
# Not compared: limits and a host name that the configuration does not give come from the caller with runc, from the guest with hull; the
# guest has no /proc/kcore, which /dev/core would lead to.
short() { # RUNTIME PROGRAM SAMPLE [JQ]: create, start, delete of one that ends by itself
	local runtime=$1 all=("$2" --root "$work/state.$1" --log "$bundle/log.json" --log-format json)
	prepare "$3"
	[ -z "${4-}" ] || edit "$bundle" "$4"
	create "$runtime" "${all[@]}" create --bundle "$bundle" --pid-file "$pid_file" "$id"
	call "$runtime" start "${all[@]}" start "$id"
	ended "$runtime"
	wait_for has_stopped "${all[@]}"
	seen[$runtime/output]=$(normalize <"$work/$runtime.out")
	call "$runtime" delete "${all[@]}" delete "$id"
	call "$runtime" delete-force "${all[@]}" delete --force "$id"
}
look='id; pwd; grep -E "^(Cap|NoNewPrivs|Seccomp:)" /proc/self/status; ls /dev | grep -v core | sort | tr "\n" " "; mount | wc -l >/dev/null; touch /x 2>&1; cat /etc/hostname'
for sample in docker-hardened docker-privileged ctr; do
	case $sample in
	docker-hardened) change=".process.args=[\"/sbin/docker-init\",\"--\",\"sh\",\"-c\",$(jq -n --arg x "$look" '$x')]" ;;
	*) change=".process.args=[\"sh\",\"-c\",$(jq -n --arg x "$look" '$x')]" ;;
	esac
	short runc runc $sample-config.json "$change"
	short hull "$hull" $sample-config.json "$change"
	for key in create start exit output delete delete-force; do both $sample "$key"; done
done

# --- a program that is not there: seen at create ------------------------------------------------------------------------
for case in "nosuch executable.file.not.found" "/no/such no.such.file.or.directory" "/etc/passwd permission.denied"; do
	read -r program pattern <<<"$case"
	for runtime in runc hull; do
		[ $runtime = hull ] && binary=$hull || binary=runc
		prepare docker-config.json
		edit "$bundle" ".process.args=[\"$program\"]"
		call $runtime missing "$binary" --root "$work/state.$runtime" --log "$bundle/log.json" --log-format json create --bundle "$bundle" --pid-file "$pid_file" "$id"
		seen[$runtime/missing.err]=$(jq -r 'select(.level == "error") | .msg' "$bundle/log.json" | tail -n 1)
		"$binary" --root "$work/state.$runtime" delete --force "$id"
	done
	both "docker: $program" missing
	words "docker: $program" missing "$program.*$pattern"
done

# --- Podman: no global flags, its own environment, stop, cleanup --------------------------------------------------------
bundle=$work/podman
pid_file=$work/podman.pid
podman() { # RUNTIME PROGRAM [FLAG]
	local runtime=$1 program=$2 flag=${3-}
	prepare podman-config.json
	# Its web server has no network here.
	edit "$bundle" '.process.args[2]="trap \"exit 0\" TERM; echo pub >/tmp/i; while :; do sleep 0.2; done"'
	edit "$bundle" "$no_path"
	[ -z "$flag" ] || edit "$bundle" ".linux.cgroupsPath=\"machine.slice:libpod:$id\""
	create "$runtime" env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/root XDG_RUNTIME_DIR= _OCI_SYNCPIPE=3 _OCI_STARTPIPE=4 \
		"$program" $flag create --bundle "$bundle" --pid-file "$pid_file" "$id"
	call "$runtime" start env -i XDG_RUNTIME_DIR= PATH=/usr/bin:/bin "$program" start "$id"
	jq '.terminal=false | .args=["sh","-c","id -u; exit 4"]' "$samples/podman-exec-tty-process.json" >"$work/exec-process-1"
	call_exec "$runtime" exec "$bundle/exec_pid" "$program" exec --pid-file "$bundle/exec_pid" --process "$work/exec-process-1" --detach "$id"
	call "$runtime" pause env -i XDG_RUNTIME_DIR= "$program" pause "$id"
	call "$runtime" resume env -i XDG_RUNTIME_DIR= "$program" resume "$id"
	cp "$samples/docker-update-resources.json" "$work/podman1"
	call "$runtime" update env -i XDG_RUNTIME_DIR= PATH=/usr/bin "$program" update "--resources=$work/podman1" "$id"
	call "$runtime" state sh -c '"$@" | jq -c "[.id, .status, (.pid > 0)]"' sh "$program" state "$id"
	call "$runtime" stop env -i XDG_RUNTIME_DIR= "$program" kill "$id" 15
	ended "$runtime"
	wait_for has_stopped "$program"
	call "$runtime" kill-dead env -i XDG_RUNTIME_DIR= "$program" kill "$id" 15
	call "$runtime" delete env -i XDG_RUNTIME_DIR= "$program" delete --force "$id"
	call "$runtime" state-gone "$program" state "$id"
}
podman runc runc
podman hull "$hull"
for key in create cgroup start exec pause resume update state exit delete; do both podman "$key"; done
same "podman: kill-dead: status" "${seen[runc/kill-dead]%% *}" "${seen[hull/kill-dead]%% *}"
words podman kill-dead 'process already finished|container not running|no such process'
words podman state-gone 'does not exist'
same "podman: nothing is left" "" "$(leftovers)"

# --- buildah: stray descriptors; state is asked again and again ---------------------------------------------------------
bundle=$work/buildah
pid_file=$bundle/pid
prepare podman-config.json
edit "$bundle" "$no_path"' | .process.args=["sh","-c","ls /proc/self/fd | wc -l"] | del(.linux.cgroupsPath)'
for runtime in runc hull; do
	[ $runtime = hull ] && binary=$hull || binary=runc
	create $runtime bash -c 'for fd in {10..17}; do eval "exec $fd</dev/zero"; done; exec "$@"' bash "$binary" create --bundle "$bundle" --pid-file "$pid_file" buildah-buildah1
	call $runtime start "$binary" start buildah-buildah1
	ended $runtime
	seen[$runtime/output]=$(cat "$work/$runtime.out")
	call $runtime delete "$binary" delete buildah-buildah1
done
for key in create start output exit delete; do both buildah "$key"; done
ip netns delete replay
rmdir /sys/fs/cgroup/docker /sys/fs/cgroup/libpod_parent /sys/fs/cgroup/default 2>/dev/null
same "nothing is left" "" "$(leftovers)"
