/*
 * hull features: what this runtime can do, for engines (OCI runtime specification 1.1, features.md).
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/spec_fields.h"
#include "runtime/command.h"
#include "runtime/output.h"
#include "runtime/sandbox.h"
#include "runtime/template.h"
#include "runtime/vm_size.h"

/* Those of the guest's kernel; the host's may know more or fewer. */
static const char *const capabilities[] = {"CAP_CHOWN",
					   "CAP_DAC_OVERRIDE",
					   "CAP_DAC_READ_SEARCH",
					   "CAP_FOWNER",
					   "CAP_FSETID",
					   "CAP_KILL",
					   "CAP_SETGID",
					   "CAP_SETUID",
					   "CAP_SETPCAP",
					   "CAP_LINUX_IMMUTABLE",
					   "CAP_NET_BIND_SERVICE",
					   "CAP_NET_BROADCAST",
					   "CAP_NET_ADMIN",
					   "CAP_NET_RAW",
					   "CAP_IPC_LOCK",
					   "CAP_IPC_OWNER",
					   "CAP_SYS_MODULE",
					   "CAP_SYS_RAWIO",
					   "CAP_SYS_CHROOT",
					   "CAP_SYS_PTRACE",
					   "CAP_SYS_PACCT",
					   "CAP_SYS_ADMIN",
					   "CAP_SYS_BOOT",
					   "CAP_SYS_NICE",
					   "CAP_SYS_RESOURCE",
					   "CAP_SYS_TIME",
					   "CAP_SYS_TTY_CONFIG",
					   "CAP_MKNOD",
					   "CAP_LEASE",
					   "CAP_AUDIT_WRITE",
					   "CAP_AUDIT_CONTROL",
					   "CAP_SETFCAP",
					   "CAP_MAC_OVERRIDE",
					   "CAP_MAC_ADMIN",
					   "CAP_SYSLOG",
					   "CAP_WAKE_ALARM",
					   "CAP_BLOCK_SUSPEND",
					   "CAP_AUDIT_READ",
					   "CAP_PERFMON",
					   "CAP_BPF",
					   "CAP_CHECKPOINT_RESTORE",
					   NULL};

/* What the agent carries out (guest-agent/mount_options.c). */
static const char *const mount_options[] = {"acl",
					    "async",
					    "atime",
					    "bind",
					    "defaults",
					    "dev",
					    "diratime",
					    "dirsync",
					    "exec",
					    "iversion",
					    "idmap",
					    "lazytime",
					    "loud",
					    "mand",
					    "noatime",
					    "nodev",
					    "nodiratime",
					    "noexec",
					    "noiversion",
					    "nolazytime",
					    "nomand",
					    "norelatime",
					    "nostrictatime",
					    "nosuid",
					    "nosymfollow",
					    "private",
					    "ratime",
					    "rbind",
					    "rdev",
					    "rdiratime",
					    "relatime",
					    "rexec",
					    "ridmap",
					    "rnoatime",
					    "rnodev",
					    "rnodiratime",
					    "rnoexec",
					    "rnorelatime",
					    "rnostrictatime",
					    "rnosuid",
					    "rnosymfollow",
					    "ro",
					    "rprivate",
					    "rrelatime",
					    "rro",
					    "rrw",
					    "rshared",
					    "rslave",
					    "rstrictatime",
					    "rsuid",
					    "rsymfollow",
					    "runbindable",
					    "rw",
					    "shared",
					    "silent",
					    "slave",
					    "strictatime",
					    "suid",
					    "symfollow",
					    "sync",
					    "tmpcopyup",
					    "unbindable",
					    NULL};

