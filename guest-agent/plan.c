#include "guest-agent/plan.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "common/cleanup.h"
#include "common/spec_fields.h"
#include "guest-agent/path.h"

/* Types have been checked by the table of fields before; these readers only have to cope with what is absent. */

static const char *text_or(const json_t *object, const char *name, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : otherwise;
}

static uint64_t number_or(const json_t *object, const char *name, uint64_t otherwise)
{
	uint64_t number;

	return spec_get_u64(json_object_get(object, name), &number) == 0 ? number : otherwise;
}

/* Room for count elements and one more that stays zero. */
static void *new_array(size_t count, size_t size)
{
	return calloc(count + 1, size);
}

static int out_of_memory(struct error *err)
{
	return error_set(err, ENOMEM, "out of memory");
}

/* A list of strings, borrowed. null elements are left out. */
static int read_texts(const json_t *array, char ***list, size_t *n, struct error *err)
{
	const json_t *element;
	size_t i;

	*n = 0;
	*list = new_array(json_array_size(array), sizeof(char *));
	if (!*list)
		return out_of_memory(err);
	json_array_foreach(array, i, element)
	{
		if (json_is_string(element))
			(*list)[(*n)++] = (char *)json_string_value(element);
	}
	return 0;
}

/* --- process ----------------------------------------------------------------------------------------------------- */

/* As os.Setenv would do for one after the other: the last value stands at the place of the first. `places` maps the
 * names to their places, because a spec may hold a great many. */
static int put_env(struct plan_process *process, json_t *places, char *entry, size_t name_length)
{
	json_t *place = json_object_getn(places, entry, name_length);

	if (place) {
		process->env[json_integer_value(place)] = entry;
		return 0;
	}
	process->env[process->n_env] = entry;
	return json_object_setn_new(places, entry, name_length, json_integer((json_int_t)process->n_env++));
}

static int read_env_into(struct plan_process *process, json_t *places, const json_t *array, struct error *err)
{
	const json_t *element;
	size_t i;

	json_array_foreach(array, i, element)
	{
		const char *entry = json_string_value(element);
		const char *equals = entry ? strchr(entry, '=') : NULL;

		if (!entry)
			continue;
		if (!equals)
			return error_set(err, EINVAL, "process.env[%zu]: invalid environment variable: missing '='", i);
		if (equals == entry)
			return error_set(err, EINVAL,
					 "process.env[%zu]: invalid environment variable: name cannot be empty", i);
		if (put_env(process, places, (char *)entry, (size_t)(equals - entry)) < 0)
			return out_of_memory(err);
	}
	return 0;
}

static int read_env(struct plan_process *process, const json_t *array, struct error *err)
{
	json_t *places = json_object();
	int status = -1;

	/* One more than usual, for HOME. */
	process->env = new_array(json_array_size(array) + 1, sizeof(char *));
	if (!process->env || !places)
		out_of_memory(err);
	else
		status = read_env_into(process, places, array, err);
	json_decref(places);
	return status;
}

static int read_user(struct plan_process *process, const json_t *user, struct error *err)
{
	const json_t *groups = json_object_get(user, "additionalGids");
	const json_t *element;
	size_t i;

	process->uid = (uid_t)number_or(user, "uid", 0);
	process->gid = (gid_t)number_or(user, "gid", 0);
	process->umask = (mode_t)number_or(user, "umask", 0022) & 0777;
	if (json_array_size(groups) > NGROUPS_MAX)
		return error_set(err, EINVAL, "process.user.additionalGids: more than %d", NGROUPS_MAX);
	process->groups = new_array(json_array_size(groups), sizeof(gid_t));
	if (!process->groups)
		return out_of_memory(err);
	json_array_foreach(groups, i, element)
	{
		uint64_t gid;

		if (spec_get_u64(element, &gid) == 0)
			process->groups[process->n_groups++] = (gid_t)gid;
	}
	return 0;
}

