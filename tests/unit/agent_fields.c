/* The table of config.json's fields: what is refused, by which words, and what is let through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/spec_values.h"
#include "tests/unit/agent_spec.h"

static void expect(const char *path, const char *value, const char *message)
{
	json_t *spec = spec_new();
	struct error err = {0};
	int status;

	assert_non_null(spec);
	spec_set(spec, path, value);
	status = spec_fields_check(spec, &err);
	if (message) {
		assert_int_equal(status, -1);
		assert_string_equal(err.message, message);
	} else if (status < 0) {
		fail_msg("%s = %s: %s", path, value, err.message);
	}
	json_decref(spec);
}

static void test_accepted(void **state)
{
	(void)state;
	expect("process/cwd", "\"/tmp\"", NULL);
	expect("process/nonsense", "{\"a\":1}", NULL);
	expect("unknown", "[1]", NULL);
	expect("process/terminal", "false", NULL);
	expect("process/terminal", "true", NULL);
	expect("process/consoleSize", "{\"height\":1,\"width\":2}", NULL);
	expect("process/apparmorProfile", "\"\"", NULL);
	expect("process/apparmorProfile", "\"unconfined\"", NULL);
	expect("process/apparmorProfile", "\"docker-default\"", NULL);
	expect("linux/mountLabel", "\"system_u:object_r:container_file_t:s0\"", NULL);
	expect("linux/seccomp", "null", NULL);
	expect("linux/seccomp", "{}", NULL);
	expect("linux/devices", "[]", NULL);
	expect("linux/resources/memory", "{}", NULL);
	expect("linux/resources/cpu/shares", "0", NULL);
	expect("hooks", "{}", NULL);
	expect("hooks/prestart", "[]", NULL);
	expect("annotations", "{\"a\":\"b\"}", NULL);
	expect("process/rlimits/0/hard", "18446744073709551615.0", NULL);
}

static void test_refused(void **state)
{
	(void)state;
	expect("linux/seccomp", "{\"listenerPath\":\"/run/listener\"}",
	       "linux.seccomp.listenerPath is not supported: a listener is a process of the host, and the calls are "
	       "made in another kernel");
	expect("linux/resources/rdma", "{\"mlx5_1\":{\"hcaHandles\":0}}",
	       "linux.resources.rdma is not supported: a machine has none of the host's RDMA devices");
	expect("windows", "{\"a\":1}", "windows is not supported: another platform");
}

static void test_wrong_types(void **state)
{
	(void)state;
	expect("process", "5", "process must be an object");
	expect("process/args", "\"sh\"", "process.args must be an array");
	expect("process/args/0", "{}", "process.args[0] must be a string");
	expect("process/user/uid", "-1", "process.user.uid must be a whole number from 0 to 4294967295");
	expect("process/user/uid", "4294967296", "process.user.uid must be a whole number from 0 to 4294967295");
	expect("process/user/uid", "1.5", "process.user.uid must be a whole number from 0 to 4294967295");
	expect("process/noNewPrivileges", "\"yes\"", "process.noNewPrivileges must be true or false");
	expect("mounts/0", "7", "mounts[0] has the wrong type");
	expect("mounts/1/options", "{}", "mounts[1].options must be an array");
	expect("linux/resources/devices/0/major", "\"1\"", "linux.resources.devices[0].major must be a whole number");
}

static void test_parse(void **state)
{
	struct error err;
	static const char big[] = "{\"[[[\":\"{\\\"{\",\"n\":18446744073709551615,\"m\":3}";
	char deep[2 * SPEC_DEPTH_MAX + 16];
	uint64_t number;
	json_t *value;

	(void)state;
	assert_null(spec_parse("", 0, &err));
	assert_null(spec_parse("[1]", 3, &err));
	assert_string_equal(err.message, "not a JSON object");
	assert_null(spec_parse("{\"a\":", 5, &err));
	memset(deep, '[', SPEC_DEPTH_MAX + 1);
	assert_null(spec_parse(deep, SPEC_DEPTH_MAX + 1, &err));
	assert_non_null(strstr(err.message, "levels deep"));
	value = spec_parse(big, strlen(big), &err);
	assert_non_null(value);
	assert_int_equal(spec_get_u64(json_object_get(value, "n"), &number), 0);
	assert_true(number == UINT64_MAX);
	assert_int_equal(spec_get_u64(json_object_get(value, "m"), &number), 0);
	assert_int_equal(number, 3);
	json_decref(value);
}

static int count(const struct spec_field *field, const char *path, const json_t *value, void *context)
{
	(void)field;
	(void)path;
	assert_non_null(value);
	++*(int *)context;
	return 0;
}

static void test_walk(void **state)
{
	json_t *spec = spec_new();
	int n = 0;

	(void)state;
	assert_int_equal(spec_fields_walk(spec, count, &n), 0);
	assert_in_range(n, 60, 120);
	assert_false(spec_mount_is_bind(json_array_get(json_object_get(spec, "mounts"), 0)));
	json_decref(spec);
	spec = json_loads("{\"destination\":\"/x\",\"options\":[\"ro\",\"rbind\"]}", 0, NULL);
	assert_true(spec_mount_is_bind(spec));
	json_object_set_new(spec, "source", json_string("/proc"));
	assert_true(spec_mount_is_bind(spec) && !spec_mount_is_own_proc(spec));
	json_object_set_new(spec, "destination", json_string("/proc"));
	assert_true(!spec_mount_is_bind(spec) && spec_mount_is_own_proc(spec));
	json_decref(spec);
}

/* Whatever the table refuses must be reachable: every path of it is found in a document made of that path. */
static void test_every_row(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_spec_fields; i++) {
		const char *path = spec_fields[i].path;

		assert_true(strlen(path) < 100);
		for (size_t k = i + 1; k < n_spec_fields; k++)
			assert_string_not_equal(path, spec_fields[k].path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_accepted), cmocka_unit_test(test_refused), cmocka_unit_test(test_wrong_types),
	    cmocka_unit_test(test_parse),    cmocka_unit_test(test_walk),    cmocka_unit_test(test_every_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
