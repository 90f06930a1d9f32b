/*
 * config.json against the table of its fields, and a plan made from it.
 *
 * The input is the text of a spec; or, when its first byte is below 128, a list of changes to the spec that `runc spec`
 * writes, so that the deeper parts are reached without luck: each change is a row of the table, a kind of value, and
 * eight bytes of it.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/spec_fields.h"
#include "guest-agent/plan.h"
#include "tests/unit/agent_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHANGE 10 /* bytes */

/* "mounts[].options[]" as a path for spec_set: "mounts/N/options/N". */
static void path_of_row(const char *row, unsigned index, char *path, size_t room)
{
	size_t used = 0;

	for (; *row && used + 8 < room; row++) {
		if (*row == '.')
			path[used++] = '/';
		else if (*row == '[')
			used += (size_t)snprintf(path + used, room - used, "/%u", index);
		else if (*row == '*')
			path[used++] = 'x';
		else if (*row != ']')
			path[used++] = *row;
	}
	path[used] = '\0';
}

static const char *const words[] = {"",
				    "/",
				    "/a/../b",
				    "..",
				    "bind",
				    "rbind",
				    "ro",
				    "rro",
				    "tmpfs",
				    "proc",
				    "none",
				    "cgroup",
				    "mode=7",
				    "a,b=c,",
				    "pid",
				    "user",
				    "a",
				    "b",
				    "rwm",
				    "shared",
				    "A=b",
				    "=",
				    "CAP_KILL",
				    "CAP_X",
				    "RLIMIT_CPU",
				    "RLIMIT_X",
				    "SCHED_FIFO",
				    "SCHED_DEADLINE",
				    "SCHED_FLAG_RECLAIM",
				    "IOPRIO_CLASS_RT",
				    "LINUX32",
				    "c",
				    "p",
				    "net.ipv4.x",
				    "time",
				    "uts",
				    "tmpcopyup",
				    "remount",
				    "idmap",
				    "2MB",
				    "memory.max",
				    "cpuset.cpus",
				    "0-3"};

/* JSON text of one value. */
static void value_of(const uint8_t *bytes, char *text, size_t room)
{
	int64_t number;

	memcpy(&number, bytes + 1, 7);
	switch (bytes[0] % 8) {
	case 0:
		snprintf(text, room, "\"%s\"", words[bytes[1] % (sizeof(words) / sizeof(words[0]))]);
		break;
	case 1:
		snprintf(text, room, "%d", (signed char)bytes[1]);
		break;
	case 2:
		snprintf(text, room, "%lld", (long long)number);
		break;
	case 3:
		snprintf(text, room, "%s", bytes[1] & 1 ? "true" : "false");
		break;
	case 4:
		snprintf(text, room, "%.17g", (double)number * (bytes[2] & 1 ? 1e10 : 0.5));
		break;
	case 5:
		snprintf(text, room, "[\"%s\"]", words[bytes[1] % (sizeof(words) / sizeof(words[0]))]);
		break;
	case 6:
		snprintf(text, room, "%s", bytes[1] & 1 ? "{}" : "[]");
		break;
	default:
		snprintf(text, room, "null");
	}
}

static json_t *changed_spec(const uint8_t *data, size_t size)
{
	json_t *spec = spec_new();

	for (; spec && size >= CHANGE; data += CHANGE, size -= CHANGE) {
		char path[256], value[64];

		path_of_row(spec_fields[data[0] % n_spec_fields].path, data[1] % 6, path, sizeof(path));
		value_of(data + 2, value, sizeof(value));
		spec_set(spec, path, value);
	}
	return spec;
}

static int touch(const struct spec_field *field, const char *path, const json_t *value, void *context)
{
	size_t *length = context;

	*length += strlen(path);
	if (value && spec_value_says_nothing(field, value))
		(*length)++;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err;
	json_t *spec, *order, *mount;
	size_t length = 0, i;

	if (size < 1)
		return 0;
	spec = data[0] < 128 ? changed_spec(data + 1, size - 1) : spec_parse((const char *)data + 1, size - 1, &err);
	if (!spec)
		return 0;
	spec_fields_walk(spec, touch, &length);
	json_array_foreach(json_object_get(spec, "mounts"), i, mount)
	{
		spec_mount_is_bind(mount);
	}
	order = json_pack("{s:s, s:s, s:o, s:{s:s}, s:{s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s}}}", "order", "create", "id",
			  "x", "spec", spec, "rootfs", "export", "rootfs", "mounts", "0", "export", "m0", "1", "export",
			  "m1", "2", "export", "m2", "3", "export", "m3");
	if (!order)
		return 0;
	plan_free(plan_new(order, &err));
	json_decref(order);
	return 0;
}