static const struct {
	const char *name;
	int resource;
} resources[] = {
    {"RLIMIT_AS", RLIMIT_AS},		{"RLIMIT_CORE", RLIMIT_CORE},	      {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},	{"RLIMIT_FSIZE", RLIMIT_FSIZE},	      {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK}, {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},	{"RLIMIT_NPROC", RLIMIT_NPROC},	      {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},	{"RLIMIT_RTTIME", RLIMIT_RTTIME},     {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
};

static int resource_number(const char *name)
{
	for (size_t i = 0; i < sizeof(resources) / sizeof(resources[0]); i++)
		if (strcmp(resources[i].name, name) == 0)
			return resources[i].resource;
	return -1;
}

static int read_rlimits(struct plan_process *process, const json_t *array, struct error *err)
{
	const json_t *element;
	uint64_t seen = 0;
	size_t i;

	process->rlimits = new_array(json_array_size(array), sizeof(struct plan_rlimit));
	if (!process->rlimits)
		return out_of_memory(err);
	json_array_foreach(array, i, element)
	{
		const char *name = text_or(element, "type", "");
		struct plan_rlimit *rlimit = &process->rlimits[process->n_rlimits];

		rlimit->resource = resource_number(name);
		if (rlimit->resource < 0)
			return error_set(err, EINVAL, "process.rlimits[%zu].type: invalid rlimit type `%s`", i, name);
		if (seen & (UINT64_C(1) << rlimit->resource))
			return error_set(err, EINVAL, "process.rlimits[%zu]: %s is given twice", i, name);
		seen |= UINT64_C(1) << rlimit->resource;
		rlimit->limit.rlim_cur = number_or(element, "soft", 0);
		rlimit->limit.rlim_max = number_or(element, "hard", 0);
		if (rlimit->limit.rlim_cur > rlimit->limit.rlim_max)
			return error_set(err, EINVAL, "process.rlimits[%zu]: the soft limit is above the hard limit",
					 i);
		process->n_rlimits++;
	}
	return 0;
}

static int read_capability_set(struct plan *plan, const json_t *array, uint64_t *set, struct error *err)
{
	const json_t *element;
	size_t i;

	json_array_foreach(array, i, element)
	{
		const char *name = json_string_value(element);
		int number = name ? capability_number(name) : -1;

		if (number >= 0)
			*set |= UINT64_C(1) << number;
		else if (name && json_array_append_new(plan->warnings,
						       json_sprintf("ignoring unknown capability %s", name)) < 0)
			return out_of_memory(err);
	}
	return 0;
}

/* config.md: a capability that cannot be granted is a warning, not a failure. */
static int read_capabilities(struct plan *plan, const json_t *object, struct error *err)
{
	struct capabilities *sets = &plan->process.capabilities;
	const struct {
		const char *name;
		uint64_t *set;
	} members[] = {
	    {"bounding", &sets->bounding},   {"effective", &sets->effective}, {"inheritable", &sets->inheritable},
	    {"permitted", &sets->permitted}, {"ambient", &sets->ambient},
	};

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (read_capability_set(plan, json_object_get(object, members[i].name), members[i].set, err) < 0)
			return -1;
	return 0;
}

static int read_process(struct plan *plan, const json_t *json, struct error *err)
{
	struct plan_process *process = &plan->process;
	int64_t score;

	if (!json_is_object(json))
		return error_set(err, EINVAL, "process property must not be empty");
	process->cwd = text_or(json, "cwd", "");
	if (*process->cwd == '\0')
		return error_set(err, EINVAL, "process.cwd must not be empty");
	if (*process->cwd != '/')
		return error_set(err, EINVAL, "process.cwd must be an absolute path, not `%s`", process->cwd);
	if (read_texts(json_object_get(json, "args"), &process->args, &process->n_args, err) < 0)
		return -1;
	if (process->n_args == 0)
		return error_set(err, EINVAL, "process.args must not be empty");
	process->no_new_privileges = json_is_true(json_object_get(json, "noNewPrivileges"));
	if (spec_get_i64(json_object_get(json, "oomScoreAdj"), &score) == 0) {
		process->has_oom_score = true;
		process->oom_score = (int)score;
		if (score < -1000 || score > 1000)
			return error_set(err, EINVAL, "process.oomScoreAdj must be from -1000 to 1000");
	}
	if (read_env(process, json_object_get(json, "env"), err) < 0 ||
	    read_user(process, json_object_get(json, "user"), err) < 0 ||
	    read_rlimits(process, json_object_get(json, "rlimits"), err) < 0)
		return -1;
	return read_capabilities(plan, json_object_get(json, "capabilities"), err);
}

/* --- mounts ------------------------------------------------------------------------------------------------------ */

/* Export names become one part of a path; what the contract with the file server allows is safe there. */
static bool is_export_name(const char *name)
{
	size_t length = name ? strlen(name) : 0;

	return length >= 1 && length <= 64 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == length;
}

static const char *const mountable[] = {"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"};

static bool is_mountable(const char *type)
{
	for (size_t i = 0; i < sizeof(mountable) / sizeof(mountable[0]); i++)
		if (strcmp(mountable[i], type) == 0)
			return true;
	return false;
}

/* An option for the file system may itself be a list, as mount(2) takes it. */
static size_t count_data(const json_t *options)
{
	const json_t *element;
	size_t i, n = 0;

	json_array_foreach(options, i, element)
	{
		const char *text = json_string_value(element);

		n++;
		for (; text && *text; text++)
			n += *text == ',';
	}
	return n;
}

static int add_data(struct plan_mount *mount, const char *text, size_t index, struct error *err)
{
	while (*text) {
		size_t length = strcspn(text, ",");

		/* fsconfig(2) takes no more. */
		if (length > 255)
			return error_set(err, EINVAL, "mounts[%zu].options: an option is longer than 255 bytes", index);
		if (length > 0) {
			mount->data[mount->n_data] = strndup(text, length);
			if (!mount->data[mount->n_data])
				return out_of_memory(err);
			mount->n_data++;
		}
		text += length;
		text += *text == ',';
	}
	return 0;
}

static int read_option(struct plan_mount *mount, const char *option, size_t index, struct error *err)
{
	switch (mount_options_apply(&mount->options, option)) {
	case MOUNT_OPTION_TAKEN:
		return 0;
	case MOUNT_OPTION_REFUSED:
		return error_set(err, ENOTSUP, "mounts[%zu].options: %s is not supported yet", index, option);
	case MOUNT_OPTION_DATA:
		break;
	}
	if (mount->exported)
		return error_set(err, EINVAL, "mounts[%zu].options: unknown option `%s` for a bind mount", index,
				 option);
	return add_data(mount, option, index, err);
}

static int read_options(struct plan_mount *mount, const json_t *options, size_t index, struct error *err)
{
	const json_t *element;
	size_t i;

	mount->data = new_array(count_data(options), sizeof(char *));
	if (!mount->data)
		return out_of_memory(err);
	json_array_foreach(options, i, element)
	{
		const char *option = json_string_value(element);

		if (option && read_option(mount, option, index, err) < 0)
			return -1;
	}
	return 0;
}

/* {"export": NAME, "options": ["nosuid", ...]} */
static int read_export(const json_t *object, const char **name, unsigned long *flags)
{
	struct mount_options options = {0};
	const json_t *option;
	size_t i;

	*name = json_string_value(json_object_get(object, "export"));
	json_array_foreach(json_object_get(object, "options"), i, option)
	{
		const char *text = json_string_value(option);

		if (!text || mount_options_apply(&options, text) != MOUNT_OPTION_TAKEN)
			return -1;
	}
	*flags = options.flags;
	return is_export_name(*name) ? 0 : -1;
}

static int read_type(struct plan_mount *mount, const json_t *json, const json_t *exports, size_t index,
		     struct error *err)
{
	if (spec_mount_is_bind(json)) {
		char key[24];

		snprintf(key, sizeof(key), "%zu", index);
		mount->type = "bind";
		if (read_export(json_object_get(exports, key), &mount->exported, &mount->source_flags) < 0)
			return error_set(err, EINVAL, "mounts[%zu]: the order names no export for this bind mount",
					 index);
		return 0;
	}
	mount->type = text_or(json, "type", "");
	if (!is_mountable(mount->type))
		return error_set(err, ENOTSUP, "mounts[%zu].type: `%s` is not supported yet", index, mount->type);
	return 0;
}

static int read_mount(struct plan_mount *mount, const json_t *json, const json_t *exports, size_t index,
		      struct error *err)
{
	const char *destination = text_or(json, "destination", "");

	if (*destination == '\0')
		return error_set(err, EINVAL, "mounts[%zu].destination must not be empty", index);
	mount->destination = path_clean(destination);
	if (!mount->destination)
		return out_of_memory(err);
	if (strcmp(mount->destination, "/") == 0)
		return error_set(err, EINVAL, "mounts[%zu].destination: a mount over / is not supported", index);
	if (read_type(mount, json, exports, index, err) < 0)
		return -1;
	mount->source = text_or(json, "source", "");
	if (*mount->source == '\0')
		mount->source = mount->type;
	return read_options(mount, json_object_get(json, "options"), index, err);
}

static int read_mounts(struct plan *plan, const json_t *array, const json_t *exports, struct error *err)
{
	const json_t *element;
	size_t i;

	plan->mounts = new_array(json_array_size(array), sizeof(struct plan_mount));
	if (!plan->mounts)
		return out_of_memory(err);
	json_array_foreach(array, i, element)
	{
		/* Counted first: plan_free must see what a half-read one holds. */
		struct plan_mount *mount = &plan->mounts[plan->n_mounts++];

		if (!json_is_object(element))
			return error_set(err, EINVAL, "mounts[%zu] must be an object", i);
		if (read_mount(mount, element, exports, i, err) < 0)
			return -1;
	}
	return 0;
}

/* --- linux ------------------------------------------------------------------------------------------------------- */

static int read_namespaces(struct plan *plan, const json_t *array, struct error *err)
{
	/* In a machine of its own there is nothing of the host to share; only the cgroup tree may stay the guest's. */
	static const char *const known[] = {"pid", "mount", "ipc", "uts", "network", "cgroup", "user", "time"};
	enum { N_NEEDED = 5, CGROUP = 5, N_SUPPORTED = 6, N_KNOWN = 8 };
	bool given[N_KNOWN] = {false};
	const json_t *element;
	size_t i, k;

	json_array_foreach(array, i, element)
	{
		const char *type = text_or(element, "type", "");

		for (k = 0; k < N_KNOWN && strcmp(known[k], type) != 0; k++)
			;
		if (k == N_KNOWN)
			return error_set(err, EINVAL, "linux.namespaces[%zu].type: `%s` does not exist", i, type);
		if (k >= N_SUPPORTED)
			return error_set(err, ENOTSUP, "linux.namespaces[%zu]: a %s namespace is not supported yet", i,
					 type);
		if (given[k])
			return error_set(err, EINVAL, "linux.namespaces[%zu]: %s is given twice", i, type);
		given[k] = true;
	}
	for (k = 0; k < N_NEEDED; k++)
		if (!given[k])
			return error_set(err, ENOTSUP,
					 "linux.namespaces: sharing the host's %s namespace is not supported",
					 known[k]);
	plan->cgroup_namespace = given[CGROUP];
	return 0;
}

#define RW (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)
#define RWM (RW | BPF_DEVCG_ACC_MKNOD)

/* What every container may do whatever its rules say, as in runc: make any node, use the default devices. */
static const struct device_rule default_rules[] = {
    {true, 'c', BPF_DEVCG_ACC_MKNOD, -1, -1},
    {true, 'b', BPF_DEVCG_ACC_MKNOD, -1, -1},
    {true, 'c', RWM, 1, 3},    /* null */
    {true, 'c', RWM, 1, 5},    /* zero */
    {true, 'c', RWM, 1, 7},    /* full */
    {true, 'c', RWM, 1, 8},    /* random */
    {true, 'c', RWM, 1, 9},    /* urandom */
    {true, 'c', RWM, 5, 0},    /* tty */
    {true, 'c', RWM, 5, 2},    /* ptmx */
    {true, 'c', RWM, 136, -1}, /* pts */
    {true, 'c', RWM, 10, 200}, /* net/tun */
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
	const char *type = text_or(json, "type", "a");

	rule->allow = json_is_true(json_object_get(json, "allow"));
	if (strlen(type) != 1 || !strchr("abcu", *type))
		return error_set(err, EINVAL, "linux.resources.devices[%zu].type must be a, b or c, not `%s`", index,
				 type);
	rule->type = *type == 'u' ? 'c' : *type;
	if (read_device_number(json, "major", &rule->major) < 0 || read_device_number(json, "minor", &rule->minor) < 0)
		return error_set(err, EINVAL, "linux.resources.devices[%zu]: no such device number", index);
	if (read_access(text_or(json, "access", ""), &rule->access) < 0)
		return error_set(err, EINVAL, "linux.resources.devices[%zu].access must be made of r, w and m", index);
	return 0;
}

static int read_device_rules(struct plan *plan, const json_t *array, struct error *err)
{
	const json_t *element;
	size_t i;

	if (json_array_size(array) > DEVICE_RULES_MAX)
		return error_set(err, EINVAL, "linux.resources.devices: more than %d rules", DEVICE_RULES_MAX);
	plan->device_rules = new_array(json_array_size(array) + N_DEFAULT_RULES, sizeof(struct device_rule));
	if (!plan->device_rules)
		return out_of_memory(err);
	json_array_foreach(array, i, element)
	{
		if (read_device_rule(&plan->device_rules[plan->n_device_rules++], element, i, err) < 0)
			return -1;
	}
	memcpy(plan->device_rules + plan->n_device_rules, default_rules, sizeof(default_rules));
	plan->n_device_rules += N_DEFAULT_RULES;
	return 0;
}

static int read_propagation(struct plan *plan, const char *text, struct error *err)
{
	struct mount_options options = {0};

	if (*text == '\0')
		return 0;
	if (mount_options_apply(&options, text) != MOUNT_OPTION_TAKEN || options.propagate == 0)
		return error_set(err, EINVAL, "linux.rootfsPropagation: `%s` does not exist", text);
	plan->propagate = options.propagate;
	return 0;
}

static int read_linux(struct plan *plan, const json_t *json, struct error *err)
{
	if (read_namespaces(plan, json_object_get(json, "namespaces"), err) < 0 ||
	    read_device_rules(plan, json_object_get(json_object_get(json, "resources"), "devices"), err) < 0 ||
	    read_propagation(plan, text_or(json, "rootfsPropagation", ""), err) < 0 ||
	    read_texts(json_object_get(json, "maskedPaths"), &plan->masked, &plan->n_masked, err) < 0)
		return -1;
	return read_texts(json_object_get(json, "readonlyPaths"), &plan->read_only_paths, &plan->n_read_only_paths,
			  err);
}

/* --- the order --------------------------------------------------------------------------------------------------- */

static int read_stdio(struct plan *plan, const json_t *stdio, struct error *err)
{
	static const char *const names[3] = {"stdin", "stdout", "stderr"};

	for (int i = 0; i < 3; i++) {
		const json_t *port = json_object_get(stdio, names[i]);
		uint64_t number;

		if (!port || json_is_null(port))
			continue;
		if (spec_get_u64(port, &number) < 0 || number == 0 || number >= UINT32_MAX)
			return error_set(err, EINVAL, "create: stdio.%s must be a port or null", names[i]);
		plan->stdio[i] = (uint32_t)number;
	}
	if (plan->stdio[PLAN_STDIN] && (plan->stdio[PLAN_STDIN] == plan->stdio[PLAN_STDOUT] ||
					plan->stdio[PLAN_STDIN] == plan->stdio[PLAN_STDERR]))
		return error_set(err, EINVAL, "create: stdio.stdin cannot share a stream with an output");
	return 0;
}

/* Names of the machine: an empty one is as good as none (runc). */
static const char *name_or_null(const json_t *spec, const char *name)
{
	const char *text = text_or(spec, name, "");

	return *text ? text : NULL;
}

static int read_order(struct plan *plan, const json_t *order, struct error *err)
{
	const json_t *spec = json_object_get(order, "spec");

	if (!json_is_object(spec))
		return error_set(err, EINVAL, "create: spec must be an object");
	if (spec_fields_check(spec, err) < 0)
		return -1;
	if (read_export(json_object_get(order, "rootfs"), &plan->rootfs, &plan->rootfs_flags) < 0)
		return error_set(err, EINVAL, "create: rootfs.export is missing");
	plan->read_only = json_is_true(json_object_get(json_object_get(spec, "root"), "readonly"));
	plan->hostname = name_or_null(spec, "hostname");
	plan->domainname = name_or_null(spec, "domainname");
	if (read_stdio(plan, json_object_get(order, "stdio"), err) < 0 ||
	    read_process(plan, json_object_get(spec, "process"), err) < 0 ||
	    read_mounts(plan, json_object_get(spec, "mounts"), json_object_get(order, "mounts"), err) < 0)
		return -1;
	return read_linux(plan, json_object_get(spec, "linux"), err);
}

static int fill(struct plan *plan, json_t *order, struct error *err)
{
	plan->json = json_incref(order);
	plan->warnings = json_array();
	if (!plan->warnings)
		return out_of_memory(err);
	return read_order(plan, order, err);
}

struct plan *plan_new(json_t *order, struct error *err)
{
	struct plan *plan = calloc(1, sizeof(*plan));

	if (!plan) {
		out_of_memory(err);
		return NULL;
	}
	if (fill(plan, order, err) == 0)
		return plan;
	plan_free(plan);
	return NULL;
}

static void free_mounts(struct plan *plan)
{
	for (size_t i = 0; i < plan->n_mounts; i++) {
		struct plan_mount *mount = &plan->mounts[i];

		for (size_t k = 0; k < mount->n_data; k++)
			free(mount->data[k]);
		free(mount->data);
		free(mount->destination);
	}
	free(plan->mounts);
}

void plan_free(struct plan *plan)
{
	if (!plan)
		return;
	free_mounts(plan);
	free(plan->process.args);
	free(plan->process.env);
	free(plan->process.groups);
	free(plan->process.rlimits);
	free(plan->masked);
	free(plan->read_only_paths);
	free(plan->device_rules);
	json_decref(plan->warnings);
	json_decref(plan->json);
	free(plan);
}
