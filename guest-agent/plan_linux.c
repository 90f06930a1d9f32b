#include "guest-agent/plan_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "common/spec_values.h"
#include "guest-agent/disks.h"

#define RW (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)
#define RWM (RW | BPF_DEVCG_ACC_MKNOD)

/* What every container may do whatever its rules say, as in runc: make any node, use the default devices. A device of
 * the spec with the path of a default one takes its place, and the rule goes with it. */
static const struct {
	struct device_rule rule;
	const char *path;
} default_rules[] = {
    {{true, 'c', BPF_DEVCG_ACC_MKNOD, -1, -1}, NULL},
    {{true, 'b', BPF_DEVCG_ACC_MKNOD, -1, -1}, NULL},
    {{true, 'c', RWM, 1, 3}, "/dev/null"},
    {{true, 'c', RWM, 1, 5}, "/dev/zero"},
    {{true, 'c', RWM, 1, 7}, "/dev/full"},
    {{true, 'c', RWM, 1, 8}, "/dev/random"},
    {{true, 'c', RWM, 1, 9}, "/dev/urandom"},
    {{true, 'c', RWM, 5, 0}, "/dev/tty"},
    {{true, 'c', RWM, 5, 2}, NULL},    /* ptmx */
    {{true, 'c', RWM, 136, -1}, NULL}, /* pts */
    {{true, 'c', RWM, 10, 200}, NULL}, /* net/tun */
};

#define N_DEFAULT_RULES (sizeof(default_rules) / sizeof(default_rules[0]))

static int read_access(const char *text, uint32_t *access)
{
	for (*access = 0; *text; text++) {
		if (*text == 'r')
			*access |= BPF_DEVCG_ACC_READ;
		else if (*text == 'w')
			*access |= BPF_DEVCG_ACC_WRITE;
		else if (*text == 'm')
			*access |= BPF_DEVCG_ACC_MKNOD;
		else
			return -1;
	}
	return 0;
}

static int read_device_number(const json_t *rule, const char *name, int64_t *number)
{
	*number = -1;
	if (spec_get_i64(json_object_get(rule, name), number) < 0)
		return 0; /* absent: any */
	return *number >= -1 && *number <= UINT32_MAX ? 0 : -1;
}

static int read_device_rule(struct device_rule *rule, const json_t *json, size_t index, struct error *err)
{
	const char *type = spec_text(json, "type", "a");

	rule->allow = json_is_true(json_object_get(json, "allow"));
	if (strlen(type) != 1 || !strchr("abcu", *type))
		return error_set(err, EINVAL, "linux.resources.devices[%zu].type must be a, b or c, not `%s`", index,
				 type);
	rule->type = *type == 'u' ? 'c' : *type;
	if (read_device_number(json, "major", &rule->major) < 0 || read_device_number(json, "minor", &rule->minor) < 0)
		return error_set(err, EINVAL, "linux.resources.devices[%zu]: no such device number", index);
	if (read_access(spec_text(json, "access", ""), &rule->access) < 0)
		return error_set(err, EINVAL, "linux.resources.devices[%zu].access must be made of r, w and m", index);
	return 0;
}

static int read_device_rules(struct plan *plan, const json_t *array, const json_t *devices, struct error *err)
{
	const json_t *element;
	size_t i;

	if (json_array_size(array) > DEVICE_RULES_MAX)
		return error_set(err, EINVAL, "linux.resources.devices: more than %d rules", DEVICE_RULES_MAX);
	plan->device_rules = plan_array(json_array_size(array) + N_DEFAULT_RULES, sizeof(struct device_rule));
	if (!plan->device_rules)
		return plan_out_of_memory(err);
	json_array_foreach(array, i, element)
	{
		if (read_device_rule(&plan->device_rules[plan->n_device_rules++], element, i, err) < 0)
			return -1;
	}
	for (i = 0; i < N_DEFAULT_RULES; i++)
		if (!default_rules[i].path || !devices_named(devices, default_rules[i].path))
			plan->device_rules[plan->n_device_rules++] = default_rules[i].rule;
	return 0;
}

static int read_propagation(struct plan *plan, const char *text, struct error *err)
{
	struct mount_options options = {0};

	if (*text == '\0')
		return 0;
	if (mount_options_apply(&options, text) != MOUNT_OPTION_TAKEN || options.n_propagate == 0)
		return error_set(err, EINVAL, "linux.rootfsPropagation: `%s` does not exist", text);
	plan->propagate = options.propagate[0];
	return 0;
}

static bool has_namespace(const json_t *list, const char *type)
{
	const json_t *element;
	size_t i;

	json_array_foreach(list, i, element)
	{
		if (strcmp(spec_text(element, "type", ""), type) == 0)
			return true;
	}
	return false;
}

static int read_sysctls(struct plan *plan, const json_t *json, struct error *err)
{
	const json_t *list = json_object_get(json, "namespaces");
	const struct sysctl_scope scope = {.ipc = has_namespace(list, "ipc"),
					   .network = has_namespace(list, "network"),
					   .uts = has_namespace(list, "uts")};

	return sysctls_read(json_object_get(json, "sysctl"), scope, &plan->sysctls, err);
}

