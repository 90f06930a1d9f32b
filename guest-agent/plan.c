#include "guest-agent/plan_parts.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/spec_fields.h"
#include "common/spec_values.h"
#include "common/words.h"
#include "guest-agent/notify.h"

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
			return plan_out_of_memory(err);
	}
	return 0;
}

static int read_env(struct plan_process *process, const json_t *array, struct error *err)
{
	json_t *places = json_object();
	int status = -1;

	/* One more than usual, for HOME. */
	process->env = plan_array(json_array_size(array) + 1, sizeof(char *));
	if (!process->env || !places)
		plan_out_of_memory(err);
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

	process->uid = (uid_t)spec_u64(user, "uid", 0);
	process->gid = (gid_t)spec_u64(user, "gid", 0);
	process->umask = (mode_t)spec_u64(user, "umask", 0022) & 0777;
	if (json_array_size(groups) > NGROUPS_MAX)
		return error_set(err, EINVAL, "process.user.additionalGids: more than %d", NGROUPS_MAX);
	process->groups = plan_array(json_array_size(groups), sizeof(gid_t));
	if (!process->groups)
		return plan_out_of_memory(err);
	json_array_foreach(groups, i, element)
	{
		uint64_t gid;

		if (spec_get_u64(element, &gid) == 0)
			process->groups[process->n_groups++] = (gid_t)gid;
	}
	return 0;
}

static const struct word resources[] = {
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
    {NULL, 0},
};

