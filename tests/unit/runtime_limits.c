/*
 * linux.resources as limits of the host's cgroup, paths of cgroups, and the configuration file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/spec_fields.h"
#include "runtime/cgroup.h"
#include "runtime/config.h"
#include "runtime/limits.h"
#include "runtime/systemd.h"
#include "runtime/vm_size.h"

#define MIB (1ull << 20)

/* "file=value;" of each setting, in order. */
static void list_settings(const char *resources, bool bfq, char *text, size_t room)
{
	json_t *json = spec_parse(resources, strlen(resources), NULL);
	cleanup_settings struct settings settings = {0};
	struct limits limits;
	struct error err = {0};
	size_t used = 0;

	assert_non_null(json);
	*text = '\0';
	if (limits_read(json, &limits, &err) < 0 || limits_settings(&limits, 100 * MIB, bfq, &settings, &err) < 0)
		snprintf(text, room, "error: %s", err.message);
	for (size_t i = 0; i < settings.n; i++)
		used +=
		    (size_t)snprintf(text + used, room - used, "%s=%s;", settings.list[i].file, settings.list[i].value);
	json_decref(json);
}

static void expect(const char *resources, const char *expected)
{
	char text[2048];

	list_settings(resources, false, text, sizeof(text));
	assert_string_equal(text, expected);
}

static void expect_error(const char *resources, const char *words)
{
	char text[2048];

	list_settings(resources, false, text, sizeof(text));
	if (strncmp(text, "error: ", 7) != 0 || !strstr(text, words))
		fail_msg("%s: \"%s\" does not say \"%s\"", resources, text, words);
}

static void test_memory(void **state)
{
	char text[256];

	(void)state;
	expect("{}", "");
	expect("{\"memory\":{\"limit\":0,\"swap\":0,\"reservation\":0}}", "");
	/* The machine's memory counts, not the limit. */
	snprintf(text, sizeof(text), "memory.max=%llu;", 100 * MIB + MACHINE_OVERHEAD(100 * MIB));
	expect("{\"memory\":{\"limit\":20971520}}", text);
	snprintf(text, sizeof(text), "memory.swap.max=1000;memory.max=%llu;", 100 * MIB + MACHINE_OVERHEAD(100 * MIB));
	expect("{\"memory\":{\"limit\":20971520,\"swap\":20972520}}", text);
	expect("{\"memory\":{\"limit\":-1}}", "memory.swap.max=max;memory.max=max;");
	expect("{\"memory\":{\"limit\":-1,\"swap\":-1}}", "memory.swap.max=max;memory.max=max;");
	snprintf(text, sizeof(text), "memory.low=%llu;", 5 * MIB + MACHINE_OVERHEAD(100 * MIB));
	expect("{\"memory\":{\"reservation\":5242880}}", text);
	expect("{\"memory\":{\"reservation\":9223372036854775807}}", "memory.low=max;");
	expect_error("{\"memory\":{\"swap\":1}}", "unable to set swap limit without memory limit");
	expect_error("{\"memory\":{\"limit\":2,\"swap\":1}}", "memory+swap limit should be >= memory limit");
	expect_error("{\"memory\":{\"limit\":-2}}", "linux.resources.memory.limit");
	expect_error("{\"memory\":{\"limit\":1.5}}", "linux.resources.memory.limit");
}

static uint64_t oom_reach(int64_t limit, uint64_t machine)
{
	const struct limits limits = {.memory = limit};

	return limits_oom_reach(&limits, machine);
}

/* Enough to get from the container's limit to the cgroup's, and not without end. */
static void test_oom_reach(void **state)
{
	(void)state;
	assert_int_equal(oom_reach(0, 512 * MIB), 0);
	assert_int_equal(oom_reach(-1, 512 * MIB), 0);
	assert_true(oom_reach(20 * MIB, 100 * MIB) > 80 * MIB + MACHINE_OVERHEAD(100 * MIB));
	assert_true(oom_reach(200 * MIB, 100 * MIB) > MACHINE_OVERHEAD(100 * MIB));
	assert_int_equal(oom_reach(20 * MIB, 4096 * MIB), 0);
}

static void test_cpu(void **state)
{
	(void)state;
	expect("{\"cpu\":{\"shares\":1024,\"quota\":50000}}", "cpu.weight=39;cpu.max=50000 100000;");
	expect("{\"cpu\":{\"quota\":-1}}", "cpu.max=max 100000;");
	expect("{\"cpu\":{\"period\":20000}}", "cpu.max=max 20000;");
	expect("{\"cpu\":{\"quota\":5000,\"period\":20000,\"burst\":1000,\"cpus\":\"0-1\",\"mems\":\"0\"}}",
	       "cpuset.cpus=0-1;cpuset.mems=0;cpu.max=5000 20000;cpu.max.burst=1000;");
	expect("{\"cpu\":{\"idle\":1,\"shares\":2}}", "cpu.weight=1;cpu.idle=1;");
	expect("{\"cpu\":{\"idle\":0,\"shares\":2}}", "cpu.idle=0;cpu.weight=1;");
	expect_error("{\"cpu\":{\"idle\":2}}", "cpu.idle");
	expect_error("{\"cpu\":{\"cpus\":\"1-\"}}", "cpu.cpus");
	expect_error("{\"cpu\":{\"mems\":\"a\"}}", "cpu.mems");
}

