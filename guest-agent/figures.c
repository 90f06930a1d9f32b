#include "guest-agent/figures.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"

#define FILE_SIZE_MAX 65536
#define MICROSECOND 1000u

static char *read_file(int cgroup, const char *name)
{
	char *text = NULL;

	return read_file_at(cgroup, name, FILE_SIZE_MAX, &text, NULL, NULL) < 0 ? NULL : text;
}

static json_t *number(uint64_t value)
{
	return value > INT64_MAX ? json_real((double)value) : json_integer((json_int_t)value);
}

/* Adds the number that a file holds; "max" is the largest. */
static void add_file(json_t *object, const char *key, int cgroup, const char *name)
{
	cleanup_free char *text = read_file(cgroup, name);

	if (text)
		json_object_set_new(object, key,
				    number(strncmp(text, "max", 3) == 0 ? UINT64_MAX : strtoull(text, NULL, 10)));
}

/* The value of a line "name value", or 0. */
static uint64_t find_value(const char *text, const char *name)
{
	size_t length = strlen(name);

	for (; text; text = strchr(text, '\n'), text += text != NULL)
		if (strncmp(text, name, length) == 0 && text[length] == ' ')
			return strtoull(text + length + 1, NULL, 10);
	return 0;
}

/* All lines "name value" as members. */
static json_t *all_values(const char *text)
{
	json_t *object = json_object();
	const char *line = text;

	while (line && *line) {
		size_t length = strcspn(line, " \n");

		if (line[length] == ' ')
			json_object_setn_new(object, line, length, number(strtoull(line + length + 1, NULL, 10)));
		line = strchr(line, '\n');
		line += line != NULL;
	}
	return object;
}

/* runc leaves these out when they are 0. */
static void add_told(json_t *object, const char *key, uint64_t value)
{
	if (value)
		json_object_set_new(object, key, number(value));
}

static json_t *read_cpu(int cgroup)
{
	cleanup_free char *text = read_file(cgroup, "cpu.stat");
	json_t *throttling = json_object();

	add_told(throttling, "periods", find_value(text, "nr_periods"));
	add_told(throttling, "throttledPeriods", find_value(text, "nr_throttled"));
	add_told(throttling, "throttledTime", find_value(text, "throttled_usec") * MICROSECOND);
	return json_pack("{s:{s:o, s:o, s:o}, s:o}", "usage", "total",
			 number(find_value(text, "usage_usec") * MICROSECOND), "kernel",
			 number(find_value(text, "system_usec") * MICROSECOND), "user",
			 number(find_value(text, "user_usec") * MICROSECOND), "throttling", throttling);
}

static json_t *read_usage(int cgroup, const char *current, const char *limit, const char *peak, uint64_t failures)
{
	json_t *usage = json_object();

	add_file(usage, "limit", cgroup, limit);
	add_file(usage, "usage", cgroup, current);
	add_file(usage, "max", cgroup, peak);
	json_object_set_new(usage, "failcnt", number(failures));
	return usage;
}

static json_t *read_memory(int cgroup)
{
	cleanup_free char *stat = read_file(cgroup, "memory.stat"), *events = read_file(cgroup, "memory.events");
	json_t *memory =
	    json_pack("{s:o, s:o, s:{s:i, s:i}, s:{s:i, s:i}}", "cache", number(find_value(stat, "file")), "usage",
		      read_usage(cgroup, "memory.current", "memory.max", "memory.peak", find_value(events, "max")),
		      "kernel", "limit", 0, "failcnt", 0, "kernelTCP", "limit", 0, "failcnt", 0);

	/* In version 1, from which the shape comes, swap counts memory as well; the guest has none, so it is the same.
	 */
	if (memory)
		json_object_set_new(memory, "swap",
				    read_usage(cgroup, "memory.current", "memory.max", "memory.peak", 0));
	if (memory && stat)
		json_object_set_new(memory, "raw", all_values(stat));
	return memory;
}

static json_t *read_pids(int cgroup)
{
	json_t *pids = json_object();

	add_file(pids, "current", cgroup, "pids.current");
	add_file(pids, "limit", cgroup, "pids.max");
	return pids;
}

/* One entry for each key of a line of io.stat: "MAJOR:MINOR rbytes=N wbytes=N rios=N ...". */
static void add_io_line(char *line, json_t *bytes, json_t *operations)
{
	static const struct {
		const char *key, *name;
		bool is_bytes;
	} kinds[] = {
	    {"rbytes=", "Read", true}, {"wbytes=", "Write", true}, {"rios=", "Read", false}, {"wios=", "Write", false}};
	char *colon;
	int major = (int)strtol(line, &colon, 10), minor;

	if (*colon != ':')
		return;
	minor = (int)strtol(colon + 1, NULL, 10);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const char *found = strstr(line, kinds[i].key);

		if (found)
			json_array_append_new(kinds[i].is_bytes ? bytes : operations,
					      json_pack("{s:i, s:i, s:s, s:o}", "major", major, "minor", minor, "op",
							kinds[i].name, "value",
							number(strtoull(found + strlen(kinds[i].key), NULL, 10))));
	}
}

static json_t *read_io(int cgroup)
{
	cleanup_free char *text = read_file(cgroup, "io.stat");
	json_t *bytes = json_array(), *operations = json_array(), *io = json_object();
	char *rest = NULL;

	for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest))
		add_io_line(line, bytes, operations);
	/* An empty list is left out, as runc does. */
	if (json_array_size(bytes) > 0)
		json_object_set(io, "ioServiceBytesRecursive", bytes);
	if (json_array_size(operations) > 0)
		json_object_set(io, "ioServicedRecursive", operations);
	json_decref(bytes);
	json_decref(operations);
	return io;
}

/* "0-1,3" as a list of numbers. */
static json_t *read_list(int cgroup, const char *name)
{
	cleanup_free char *text = read_file(cgroup, name);
	json_t *list = json_array();
	char *at = text;

	while (at && *at >= '0' && *at <= '9') {
		unsigned long first = strtoul(at, &at, 10), last = *at == '-' ? strtoul(at + 1, &at, 10) : first;

		for (; first <= last && json_array_size(list) < 4096; first++)
			json_array_append_new(list, json_integer((json_int_t)first));
		at += *at == ',';
	}
	return list;
}

/* The members that only version 1 knows are there, with what runc says of them under version 2. */
static json_t *read_cpuset(int cgroup)
{
	return json_pack("{s:o, s:i, s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "cpus",
			 read_list(cgroup, "cpuset.cpus.effective"), "cpu_exclusive", 0, "mems",
			 read_list(cgroup, "cpuset.mems.effective"), "mem_hardwall", 0, "mem_exclusive", 0,
			 "memory_migrate", 0, "memory_spread_page", 0, "memory_spread_slab", 0, "memory_pressure", 0,
			 "sched_load_balance", 0, "sched_relax_domain_level", 0);
}

json_t *figures_read(int cgroup, struct error *err)
{
	json_t *figures = json_pack("{s:o, s:o, s:o, s:o, s:o, s:{}, s:{}, s:n}", "cpu", read_cpu(cgroup), "cpuset",
				    read_cpuset(cgroup), "memory", read_memory(cgroup), "pids", read_pids(cgroup),
				    "blkio", read_io(cgroup), "hugetlb", "intel_rdt", "network_interfaces");

	if (!figures)
		error_set(err, ENOMEM, "read the figures of the container's cgroup");
	return figures;
}

uint64_t figures_oom_kills(int cgroup)
{
	cleanup_free char *events = read_file(cgroup, "memory.events");

	return find_value(events, "oom_kill");
}
