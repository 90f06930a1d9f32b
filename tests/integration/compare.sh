#!/bin/bash
# The same bundle under runc and under hull: what a process finds of itself and its surroundings must be the same, line for
# line. The few differences that are right are taken out below, each with its reason.
. "$(dirname "$0")/lib.sh"

rootfs_busybox "$work/rootfs"
echo 'user:x:1000:1001:a user:/home/user:/bin/sh' >>"$work/rootfs/etc/passwd"
echo 'nohome:x:1002:1002::' >>"$work/rootfs/etc/passwd"
mkdir -p "$work/volume/sub"
echo "in the volume" >"$work/volume/file"

cat >"$work/rootfs/probe" <<'PROBE'
show() { echo "== $1"; shift; "$@" 2>&1; }
listing() { ls -la "$@" 2>&1 | grep -v '^total' | awk '{ if ($5 ~ /,/) print $1, $2, $3, $4, $5, $6, $10, $11, $12; else print $1, $3, $4, $9, $10, $11 }'; }
show id id
show status grep -E '^(Umask|Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Sig[BIC]|Shd|Threads|CoreDump|Speculation)' /proc/self/status
show init grep -E '^(Name|Umask|Uid|Gid|PPid|Sig[PBIC]|Shd|NoNew)' /proc/1/status
show limits cat /proc/self/limits
show environment env
show directory pwd
show name cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname
show devices listing /dev /dev/pts /dev/shm /dev/mqueue
show root listing /
show mounts awk '{ n = split($0, f, " "); s = ""; for (i = 5; i <= n; i++) s = s " " f[i]; print f[4] s }' /proc/self/mountinfo
for path in /proc/keys /proc/timer_list; do show "masked $path" wc -c $path; done
show "masked /sys/firmware" ls /sys/firmware
for path in /proc/bus /proc/fs /proc/irq /proc/sys; do show "read-only $path" touch $path/new; done
show "hostname is read-only" sh -c 'echo other >/proc/sys/kernel/hostname'
show "root is writable" sh -c 'echo x >/new && cat /new && rm /new'
show descriptors sh -c 'ls /proc/self/fd | wc -l'
show session awk '{ print $6, $7, $8 }' /proc/1/stat
show cgroup cat /proc/self/cgroup
show "cgroup files" sh -c 'ls /sys/fs/cgroup | grep -E "^(cgroup|cpu|cpuset|io|memory|pids)\.(procs|controllers|type|max|weight|current|cpus|low|limit)$"'
show "oom score" cat /proc/self/oom_score_adj
show keyring sh -c 'cat /proc/self/keys 2>&1 | wc -l'
for device in "c 1 3" "c 1 11" "c 10 200" "c 10 229" "c 5 1" "b 8 0"; do
	rm -f /tmp/node
	show "mknod $device" mknod /tmp/node $device
	[ ! -e /tmp/node ] || show "open $device" head -c 0 /tmp/node
	rm -f /tmp/node
done
show loopback sh -c 'ip addr show lo | grep -o -E "inet6? [^ ]*"'
show interfaces sh -c 'ls /sys/class/net'
show terminal tty
echo "by name" >/dev/stdout
echo "by name" >/dev/stderr
cat /dev/stdin
show end true
PROBE

