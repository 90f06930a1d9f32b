#include "runtime/limits.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cgroup_values.h"
#include "common/io.h"
#include "common/spec_values.h"
#include "common/words.h"

#define CPUS_MAX 65536

/* --- reading ----------------------------------------------------------------------------------------------------- */

static int read_signed(const json_t *object, const char *name, int64_t minimum, int64_t *number, const char *group,
		       struct error *err)
{
	const json_t *value = json_object_get(object, name);
	uint64_t big;

	*number = 0;
	if (!value || json_is_null(value))
		return 0;
	/* Engines write "no limit" as -1, some as the largest number there is. */
	if (spec_get_i64(value, number) < 0 && spec_get_u64(value, &big) == 0)
		*number = INT64_MAX;
	else if (spec_get_i64(value, number) < 0 || *number < minimum)
		return error_set(err, EINVAL, "linux.resources.%s.%s is not a sensible number", group, name);
	return 0;
}

static int read_unsigned(const json_t *object, const char *name, uint64_t *number, const char *group, struct error *err)
{
	const json_t *value = json_object_get(object, name);

	*number = 0;
	if (!value || json_is_null(value) || spec_get_u64(value, number) == 0)
		return 0;
	return error_set(err, EINVAL, "linux.resources.%s.%s is not a sensible number", group, name);
}

static int read_memory(const json_t *memory, struct limits *limits, struct error *err)
{
	if (read_signed(memory, "limit", -1, &limits->memory, "memory", err) < 0 ||
	    read_signed(memory, "reservation", -1, &limits->reservation, "memory", err) < 0 ||
	    read_signed(memory, "swap", -1, &limits->swap, "memory", err) < 0)
		return -1;
	return cgroup_check_swap(limits->memory, limits->swap, err);
}

static int read_list(const json_t *cpu, const char *name, const char **list, struct error *err)
{
	const char *text = json_string_value(json_object_get(cpu, name));

	*list = text && *text ? text : NULL;
	if (*list && limits_count_cpus(*list) == 0)
		return error_set(err, EINVAL, "linux.resources.cpu.%s: \"%s\" is not a list like 0-3,7", name, text);
	return 0;
}

static int read_cpu(const json_t *cpu, struct limits *limits, struct error *err)
{
	const json_t *idle = json_object_get(cpu, "idle");

	if (read_unsigned(cpu, "shares", &limits->shares, "cpu", err) < 0 ||
	    read_signed(cpu, "quota", -1, &limits->quota, "cpu", err) < 0 ||
	    read_unsigned(cpu, "period", &limits->period, "cpu", err) < 0 ||
	    read_unsigned(cpu, "burst", &limits->burst, "cpu", err) < 0 ||
	    read_signed(cpu, "idle", 0, &limits->idle, "cpu", err) < 0)
		return -1;
	limits->has_idle = idle && !json_is_null(idle);
	if (limits->idle > 1)
		return error_set(err, EINVAL, "linux.resources.cpu.idle must be 0 or 1");
	return read_list(cpu, "cpus", &limits->cpus, err) < 0 ? -1 : read_list(cpu, "mems", &limits->mems, err);
}

/* "QUOTA PERIOD", "max PERIOD", or the first alone (Documentation/admin-guide/cgroup-v2.rst, cpu.max). */
static int read_cpu_max(const char *text, struct limits *limits, struct error *err)
{
	const char *blank = strchr(text, ' ');
	size_t length = blank ? (size_t)(blank - text) : strlen(text);
	uint64_t quota = 0, period = CGROUP_CPU_PERIOD;
	char first[24] = "";
	bool is_max;

	if (length < sizeof(first))
		memcpy(first, text, length);
	is_max = strcmp(first, "max") == 0;
	if ((!is_max && parse_u64(first, 1, INT64_MAX, &quota) < 0) ||
	    (blank && parse_u64(blank + 1, 1, INT64_MAX, &period) < 0))
		return error_set(err, EINVAL, "linux.resources.unified: cpu.max: \"%s\" is not a quota and a period",
				 text);
	limits->quota = is_max ? -1 : (int64_t)quota;
	limits->period = period;
	return 0;
}

/* Those files whose values decide about more than the cgroup's: they stand for the fields of the same meaning. */
static int read_unified(const json_t *unified, struct limits *limits, struct error *err)
{
	const char *cpu_max = json_string_value(json_object_get(unified, "cpu.max"));
	const struct {
		const char *file, **list;
	} lists[] = {{"cpuset.cpus", &limits->cpus}, {"cpuset.mems", &limits->mems}};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		const char *text = json_string_value(json_object_get(unified, lists[i].file));

		if (!text || *text == '\0')
			continue;
		if (limits_count_cpus(text) == 0)
			return error_set(err, EINVAL, "linux.resources.unified: %s: \"%s\" is not a list like 0-3,7",
					 lists[i].file, text);
		*lists[i].list = text;
	}
	return cpu_max ? read_cpu_max(cpu_max, limits, err) : 0;
}

