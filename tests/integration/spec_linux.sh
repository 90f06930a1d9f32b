#!/bin/bash
# Fields of linux.* and process.* under runc and under hull: parameters, devices, limits of the cgroup, scheduling, hooks.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/spec_lib.sh"

# --- parameters, devices ----------------------------------------------------------------------------------------------
new_bundle '
cd /proc/sys
for p in net/ipv4/ip_forward net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range net/ipv4/conf/lo/rp_filter kernel/msgmax kernel/shm_rmid_forced \
	fs/mqueue/msg_max kernel/domainname kernel/sem; do echo "$p $(cat $p)"; done
ls -la /dev /dev/new | awk "NR > 1 && !/^total/ { if (\$5 ~ /,/) print \$1, \$3, \$4, \$5, \$6, \$10, \$11, \$12; else print \$1, \$3, \$4, \$9, \$10, \$11 }" | grep -v kcore
for d in null new/fuse other; do head -c 0 /dev/$d && echo "$d can be read" || echo "$d: no"; done 2>&1
echo x >/dev/other || echo "other cannot be written"'
edit "$b" '.linux.sysctl = {"net.ipv4.ip_forward":"1", "net.ipv4.ip_unprivileged_port_start":"0", "net.ipv4.ping_group_range":"0 0", "net/ipv4/conf/lo/rp_filter":"2",
	"kernel.msgmax":"4096", "kernel.shm_rmid_forced":"1", "fs.mqueue.msg_max":"20", "kernel.domainname":"a.domain", "kernel.sem":"250 32000 32 128"}
	| .linux.devices = [{path:"/dev/new/fuse", type:"c", major:10, minor:229, fileMode:432, uid:5, gid:6},
		{path:"/dev/null", type:"c", major:1, minor:3, fileMode:438, uid:7, gid:8}, {path:"/dev/other", type:"u", major:1, minor:7, fileMode:8630},
		{path:"/dev/block", type:"b", major:7, minor:5}, {path:"/dev/fifo", type:"p", fileMode:420}, {path:"/dev/ptmx", type:"c", major:5, minor:2}]
	| .linux.resources.devices = [{allow:false, access:"rwm"}, {allow:true, type:"c", major:10, minor:229, access:"rw"}, {allow:true, type:"c", major:1, minor:3, access:"rwm"}]'
both "parameters and devices"

for name in vm.overcommit_memory kernel.hostname; do
	new_bundle true
	edit "$b" ".linux.sysctl = {\"$name\":\"1\"}"
	both_fail "parameter $name" "sysctl \"$name\" is not"
done
edit "$b" '.linux.sysctl = {"net.ipv4.nothing":"1"}'
both_fail "a parameter that does not exist" "/proc/sys/net/ipv4/nothing"
edit "$b" '.linux.sysctl = {} | .linux.devices = [{path:"/dev/x", type:"z"}]'
both_fail "a device of no type" 'invalid device type "z"'

# --- limits -----------------------------------------------------------------------------------------------------------
files='for f in memory.max memory.low memory.high memory.swap.max cpu.weight cpu.max cpu.max.burst cpu.idle pids.max hugetlb.2MB.max cgroup.max.depth; do
	echo "$f $(cat /sys/fs/cgroup/$f)"; done'
new_bundle "$files"
edit "$b" '.linux.resources += {memory:{limit:67108864, swap:134217728, reservation:33554432, swappiness:10, kernel:5, disableOOMKiller:true}, pids:{limit:50},
	cpu:{shares:2048, quota:50000, period:200000, realtimeRuntime:0, realtimePeriod:0}, blockIO:{weight:300, leafWeight:20},
	hugepageLimits:[{pageSize:"2MB", limit:4194304}], network:{classID:5, priorities:[{name:"lo", priority:3}]}, unified:{"memory.high":"60000000", "cgroup.max.depth":"3"}}'