# What must differ, or may:
normalize() {
	sed -E \
		-e 's/^(Max (pending signals|processes|locked memory|open files) ).*/\1(the caller'"'"'s limits, and the size of a kernel'"'"'s memory)/' \
		-e 's/^([^ ]*) \/ (r[ow])[a-z,]* - [a-z0-9]+ .*/ROOT \/ \2/' \
		-e 's/^[^ ]* (\/[^ ]*) (r[ow][a-z,]*) - (virtiofs|ext4|overlay) .*/FILES \1 \2/; /^FILES/s/,(rel|no)atime//' \
		-e 's/^(\/dev)?\/null (\/[^ ]*) .*/MASK \2 covered/; s/^\/ (\/usr) ro,.*/MASK \1 covered/' \
		-e 's/,inode64//' -e 's/,(nr_inodes|size)=[0-9]+k?(,nr_inodes=[0-9]+)?$//' \
		-e 's/ - sysfs sysfs r[ow]/ - sysfs/' -e 's/( \/proc\/[a-z_]+| \/sys\/firmware) r[ow].* - .*/\1 covered/; s/^.*( \/proc\/[a-z_]+ covered| \/sys\/firmware covered)/MASK\1/' |
		grep -v -E \
			-e '^lrwxrwxrwx .* core -> /proc/kcore' \
			-e '^MASK /proc/(kcore|acpi|scsi|asound|sysrq-trigger) ' \
			-e '^/sysrq-trigger ' \
			-e '^Speculation'
}
# - limits that the spec does not name come from the caller of runc; the guest has its own
# - the root file system is virtio-fs, and as are bind mounts; under runc their time mode is that of
#   the host's mount; tmpfs shows inode64 and sizes by the kernel's configuration
# - sysfs is read-only by its mount; runc makes the whole file system so, which only shows here
# - covers of masked paths come from another file system, and the guest kernel lacks some of the paths
# - /dev/core: the guest kernel has no /proc/kcore
# - the guest's CPU and its kernel's protections are its own

runs=0
compare() { # NAME: the bundle $work/b under both
	local expected difference stream
	runs=$((runs + 1))
	rm -f "$work/volume/made"
	printf 'input line\n' | runc run -b "$work/b" "runc-$runs" >"$work/runc.out" 2>"$work/runc.err"
	expected=$?
	rm -f "$work/volume/made"
	printf 'input line\n' | "$hull" run -b "$work/b" "hull-$runs" >"$work/hull.out" 2>"$work/hull.err"
	same "$1: exit status" "$expected" $?
	check "$1: the probe ran to its end" grep -q '^== end' "$work/hull.out"
	for stream in out err; do
		normalize <"$work/runc.$stream" >"$work/runc.$stream.n"
		normalize <"$work/hull.$stream" >"$work/hull.$stream.n"
		if difference=$(diff -U1 "$work/runc.$stream.n" "$work/hull.$stream.n"); then
			ok "$1: std$stream as runc's ($(wc -l <"$work/hull.$stream.n") lines)"
		else
			not_ok "$1: std$stream as runc's" "$difference"
		fi
	done
}

namespaces='.linux.namespaces = [{type:"pid"},{type:"network"},{type:"ipc"},{type:"uts"},{type:"mount"},{type:"cgroup"}]'
capabilities() { # NAME...: in the three sets that engines fill
	jq -nc '$ARGS.positional | {bounding: ., effective: ., permitted: .}' --args -- "$@"
}

mknod='["CAP_MKNOD","CAP_DAC_OVERRIDE"]'

bundle "$work/b" "$work/rootfs" sh /probe
edit "$work/b" "$namespaces"
compare plain

bundle "$work/b" "$work/rootfs" sh /probe
edit "$work/b" "$namespaces"' | .root.readonly = true | .hostname = "other" | .process.noNewPrivileges = false
	| del(.process.capabilities) | del(.process.user.uid) | .linux.resources.devices = [{allow:true, access:"rwm"}]'
compare "read-only root, no capabilities, all devices"

bundle "$work/b" "$work/rootfs" sh /probe
edit "$work/b" "$namespaces"' | .process.user = {uid:1000, gid:1001, umask:63, additionalGids:[5, 10, 2000]}
	| .process.cwd = "/made/for/cwd" | .process.env = ["PATH=/bin:/usr/bin","A=1","B=two words","A=3"] | .process.oomScoreAdj = 77
	| .process.rlimits = [{type:"RLIMIT_NOFILE", soft:100, hard:200}, {type:"RLIMIT_CORE", soft:0, hard:"UNLIMITED"},
		{type:"RLIMIT_STACK", soft:4194304, hard:8388608}, {type:"RLIMIT_FSIZE", soft:1000000, hard:1000000}]'