static void test_unified(void **state)
{
	(void)state;
	expect(
	    "{\"cpu\":{\"quota\":5000,\"cpus\":\"1\"},\"unified\":{\"cpu.max\":\"max 20000\",\"cpuset.cpus\":\"0-1\"}}",
	    "cpuset.cpus=0-1;cpu.max=max 20000;");
	expect("{\"unified\":{\"cpu.max\":\"7000\",\"cpuset.mems\":\"0\"}}", "cpuset.mems=0;cpu.max=7000 100000;");
	expect("{\"cpu\":{\"shares\":1024},\"unified\":{\"cpu.weight\":\"42\",\"io.max\":\"8:0 rbps=1\"}}",
	       "cpu.weight=39;cpu.weight=42;io.max=8:0 rbps=1;");
	/* The guest's. */
	expect("{\"unified\":{\"memory.max\":\"1\",\"pids.max\":\"7\",\"io.weight\":\"50\",\"cpu.a/b\":\"1\"}}", "");
	expect_error("{\"unified\":{\"cpu.max\":\"7 x\"}}", "cpu.max: \"7 x\"");
	expect_error("{\"unified\":{\"cpu.max\":\"\"}}", "cpu.max");
	expect_error("{\"unified\":{\"cpuset.cpus\":\"1-\"}}", "cpuset.cpus: \"1-\"");
}

static void test_lists(void **state)
{
	unsigned char mask[4];

	(void)state;
	assert_int_equal(limits_count_cpus("0"), 1);
	assert_int_equal(limits_count_cpus("0-3,7"), 5);
	assert_int_equal(limits_count_cpus("3-1"), 0);
	assert_int_equal(limits_count_cpus(""), 0);
	assert_int_equal(limits_count_cpus("1,"), 0);
	assert_int_equal(limits_count_cpus("-1"), 0);
	assert_int_equal(limits_count_cpus("0-99999999999999999999"), 0);
	assert_int_equal(systemd_cpu_mask("0-1,9", mask, sizeof(mask)), 2);
	assert_int_equal(mask[0], 3);
	assert_int_equal(mask[1], 2);
	assert_int_equal(systemd_cpu_mask("32", mask, sizeof(mask)), 0);
}

static void test_block_io(void **state)
{
	char text[512];

	(void)state;
	expect("{\"blockIO\":{\"weight\":10}}", "io.weight=default 1;");
	expect("{\"blockIO\":{\"weight\":1000}}", "io.weight=default 10000;");
	list_settings("{\"blockIO\":{\"weight\":500,\"weightDevice\":[{\"major\":8,\"minor\":1,\"weight\":300}]}}",
		      true, text, sizeof(text));
	assert_string_equal(text, "io.bfq.weight=500;io.bfq.weight=8:1 300;");
	expect("{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":1048576}],"
	       "\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":0,\"rate\":0}]}}",
	       "io.max=8:0 rbps=1048576;io.max=8:0 wiops=max;");
	expect_error("{\"blockIO\":{\"weight\":9}}", "blockIO.weight");
	expect_error("{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":8,\"rate\":1}]}}", "minor");
	expect_error("{\"blockIO\":{\"weightDevice\":[{\"major\":8,\"minor\":0,\"weight\":1001}]}}", "10 to 1000");
}

static void test_machine_size(void **state)
{
	struct limits limits = {.quota = 150000};

	(void)state;
	assert_int_equal(vm_size_for_limit(512 * MIB, 1ull << 40), 512 * MIB + VM_GUEST_OVERHEAD(512 * MIB));
	assert_int_equal(vm_size_for_limit(INT64_MAX, 8192 * MIB), 8192 * MIB);
	assert_true(vm_size_for_limit(1, 1ull << 40) >= VM_MEMORY_MIN);
	assert_int_equal(vm_size_for_cpus(&limits, 8), 2);
	assert_int_equal(vm_size_for_cpus(&limits, 1), 1);
	limits.cpus = "3";
	assert_int_equal(vm_size_for_cpus(&limits, 8), 1);
	limits.quota = -1;
	limits.cpus = "0-5";
	assert_int_equal(vm_size_for_cpus(&limits, 8), 6);
	limits = (struct limits){.quota = 30000, .period = 10000};
	assert_int_equal(vm_size_for_cpus(&limits, 8), 3);
}