static const char *const namespaces[] = {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts", NULL};

static const char *const hooks[] = {
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop", NULL};

static const char *const seccomp_actions[] = {"SCMP_ACT_ALLOW",	       "SCMP_ACT_ERRNO",       "SCMP_ACT_KILL",
					      "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",
					      "SCMP_ACT_TRACE",	       "SCMP_ACT_TRAP",	       NULL};

static const char *const seccomp_operators[] = {"SCMP_CMP_EQ", "SCMP_CMP_GE",	     "SCMP_CMP_GT", "SCMP_CMP_LE",
						"SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE", NULL};

/* The guest is an x86-64 machine; a filter for others would never see a call. */
static const char *const seccomp_architectures[] = {"SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64", NULL};

static const char *const seccomp_flags[] = {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
					    "SECCOMP_FILTER_FLAG_TSYNC", NULL};

/* What changes how the machine is made, and who shares it; an engine that takes annotations from people it does not
 * trust keeps these away. */
static const char *const unsafe_annotations[] = {VM_MEMORY_ANNOTATION,
						 VM_VCPUS_ANNOTATION,
						 "hull.console",
						 SANDBOX_ANNOTATION,
						 SANDBOX_END_ANNOTATION,
						 TEMPLATE_ANNOTATION,
						 NULL};

static json_t *texts(const char *const *list)
{
	json_t *array = json_array();

	for (; array && *list; list++)
		json_array_append_new(array, json_string(*list));
	return array;
}

static bool is_done(const char *path)
{
	for (size_t i = 0; i < n_spec_fields; i++)
		if (strcmp(spec_fields[i].path, path) == 0)
			return spec_fields[i].party != SPEC_REFUSED && spec_fields[i].party != SPEC_IGNORED;
	return false;
}

/* The names whose field "PREFIXname" is carried out, by the one table of fields. */
static json_t *done_texts(const char *prefix, const char *const *list)
{
	json_t *array = json_array();
	char path[64];

	for (; array && *list; list++) {
		snprintf(path, sizeof(path), "%s%s", prefix, *list);
		if (is_done(path))
			json_array_append_new(array, json_string(*list));
	}
	return array;
}

static json_t *supported_namespaces(void)
{
	json_t *array = json_array();

	for (const char *const *name = namespaces; array && *name; name++) {
		if (strcmp(*name, "user") == 0 && !is_done("linux.uidMappings"))
			continue;
		if (strcmp(*name, "time") == 0 && !is_done("linux.timeOffsets"))
			continue;
		json_array_append_new(array, json_string(*name));
	}
	return array;
}

static json_t *make_seccomp(void)
{
	if (!is_done("linux.seccomp"))
		return json_pack("{s:b}", "enabled", 0);
	return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o}", "enabled", 1, "actions", texts(seccomp_actions), "operators",
			 texts(seccomp_operators), "archs", texts(seccomp_architectures), "knownFlags",
			 texts(seccomp_flags), "supportedFlags", texts(seccomp_flags));
}

static json_t *make_cgroup(void)
{
	return json_pack("{s:b, s:b, s:b, s:b, s:b}", "v1", 0, "v2", 1, "systemd", 1, "systemdUser", 1, "rdma",
			 is_done("linux.resources.rdma"));
}

static json_t *make_linux(void)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:{s:b}, s:{s:b}, s:{s:b}, s:{s:{s:b}}}", "namespaces",
			 supported_namespaces(), "capabilities", texts(capabilities), "cgroup", make_cgroup(),
			 "seccomp", make_seccomp(), "apparmor", "enabled", is_done("process.apparmorProfile"),
			 "selinux", "enabled", is_done("process.selinuxLabel"), "intelRdt", "enabled",
			 is_done("linux.intelRdt"), "mountExtensions", "idmap", "enabled",
			 is_done("mounts[].uidMappings"));
}

static int run(const struct invocation *invocation, struct error *err)
{
	json_t *features = json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:s, s:s}, s:o}", "ociVersionMin", "1.0.0",
				     "ociVersionMax", SPEC_VERSION, "hooks", done_texts("hooks.", hooks),
				     "mountOptions", texts(mount_options), "linux", make_linux(), "annotations",
				     "hull.version", HULL_VERSION, "org.opencontainers.runc.checkpoint.enabled",
				     "false", "potentiallyUnsafeConfigAnnotations", texts(unsafe_annotations));

	(void)invocation;
	return output_json(features, JSON_INDENT(4), "\n", err);
}

const struct command command_features = {
    .name = "features",
    .summary = "print what this runtime supports",
    .description = "Prints what this runtime supports as JSON, as the OCI runtime specification defines it.",
    .run = run,
};