normalize() { grep -v 'Kernel memory settings are ignored'; }
both "limits"
normalize() { cat; }
edit "$b" '.process.args = ["cat", "/sys/fs/cgroup/io.bfq.weight"]'
hull_says "the weight of block I/O" "default 300"
new_bundle "$files"
edit "$b" '.linux.resources += {memory:{limit:-1}, pids:{limit:-1}, cpu:{shares:0, quota:-1}, blockIO:{weight:0}, unified:{"pids.max":"77"}}'
both "no limits"
new_bundle "$files"
edit "$b" '.linux.resources += {cpu:{quota:20000, burst:10000, idle:1}}'
hull_says "what runc 1.1 does not know: burst, idle" "$("$hull" run -b "$b" "hull-$$" </dev/null | sed -E 's/^cpu.max .*/cpu.max 20000 100000/; s/^cpu.max.burst .*/cpu.max.burst 10000/; s/^cpu.idle .*/cpu.idle 1/')"
new_bundle '/probe memory 200; echo "status $?"; grep oom_kill /sys/fs/cgroup/memory.events'
edit "$b" '.linux.resources += {memory:{limit:50331648, swap:50331648}}'
both "more memory than the limit"
new_bundle '/probe forks 30'
edit "$b" '.linux.resources += {pids:{limit:20}}'
both "more processes than the limit"
new_bundle true
edit "$b" '.linux.resources += {memory:{limit:5000000, swap:4000000}}'
both_fail "less swap than memory" "memory+swap limit should be >= memory limit"
edit "$b" '.linux.resources.memory = {swap:4000000}'
both_fail "swap without memory" "unable to set swap limit without memory limit"
edit "$b" '.linux.resources.memory = {} | .linux.resources.unified = {"a/b":"1"}'
both_fail "a path in unified" "must be a file name (no slashes)"
edit "$b" '.linux.resources.unified = {"nothing.max":"1"}'
both_fail "no such controller" 'unified resource "nothing.max" can'"'"'t be set: controller "nothing" not available'
edit "$b" '.linux.resources.unified = {"pids.max":"many"}'
both_fail "a value that is none" 'pids.max'
edit "$b" '.linux.resources.unified = {} | .linux.resources.hugepageLimits = [{pageSize:"3MB", limit:1}]'
both_fail "no such page size" 'hugetlb.3MB.max'
edit "$b" '.linux.resources.hugepageLimits = [] | .linux.resources.rdma = {"mlx5_0":{hcaHandles:3}}'
refuses "RDMA" "linux.resources.rdma is not supported: a machine has none of the host's RDMA devices"

# --- scheduling: runc 1.1 ignores these -------------------------------------------------------------------------------
new_bundle '/probe scheduler; /probe io-priority; /probe personality; cat /proc/self/oom_score_adj; uname -m'
edit "$b" '.process.oomScoreAdj = -500'
both "scheduling that nobody asks for"
edit "$b" '.process.scheduler = {policy:"SCHED_RR", priority:7, flags:["SCHED_FLAG_RESET_ON_FORK"]} | .process.ioPriority = {class:"IOPRIO_CLASS_BE", priority:6}
	| .linux.personality = {domain:"LINUX32"} | .process.args = ["/probe", "scheduler"]'
hull_says "a real-time scheduler" "scheduler: policy 2 flags 1 nice 0 priority 7 runtime 0 deadline 0 period 0"
edit "$b" '.process.scheduler = {policy:"SCHED_BATCH", nice:5} | .process.args = ["sh", "-c", "/probe scheduler; /probe io-priority; /probe personality; uname -m"] | .process.execCPUAffinity = {initial:"0"}'
hull_says "a batch scheduler, I/O priority, personality" "scheduler: policy 3 flags 0 nice 5 priority 0 runtime 0 deadline 0 period 0
io priority: class 2 level 6
personality: 0x8
i686"
edit "$b" '.process.scheduler = {policy:"SCHED_ISO"}'
refuses "a scheduler that Linux does not have" "process.scheduler: Invalid argument"

new_bundle 'sleep 1000'
edit "$b" '.linux.personality = {domain:"LINUX32"} | .annotations = {"hull.vcpus":"2"}'
same "scheduling of a further process" "scheduler: policy 3 flags 0 nice 7 priority 0 runtime 0 deadline 0 period 0
io priority: class 2 level 1
personality: 0x8
affinity: 1
status 0" "$(exec_under "$hull" "hull-spec-exec-$$" '{"cwd":"/","args":["sh","-c","/probe scheduler; /probe io-priority; /probe personality; /probe affinity"],"env":["PATH=/bin"],
	"scheduler":{"policy":"SCHED_BATCH","nice":7},"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":1},"execCPUAffinity":{"initial":"0","final":"1"}}')"

