/*
 * hull features: what this runtime can do, for engines (OCI runtime specification 1.1, features.md).
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/spec_fields.h"
#include "runtime/command.h"
#include "runtime/output.h"
#include "runtime/state.h"
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
static const char *const mount_options[] = {
    "acl",	   "async",	     "atime",	   "bind",	   "defaults",
    "dev",	   "diratime",	     "dirsync",	   "exec",	   "iversion",
    "lazytime",	   "loud",	     "mand",	   "noatime",	   "nodev",
    "nodiratime",  "noexec",	     "noiversion", "nolazytime",   "nomand",
    "norelatime",  "nostrictatime",  "nosuid",	   "nosymfollow",  "private",
    "ratime",	   "rbind",	     "rdev",	   "rdiratime",	   "relatime",
    "rexec",	   "rnoatime",	     "rnodev",	   "rnodiratime",  "rnoexec",
    "rnorelatime", "rnostrictatime", "rnosuid",	   "rnosymfollow", "ro",
    "rprivate",	   "rrelatime",	     "rro",	   "rrw",	   "rshared",
    "rslave",	   "rstrictatime",   "rsuid",	   "rsymfollow",   "runbindable",
    "rw",	   "shared",	     "silent",	   "slave",	   "strictatime",
    "suid",	   "symfollow",	     "sync",	   "unbindable",   NULL};

static const char *const namespaces[] = {"cgroup", "ipc", "mount", "network", "pid", "uts", NULL};

static const char *const hooks[] = {
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop", NULL};

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
			return spec_fields[i].party != SPEC_REFUSED;
	return false;
}

static json_t *supported_hooks(void)
{
	json_t *array = json_array();
	char path[64];

	for (const char *const *hook = hooks; *hook; hook++) {
		snprintf(path, sizeof(path), "hooks.%s", *hook);
		if (is_done(path))
			json_array_append_new(array, json_string(*hook));
	}
	return array;
}

static json_t *make_linux(void)
{
	return json_pack("{s:o, s:o, s:{s:b, s:b, s:b, s:b}, s:{s:b}, s:{s:b}, s:{s:b}, s:{s:b}}", "namespaces",
			 texts(namespaces), "capabilities", texts(capabilities), "cgroup", "v1", 0, "v2", 1, "systemd",
			 0, "systemdUser", 0, "seccomp", "enabled", is_done("linux.seccomp"), "apparmor", "enabled",
			 is_done("process.apparmorProfile"), "selinux", "enabled", is_done("process.selinuxLabel"),
			 "intelRdt", "enabled", is_done("linux.intelRdt"));
}

static int run(const struct invocation *invocation, struct error *err)
{
	json_t *features =
	    json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:s}, s:[s, s]}", "ociVersionMin", "1.0.0", "ociVersionMax",
		      STATE_OCI_VERSION, "hooks", supported_hooks(), "mountOptions", texts(mount_options), "linux",
		      make_linux(), "annotations", "hull.version", HULL_VERSION, "potentiallyUnsafeConfigAnnotations",
		      VM_MEMORY_ANNOTATION, VM_VCPUS_ANNOTATION);

	(void)invocation;
	return output_json(features, JSON_INDENT(4), "\n", err);
}

const struct command command_features = {
    .name = "features",
    .summary = "print what this runtime supports",
    .description = "Prints what this runtime supports as JSON, as the OCI runtime specification defines it.",
    .run = run,
};