static int read_rlimits(struct plan_process *process, const json_t *array, struct error *err)
{
	const json_t *element;
	uint64_t seen = 0;
	size_t i;

	process->rlimits = plan_array(json_array_size(array), sizeof(struct plan_rlimit));
	if (!process->rlimits)
		return plan_out_of_memory(err);
	json_array_foreach(array, i, element)
	{
		const char *name = spec_text(element, "type", "");
		struct plan_rlimit *rlimit = &process->rlimits[process->n_rlimits];
		uint32_t resource;

		if (word_value(resources, name, &resource) < 0)
			return error_set(err, EINVAL, "process.rlimits[%zu].type: invalid rlimit type `%s`", i, name);
		if (seen & (UINT64_C(1) << resource))
			return error_set(err, EINVAL, "process.rlimits[%zu]: %s is given twice", i, name);
		seen |= UINT64_C(1) << resource;
		rlimit->resource = (int)resource;
		rlimit->limit.rlim_cur = spec_u64(element, "soft", 0);
		rlimit->limit.rlim_max = spec_u64(element, "hard", 0);
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
			return plan_out_of_memory(err);
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

	plan->process.has_capabilities = json_is_object(object);
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
	process->cwd = spec_text(json, "cwd", "");
	if (*process->cwd == '\0')
		return error_set(err, EINVAL, "process.cwd must not be empty");
	if (*process->cwd != '/')
		return error_set(err, EINVAL, "process.cwd must be an absolute path, not `%s`", process->cwd);
	if (plan_texts(json_object_get(json, "args"), &process->args, &process->n_args, err) < 0)
		return -1;
	if (process->n_args == 0)
		return error_set(err, EINVAL, "process.args must not be empty");
	process->terminal = json_is_true(json_object_get(json, "terminal"));
	process->no_new_privileges = json_is_true(json_object_get(json, "noNewPrivileges"));
	if (spec_get_i64(json_object_get(json, "oomScoreAdj"), &score) == 0) {
		process->has_oom_score = true;
		process->oom_score = (int)score;
		if (score < -1000 || score > 1000)
			return error_set(err, EINVAL, "process.oomScoreAdj must be from -1000 to 1000");
	}
	if (schedule_read(json, &process->schedule, err) < 0 ||
	    read_env(process, json_object_get(json, "env"), err) < 0 ||
	    read_user(process, json_object_get(json, "user"), err) < 0 ||
	    read_rlimits(process, json_object_get(json, "rlimits"), err) < 0)
		return -1;
	return read_capabilities(plan, json_object_get(json, "capabilities"), err);
}

/* --- the order --------------------------------------------------------------------------------------------------- */

static int read_port(const json_t *stdio, const char *name, uint32_t *port, struct error *err)
{
	const json_t *value = json_object_get(stdio, name);
	uint64_t number;

	if (!value || json_is_null(value))
		return 0;
	if (spec_get_u64(value, &number) < 0 || number == 0 || number >= UINT32_MAX)
		return error_set(err, EINVAL, "order: stdio.%s must be a port or null", name);
	*port = (uint32_t)number;
	return 0;
}

/* What the order says about the window is newer than what the spec says. */
static int read_window(struct plan_window *window, const json_t *size, struct error *err)
{
	uint64_t columns = spec_u64(size, "width", 0), rows = spec_u64(size, "height", 0);

	if (columns > UINT16_MAX || rows > UINT16_MAX)
		return error_set(err, EINVAL, "process.consoleSize: more than %d columns or rows", UINT16_MAX);
	if (columns == 0 || rows == 0)
		return 0;
	*window = (struct plan_window){.columns = (unsigned)columns, .rows = (unsigned)rows};
	return 0;
}

static int read_one_preserved(struct plan_preserved *preserved, const json_t *json, struct error *err)
{
	if (json_is_null(json))
		return 0;
	preserved->in = json_is_true(json_object_get(json, "in"));
	preserved->out = json_is_true(json_object_get(json, "out"));
	if (read_port(json, "port", &preserved->port, err) < 0 || preserved->port == 0 ||
	    (!preserved->in && !preserved->out))
		return error_set(err, EINVAL, "order: stdio.preserved must hold ports with directions, or null");
	return 0;
}

static int read_preserved(struct plan *plan, const json_t *list, struct error *err)
{
	size_t n = json_array_size(list);

	if ((list && !json_is_array(list)) || n > PLAN_PRESERVED_MAX)
		return error_set(err, EINVAL, "order: stdio.preserved must be an array of no more than %d",
				 PLAN_PRESERVED_MAX);
	if (n == 0)
		return 0;
	plan->preserved = calloc(n, sizeof(*plan->preserved));
	if (!plan->preserved)
		return plan_out_of_memory(err);
	plan->n_preserved = n;
	for (size_t i = 0; i < n; i++)
		if (read_one_preserved(&plan->preserved[i], json_array_get(list, i), err) < 0)
			return -1;
	return 0;
}

static int read_stdio(struct plan *plan, const json_t *stdio, const json_t *process, struct error *err)
{
	static const char *const names[3] = {"stdin", "stdout", "stderr"};

	for (int i = 0; i < 3; i++)
		if (read_port(stdio, names[i], &plan->stdio[i], err) < 0)
			return -1;
	if (read_window(&plan->window, json_object_get(process, "consoleSize"), err) < 0 ||
	    read_window(&plan->window, json_object_get(stdio, "window"), err) < 0)
		return -1;
	if (plan->stdio[PLAN_STDIN] && !plan->process.terminal &&
	    (plan->stdio[PLAN_STDIN] == plan->stdio[PLAN_STDOUT] ||
	     plan->stdio[PLAN_STDIN] == plan->stdio[PLAN_STDERR]))
		return error_set(err, EINVAL, "order: stdio.stdin cannot share a stream with an output");
	return read_preserved(plan, json_object_get(stdio, "preserved"), err);
}

/* The host compiles linux.seccomp: a spec that has one must not run without its filter. */
static int plan_syscall_filter(struct plan *plan, const json_t *json, struct error *err)
{
	const json_t *seccomp =
	    json_object_get(json_object_get(json_object_get(plan->json, "spec"), "linux"), "seccomp");

	if (syscall_filter_read(json, &plan->filter, err) < 0)
		return error_prefix(err, "create");
	if (plan->filter.n == 0 && (*spec_text(seccomp, "defaultAction", "") != '\0' ||
				    json_array_size(json_object_get(seccomp, "syscalls")) > 0))
		return error_set(err, EINVAL, "create: the order has no filter for linux.seccomp");
	return 0;
}

/* Names of the machine: an empty one is as good as none (runc). */
static const char *name_or_null(const json_t *spec, const char *name)
{
	const char *text = spec_text(spec, name, "");

	return *text ? text : NULL;
}

/* As sd_listen_fds(3) looks for them. */
static int announce_activation(json_t *process, const json_t *number, struct error *err)
{
	json_t *env = json_object_get(process, "env");
	uint64_t n;

	if (!number)
		return 0;
	if (spec_get_u64(number, &n) < 0 || n > PLAN_PRESERVED_MAX)
		return error_set(err, EINVAL, "order: stdio.activating must be a number up to %d", PLAN_PRESERVED_MAX);
	if (!json_is_array(env)) {
		env = json_array();
		if (json_object_set_new(process, "env", env) < 0)
			return plan_out_of_memory(err);
	}
	if (json_array_append_new(env, json_sprintf("LISTEN_FDS=%d", (int)n)) < 0 ||
	    json_array_append_new(env, json_string("LISTEN_PID=1")) < 0)
		return plan_out_of_memory(err);
	return 0;
}

static int read_order(struct plan *plan, json_t *order, struct error *err)
{
	const json_t *spec = json_object_get(order, "spec");

	if (!json_is_object(spec))
		return error_set(err, EINVAL, "create: spec must be an object");
	if (spec_fields_check(spec, err) < 0)
		return -1;
	plan->rootfs_disk = spec_text(json_object_get(order, "rootfs"), "disk", NULL);
	if (!plan->rootfs_disk && plan_export(json_object_get(order, "rootfs"), &plan->rootfs, &plan->rootfs_flags) < 0)
		return error_set(err, EINVAL, "create: rootfs.export is missing");
	plan->read_only = json_is_true(json_object_get(json_object_get(spec, "root"), "readonly"));
	plan->stands_for_machine = json_is_true(json_object_get(order, "machine"));
	plan->reports_oom = json_is_true(json_object_get(order, "reportOom"));
	plan->lingers = json_is_true(json_object_get(order, "lingers"));
	plan->tied = json_is_true(json_object_get(order, "tied"));
	plan->hostname = name_or_null(spec, "hostname");
	plan->domainname = name_or_null(spec, "domainname");
	if (notify_plan(order, err) < 0 ||
	    announce_activation(json_object_get(spec, "process"),
				json_object_get(json_object_get(order, "stdio"), "activating"), err) < 0 ||
	    read_process(plan, json_object_get(spec, "process"), err) < 0 ||
	    read_stdio(plan, json_object_get(order, "stdio"), json_object_get(spec, "process"), err) < 0 ||
	    plan_mounts(plan, json_object_get(spec, "mounts"), json_object_get(order, "mounts"), err) < 0)
		return -1;
	if (plan_linux(plan, json_object_get(spec, "linux"), json_object_get(order, "namespaces"), err) < 0)
		return -1;
	if (plan_syscall_filter(plan, json_object_get(order, "seccomp"), err) < 0)
		return -1;
	return hooks_read(json_object_get(json_object_get(spec, "hooks"), "startContainer"), spec_text(order, "id", ""),
			  spec_text(order, "bundle", ""), json_object_get(spec, "annotations"), &plan->start_hooks,
			  err);
}

/* The process is checked as the same part of a config.json is. */
static int check_process(json_t *process, struct error *err)
{
	json_t *spec = json_pack("{s:O}", "process", process);
	int status = spec ? spec_fields_check(spec, err) : plan_out_of_memory(err);

	json_decref(spec);
	return status;
}

static int read_exec_order(struct plan *plan, json_t *order, struct error *err)
{
	json_t *process = json_object_get(order, "process");

	if (!json_is_object(process))
		return error_set(err, EINVAL, "exec: process must be an object");
	if (check_process(process, err) < 0 || read_process(plan, process, err) < 0)
		return -1;
	return read_stdio(plan, json_object_get(order, "stdio"), process, err);
}

int plan_inherit(struct plan *exec, const struct plan *container, struct error *err)
{
	const struct plan_process *from = &container->process;
	struct plan_process *to = &exec->process;

	exec->has_personality = container->has_personality;
	exec->personality = container->personality;
	if (!to->has_capabilities)
		to->capabilities = from->capabilities;
	if (!to->has_oom_score) {
		to->has_oom_score = from->has_oom_score;
		to->oom_score = from->oom_score;
	}
	if (to->n_rlimits > 0 || from->n_rlimits == 0)
		return 0;
	free(to->rlimits);
	to->rlimits = plan_array(from->n_rlimits, sizeof(*to->rlimits));
	if (!to->rlimits)
		return plan_out_of_memory(err);
	memcpy(to->rlimits, from->rlimits, from->n_rlimits * sizeof(*to->rlimits));
	to->n_rlimits = from->n_rlimits;
	return 0;
}

static int fill(struct plan *plan, json_t *order, int (*read)(struct plan *, json_t *, struct error *),
		struct error *err)
{
	plan->start_hooks.input = plan->start_hooks.output = -1;
	plan->json = json_incref(order);
	plan->warnings = json_array();
	if (!plan->warnings)
		return plan_out_of_memory(err);
	return read(plan, order, err);
}

static struct plan *new_plan(json_t *order, int (*read)(struct plan *, json_t *, struct error *), struct error *err)
{
	struct plan *plan = calloc(1, sizeof(*plan));

	if (!plan) {
		plan_out_of_memory(err);
		return NULL;
	}
	if (fill(plan, order, read, err) == 0)
		return plan;
	plan_free(plan);
	return NULL;
}

struct plan *plan_new(json_t *order, struct error *err)
{
	return new_plan(order, read_order, err);
}

struct plan *plan_new_exec(json_t *order, struct error *err)
{
	return new_plan(order, read_exec_order, err);
}

void plan_free(struct plan *plan)
{
	if (!plan)
		return;
	plan_free_mounts(plan);
	free(plan->process.args);
	free(plan->process.env);
	free(plan->process.groups);
	free(plan->process.rlimits);
	free(plan->preserved);
	free(plan->masked);
	free(plan->read_only_paths);
	free(plan->device_rules);
	devices_release(&plan->devices);
	id_maps_release(&plan->id_maps);
	resources_release(&plan->resources);
	sysctls_release(&plan->sysctls);
	syscall_filter_release(&plan->filter);
	hooks_release(&plan->start_hooks);
	json_decref(plan->warnings);
	json_decref(plan->json);
	free(plan);
}