# --- hooks in the container -------------------------------------------------------------------------------------------
hook() { echo "{path:\"/bin/sh\", args:[\"sh\", \"-c\", \"$1\"]}"; }
new_bundle 'cat /tmp/hook; rm /tmp/hook'
cat >"$work/rootfs/hook" <<'END'
#!/bin/sh
cat >/tmp/hook
(echo; id; hostname; echo "$PATH $A"; pwd; grep -E "^(CapEff|NoNew)" /proc/self/status) >>/tmp/hook
END
chmod 755 "$work/rootfs/hook"
edit "$b" ".annotations = {\"some\":\"thing\"} | .process.user = {uid:1000, gid:1000} | .hostname = \"inside\"
	| .hooks.startContainer = [{path:\"/hook\", args:[\"name\"], env:[\"PATH=/bin\", \"A=b\"], timeout:30}, $(hook 'echo second >>/tmp/hook')]"
sed -i 's/"some": "thing"/"some":"thing"/' "$b/config.json"
normalize() { sed -E 's/"id":"[a-z]+-spec-[0-9]+"/"id":"ID"/; s/"ociVersion":"[^"]*"/"ociVersion":"V"/; s/\} *$/}/'; }
both "hooks.startContainer"
normalize() { cat; }
new_bundle 'echo not seen'
edit "$b" ".hooks.startContainer = [$(hook 'echo words; exit 5')]"
both_fail "a hook that fails" "error running hook #0: error running hook: exit status 5"
edit "$b" '.hooks.startContainer = [{path:"/bin/sleep", args:["sleep", "100"], timeout:1}]'
both_fail "a hook that takes too long" "hook ran past specified timeout of 1.0s"
edit "$b" ".hooks.startContainer = [$(hook 'mkdir /tmp/x')] | .linux.seccomp = {defaultAction:\"SCMP_ACT_ALLOW\", syscalls:[{names:[\"mkdir\"], action:\"SCMP_ACT_KILL\"}]}"
both_fail "a hook that meets the system call filter" "error running hook #0"
# --- labels and other platforms ---------------------------------------------------------------------------------------
new_bundle 'echo fine'
edit "$b" '.process.apparmorProfile = "" | .process.selinuxLabel = "" | .linux.mountLabel = "" | .linux.intelRdt = {} | .linux.resources.rdma = {}'
both "empty labels"
# runc asks the host's kernel, whose labels say nothing about the guest's.
new_bundle 'echo fine'
edit "$b" '.process.apparmorProfile = "docker-default" | .process.selinuxLabel = "system_u:system_r:container_t:s0:c1,c2" | .linux.mountLabel = "system_u:object_r:container_file_t:s0"'
hull_says "labels are accepted, and silently on stderr" "fine"
"$hull" --log "$work/labels" run -b "$b" labels >/dev/null 2>&1
same "the log has a warning for each" "level=warning process.apparmorProfile
level=warning process.selinuxLabel
level=warning linux.mountLabel" "$(sed -n 's/.*\(level=[a-z]*\) msg="\([^ ]*\) is ignored: the guest.*/\1 \2/p' "$work/labels")"
same "explain says so" "ignored process.apparmorProfile" "$("$hull" explain "$b" | grep apparmor | awk '{ print $1, $2 }')"
new_bundle true
edit "$b" '.linux.intelRdt.l3CacheSchema = "L3:0=f"'
both_fail "linux.intelRdt.l3CacheSchema" "linux.intelRdt is not supported"
for object in '.vm = {kernel:{path:"/vmlinux"}}' '.windows = {layerFolders:["a"]}' '.solaris = {milestone:"a"}'; do
	new_bundle true
	edit "$b" "$object"
	refuses "$object" "is not supported"
done
same "nothing is left" "" "$(leftovers)"
