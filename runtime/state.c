#include "runtime/state.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "runtime/hooks.h"
#include "runtime/timestamp.h"

#define ID_MAX 1024

static const char *const stage_names[] = {
    [STATE_CREATING] = "creating",
    [STATE_CREATED] = "created",
    [STATE_STARTED] = "started",
};

#define N_STAGES (sizeof(stage_names) / sizeof(stage_names[0]))

void state_release(struct state *state)
{
	free(state->id);
	free(state->bundle);
	free(state->config);
	free(state->rootfs);
	free(state->created);
	free(state->sandbox);
	free(state->exports);
	json_decref(state->annotations);
	free(state->cgroup);
	free(state->scope);
	free(state->netns_path);
	json_decref(state->resources);
	json_decref(state->hooks);
	memset(state, 0, sizeof(*state));
}

int state_check_id(const char *id, struct error *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";

	if (*id == '\0')
		return error_set(err, EINVAL, "container id cannot be empty");
	if (strlen(id) > ID_MAX || id[strspn(id, allowed)] != '\0' || strcmp(id, ".") == 0 || strcmp(id, "..") == 0)
		return error_set(err, EINVAL, "invalid container ID format");
	return 0;
}

char *state_timestamp(void)
{
	char text[TIMESTAMP_SIZE];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	timestamp_nanoseconds(&now, text);
	return strdup(text);
}

static int copy_text(const json_t *object, const char *key, char **value, struct error *err)
{
	const char *text = json_string_value(json_object_get(object, key));

	if (!text)
		return error_set(err, EINVAL, "`%s` is missing or not a string", key);
	*value = strdup(text);
	return *value ? 0 : error_set_errno(err, "copy `%s`", key);
}

static int parse_stage(const json_t *object, enum state_stage *stage, struct error *err)
{
	const char *text = json_string_value(json_object_get(object, "stage"));

	for (size_t i = 0; text && i < N_STAGES; i++) {
		if (strcmp(text, stage_names[i]) == 0) {
			*stage = (enum state_stage)i;
			return 0;
		}
	}
	return error_set(err, EINVAL, "`stage` is missing or unknown");
}

static int parse_process(const json_t *object, const char *key, struct process *process, struct error *err)
{
	const json_t *entry = json_object_get(object, key);
	json_int_t pid = json_integer_value(json_object_get(entry, "pid"));
	json_int_t start = json_integer_value(json_object_get(entry, "start"));

	if (!entry)
		return 0;
	if (pid <= 0 || pid > INT_MAX || start < 0)
		return error_set(err, EINVAL, "`%s` is not a process identity", key);
	process->pid = (pid_t)pid;
	process->start = (uint64_t)start;
	return 0;
}

static int parse_annotations(const json_t *object, json_t **annotations, struct error *err)
{
	json_t *map = json_object_get(object, "annotations"), *value;
	const char *key;

	if (!map)
		return 0;
	if (!json_is_object(map))
		return error_set(err, EINVAL, "`annotations` is not an object");
	json_object_foreach(map, key, value)
	{
		if (!json_is_string(value))
			return error_set(err, EINVAL, "annotation `%s` is not a string", key);
	}
	*annotations = json_incref(map);
	return 0;
}

static int copy_optional(const json_t *object, const char *key, char **value, struct error *err)
{
	return json_object_get(object, key) ? copy_text(object, key, value, err) : 0;
}

/* A path that leads out of the hierarchy would be removed by delete. */
static int parse_cgroup(const json_t *object, struct state *state, struct error *err)
{
	if (copy_optional(object, "cgroup", &state->cgroup, err) < 0 ||
	    copy_optional(object, "scope", &state->scope, err) < 0 ||
	    copy_optional(object, "config", &state->config, err) < 0)
		return -1;
	if (state->cgroup && (state->cgroup[0] != '/' || state->cgroup[1] == '\0' || strstr(state->cgroup, "/..") ||
			      strlen(state->cgroup) >= PATH_MAX))
		return error_set(err, EINVAL, "`cgroup` is not the path of a cgroup");
	return 0;
}

static int parse_sandbox(const json_t *object, struct state *state, struct error *err)
{
	const json_t *sandbox = json_object_get(object, "sandbox");

	if (!sandbox)
		return 0;
	if (copy_text(sandbox, "id", &state->sandbox, err) < 0 ||
	    copy_text(sandbox, "exports", &state->exports, err) < 0 ||
	    parse_process(sandbox, "vmm", &state->machine, err) < 0 || state_check_id(state->sandbox, err) < 0)
		return error_prefix(err, "sandbox");
	if (*state->exports == '\0' || strlen(state->exports) > STATE_EXPORTS_MAX ||
	    state->exports[strspn(state->exports, "0123456789abcdef")] != '\0')
		return error_set(err, EINVAL, "`exports` is not the name of a group");
	return 0;
}

static int parse_paused(const json_t *object, bool *paused, struct error *err)
{
	const json_t *value = json_object_get(object, "paused");

	*paused = json_is_true(value);
	return value && !json_is_boolean(value) ? error_set(err, EINVAL, "`paused` is not true or false") : 0;
}