static bool has_writable_cgroup(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_mounts; i++) {
		const struct plan_mount *mount = &plan->mounts[i];

		if (strncmp(mount->type, "cgroup", 6) == 0 && strcmp(mount->destination, "/sys/fs/cgroup") == 0)
			return !(mount->options.flags & MS_RDONLY);
	}
	return false;
}

static bool has_mappings(const json_t *json)
{
	return json_array_size(json_object_get(json, "uidMappings")) > 0 ||
	       json_array_size(json_object_get(json, "gidMappings")) > 0;
}

/* The kernel lets nobody but the machine's root mount a file system that somebody may have tampered with. */
static bool has_disk(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_mounts; i++)
		if (disks_is_node(plan->mounts[i].source))
			return true;
	return plan->rootfs_disk != NULL;
}

static int check_ids(const struct plan *plan, struct error *err)
{
	uint32_t id;

	if (id_map_outside(&plan->id_maps.users, plan->process.uid, &id) < 0)
		return error_set(err, EINVAL, "process.user.uid: cannot set uid to unmapped user in user namespace");
	if (id_map_outside(&plan->id_maps.groups, plan->process.gid, &id) < 0)
		return error_set(err, EINVAL, "process.user.gid: cannot set gid to unmapped user in user namespace");
	return 0;
}

int plan_join_id_maps(struct plan *plan, const struct id_maps *maps, struct error *err)
{
	if (plan->id_maps.users.n > 0 && !id_maps_equal(&plan->id_maps, maps))
		return error_set(
		    err, EINVAL,
		    "linux.uidMappings and gidMappings are not those of the user namespace that is joined");
	id_maps_release(&plan->id_maps);
	return id_maps_copy(maps, &plan->id_maps) < 0 ? plan_out_of_memory(err) : check_ids(plan, err);
}

static int read_user_and_time(struct plan *plan, const json_t *json, struct error *err)
{
	struct plan_namespaces *namespaces = &plan->namespaces;
	enum namespace_use user = namespaces->use[NAMESPACE_USER];

	plan->writes_cgroup = namespaces->use[NAMESPACE_CGROUP] == NAMESPACE_OWN && has_writable_cgroup(plan);
	if (user != NAMESPACE_OF_MACHINE) {
		if (has_disk(plan))
			return error_set(err, ENOTSUP, "a file system on a disk cannot be mounted in a user namespace");
		if (id_maps_read(json, user == NAMESPACE_JOINED, &plan->id_maps, err) < 0)
			return -1;
	} else if (has_mappings(json) &&
		   json_array_append_new(plan->warnings,
					 json_string("id mappings mean nothing without a user namespace")) < 0) {
		return plan_out_of_memory(err);
	}
	if (check_ids(plan, err) < 0)
		return -1;
	return time_offsets_read(json_object_get(json, "timeOffsets"), namespaces->use[NAMESPACE_TIME] == NAMESPACE_OWN,
				 &namespaces->time_offsets, err);
}

/* What cannot be with a namespace that is not the container's own, in runc's words. */
static int check_namespaces(const struct plan *plan, const json_t *json, struct error *err)
{
	const json_t *list = json_object_get(json, "namespaces");

	if (plan->hostname && !has_namespace(list, "uts"))
		return error_set(err, EINVAL, "unable to set hostname without a private UTS namespace");
	if ((plan->n_masked > 0 || plan->n_read_only_paths > 0) && !has_namespace(list, "mount"))
		return error_set(err, EINVAL, "unable to restrict sys entries without a private MNT namespace");
	return 0;
}

int plan_linux(struct plan *plan, const json_t *json, const json_t *shared, struct error *err)
{
	if (read_sysctls(plan, json, err) < 0 ||
	    namespaces_read(&plan->namespaces, json_object_get(json, "namespaces"), shared, err) < 0 ||
	    read_user_and_time(plan, json, err) < 0 ||
	    devices_read(json_object_get(json, "devices"), &plan->devices, err) < 0 ||
	    resources_read(json_object_get(json, "resources"), &plan->resources, err) < 0 ||
	    schedule_read_personality(json_object_get(json, "personality"), &plan->personality, &plan->has_personality,
				      err) < 0 ||
	    read_device_rules(plan, json_object_get(json_object_get(json, "resources"), "devices"),
			      json_object_get(json, "devices"), err) < 0 ||
	    read_propagation(plan, spec_text(json, "rootfsPropagation", ""), err) < 0 ||
	    plan_texts(json_object_get(json, "maskedPaths"), &plan->masked, &plan->n_masked, err) < 0)
		return -1;
	if (plan_texts(json_object_get(json, "readonlyPaths"), &plan->read_only_paths, &plan->n_read_only_paths, err) <
	    0)
		return -1;
	return check_namespaces(plan, json, err);
}
