/*
 * hull update: other limits for a container that is there, on the host and in the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/spec_fields.h"
#include "runtime/agent.h"
#include "runtime/attach.h"
#include "runtime/cgroup.h"
#include "runtime/command.h"
#include "runtime/container.h"
#include "runtime/limits.h"
#include "runtime/report.h"
#include "runtime/update.h"
#include "runtime/vm_size.h"

#define LOCK_TIMEOUT_MS 10000
#define TIMEOUT_SECONDS 10
#define RESOURCES_SIZE_MAX (1u << 20)

struct update_options {
	const char *resources;
	const char *blkio_weight, *cpu_period, *cpu_quota, *cpu_burst, *cpu_share, *cpu_idle, *cpu_rt_period,
	    *cpu_rt_runtime, *cpuset_cpus, *cpuset_mems, *kernel_memory, *kernel_memory_tcp, *memory,
	    *memory_reservation, *memory_swap, *pids_limit, *l3_cache_schema, *mem_bw_schema;
};

static const struct update_options defaults = {0};

#define TEXT(name, member, value, help)                                                                                \
	{                                                                                                              \
		name, 0, FLAG_TEXT, offsetof(struct update_options, member), value, help                               \
	}

static const struct flag flags[] = {
    {"resources", 'r', FLAG_TEXT, offsetof(struct update_options, resources), "FILE",
     "read linux.resources as JSON from FILE, or from stdin (-); the other flags are then not looked at"},
    TEXT("blkio-weight", blkio_weight, "N", "weight of block I/O, 10 to 1000"),
    TEXT("cpu-period", cpu_period, "US", "period of the CPU quota, in microseconds"),
    TEXT("cpu-quota", cpu_quota, "US", "CPU time in each period, in microseconds; -1: no limit"),
    TEXT("cpu-burst", cpu_burst, "US", "CPU time that may be saved up, in microseconds"),
    TEXT("cpu-share", cpu_share, "N", "relative weight of CPU time, 2 to 262144"),
    TEXT("cpu-idle", cpu_idle, "0|1", "1: CPU time only where nobody else wants it"),
    TEXT("cpu-rt-period", cpu_rt_period, "US", "ignored: cgroup v2 has none"),
    TEXT("cpu-rt-runtime", cpu_rt_runtime, "US", "ignored: cgroup v2 has none"),
    TEXT("cpuset-cpus", cpuset_cpus, "LIST", "CPUs of the host that the machine may use, like 0-3,7"),
    TEXT("cpuset-mems", cpuset_mems, "LIST", "memory nodes of the host that it may use"),
    TEXT("kernel-memory", kernel_memory, "BYTES", "ignored: cgroup v2 counts it as memory"),
    TEXT("kernel-memory-tcp", kernel_memory_tcp, "BYTES", "ignored: cgroup v2 counts it as memory"),
    TEXT("memory", memory, "BYTES", "memory limit, also like 64M; -1: none"),
    TEXT("memory-reservation", memory_reservation, "BYTES", "memory that is not taken away, also like 64M"),
    TEXT("memory-swap", memory_swap, "BYTES", "memory and swap together; -1: no limit"),
    TEXT("pids-limit", pids_limit, "N", "largest number of processes; -1: no limit"),
    TEXT("l3-cache-schema", l3_cache_schema, "TEXT", "refused: hull does not do Intel RDT"),
    TEXT("mem-bw-schema", mem_bw_schema, "TEXT", "refused: hull does not do Intel RDT"),
    {0},
};

/* --- what is asked ----------------------------------------------------------------------------------------------- */

enum kind { NUMBER, SIZE, LIST };

