/*
 * hull features: what this runtime can do, for engines (OCI runtime specification 1.1, features.md).
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include <sys/capability.h>

#include "common/spec_fields.h"
#include "runtime/command.h"
#include "runtime/output.h"
#include "runtime/state.h"
#include "runtime/vm_size.h"

/* The capabilities that the guest's kernel knows; the host's may know more or fewer. */
#define LAST_CAPABILITY CAP_CHECKPOINT_RESTORE

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

static json_t *capabilities(void)
{
	json_t *array = json_array();

	for (cap_value_t value = 0; value <= LAST_CAPABILITY; value++) {
		char *name = cap_to_name(value);

		for (char *c = name; c && *c; c++)
			if (*c >= 'a' && *c <= 'z')
				*c = (char)(*c - 'a' + 'A');
		if (name)
			json_array_append_new(array, json_string(name));
		cap_free(name);
	}
	return array;
}

static json_t *make_linux(void)
{
	return json_pack("{s:o, s:o, s:{s:b, s:b, s:b, s:b}, s:{s:b}, s:{s:b}, s:{s:b}, s:{s:b}}", "namespaces",
			 texts(namespaces), "capabilities", capabilities(), "cgroup", "v1", 0, "v2", 1, "systemd", 0,
			 "systemdUser", 0, "seccomp", "enabled", is_done("linux.seccomp"), "apparmor", "enabled",
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