sed -i 's/"UNLIMITED"/18446744073709551615/' "$work/b/config.json" # more than jq can count
compare user

bundle "$work/b" "$work/rootfs" sh /probe
edit "$work/b" "$namespaces"' | .process.user = {uid:1002, gid:0} | .process.env = ["PATH=/bin", "HOME="]
	| .process.capabilities = {bounding:'$mknod', effective:'$mknod', permitted:'$mknod', inheritable:'$mknod', ambient:'$mknod'}
	| .linux.resources.devices = [{allow:false, access:"rwm"}, {allow:true, type:"c", major:1, minor:11, access:"rw"},
		{allow:false, type:"c", major:1, minor:11, access:"w"}]'
compare "user without a home, ambient capabilities, device rules"

bundle "$work/b" "$work/rootfs" sh /probe
edit "$work/b" "$namespaces"' | .process.noNewPrivileges = false | .process.rlimits = [] | .linux.resources = {} | .process.capabilities = '"$(capabilities CAP_CHOWN \
	CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP CAP_SETPCAP \
	CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE)"
compare "an engine's capabilities"

bundle "$work/b" "$work/rootfs" sh /probe
edit "$work/b" "$namespaces"' | .mounts += [
	{destination:"/volume", type:"bind", source:"'"$work/volume"'", options:["rbind","rw","rprivate"]},
	{destination:"/read/only/volume", type:"bind", source:"'"$work/volume"'", options:["bind","ro","nosuid","nodev","noexec"]},
	{destination:"/etc/motd", source:"'"$work/volume/file"'", options:["bind","ro"]},
	{destination:"/made/file", type:"none", source:"'"$work/volume/file"'", options:["rbind","noatime"]},
	{destination:"/tmpfs", type:"tmpfs", source:"label", options:["ro","size=4k","mode=1750","nosuid"]},
	{destination:"/tmp", type:"tmpfs", source:"tmpfs", options:["noexec","nosuid","nodev"]},
	{destination:"/proc/uptime", source:"'"$work/volume/file"'", options:["bind"]}]
	| .linux.maskedPaths += ["/etc/passwd", "/usr", "/not/there"] | .linux.readonlyPaths += ["/var", "/etc/group", "/not/there"]
	| .process.args = ["sh", "-c", "sh /probe; cat /etc/motd /made/file /proc/uptime; ls -A /volume /usr; wc -c /etc/passwd; echo x >/var/x; echo x >/read/only/volume/x; echo x >/volume/made; ls -ld /tmp /tmpfs"]'
compare mounts

# --- errors: the words that engines look for, as runc has them ------------------------------------------------------------
says() { # DESCRIPTION WORDS ARG...
	local description=$1 words=$2
	shift 2
	bundle "$work/b" "$work/rootfs" "$@"
	if output=$("$hull" run -b "$work/b" words </dev/null 2>&1); then
		not_ok "$description: it fails" "$output"
	elif sed 's/\\"/"/g' <<<"$output" | grep -q -F -- "$words"; then
		ok "$description: $words"
	else
		not_ok "$description: $words" "$output"
	fi
}
printf 'no program' >"$work/rootfs/garbage"
printf '#!/no/interpreter\n' >"$work/rootfs/script"
chmod 755 "$work/rootfs/garbage" "$work/rootfs/script"
says "unknown name" 'exec: "nosuch": executable file not found in $PATH' nosuch
says "unknown path" 'exec: "/no/such": stat /no/such: no such file or directory' /no/such
says "not executable" 'exec: "/etc/passwd": permission denied' /etc/passwd
says "a directory" 'exec: "/etc": permission denied' /etc
says "no program" 'exec /garbage: exec format error' /garbage
says "no interpreter" 'exec /script: no such file or directory' /script