int limits_read(const json_t *resources, struct limits *limits, struct error *err)
{
	*limits = (struct limits){.block_io = json_object_get(resources, "blockIO"),
				  .unified = json_object_get(resources, "unified")};
	if (read_memory(json_object_get(resources, "memory"), limits, err) < 0 ||
	    read_cpu(json_object_get(resources, "cpu"), limits, err) < 0 ||
	    read_unified(limits->unified, limits, err) < 0 ||
	    read_unsigned(limits->block_io, "weight", &limits->weight, "blockIO", err) < 0)
		return -1;
	if (limits->weight != 0 && (limits->weight < 10 || limits->weight > 1000))
		return error_set(err, ERANGE, "linux.resources.blockIO.weight must be from 10 to 1000");
	return 0;
}

/* --- converting -------------------------------------------------------------------------------------------------- */

static const char *read_number(const char *text, unsigned long *number)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return NULL;
	errno = 0;
	*number = strtoul(text, &end, 10);
	return errno != 0 || *number >= CPUS_MAX ? NULL : end;
}

unsigned limits_count_cpus(const char *list)
{
	unsigned count = 0;

	for (;;) {
		unsigned long first, last;

		list = read_number(list, &first);
		if (!list)
			return 0;
		last = first;
		if (*list == '-')
			list = read_number(list + 1, &last);
		if (!list || last < first)
			return 0;
		count += (unsigned)(last - first + 1);
		if (*list == '\0')
			return count > CPUS_MAX ? 0 : count;
		if (*list++ != ',')
			return 0;
	}
}

int64_t limits_memory_max(const struct limits *limits, uint64_t machine_memory)
{
	if (limits->memory == 0)
		return CGROUP_UNSET;
	return limits->memory < 0 ? CGROUP_UNLIMITED : (int64_t)(machine_memory + MACHINE_OVERHEAD(machine_memory));
}

int64_t limits_memory_low(const struct limits *limits, uint64_t machine_memory)
{
	int64_t overhead = (int64_t)MACHINE_OVERHEAD(machine_memory);

	if (limits->reservation == 0)
		return CGROUP_UNSET;
	return limits->reservation < 0 || limits->reservation > INT64_MAX - overhead ? CGROUP_UNLIMITED
										     : limits->reservation + overhead;
}

#define OOM_REACH_MAX (1ull << 30)
#define OOM_REACH_SLACK (32ull << 20)

uint64_t limits_oom_reach(const struct limits *limits, uint64_t machine_memory)
{
	uint64_t reach = MACHINE_OVERHEAD(machine_memory) + OOM_REACH_SLACK;

	if (limits->memory <= 0)
		return 0;
	if (machine_memory > (uint64_t)limits->memory)
		reach += machine_memory - (uint64_t)limits->memory;
	return reach > OOM_REACH_MAX ? 0 : reach;
}

/* --- settings ---------------------------------------------------------------------------------------------------- */

void settings_release(struct settings *settings)
{
	for (size_t i = 0; i < settings->n; i++)
		free(settings->list[i].value);
	free(settings->list);
	*settings = (struct settings){0};
}