static void test_paths(void **state)
{
	struct cgroup_place place;
	struct error err;

	(void)state;
	assert_int_equal(cgroup_locate(CGROUP_CGROUPFS, "/docker/../x/id", "id", false, &place, &err), 0);
	assert_string_equal(place.path, "/x/id");
	cgroup_place_release(&place);
	assert_int_equal(cgroup_locate(CGROUP_CGROUPFS, "/x/..", "id", false, &place, &err), -1);
	assert_non_null(strstr(err.message, "linux.cgroupsPath"));
	assert_int_equal(cgroup_locate(CGROUP_DISABLED, NULL, "id", false, &place, &err), 0);
	assert_null(place.path);
}

static void expect_scope(const char *path, const char *slice, const char *scope)
{
	struct cgroup_place place;
	struct error err;

	assert_int_equal(cgroup_locate(CGROUP_SYSTEMD, path, "id", false, &place, &err), 0);
	assert_string_equal(place.slice, slice);
	assert_string_equal(place.scope, scope);
	cgroup_place_release(&place);
}

static void test_scopes(void **state)
{
	static const char *const bad[] = {"/docker/id", "a:b", "a:b:c:d", "a:b:"};
	struct cgroup_place place;
	struct error err;

	(void)state;
	expect_scope("machine.slice:libpod:abc", "machine.slice", "libpod-abc.scope");
	expect_scope(":x:abc", "system.slice", "x-abc.scope");
	expect_scope(NULL, "system.slice", "hull-id.scope");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(cgroup_locate(CGROUP_SYSTEMD, bad[i], "id", false, &place, &err), -1);
		assert_non_null(strstr(err.message, "linux.cgroupsPath"));
	}
}

static void expect_bad_config(const char *text, const char *words)
{
	struct config config;
	struct error err = {0};

	assert_int_equal(config_parse(text, strlen(text), &config, &err), -1);
	if (!strstr(err.message, words))
		fail_msg("%s: \"%s\" does not say \"%s\"", text, err.message, words);
}

static void test_config(void **state)
{
	static const char good[] = "{\"memory\":\"1G\",\"vcpus\":3,\"cgroupManager\":\"systemd\",\"console\":true,"
				   "\"startTimeout\":7,\"template\":\"manual\",\"templateAge\":60}";
	struct config config;
	struct error err = {0};

	(void)state;
	assert_int_equal(config_parse("{}", 2, &config, &err), 0);
	assert_int_equal(config.memory, VM_MEMORY_DEFAULT);
	assert_int_equal(config.manager, CGROUP_CGROUPFS);
	assert_int_equal(config.template, TEMPLATE_AUTO);
	assert_int_equal(config.template_age, TEMPLATE_AGE_DEFAULT);
	assert_int_equal(config_parse(good, strlen(good), &config, &err), 0);
	assert_int_equal(config.memory, 1024 * MIB);
	assert_int_equal(config.vcpus, 3);
	assert_int_equal(config.manager, CGROUP_SYSTEMD);
	assert_true(config.console);
	assert_int_equal(config.start_timeout, 7);
	assert_int_equal(config.template, TEMPLATE_MANUAL);
	assert_int_equal(config.template_age, 60);
	expect_bad_config("{\"memory\":\"1M\"}", "memory");
	expect_bad_config("{\"vcpus\":0}", "vcpus");
	expect_bad_config("{\"cgroupManager\":\"x\"}", "cgroupManager");
	expect_bad_config("{\"console\":1}", "console");
	expect_bad_config("{\"startTimeout\":0}", "startTimeout");
	expect_bad_config("{\"template\":\"x\"}", "template");
	expect_bad_config("{\"template\":false}", "template");
	expect_bad_config("{\"templateAge\":0}", "templateAge");
	expect_bad_config("{\"memroy\":\"1G\"}", "unknown member \"memroy\"");
	expect_bad_config("[]", "not a JSON object");
	expect_bad_config("{", "invalid JSON");
}

static void test_config_file(void **state)
{
	struct config config;
	struct error err = {0};

	(void)state;
	assert_int_equal(config_load("/nowhere/config.json", &config, &err), -1);
	assert_non_null(strstr(err.message, "/nowhere/config.json"));
	setenv("HULL_CONFIG", "/nowhere/else.json", 1);
	assert_int_equal(config_load(NULL, &config, &err), -1);
	assert_non_null(strstr(err.message, "/nowhere/else.json"));
	unsetenv("HULL_CONFIG");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_memory),  cmocka_unit_test(test_oom_reach),	 cmocka_unit_test(test_cpu),
	    cmocka_unit_test(test_unified), cmocka_unit_test(test_lists),	 cmocka_unit_test(test_block_io),
	    cmocka_unit_test(test_paths),   cmocka_unit_test(test_machine_size), cmocka_unit_test(test_scopes),
	    cmocka_unit_test(test_config),  cmocka_unit_test(test_config_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
