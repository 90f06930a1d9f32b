#include "guest-agent/resources.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cgroup_values.h"
#include "common/cleanup.h"
#include "common/io.h"
#include "common/spec_values.h"

/* --- the list ---------------------------------------------------------------------------------------------------- */

static int add_text(struct resources *resources, const char *file, const char *value, bool is_unified,
		    struct error *err)
{
	struct resource *list = realloc(resources->list, (resources->n + 1) * sizeof(*list));
	struct resource *resource;

	if (!list)
		return error_set(err, ENOMEM, "out of memory");
	resources->list = list;
	resource = &list[resources->n++];
	*resource = (struct resource){strdup(file), strdup(value), is_unified};
	return resource->file && resource->value ? 0 : error_set(err, ENOMEM, "out of memory");
}

static int add(struct resources *resources, struct error *err, const char *file, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int add(struct resources *resources, struct error *err, const char *file, const char *format, ...)
{
	char value[128];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(value, sizeof(value), format, arguments);
	va_end(arguments);
	return add_text(resources, file, value, false, err);
}

/* A limit of version 1: 0 is as good as absent, -1 is none. */
static int add_limit(struct resources *resources, const char *file, int64_t value, struct error *err)
{
	if (value == 0)
		return 0;
	if (value == -1)
		return add(resources, err, file, "max");
	return add(resources, err, file, "%" PRId64, value);
}

/* --- memory ------------------------------------------------------------------------------------------------------ */

/* 0 is a limit here: swap is as much as memory. */
static int add_swap(struct resources *resources, int64_t limit, int64_t swap, struct error *err)
{
	int64_t max;

	if (cgroup_check_swap(limit, swap, err) < 0)
		return -1;
	max = cgroup_swap_max(limit, swap);
	if (max == CGROUP_UNSET)
		return 0;
	if (max == CGROUP_UNLIMITED)
		return add(resources, err, "memory.swap.max", "max");
	return add(resources, err, "memory.swap.max", "%" PRId64, max);
}

static int read_memory(struct resources *resources, const json_t *memory, struct error *err)
{
	int64_t limit = spec_i64(memory, "limit", 0);

	if (add_swap(resources, limit, spec_i64(memory, "swap", 0), err) < 0 ||
	    add_limit(resources, "memory.max", limit, err) < 0)
		return -1;
	if (limit > 0 && json_is_true(json_object_get(memory, "checkBeforeUpdate")))
		resources->not_below_usage = limit;
	return add_limit(resources, "memory.low", spec_i64(memory, "reservation", 0), err);
}

/* --- processor --------------------------------------------------------------------------------------------------- */

static int read_cpu(struct resources *resources, const json_t *cpu, struct error *err)
{
	uint64_t shares = spec_u64(cpu, "shares", 0);
	uint64_t period = spec_u64(cpu, "period", 0);
	int64_t quota = spec_i64(cpu, "quota", 0);
	int64_t idle;

	if (spec_get_i64(json_object_get(cpu, "idle"), &idle) == 0 &&
	    add(resources, err, "cpu.idle", "%" PRId64, idle) < 0)
		return -1;
	if (shares != 0 && add(resources, err, "cpu.weight", "%" PRIu64, cgroup_cpu_weight(shares)) < 0)
		return -1;
	if (period == 0)
		period = CGROUP_CPU_PERIOD;
	if (quota > 0 && add(resources, err, "cpu.max", "%" PRId64 " %" PRIu64, quota, period) < 0)
		return -1;
	if (quota <= 0 && (quota != 0 || spec_u64(cpu, "period", 0) != 0) &&
	    add(resources, err, "cpu.max", "max %" PRIu64, period) < 0)
		return -1;
	if (json_is_number(json_object_get(cpu, "burst")))
		return add(resources, err, "cpu.max.burst", "%" PRIu64, spec_u64(cpu, "burst", 0));
	return 0;
}

/* --- the others -------------------------------------------------------------------------------------------------- */

static int read_block_io(struct resources *resources, const json_t *block, struct error *err)
{
	uint64_t weight = spec_u64(block, "weight", 0);

	if (weight == 0)
		return 0;
	if (weight > UINT16_MAX)
		return error_set(err, EINVAL, "linux.resources.blockIO.weight must be a number from 10 to 1000");
	return add(resources, err, "io.bfq.weight", "%" PRIu64, weight);
}

static int read_huge_pages(struct resources *resources, const json_t *array, struct error *err)
{
	const json_t *element;
	char file[64];
	size_t i;

	json_array_foreach(array, i, element)
	{
		const char *size = json_string_value(json_object_get(element, "pageSize"));

		if (!size || strchr(size, '/') ||
		    snprintf(file, sizeof(file), "hugetlb.%s.max", size) >= (int)sizeof(file))
			return error_set(err, EINVAL,
					 "linux.resources.hugepageLimits[%zu].pageSize must be a size like 2MB", i);
		if (add(resources, err, file, "%" PRIu64, spec_u64(element, "limit", 0)) < 0)
			return -1;
	}
	return 0;
}

/* Processors and devices are named by the host's numbers (see the head of resources.h): the host has set these. */
static bool is_of_host(const char *file)
{
	if (strncmp(file, "io.", 3) == 0)
		return strcmp(file, "io.weight") != 0 && strcmp(file, "io.bfq.weight") != 0;
	return strncmp(file, "cpuset.", 7) == 0;
}

static int read_unified(struct resources *resources, const json_t *object, struct error *err)
{
	const char *file;
	json_t *value;

	json_object_foreach((json_t *)object, file, value)
	{
		if (!json_is_string(value))
			continue;
		if (strchr(file, '/'))
			return error_set(err, EINVAL, "unified resource \"%s\" must be a file name (no slashes)", file);
		if (!is_of_host(file) && add_text(resources, file, json_string_value(value), true, err) < 0)
			return -1;
	}
	return 0;
}

int resources_read(const json_t *json, struct resources *resources, struct error *err)
{
	*resources = (struct resources){0};
	if (add_limit(resources, "pids.max", spec_i64(json_object_get(json, "pids"), "limit", 0), err) < 0 ||
	    read_memory(resources, json_object_get(json, "memory"), err) < 0 ||
	    read_block_io(resources, json_object_get(json, "blockIO"), err) < 0 ||
	    read_cpu(resources, json_object_get(json, "cpu"), err) < 0 ||
	    read_huge_pages(resources, json_object_get(json, "hugepageLimits"), err) < 0)
		return -1;
	return read_unified(resources, json_object_get(json, "unified"), err);
}

void resources_release(struct resources *resources)
{
	for (size_t i = 0; i < resources->n; i++) {
		free(resources->list[i].file);
		free(resources->list[i].value);
	}
	free(resources->list);
	*resources = (struct resources){0};
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

static int check_usage(int cgroup, int64_t limit, struct error *err)
{
	cleanup_free char *text = NULL;
	int64_t usage;

	if (limit == 0)
		return 0;
	if (read_file_at(cgroup, "memory.current", 64, &text, NULL, err) < 0)
		return -1;
	usage = strtoll(text, NULL, 10);
	if (usage > limit)
		return error_set(err, EBUSY, "unable to set memory limit to %" PRId64 " (current usage: %" PRId64 ")",
				 limit, usage);
	return 0;
}

static bool has_controller(int cgroup, const char *name, size_t length)
{
	cleanup_free char *text = NULL;

	if (read_file_at(cgroup, "cgroup.controllers", 4096, &text, NULL, NULL) < 0)
		return false;
	for (char *word = strtok(text, " \n"); word; word = strtok(NULL, " \n"))
		if (strlen(word) == length && memcmp(word, name, length) == 0)
			return true;
	return false;
}

/* Why a key of linux.resources.unified could not be written. */
static int explain_unified(int cgroup, const char *file, struct error *err)
{
	int code = errno;
	const char *dot = strchr(file, '.');
	size_t length = dot ? (size_t)(dot - file) : 0;

	if (code == EPERM || code == EACCES || code == ENOENT) {
		if (!dot)
			return error_set(err, code, "unified resource \"%s\" must be in the form CONTROLLER.PARAMETER",
					 file);
		if (strncmp(file, "cgroup.", 7) != 0 && !has_controller(cgroup, file, length))
			return error_set(err, code,
					 "unified resource \"%s\" can't be set: controller \"%.*s\" not available",
					 file, (int)length, file);
	}
	return error_set(err, code, "unable to set unified resource \"%s\": %s", file, strerror(code));
}

static int write_one(int cgroup, const struct resource *resource, struct error *err)
{
	cleanup_close int fd = openat(cgroup, resource->file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	size_t length = strlen(resource->value);

	if (fd >= 0 && write(fd, resource->value, length) == (ssize_t)length)
		return 0;
	if (resource->is_unified)
		return explain_unified(cgroup, resource->file, err);
	return error_set_errno(err, "failed to write \"%s\" to %s", resource->value, resource->file);
}

int resources_apply(int cgroup, const struct resources *resources, struct error *err)
{
	if (check_usage(cgroup, resources->not_below_usage, err) < 0)
		return -1;
	for (size_t i = 0; i < resources->n; i++)
		if (write_one(cgroup, &resources->list[i], err) < 0)
			return error_prefix(err, "linux.resources");
	return 0;
}