/* Which flag becomes which member of linux.resources. */
static const struct {
	const char *flag, *group, *member;
	size_t offset;
	enum kind kind;
} meanings[] = {
    {"blkio-weight", "blockIO", "weight", offsetof(struct update_options, blkio_weight), NUMBER},
    {"cpu-period", "cpu", "period", offsetof(struct update_options, cpu_period), NUMBER},
    {"cpu-quota", "cpu", "quota", offsetof(struct update_options, cpu_quota), NUMBER},
    {"cpu-burst", "cpu", "burst", offsetof(struct update_options, cpu_burst), NUMBER},
    {"cpu-share", "cpu", "shares", offsetof(struct update_options, cpu_share), NUMBER},
    {"cpu-idle", "cpu", "idle", offsetof(struct update_options, cpu_idle), NUMBER},
    {"cpu-rt-period", "cpu", "realtimePeriod", offsetof(struct update_options, cpu_rt_period), NUMBER},
    {"cpu-rt-runtime", "cpu", "realtimeRuntime", offsetof(struct update_options, cpu_rt_runtime), NUMBER},
    {"cpuset-cpus", "cpu", "cpus", offsetof(struct update_options, cpuset_cpus), LIST},
    {"cpuset-mems", "cpu", "mems", offsetof(struct update_options, cpuset_mems), LIST},
    {"kernel-memory", "memory", "kernel", offsetof(struct update_options, kernel_memory), SIZE},
    {"kernel-memory-tcp", "memory", "kernelTCP", offsetof(struct update_options, kernel_memory_tcp), SIZE},
    {"memory", "memory", "limit", offsetof(struct update_options, memory), SIZE},
    {"memory-reservation", "memory", "reservation", offsetof(struct update_options, memory_reservation), SIZE},
    {"memory-swap", "memory", "swap", offsetof(struct update_options, memory_swap), SIZE},
    {"pids-limit", "pids", "limit", offsetof(struct update_options, pids_limit), NUMBER},
};

static json_t *read_value(const char *flag, const char *text, enum kind kind, struct error *err)
{
	uint64_t number;
	char digits[24];

	if (kind == LIST)
		return json_string(text);
	if (strcmp(text, "-1") == 0)
		return json_integer(-1);
	/* 512M, 512m, 512MB, as engines' users write them. */
	snprintf(digits, sizeof(digits), "%s", text);
	if (kind == SIZE && *digits && strchr("bB", digits[strlen(digits) - 1]))
		digits[strlen(digits) - 1] = '\0';
	if ((kind == SIZE ? vm_size_parse_memory(digits, &number) : parse_u64(text, 0, INT64_MAX, &number)) < 0 ||
	    number > INT64_MAX) {
		error_set(err, EINVAL, "invalid value for %s: \"%s\"", flag, text);
		return NULL;
	}
	return json_integer((json_int_t)number);
}

static json_t *from_flags(const struct update_options *options, struct error *err)
{
	json_t *asked = json_object();

	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
		const char *text = *(const char *const *)((const char *)options + meanings[i].offset);
		json_t *group, *value;

		if (!text || !*text)
			continue;
		value = read_value(meanings[i].flag, text, meanings[i].kind, err);
		if (!value) {
			json_decref(asked);
			return NULL;
		}
		group = json_object_get(asked, meanings[i].group);
		if (!group) {
			group = json_object();
			json_object_set_new(asked, meanings[i].group, group);
		}
		json_object_set_new(group, meanings[i].member, value);
	}
	return asked;
}

static json_t *from_file(const char *path, struct error *err)
{
	bool is_stdin = strcmp(path, "-") == 0;
	cleanup_close int fd = is_stdin ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
	cleanup_free char *text = NULL;
	json_t *asked = NULL;
	size_t size;

	if (fd < 0)
		error_set_errno(err, "open `%s`", path);
	else if (read_stream(fd, RESOURCES_SIZE_MAX, &text, &size, err) == 0)
		asked = spec_parse(text, size, err);
	if (!asked)
		error_prefix(err, "--resources %s", path);
	return asked;
}

static json_t *read_asked(const struct update_options *options, struct error *err)
{
	/* The words of runc on a machine without them. */
	if (options->l3_cache_schema && *options->l3_cache_schema) {
		error_set(err, ENOTSUP, "Intel RDT/CAT: l3 cache schema is not enabled");
		return NULL;
	}
	if (options->mem_bw_schema && *options->mem_bw_schema) {
		error_set(err, ENOTSUP, "Intel RDT/MBA: memory bandwidth schema is not enabled");
		return NULL;
	}
	return options->resources && *options->resources ? from_file(options->resources, err)
							 : from_flags(options, err);
}