static int parse_machine(const json_t *object, struct state *state, struct error *err)
{
	json_t *machine = json_object_get(object, "machine"), *resources = json_object_get(object, "resources");
	json_t *hooks = json_object_get(object, "hooks");
	json_int_t memory = json_integer_value(json_object_get(machine, "memory"));
	json_int_t vcpus = json_integer_value(json_object_get(machine, "vcpus"));

	if (memory < 0 || vcpus < 0 || vcpus > INT_MAX)
		return error_set(err, EINVAL, "`machine` is not the size of a machine");
	if (resources && !json_is_object(resources))
		return error_set(err, EINVAL, "`resources` is not an object");
	if (hooks && (!json_is_object(hooks) || hooks_check(hooks, err) < 0))
		return error_set(err, EINVAL, "`hooks` is not an object of hooks");
	state->memory = (uint64_t)memory;
	state->vcpus = (unsigned)vcpus;
	state->resources = json_incref(resources);
	state->hooks = json_incref(hooks);
	return 0;
}

static int parse_network(const json_t *object, struct state *state, struct error *err)
{
	const json_t *network = json_object_get(object, "network");
	json_int_t inode = json_integer_value(json_object_get(network, "inode"));

	if (!network)
		return 0;
	if (!json_is_object(network) || inode < 0 || copy_optional(network, "path", &state->netns_path, err) < 0 ||
	    parse_process(network, "process", &state->network, err) < 0)
		return error_set(err, EINVAL, "`network` is not the record of a network");
	state->has_network = true;
	state->netns = (uint64_t)inode;
	return 0;
}

static int parse_members(const json_t *object, struct state *state, struct error *err)
{
	if (!json_is_object(object))
		return error_set(err, EINVAL, "not a JSON object");
	if (parse_stage(object, &state->stage, err) < 0 || copy_text(object, "id", &state->id, err) < 0 ||
	    copy_text(object, "bundle", &state->bundle, err) < 0 ||
	    copy_text(object, "rootfs", &state->rootfs, err) < 0 ||
	    copy_text(object, "created", &state->created, err) < 0)
		return -1;
	if (parse_process(object, "creator", &state->creator, err) < 0 ||
	    parse_process(object, "vmm", &state->vmm, err) < 0 || parse_process(object, "fsd", &state->fsd, err) < 0 ||
	    parse_process(object, "relay", &state->relay, err) < 0)
		return -1;
	if (parse_network(object, state, err) < 0 || parse_cgroup(object, state, err) < 0 ||
	    parse_sandbox(object, state, err) < 0 || parse_machine(object, state, err) < 0 ||
	    parse_paused(object, &state->paused, err) < 0)
		return -1;
	return parse_annotations(object, &state->annotations, err);
}

int state_parse(const char *text, size_t size, struct state *state, struct error *err)
{
	json_error_t where;
	json_t *object = json_loadb(text, size, 0, &where);
	int result;

	memset(state, 0, sizeof(*state));
	if (!object)
		return error_set(err, EINVAL, "line %d column %d: %s", where.line, where.column, where.text);
	result = parse_members(object, state, err);
	json_decref(object);
	if (result < 0)
		state_release(state);
	return result;
}

static void set_process(json_t *object, const char *key, const struct process *process)
{
	if (process->pid > 0)
		json_object_set_new(
		    object, key,
		    json_pack("{s:i, s:I}", "pid", (int)process->pid, "start", (json_int_t)process->start));
}

static void set_sandbox(json_t *object, const struct state *state)
{
	json_t *sandbox;

	if (!state->sandbox)
		return;
	sandbox = json_pack("{s:s, s:s}", "id", state->sandbox, "exports", state->exports);
	if (!sandbox)
		return;
	set_process(sandbox, "vmm", &state->machine);
	json_object_set_new(object, "sandbox", sandbox);
}

static void set_network(json_t *object, const struct state *state)
{
	json_t *network;

	if (!state->has_network)
		return;
	network = json_pack("{s:I}", "inode", (json_int_t)state->netns);
	if (!network)
		return;
	if (state->netns_path)
		json_object_set_new(network, "path", json_string(state->netns_path));
	set_process(network, "process", &state->network);
	json_object_set_new(object, "network", network);
}

char *state_format(const struct state *state)
{
	json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:s}", "stage", stage_names[state->stage], "id", state->id,
				   "bundle", state->bundle, "rootfs", state->rootfs, "created", state->created);
	char *text;

	if (!object)
		return NULL;
	set_process(object, "creator", &state->creator);
	set_process(object, "vmm", &state->vmm);
	set_process(object, "fsd", &state->fsd);
	set_process(object, "relay", &state->relay);
	if (state->annotations)
		json_object_set(object, "annotations", state->annotations);
	if (state->cgroup)
		json_object_set_new(object, "cgroup", json_string(state->cgroup));
	if (state->config)
		json_object_set_new(object, "config", json_string(state->config));
	if (state->scope)
		json_object_set_new(object, "scope", json_string(state->scope));
	if (state->paused)
		json_object_set_new(object, "paused", json_true());
	if (state->memory)
		json_object_set_new(
		    object, "machine",
		    json_pack("{s:I, s:I}", "memory", (json_int_t)state->memory, "vcpus", (json_int_t)state->vcpus));
	if (state->resources)
		json_object_set(object, "resources", state->resources);
	set_network(object, state);
	set_sandbox(object, state);
	if (state->hooks)
		json_object_set(object, "hooks", state->hooks);
	text = json_dumps(object, JSON_INDENT(2));
	json_decref(object);
	return text;
}
