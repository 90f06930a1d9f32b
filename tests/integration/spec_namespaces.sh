#!/bin/bash
# linux.namespaces, id mappings and time offsets under runc and under hull.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/spec_lib.sh"

# --- user namespaces: the root file system belongs to the user that root inside stands for, as engines prepare it -----
rm -rf "$work/users"
cp -a "$work/rootfs" "$work/users"
chown -hR 100000:200000 "$work/users"
touch "$work/users/of-root" "$work/users/of-5"
chown 100005:200006 "$work/users/of-5"
mkdir -p "$work/volume"
chmod 777 "$work/volume"
echo outside >"$work/volume/of-root"
chown 100000:200000 "$work/users/tmp"
mappings='.linux.namespaces += [{type:"user"}] | .linux.uidMappings = [{containerID:0, hostID:100000, size:1000}, {containerID:5000, hostID:300000, size:1}]
	| .linux.gidMappings = [{containerID:0, hostID:200000, size:1000}]'
user_bundle() {
	new_bundle "$1"
	edit "$b" "$mappings | .root.path = \"$work/users\""
}
# Limits that the spec does not name, and what is masked, as in the other comparison: the guest kernel lacks some of it.
# The group of /dev/mqueue is nobody with runc.
normalize() {
	sed -E -e 's/^(Max (pending signals|processes|locked memory|open files) ).*/\1(differs)/' -e 's/^(\S+ \S+ )[0-9]+ /\1/' -e 's/^(drwxrwxrwt root) \S+ mqueue/\1 mqueue/' -e '/kcore/d' -e '/^\/proc\/(acpi|scsi|keys|timer_list|sysrq-trigger|latency_stats|sched_debug|asound) /d'
}
user_bundle 'id; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; ls -lan / | awk "{ print \$1, \$3, \$4, \$9 }" | grep -v total
	ls -la /dev | awk "NR > 1 && !/total/ { if (\$5 ~ /,/) print \$1, \$3, \$4, \$5, \$6, \$10; else print \$1, \$3, \$4, \$9, \$10, \$11 }"
	echo x >/dev/null && head -c 3 /dev/zero | wc -c; for d in mem-like; do head -c 1 /dev/$d; done 2>&1
	hostname changed && hostname; mount -t tmpfs none /tmp 2>&1; mkdir /tmp/made; touch /made /volume/made; ls -ln /made /volume | awk "{ print \$1, \$3, \$4, \$9 }"; rm /made /volume/made
	cat /proc/self/limits /proc/self/oom_score_adj; grep -E "^(Uid|Gid|Groups|Cap|NoNew)" /proc/self/status; ip link set lo up && ip addr add 10.1.2.3/8 dev lo && ip addr show lo | grep -o 10.1.2.3
	awk "{ print \$5, \$6 }" /proc/self/mountinfo | sed -E "s/,(rel|no)atime//" | sort; ls /sys/class/net; ls -d /fs /cgroup /devices-1 /init; cat /proc/sys/net/ipv4/ip_forward'
