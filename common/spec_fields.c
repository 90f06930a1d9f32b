#include "common/spec_fields.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/spec_values.h"
#include "common/words.h"

#define NOT_YET NULL

/* In the order of the specification; where a whole object is refused its own row stands before those of its members, so
 * that the error names the object. */
const struct spec_field spec_fields[] = {
    /* config.md */
    {"ociVersion", SPEC_STRING, SPEC_HOST, "1.0 and later 1.x", false},
    {"root", SPEC_OBJECT, SPEC_BOTH, NULL, false},
    {"root.path", SPEC_STRING, SPEC_HOST,
     "a directory, shared by virtio-fs; or a block device or image file, which becomes a disk", false},
    {"root.readonly", SPEC_BOOL, SPEC_GUEST, NULL, false},
    {"mounts", SPEC_ARRAY, SPEC_BOTH, NULL, false},
    {"mounts[].destination", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"mounts[].type", SPEC_STRING, SPEC_GUEST,
     "what the guest's kernel has without anything of the host; ext2 ext3 ext4 erofs on a disk", false},
    {"mounts[].source", SPEC_STRING, SPEC_HOST,
     "of bind mounts, shared by virtio-fs, sockets relayed, /proc on /proc the machine's own; of ext2 to ext4 and "
     "erofs, a block device or image file",
     false},
    {"mounts[].options", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"mounts[].options[]", SPEC_STRING, SPEC_GUEST,
     "all of them; nothing propagates between host and guest; ids are mapped by the host", false},
    {"mounts[].uidMappings", SPEC_ARRAY, SPEC_HOST, "of bind mounts, where the file system can map ids", false},
    {"mounts[].uidMappings[].containerID", SPEC_UINT32, SPEC_HOST, NULL, false},
    {"mounts[].uidMappings[].hostID", SPEC_UINT32, SPEC_HOST, NULL, false},
    {"mounts[].uidMappings[].size", SPEC_UINT32, SPEC_HOST, NULL, false},
    {"mounts[].gidMappings", SPEC_ARRAY, SPEC_HOST, "of bind mounts, where the file system can map ids", false},
    {"mounts[].gidMappings[].containerID", SPEC_UINT32, SPEC_HOST, NULL, false},
    {"mounts[].gidMappings[].hostID", SPEC_UINT32, SPEC_HOST, NULL, false},
    {"mounts[].gidMappings[].size", SPEC_UINT32, SPEC_HOST, NULL, false},
    {"process", SPEC_OBJECT, SPEC_GUEST, NULL, false},
    {"process.terminal", SPEC_BOOL, SPEC_BOTH, "a terminal in the guest behind one on the host", false},
    {"process.consoleSize", SPEC_OBJECT, SPEC_GUEST, "of a terminal only", false},
    {"process.consoleSize.height", SPEC_UINT32, SPEC_GUEST, "of a terminal only", false},
    {"process.consoleSize.width", SPEC_UINT32, SPEC_GUEST, "of a terminal only", false},
    {"process.cwd", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.env", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"process.env[]", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.args", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"process.args[]", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.commandLine", SPEC_STRING, SPEC_REFUSED, "Windows", false},
    {"process.rlimits", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"process.rlimits[].type", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.rlimits[].soft", SPEC_UINT64, SPEC_GUEST, NULL, false},
    {"process.rlimits[].hard", SPEC_UINT64, SPEC_GUEST, NULL, false},
    {"process.apparmorProfile", SPEC_STRING, SPEC_IGNORED,
     "the guest's kernel has no AppArmor; the machine is what isolates", false},
    {"process.capabilities", SPEC_OBJECT, SPEC_GUEST, NULL, false},
    {"process.capabilities.effective", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"process.capabilities.effective[]", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.capabilities.bounding", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"process.capabilities.bounding[]", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.capabilities.inheritable", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"process.capabilities.inheritable[]", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.capabilities.permitted", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"process.capabilities.permitted[]", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.capabilities.ambient", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"process.capabilities.ambient[]", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.noNewPrivileges", SPEC_BOOL, SPEC_GUEST, NULL, false},
    {"process.oomScoreAdj", SPEC_INT32, SPEC_GUEST, "among the processes of the guest", false},
    {"process.scheduler", SPEC_OBJECT, SPEC_GUEST, NULL, false},
    {"process.scheduler.policy", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.scheduler.nice", SPEC_INT32, SPEC_GUEST, NULL, false},
    {"process.scheduler.priority", SPEC_INT32, SPEC_GUEST, NULL, false},
    {"process.scheduler.flags", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"process.scheduler.flags[]", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.scheduler.runtime", SPEC_UINT64, SPEC_GUEST, NULL, false},
    {"process.scheduler.deadline", SPEC_UINT64, SPEC_GUEST, NULL, false},
    {"process.scheduler.period", SPEC_UINT64, SPEC_GUEST, NULL, false},
    {"process.selinuxLabel", SPEC_STRING, SPEC_IGNORED,
     "the guest's kernel has no SELinux; the machine is what isolates", false},
    {"process.ioPriority", SPEC_OBJECT, SPEC_GUEST, NULL, false},
    {"process.ioPriority.class", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"process.ioPriority.priority", SPEC_INT32, SPEC_GUEST, NULL, false},
    {"process.execCPUAffinity", SPEC_OBJECT, SPEC_NO_NEED, "of processes that exec starts", false},
    {"process.execCPUAffinity.initial", SPEC_STRING, SPEC_NO_NEED, "of processes that exec starts", false},
    {"process.execCPUAffinity.final", SPEC_STRING, SPEC_NO_NEED, "of processes that exec starts", false},
    {"process.user", SPEC_OBJECT, SPEC_GUEST, NULL, false},
    {"process.user.uid", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"process.user.gid", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"process.user.umask", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"process.user.additionalGids", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"process.user.additionalGids[]", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"process.user.username", SPEC_STRING, SPEC_REFUSED, "Windows", false},
    {"hostname", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"domainname", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"hooks", SPEC_OBJECT, SPEC_BOTH, NULL, false},
    {"hooks.prestart", SPEC_ARRAY, SPEC_HOST, "while creating, when the machine runs", false},
    {"hooks.createRuntime", SPEC_ARRAY, SPEC_HOST, "while creating, when the machine runs", false},
    {"hooks.createContainer", SPEC_ARRAY, SPEC_HOST, "in the host's namespaces: their paths are the host's", false},
    {"hooks.startContainer", SPEC_ARRAY, SPEC_GUEST, "in the container, with its process's rights", false},
    {"hooks.poststart", SPEC_ARRAY, SPEC_HOST, NULL, false},
    {"hooks.poststop", SPEC_ARRAY, SPEC_HOST, NULL, false},
    {"hooks.*[]", SPEC_OBJECT, SPEC_BOTH, NULL, false},
    {"hooks.*[].path", SPEC_STRING, SPEC_BOTH, "startContainer in the guest, all others on the host", false},
    {"hooks.*[].args", SPEC_ARRAY, SPEC_BOTH, NULL, false},
    {"hooks.*[].args[]", SPEC_STRING, SPEC_BOTH, "startContainer in the guest, all others on the host", false},
    {"hooks.*[].env", SPEC_ARRAY, SPEC_BOTH, NULL, false},
    {"hooks.*[].env[]", SPEC_STRING, SPEC_BOTH, "startContainer in the guest, all others on the host", false},
    {"hooks.*[].timeout", SPEC_INT64, SPEC_BOTH, "startContainer in the guest, all others on the host", false},
    {"annotations", SPEC_OBJECT, SPEC_HOST, NULL, false},
    {"annotations.*", SPEC_STRING, SPEC_HOST, "shown by state; those that begin with hull. say how the machine is made",
     false},

    /* config-linux.md */
    {"linux", SPEC_OBJECT, SPEC_BOTH, NULL, false},
    {"linux.namespaces", SPEC_ARRAY, SPEC_BOTH, NULL, false},
    {"linux.namespaces[].type", SPEC_STRING, SPEC_BOTH,
     "all; one that is absent is the machine's, except pid and mount, which are always the container's own", false},
    {"linux.namespaces[].path", SPEC_STRING, SPEC_BOTH,
     "of a container in the same sandbox, of all types but mount; or a network namespace, whose interfaces the machine "
     "is connected to; any other is refused, the host's own network too",
     false},
    {"linux.uidMappings", SPEC_ARRAY, SPEC_GUEST, "host ids are those of the shared files' owners", false},
    {"linux.uidMappings[].containerID", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"linux.uidMappings[].hostID", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"linux.uidMappings[].size", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"linux.gidMappings", SPEC_ARRAY, SPEC_GUEST, "host ids are those of the shared files' owners", false},
    {"linux.gidMappings[].containerID", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"linux.gidMappings[].hostID", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"linux.gidMappings[].size", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"linux.timeOffsets", SPEC_OBJECT, SPEC_GUEST, NULL, false},
    {"linux.timeOffsets.*.secs", SPEC_INT64, SPEC_GUEST, NULL, false},
    {"linux.timeOffsets.*.nanosecs", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"linux.devices", SPEC_ARRAY, SPEC_GUEST,
     "a node with the host's numbers; the guest's kernel decides what is behind it", false},
    {"linux.devices[]", SPEC_OBJECT, SPEC_GUEST, NULL, false},
    {"linux.devices[].type", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"linux.devices[].path", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"linux.devices[].major", SPEC_INT64, SPEC_GUEST, NULL, false},
    {"linux.devices[].minor", SPEC_INT64, SPEC_GUEST, NULL, false},
    {"linux.devices[].fileMode", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"linux.devices[].uid", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"linux.devices[].gid", SPEC_UINT32, SPEC_GUEST, NULL, false},
    {"linux.cgroupsPath", SPEC_STRING, SPEC_HOST, "the cgroup of the virtual machine on the host", false},
    {"linux.resources", SPEC_OBJECT, SPEC_BOTH, NULL, false},
    {"linux.resources.devices", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"linux.resources.devices[].allow", SPEC_BOOL, SPEC_GUEST, NULL, false},
    {"linux.resources.devices[].type", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"linux.resources.devices[].major", SPEC_INT64, SPEC_GUEST, NULL, false},
    {"linux.resources.devices[].minor", SPEC_INT64, SPEC_GUEST, NULL, false},
    {"linux.resources.devices[].access", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"linux.resources.memory", SPEC_OBJECT, SPEC_BOTH, NULL, false},
    {"linux.resources.memory.limit", SPEC_INT64, SPEC_BOTH, "sizes the machine; the host adds the machine's overhead",
     false},
    {"linux.resources.memory.reservation", SPEC_INT64, SPEC_BOTH, "the host adds the machine's overhead", false},
    {"linux.resources.memory.swap", SPEC_INT64, SPEC_BOTH, "the machine is what swaps", false},
    {"linux.resources.memory.kernel", SPEC_INT64, SPEC_NO_NEED, "cgroup v2 counts it in memory.limit", false},
    {"linux.resources.memory.kernelTCP", SPEC_INT64, SPEC_NO_NEED, "cgroup v2 counts it in memory.limit", false},
    {"linux.resources.memory.swappiness", SPEC_UINT64, SPEC_NO_NEED, "cgroup v2 has none: ignored, as under runc",
     false},
    {"linux.resources.memory.disableOOMKiller", SPEC_BOOL, SPEC_NO_NEED, "cgroup v2 has none: ignored, as under runc",
     false},
    {"linux.resources.memory.useHierarchy", SPEC_BOOL, SPEC_NO_NEED, "cgroup v2 is always hierarchical", false},
    {"linux.resources.memory.checkBeforeUpdate", SPEC_BOOL, SPEC_GUEST, NULL, false},
    {"linux.resources.cpu", SPEC_OBJECT, SPEC_BOTH, NULL, false},
    {"linux.resources.cpu.shares", SPEC_UINT64, SPEC_BOTH, "as cpu.weight", false},
    {"linux.resources.cpu.quota", SPEC_INT64, SPEC_BOTH, "decides about the number of vCPUs as well", false},
    {"linux.resources.cpu.burst", SPEC_UINT64, SPEC_BOTH, NULL, false},
    {"linux.resources.cpu.period", SPEC_UINT64, SPEC_BOTH, NULL, false},
    {"linux.resources.cpu.realtimeRuntime", SPEC_INT64, SPEC_NO_NEED, "cgroup v2 has none: ignored, as under runc",
     false},
    {"linux.resources.cpu.realtimePeriod", SPEC_UINT64, SPEC_NO_NEED, "cgroup v2 has none: ignored, as under runc",
     false},
    {"linux.resources.cpu.cpus", SPEC_STRING, SPEC_HOST,
     "CPUs of the host; the guest has as many vCPUs, numbered from 0", false},
    {"linux.resources.cpu.mems", SPEC_STRING, SPEC_HOST, "memory nodes of the host", false},
    {"linux.resources.cpu.idle", SPEC_INT64, SPEC_BOTH, NULL, false},
    {"linux.resources.blockIO", SPEC_OBJECT, SPEC_BOTH, NULL, false},
    {"linux.resources.blockIO.weight", SPEC_UINT32, SPEC_BOTH, "of the disks of the host, and of those of the machine",
     false},
    {"linux.resources.blockIO.leafWeight", SPEC_UINT32, SPEC_NO_NEED, "cgroup v2 has none: ignored, as under runc",
     false},
    {"linux.resources.blockIO.weightDevice", SPEC_ARRAY, SPEC_HOST, "of the disks of the host", false},
    {"linux.resources.blockIO.weightDevice[].major", SPEC_INT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.weightDevice[].minor", SPEC_INT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.weightDevice[].weight", SPEC_UINT32, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.weightDevice[].leafWeight", SPEC_UINT32, SPEC_NO_NEED,
     "cgroup v2 has none: ignored, as under runc", false},
    {"linux.resources.blockIO.throttleReadBpsDevice", SPEC_ARRAY, SPEC_HOST,
     "of the disks of the host; in the guest, shared directories are no block devices", false},
    {"linux.resources.blockIO.throttleReadBpsDevice[].major", SPEC_INT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.throttleReadBpsDevice[].minor", SPEC_INT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.throttleReadBpsDevice[].rate", SPEC_UINT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.throttleWriteBpsDevice", SPEC_ARRAY, SPEC_HOST,
     "of the disks of the host; in the guest, shared directories are no block devices", false},
    {"linux.resources.blockIO.throttleWriteBpsDevice[].major", SPEC_INT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.throttleWriteBpsDevice[].minor", SPEC_INT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.throttleWriteBpsDevice[].rate", SPEC_UINT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.throttleReadIOPSDevice", SPEC_ARRAY, SPEC_HOST,
     "of the disks of the host; in the guest, shared directories are no block devices", false},
    {"linux.resources.blockIO.throttleReadIOPSDevice[].major", SPEC_INT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.throttleReadIOPSDevice[].minor", SPEC_INT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.throttleReadIOPSDevice[].rate", SPEC_UINT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.throttleWriteIOPSDevice", SPEC_ARRAY, SPEC_HOST,
     "of the disks of the host; in the guest, shared directories are no block devices", false},
    {"linux.resources.blockIO.throttleWriteIOPSDevice[].major", SPEC_INT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.throttleWriteIOPSDevice[].minor", SPEC_INT64, SPEC_HOST, NULL, false},
    {"linux.resources.blockIO.throttleWriteIOPSDevice[].rate", SPEC_UINT64, SPEC_HOST, NULL, false},
    {"linux.resources.hugepageLimits", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"linux.resources.hugepageLimits[]", SPEC_OBJECT, SPEC_GUEST, NULL, false},
    {"linux.resources.hugepageLimits[].pageSize", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"linux.resources.hugepageLimits[].limit", SPEC_UINT64, SPEC_GUEST, NULL, false},
    {"linux.resources.network", SPEC_OBJECT, SPEC_NO_NEED, "of cgroup v1 alone: ignored, as runc does with v2", false},
    {"linux.resources.network.classID", SPEC_UINT32, SPEC_NO_NEED, "of cgroup v1 alone: ignored, as runc does with v2",
     false},
    {"linux.resources.network.priorities", SPEC_ARRAY, SPEC_NO_NEED,
     "of cgroup v1 alone: ignored, as runc does with v2", false},
    {"linux.resources.network.priorities[].name", SPEC_STRING, SPEC_NO_NEED,
     "of cgroup v1 alone: ignored, as runc does with v2", false},
    {"linux.resources.network.priorities[].priority", SPEC_UINT32, SPEC_NO_NEED,
     "of cgroup v1 alone: ignored, as runc does with v2", false},
    {"linux.resources.pids", SPEC_OBJECT, SPEC_BOTH, NULL, false},
    {"linux.resources.pids.limit", SPEC_INT64, SPEC_GUEST,
     "the container's processes; on the host there are none of them", false},
    {"linux.resources.rdma", SPEC_OBJECT, SPEC_REFUSED, "a machine has none of the host's RDMA devices", false},
    {"linux.resources.rdma.*.hcaHandles", SPEC_UINT32, SPEC_REFUSED, "a machine has none of the host's RDMA devices",
     true},
    {"linux.resources.rdma.*.hcaObjects", SPEC_UINT32, SPEC_REFUSED, "a machine has none of the host's RDMA devices",
     true},
    {"linux.resources.unified", SPEC_OBJECT, SPEC_BOTH,
     "cpu.* on both; cpuset.* and io.* on the host, whose numbers they have; the others in the guest", false},
    {"linux.resources.unified.*", SPEC_STRING, SPEC_BOTH, NULL, false},
    {"linux.intelRdt", SPEC_OBJECT, SPEC_REFUSED, "Intel RDT is not used for virtual machines", false},
    {"linux.intelRdt.closID", SPEC_STRING, SPEC_REFUSED, "Intel RDT is not used for virtual machines", false},
    {"linux.intelRdt.l3CacheSchema", SPEC_STRING, SPEC_REFUSED, "Intel RDT is not used for virtual machines", false},
    {"linux.intelRdt.memBwSchema", SPEC_STRING, SPEC_REFUSED, "Intel RDT is not used for virtual machines", false},
    {"linux.intelRdt.enableCMT", SPEC_BOOL, SPEC_REFUSED, "Intel RDT is not used for virtual machines", false},
    {"linux.intelRdt.enableMBM", SPEC_BOOL, SPEC_REFUSED, "Intel RDT is not used for virtual machines", false},
    {"linux.intelRdt.enableMonitoring", SPEC_BOOL, SPEC_REFUSED, "Intel RDT is not used for virtual machines", false},
    {"linux.intelRdt.schemata", SPEC_ARRAY, SPEC_REFUSED, "Intel RDT is not used for virtual machines", false},
    {"linux.intelRdt.l2CacheSchema", SPEC_STRING, SPEC_REFUSED, "Intel RDT is not used for virtual machines", false},
    {"linux.sysctl", SPEC_OBJECT, SPEC_GUEST, "those of the namespaces that the container has to itself", false},
    {"linux.sysctl.*", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"linux.seccomp", SPEC_OBJECT, SPEC_BOTH, "compiled on the host, loaded in the guest", false},
    {"linux.seccomp.defaultAction", SPEC_STRING, SPEC_BOTH, "all but SCMP_ACT_NOTIFY", false},
    {"linux.seccomp.defaultErrnoRet", SPEC_UINT32, SPEC_BOTH, NULL, false},
    {"linux.seccomp.architectures", SPEC_ARRAY, SPEC_BOTH, NULL, false},
    {"linux.seccomp.architectures[]", SPEC_STRING, SPEC_BOTH, NULL, false},
    {"linux.seccomp.flags", SPEC_ARRAY, SPEC_BOTH, NULL, false},
    {"linux.seccomp.flags[]", SPEC_STRING, SPEC_BOTH, "all but that of a listener, WAIT_KILLABLE_RECV", false},
    {"linux.seccomp.listenerPath", SPEC_STRING, SPEC_REFUSED,
     "a listener is a process of the host, and the calls are made in another kernel", false},
    {"linux.seccomp.listenerMetadata", SPEC_STRING, SPEC_REFUSED, "there is no listener", false},
    {"linux.seccomp.syscalls", SPEC_ARRAY, SPEC_BOTH, NULL, false},
    {"linux.seccomp.syscalls[]", SPEC_OBJECT, SPEC_BOTH, NULL, false},
    {"linux.seccomp.syscalls[].names", SPEC_ARRAY, SPEC_BOTH, NULL, false},
    {"linux.seccomp.syscalls[].names[]", SPEC_STRING, SPEC_BOTH, "unknown ones are left out", false},
    {"linux.seccomp.syscalls[].action", SPEC_STRING, SPEC_BOTH, "all but SCMP_ACT_NOTIFY", false},
    {"linux.seccomp.syscalls[].errnoRet", SPEC_UINT32, SPEC_BOTH, NULL, false},
    {"linux.seccomp.syscalls[].args", SPEC_ARRAY, SPEC_BOTH, NULL, false},
    {"linux.seccomp.syscalls[].args[]", SPEC_OBJECT, SPEC_BOTH, NULL, false},
    {"linux.seccomp.syscalls[].args[].index", SPEC_UINT32, SPEC_BOTH, NULL, false},
    {"linux.seccomp.syscalls[].args[].value", SPEC_UINT64, SPEC_BOTH, NULL, false},
    {"linux.seccomp.syscalls[].args[].valueTwo", SPEC_UINT64, SPEC_BOTH, NULL, false},
    {"linux.seccomp.syscalls[].args[].op", SPEC_STRING, SPEC_BOTH, NULL, false},
    {"linux.rootfsPropagation", SPEC_STRING, SPEC_GUEST,
     "among the mounts of the guest: nothing propagates from or to the host", false},
    {"linux.maskedPaths", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"linux.maskedPaths[]", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"linux.readonlyPaths", SPEC_ARRAY, SPEC_GUEST, NULL, false},
    {"linux.readonlyPaths[]", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"linux.mountLabel", SPEC_STRING, SPEC_IGNORED, "the guest's kernel has no SELinux; the machine is what isolates",
     false},
    {"linux.memoryPolicy", SPEC_OBJECT, SPEC_REFUSED, "a machine has one memory node", false},
    {"linux.memoryPolicy.mode", SPEC_STRING, SPEC_REFUSED, "a machine has one memory node", false},
    {"linux.memoryPolicy.nodes", SPEC_STRING, SPEC_REFUSED, "a machine has one memory node", false},
    {"linux.memoryPolicy.flags", SPEC_ARRAY, SPEC_REFUSED, "a machine has one memory node", false},
    {"linux.memoryPolicy.flags[]", SPEC_STRING, SPEC_REFUSED, "a machine has one memory node", false},
    {"linux.netDevices", SPEC_OBJECT, SPEC_REFUSED, "an interface of the host cannot be moved into a machine", false},
    {"linux.netDevices.*.name", SPEC_STRING, SPEC_REFUSED, "an interface of the host cannot be moved into a machine",
     false},
    {"linux.personality", SPEC_OBJECT, SPEC_GUEST, NULL, false},
    {"linux.personality.domain", SPEC_STRING, SPEC_GUEST, NULL, false},
    {"linux.personality.flags", SPEC_ARRAY, SPEC_REFUSED, "the specification defines none", false},
    {"linux.personality.flags[]", SPEC_STRING, SPEC_REFUSED, "the specification defines none", false},

    /* Other platforms: nobody can have meant them for a Linux container. */
    {"solaris", SPEC_OBJECT, SPEC_REFUSED, "another platform", false},
    {"windows", SPEC_OBJECT, SPEC_REFUSED, "another platform", false},
    {"zos", SPEC_OBJECT, SPEC_REFUSED, "another platform", false},
    {"vm", SPEC_OBJECT, SPEC_REFUSED, "hull brings its own hypervisor and guest kernel", false},
};

const size_t n_spec_fields = sizeof(spec_fields) / sizeof(spec_fields[0]);

/* --- parsing ----------------------------------------------------------------------------------------------------- */

/* Counts brackets outside strings: the parser recurses once a level, and its own bound is generous. */
static bool depth_within(const char *text, size_t size, unsigned limit)
{
	unsigned depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < size; i++) {
		char c = text[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > limit)
				return false;
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return true;
}

json_t *spec_parse(const char *text, size_t size, struct error *err)
{
	json_error_t problem;
	json_t *value;

	if (!depth_within(text, size, SPEC_DEPTH_MAX)) {
		error_set(err, EINVAL, "invalid JSON: nested more than %d levels deep", SPEC_DEPTH_MAX);
		return NULL;
	}
	value = json_loadb(text, size, 0, &problem);
	if (!value && json_error_code(&problem) == json_error_numeric_overflow)
		value = json_loadb(text, size, JSON_DECODE_INT_AS_REAL, &problem);
	if (!value) {
		error_set(err, EINVAL, "invalid JSON: line %d: %s", problem.line, problem.text);
		return NULL;
	}
	if (!json_is_object(value)) {
		json_decref(value);
		error_set(err, EINVAL, "not a JSON object");
		return NULL;
	}
	return value;
}

/* --- walking ----------------------------------------------------------------------------------------------------- */

struct walk {
	const struct spec_field *field;
	spec_visit *visit;
	void *context;
	char path[SPEC_PATH_MAX];
	size_t used;
};

static void append(struct walk *walk, const char *text, size_t length)
{
	size_t room = sizeof(walk->path) - 1 - walk->used;

	if (length > room)
		length = room;
	memcpy(walk->path + walk->used, text, length);
	walk->used += length;
	walk->path[walk->used] = '\0';
}

static void cut(struct walk *walk, size_t used)
{
	walk->used = used;
	walk->path[used] = '\0';
}

static int walk_from(struct walk *walk, const char *pattern, const json_t *value);

/* The three kinds of step below and walk_from call each other once for each part of a pattern of the table: the depth
 * is the table's, not the input's. */
static int walk_elements(struct walk *walk, const char *rest, const json_t *array)
{
	size_t used = walk->used;

	for (size_t i = 0; i < json_array_size(array); i++) {
		char index[24];
		int length = snprintf(index, sizeof(index), "[%zu]", i);
		int status;

		append(walk, index, (size_t)length);
		status = walk_from(walk, rest, json_array_get(array, i));
		cut(walk, used);
		if (status < 0)
			return status;
	}
	return 0;
}

static int walk_members(struct walk *walk, const char *rest, const json_t *object)
{
	size_t used = walk->used;
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)object, name, value)
	{
		int status;

		append(walk, used ? "." : "", used ? 1 : 0);
		append(walk, name, strlen(name));
		status = walk_from(walk, rest, value);
		cut(walk, used);
		if (status < 0)
			return status;
	}
	return 0;
}

static int walk_member(struct walk *walk, const char *name, size_t length, const char *rest, const json_t *object)
{
	const json_t *value = json_object_getn(object, name, length);
	size_t used = walk->used;
	int status;

	/* Most fields are absent: nothing is spent on their paths. */
	if (!value)
		return 0;
	append(walk, used ? "." : "", used ? 1 : 0);
	append(walk, name, length);
	status = walk_from(walk, rest, value);
	cut(walk, used);
	return status;
}

static int walk_from(struct walk *walk, const char *pattern, const json_t *value)
{
	size_t length;

	if (!value || json_is_null(value))
		return 0;
	if (*pattern == '\0')
		return walk->visit(walk->field, walk->path, value, walk->context);
	if (strncmp(pattern, "[]", 2) == 0) {
		if (!json_is_array(value))
			return walk->visit(walk->field, walk->path, NULL, walk->context);
		return walk_elements(walk, pattern + 2, value);
	}
	if (*pattern == '.')
		pattern++;
	if (!json_is_object(value))
		return walk->visit(walk->field, walk->path, NULL, walk->context);
	if (*pattern == '*')
		return walk_members(walk, pattern + 1, value);
	length = strcspn(pattern, ".[");
	return walk_member(walk, pattern, length, pattern + length, value);
}

int spec_fields_walk(const json_t *config, spec_visit *visit, void *context)
{
	struct walk walk;

	walk.visit = visit;
	walk.context = context;
	for (size_t i = 0; i < n_spec_fields; i++) {
		int status;

		walk.field = &spec_fields[i];
		cut(&walk, 0);
		status = walk_from(&walk, spec_fields[i].path, config);

		if (status < 0)
			return status;
	}
	return 0;
}

/* --- checking ---------------------------------------------------------------------------------------------------- */

static bool in_range(const json_t *value, int64_t min, int64_t max)
{
	int64_t number;

	return spec_get_i64(value, &number) == 0 && number >= min && number <= max;
}

/* NULL when value has the type, else what it must be. */
static const char *wrong_type(enum spec_type type, const json_t *value)
{
	uint64_t number;

	switch (type) {
	case SPEC_STRING:
		return json_is_string(value) ? NULL : "a string";
	case SPEC_BOOL:
		return json_is_boolean(value) ? NULL : "true or false";
	case SPEC_INT64:
		return in_range(value, INT64_MIN, INT64_MAX) ? NULL : "a whole number";
	case SPEC_UINT64:
		return spec_get_u64(value, &number) == 0 ? NULL : "a whole number of 0 or more";
	case SPEC_INT32:
		return in_range(value, INT32_MIN, INT32_MAX) ? NULL : "a whole number of 32 bits";
	case SPEC_UINT32:
		return in_range(value, 0, UINT32_MAX) ? NULL : "a whole number from 0 to 4294967295";
	case SPEC_OBJECT:
		return json_is_object(value) ? NULL : "an object";
	case SPEC_ARRAY:
		return json_is_array(value) ? NULL : "an array";
	case SPEC_ANY:
		break;
	}
	return NULL;
}

bool spec_value_says_nothing(const struct spec_field *field, const json_t *value)
{
	/* What engines ask for where a process shall have no profile: there is none. */
	if (strcmp(field->path, "process.apparmorProfile") == 0 && json_is_string(value) &&
	    strcmp(json_string_value(value), "unconfined") == 0)
		return true;
	if (json_is_null(value))
		return true;
	if (json_is_object(value))
		return json_object_size(value) == 0 && !field->also_zero;
	if (json_is_array(value))
		return json_array_size(value) == 0;
	if (field->also_zero)
		return false;
	return json_is_false(value) || (json_is_string(value) && json_string_length(value) == 0) ||
	       (json_is_number(value) && json_number_value(value) == 0);
}

static int check_value(const struct spec_field *field, const char *path, const json_t *value, void *context)
{
	struct error *err = context;
	const char *expected;

	if (!value)
		return error_set(err, EINVAL, "%s has the wrong type", path);
	expected = wrong_type(field->type, value);
	if (expected)
		return error_set(err, EINVAL, "%s must be %s", path, expected);
	if (field->party != SPEC_REFUSED || spec_value_says_nothing(field, value))
		return 0;
	if (field->note)
		return error_set(err, ENOTSUP, "%s is not supported: %s", path, field->note);
	return error_set(err, ENOTSUP, "%s is not supported yet", path);
}

int spec_fields_check(const json_t *config, struct error *err)
{
	if (!json_is_object(config))
		return error_set(err, EINVAL, "not a JSON object");
	return spec_fields_walk(config, check_value, err);
}

static bool asks_for_bind(const json_t *mount)
{
	static const char *const binds[] = {"bind", "rbind", NULL};
	const json_t *option;
	size_t i;

	if (strcmp(spec_text(mount, "type", ""), "bind") == 0)
		return true;
	json_array_foreach(json_object_get(mount, "options"), i, option)
	{
		if (json_is_string(option) && is_one_of(binds, json_string_value(option)))
			return true;
	}
	return false;
}

bool spec_mount_is_own_proc(const json_t *mount)
{
	return strcmp(spec_text(mount, "source", ""), "/proc") == 0 &&
	       strcmp(spec_text(mount, "destination", ""), "/proc") == 0 && asks_for_bind(mount);
}

bool spec_mount_is_bind(const json_t *mount)
{
	return asks_for_bind(mount) && !spec_mount_is_own_proc(mount);
}

bool spec_is_disk_type(const char *type)
{
	static const char *const types[] = {"ext2", "ext3", "ext4", "erofs", NULL};

	return is_one_of(types, type);
}