/* --- applying ---------------------------------------------------------------------------------------------------- */

/* A machine cannot grow yet: a limit beyond it is a limit nevertheless, only one that is not reached. Said once. */
static void warn_of_size(const struct state *state, const struct limits *limits)
{
	struct limits before;

	if (limits_read(state->resources, &before, NULL) < 0)
		return;
	if (state->memory && limits->memory != before.memory && limits->memory > 0 &&
	    (uint64_t)limits->memory > state->memory)
		report_warning("the virtual machine has only %llu MiB of memory, which cannot be changed while it runs",
			       (unsigned long long)(state->memory >> 20));
	if (state->vcpus && vm_size_for_cpus(limits, UINT32_MAX) > state->vcpus &&
	    vm_size_for_cpus(limits, UINT32_MAX) != vm_size_for_cpus(&before, UINT32_MAX))
		report_warning("the virtual machine has only %u CPU(s), which cannot be changed while it runs",
			       state->vcpus);
}

static int update_guest(const struct container *container, const json_t *resources, struct error *err)
{
	cleanup_attachment struct attachment attachment = ATTACHMENT_NONE;
	cleanup_free char *order = NULL;
	json_t *object = json_pack("{s:s, s:s, s:O}", "order", "update", "id", container->id, "resources", resources);

	order = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	if (!order)
		return error_set(err, ENOMEM, "make an order");
	if (attach(container, TIMEOUT_SECONDS, &attachment, err) < 0 || attach_agent(&attachment, err) < 0)
		return -1;
	return agent_order(attachment.agent, &attachment.watch, order, strlen(order), NULL, err);
}

static int update_host(const struct state *state, const json_t *resources, bool warn, struct error *err)
{
	struct limits limits;

	if (limits_read(resources, &limits, err) < 0)
		return -1;
	if (warn)
		warn_of_size(state, &limits);
	return state->cgroup ? cgroup_update(state->cgroup, state->scope, &limits, state->memory, err) : 0;
}

static int apply(struct container *container, json_t *resources, struct error *err)
{
	struct state *state = &container->state;
	json_t *before = state->resources;

	if (update_host(state, resources, true, err) < 0 || update_guest(container, resources, err) < 0) {
		update_host(state, before, false, NULL);
		return -1;
	}
	state->resources = json_incref(resources);
	json_decref(before);
	return container_save(container, err);
}

static int update(const struct invocation *invocation, const json_t *asked, struct error *err)
{
	cleanup_container struct container container = CONTAINER_NONE;
	enum container_status status;
	json_t *merged;
	int result;

	if (container_open(invocation->global->root, invocation->argv[0], &container, err) < 0 ||
	    container_lock(&container, LOCK_TIMEOUT_MS, err) < 0)
		return -1;
	status = container_status(&container);
	if (status == CONTAINER_STOPPED || status == CONTAINER_CREATING)
		return error_set(err, ESRCH, "container not running");
	merged = update_merge(container.state.resources, asked, err);
	if (!merged)
		return -1;
	result = apply(&container, merged, err);
	json_decref(merged);
	return result;
}

static int run(const struct invocation *invocation, struct error *err)
{
	json_t *asked = read_asked(invocation->options, err);
	const json_t *memory = json_object_get(asked, "memory");
	int result;

	if (!asked)
		return -1;
	if (json_integer_value(json_object_get(memory, "kernel")) != 0 ||
	    json_integer_value(json_object_get(memory, "kernelTCP")) != 0)
		report_warning("Kernel memory settings are ignored and will be removed");
	result = update(invocation, asked, err);
	json_decref(asked);
	return result;
}

const struct command command_update = {
    .name = "update",
    .summary = "change the limits of a container",
    .arguments = "[flags] ID",
    .description = "Changes limits of a container that is created or runs. What is not named stays as it is.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