static void add(struct settings *settings, const char *file, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void add(struct settings *settings, const char *file, const char *field, const char *format, ...)
{
	struct setting *larger = realloc(settings->list, (settings->n + 1) * sizeof(*larger));
	va_list args;

	if (!larger) {
		settings->failed = true;
		return;
	}
	settings->list = larger;
	larger[settings->n] = (struct setting){.file = file, .field = field};
	va_start(args, format);
	if (vasprintf(&larger[settings->n].value, format, args) < 0)
		settings->failed = true;
	else
		settings->n++;
	va_end(args);
}

static void add_size(struct settings *settings, const char *file, const char *field, int64_t size)
{
	if (size == CGROUP_UNLIMITED)
		add(settings, file, field, "max");
	else if (size != CGROUP_UNSET)
		add(settings, file, field, "%" PRId64, size);
}

static void add_cpu(const struct limits *limits, struct settings *settings)
{
	uint64_t period = limits->period ? limits->period : CGROUP_CPU_PERIOD;

	if (limits->cpus)
		add(settings, "cpuset.cpus", "cpu.cpus", "%s", limits->cpus);
	if (limits->mems)
		add(settings, "cpuset.mems", "cpu.mems", "%s", limits->mems);
	/* The weight of an idle cgroup cannot be set, so the order is to leave it, to set it, or to enter it. */
	if (limits->has_idle && limits->idle == 0)
		add(settings, "cpu.idle", "cpu.idle", "0");
	if (limits->shares)
		add(settings, "cpu.weight", "cpu.shares", "%" PRIu64, cgroup_cpu_weight(limits->shares));
	if (limits->quota > 0)
		add(settings, "cpu.max", "cpu.quota", "%" PRId64 " %" PRIu64, limits->quota, period);
	else if (limits->quota < 0 || limits->period)
		add(settings, "cpu.max", "cpu.period", "max %" PRIu64, period);
	if (limits->burst)
		add(settings, "cpu.max.burst", "cpu.burst", "%" PRIu64, limits->burst);
	if (limits->idle)
		add(settings, "cpu.idle", "cpu.idle", "1");
}

/* A device's number and value of one element of a list below blockIO. */
static int read_device(const json_t *entry, const char *list, const char *member, uint64_t numbers[3],
		       struct error *err)
{
	const char *const names[] = {"major", "minor", member};

	for (int i = 0; i < 3; i++)
		if (spec_get_u64(json_object_get(entry, names[i]), &numbers[i]) < 0)
			return error_set(err, EINVAL, "linux.resources.blockIO.%s: %s must be a number from 0 on", list,
					 names[i]);
	return 0;
}

static int add_throttles(const struct limits *limits, struct settings *settings, struct error *err)
{
	static const struct {
		const char *list, *field, *key;
	} kinds[] = {
	    {"throttleReadBpsDevice", "blockIO.throttleReadBpsDevice", "rbps"},
	    {"throttleWriteBpsDevice", "blockIO.throttleWriteBpsDevice", "wbps"},
	    {"throttleReadIOPSDevice", "blockIO.throttleReadIOPSDevice", "riops"},
	    {"throttleWriteIOPSDevice", "blockIO.throttleWriteIOPSDevice", "wiops"},
	};

	for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
		const json_t *entry;
		uint64_t n[3];
		size_t i;

		json_array_foreach(json_object_get(limits->block_io, kinds[kind].list), i, entry)
		{
			if (read_device(entry, kinds[kind].list, "rate", n, err) < 0)
				return -1;
			/* A rate of 0 takes the limit away, as in cgroup v1. */
			if (n[2])
				add(settings, "io.max", kinds[kind].field, "%" PRIu64 ":%" PRIu64 " %s=%" PRIu64, n[0],
				    n[1], kinds[kind].key, n[2]);
			else
				add(settings, "io.max", kinds[kind].field, "%" PRIu64 ":%" PRIu64 " %s=max", n[0], n[1],
				    kinds[kind].key);
		}
	}
	return 0;
}

/* bfq has the range of the specification; io.weight goes from 1 to 10000. */
static uint64_t io_weight(uint64_t weight, bool bfq)
{
	return bfq ? weight : 1 + (weight - 10) * 9999 / 990;
}

static int add_weights(const struct limits *limits, bool bfq, struct settings *settings, struct error *err)
{
	const char *file = bfq ? "io.bfq.weight" : "io.weight";
	const json_t *entry;
	uint64_t n[3];
	size_t i;

	if (limits->weight)
		add(settings, file, "blockIO.weight", "%s%" PRIu64, bfq ? "" : "default ",
		    io_weight(limits->weight, bfq));
	json_array_foreach(json_object_get(limits->block_io, "weightDevice"), i, entry)
	{
		if (read_device(entry, "weightDevice", "weight", n, err) < 0)
			return -1;
		if (n[2] < 10 || n[2] > 1000)
			return error_set(err, ERANGE,
					 "linux.resources.blockIO.weightDevice: weight must be from 10 to 1000");
		add(settings, file, "blockIO.weightDevice", "%" PRIu64 ":%" PRIu64 " %" PRIu64, n[0], n[1],
		    io_weight(n[2], bfq));
	}
	return 0;
}

/* Whether a file of the container's cgroup says something about the host's as well, or only about that. */
static bool is_of_host(const char *file)
{
	static const char *const others[] = {"cpu.max",	  "cpuset.cpus",   "cpuset.mems",
					     "io.weight", "io.bfq.weight", NULL};

	if (strchr(file, '/') || is_one_of(others, file))
		return false;
	return strncmp(file, "cpu.", 4) == 0 || strncmp(file, "cpuset.", 7) == 0 || strncmp(file, "io.", 3) == 0;
}

static void add_unified(const struct limits *limits, struct settings *settings)
{
	const char *file;
	json_t *value;

	json_object_foreach((json_t *)limits->unified, file, value)
	{
		if (is_of_host(file) && json_is_string(value))
			add(settings, file, "unified", "%s", json_string_value(value));
	}
}

int limits_settings(const struct limits *limits, uint64_t machine_memory, bool bfq, struct settings *settings,
		    struct error *err)
{
	*settings = (struct settings){0};
	add_size(settings, "memory.swap.max", "memory.swap", cgroup_swap_max(limits->memory, limits->swap));
	add_size(settings, "memory.max", "memory.limit", limits_memory_max(limits, machine_memory));
	add_size(settings, "memory.low", "memory.reservation", limits_memory_low(limits, machine_memory));
	add_cpu(limits, settings);
	if (add_weights(limits, bfq, settings, err) < 0 || add_throttles(limits, settings, err) < 0) {
		settings_release(settings);
		return -1;
	}
	add_unified(limits, settings);
	if (settings->failed) {
		settings_release(settings);
		return error_set(err, ENOMEM, "list the limits of the host's cgroup");
	}
	return 0;
}