edit "$b" ".process.capabilities |= map_values([\"CAP_SYS_ADMIN\",\"CAP_NET_ADMIN\",\"CAP_CHOWN\",\"CAP_DAC_OVERRIDE\",\"CAP_SETUID\",\"CAP_SETGID\"]) | .process.capabilities.ambient = []
	| .linux.devices = [{path:\"/dev/mem-like\", type:\"c\", major:1, minor:5, fileMode:420}] | .process.oomScoreAdj = -300
	| .process.rlimits = [{type:\"RLIMIT_CORE\", soft:5, hard:7}] | .mounts += [{destination:\"/volume\", type:\"bind\", source:\"$work/volume\", options:[\"bind\"]}] | .linux.sysctl = {\"net.ipv4.ip_forward\":\"1\"}"
mknod "$work/users/dev/null" c 1 3 2>/dev/null
mknod /dev/mem-like c 1 5 2>/dev/null # runc binds the host's
both "a user namespace"
rm -f /dev/mem-like
# An owner that the spec gives is one inside; runc leaves that of the host's node.
user_bundle 'ls -ln /dev/owned | awk "{ print \$1, \$3, \$4 }"; ls -ld /dev/mqueue | awk "{ print \$3 }"'
edit "$b" '.linux.devices = [{path:"/dev/owned", type:"c", major:1, minor:5, fileMode:384, uid:3, gid:4}]'
hull_says "a device with an owner in a user namespace" "crw------- 3 4
root"
user_bundle 'id; cat >/tmp/x; ls -ln /tmp/x | awk "{ print \$1, \$3, \$4 }"; echo to by name >/dev/stdout; id >/dev/stderr; rm -f /tmp/x'
edit "$b" '.process.user = {uid:5, gid:6, additionalGids:[7,8]}'
chmod 1777 "$work/users/tmp"
both "a user in a user namespace"
user_bundle true
edit "$b" '.process.user = {uid:2000, gid:0}'
both_fail "a user that is not mapped" "cannot set uid to unmapped user in user namespace"
edit "$b" '.process.user = {} | .linux.uidMappings = []'
both_fail "no mappings" "user namespaces enabled, but no"
new_bundle true
edit "$b" '.linux.uidMappings = [{containerID:0, hostID:100000, size:1000}]'
normalize() { grep -v warning; }
both "mappings without the namespace"
normalize() { cat; }
user_bundle 'sleep 1000'
edit "$b" ".linux.seccomp = $(cat "$repository/tests/integration/profiles/docker-20.10.json")"
both_exec "a further process in a user namespace" '{"cwd":"/tmp","user":{"uid":5,"gid":6},"env":["PATH=/bin"],"rlimits":[{"type":"RLIMIT_CORE","soft":3,"hard":4}],"args":["sh","-c",
	"id; cat /proc/self/uid_map; pwd; ulimit -c; grep -E \"^(Cap|NoNew|Seccomp)\" /proc/self/status; echo by name >/dev/stdout; /probe call 83 0 0; exit 3"]}'

# --- what is absent ---------------------------------------------------------------------------------------------------
new_bundle true
edit "$b" '.linux.namespaces |= map(select(.type != "uts")) | .hostname = "x"'
both_fail "a name without a namespace for it" "unable to set hostname without a private UTS namespace"
edit "$b" '.linux.namespaces |= map(select(.type != "mount")) | .hostname = ""'
both_fail "masked paths without a mount namespace" "unable to restrict sys entries without a private MNT namespace"
edit "$b" '.linux.namespaces = [{type:"mount"}, {type:"pid"}, {type:"uts"}] | .linux.sysctl = {"net.ipv4.ip_forward":"1"}'
both_fail "a network parameter without a network namespace" 'sysctl "net.ipv4.ip_forward" not allowed in host network namespace'
edit "$b" '.linux.sysctl = {} | .linux.namespaces = [{type:"mount"}, {type:"mount"}]'
both_fail "a namespace twice" "mount"
edit "$b" '.linux.namespaces = [{type:"mounts"}]'
both_fail "a namespace that does not exist" "does not exist"
new_bundle 'hostname; ls /sys/class/net; echo $$; readlink /proc/self/ns/uts | sed s/[0-9]*//g'
edit "$b" '.linux.namespaces = [] | .hostname = "" | .linux.maskedPaths = [] | .linux.readonlyPaths = []'
# Absent is the machine's, and the process is still the first of a process id namespace.
hull_says "no namespaces" "hull
lo
1
uts:[]"

# --- time: runc 1.1 does not know it ----------------------------------------------------------------------------------
new_bundle '/probe clocks; cat /proc/self/timens_offsets; test "$(readlink /proc/self/ns/time)" = "$(readlink /proc/self/ns/time_for_children)" && echo same'
edit "$b" '.linux.namespaces += [{type:"time"}] | .linux.timeOffsets = {monotonic:{secs:360000, nanosecs:5}, boottime:{secs:720000}}'
hull_says "a time namespace" "clocks: monotonic 100 h boot 200 h
monotonic      360000         5
boottime       720000         0
same"
edit "$b" '.linux.namespaces |= map(select(.type != "time"))'
refuses "offsets without the namespace" "time namespace offsets specified, but time namespace isn't enabled in the config"
same "nothing is left" "" "$(leftovers)"
