/* Which namespaces a container gets: its own, the machine's, or another container's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "guest-agent/namespaces.h"

#define NEEDED "{\"type\":\"pid\"},{\"type\":\"mount\"}"

static int read_both(const char *list, const char *shared, struct plan_namespaces *namespaces, struct error *err)
{
	static json_t *kept[2];
	int status;

	for (int i = 0; i < 2; i++)
		json_decref(kept[i]);
	kept[0] = json_loads(list, 0, NULL);
	kept[1] = shared ? json_loads(shared, 0, NULL) : NULL;
	assert_non_null(kept[0]);
	*namespaces = (struct plan_namespaces){0};
	*err = (struct error){0};
	status = namespaces_read(namespaces, kept[0], kept[1], err);
	if (status < 0)
		for (int i = 0; i < 2; i++) {
			json_decref(kept[i]);
			kept[i] = NULL;
		}
	return status;
}

static void expect_error(const char *list, const char *shared, const char *message)
{
	struct plan_namespaces namespaces;
	struct error err;

	assert_int_equal(read_both(list, shared, &namespaces, &err), -1);
	assert_string_equal(err.message, message);
}

static void test_own_and_machine(void **state)
{
	struct plan_namespaces namespaces;
	struct error err;

	(void)state;
	assert_int_equal(read_both("[" NEEDED ",{\"type\":\"uts\",\"path\":\"\"}]", NULL, &namespaces, &err), 0);
	assert_int_equal(namespaces.use[NAMESPACE_PID], NAMESPACE_OWN);
	assert_int_equal(namespaces.use[NAMESPACE_UTS], NAMESPACE_OWN);
	assert_int_equal(namespaces.use[NAMESPACE_IPC], NAMESPACE_OF_MACHINE);
	assert_int_equal(namespaces.use[NAMESPACE_NETWORK], NAMESPACE_OF_MACHINE);
	assert_int_equal(namespaces.use[NAMESPACE_CGROUP], NAMESPACE_OF_MACHINE);
}

static void test_joined(void **state)
{
	struct plan_namespaces namespaces;
	struct error err;

	(void)state;
	assert_int_equal(
	    read_both("[" NEEDED ",{\"type\":\"ipc\",\"path\":\"/proc/7/ns/ipc\"},{\"type\":\"network\"}]",
		      "{\"ipc\":\"a\",\"uts\":\"b\",\"pid\":null,\"user\":\"c\",\"cgroup\":\"d\",\"time\":\"e\"}",
		      &namespaces, &err),
	    0);
	assert_string_equal(namespaces.joined[NAMESPACE_USER], "c");
	assert_string_equal(namespaces.joined[NAMESPACE_CGROUP], "d");
	assert_string_equal(namespaces.joined[NAMESPACE_TIME], "e");
	assert_int_equal(namespaces.use[NAMESPACE_IPC], NAMESPACE_JOINED);
	assert_string_equal(namespaces.joined[NAMESPACE_IPC], "a");
	assert_int_equal(namespaces.use[NAMESPACE_UTS], NAMESPACE_JOINED);
	assert_string_equal(namespaces.joined[NAMESPACE_UTS], "b");
	assert_int_equal(namespaces.use[NAMESPACE_PID], NAMESPACE_OWN);
	assert_int_equal(namespaces.use[NAMESPACE_NETWORK], NAMESPACE_OWN);
	read_both("[" NEEDED "]", NULL, &namespaces, &err);
}

static void test_refused(void **state)
{
	(void)state;
	expect_error("[" NEEDED ",{\"type\":\"pid\"}]", NULL, "linux.namespaces[2]: pid is given twice");
	expect_error("[" NEEDED ",{\"type\":\"ipc\"},{\"type\":\"ipc\"}]", "{\"ipc\":\"a\"}",
		     "linux.namespaces[3]: ipc is given twice");
	expect_error("[" NEEDED ",{\"type\":\"ipc\",\"path\":\"/x\"}]", NULL,
		     "linux.namespaces[2].path: `/x` is not of this sandbox");
	expect_error("[" NEEDED ",{\"type\":\"mount\",\"path\":\"/x\"}]", "{\"ipc\":\"a\"}",
		     "linux.namespaces[2]: mount is given twice");
	expect_error("[" NEEDED ",{\"type\":\"net\"}]", NULL, "linux.namespaces[2].type: `net` does not exist");
	expect_error("[" NEEDED ",{}]", NULL, "linux.namespaces[2].type: `` does not exist");
	expect_error("[" NEEDED "]", "{\"mount\":\"a\"}", "create: namespaces.mount cannot be shared");
	expect_error("[" NEEDED ",{\"type\":\"user\"}]", "{\"cgroup\":\"a\"}",
		     "linux.namespaces: a container with a user namespace of its own cannot join another one's cgroup "
		     "namespace");
	expect_error("[" NEEDED "]", "{\"ipc\":1}", "create: namespaces.ipc cannot be shared");
	expect_error("[" NEEDED "]", "{\"nothing\":\"a\"}", "create: namespaces.nothing cannot be shared");
}

/* There is nothing in the machine's to be shared. */
static void test_never_of_machine(void **state)
{
	struct plan_namespaces namespaces = {0};
	json_t *list = json_array();
	struct error err;

	(void)state;
	assert_int_equal(namespaces_read(&namespaces, list, NULL, &err), 0);
	assert_int_equal(namespaces.use[NAMESPACE_PID], NAMESPACE_OWN);
	assert_int_equal(namespaces.use[NAMESPACE_MOUNT], NAMESPACE_OWN);
	assert_int_equal(namespaces.use[NAMESPACE_UTS], NAMESPACE_OF_MACHINE);
	assert_int_equal(namespaces.use[NAMESPACE_USER], NAMESPACE_OF_MACHINE);
	assert_int_equal(namespaces.use[NAMESPACE_TIME], NAMESPACE_OF_MACHINE);
	json_decref(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_own_and_machine),
	    cmocka_unit_test(test_joined),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_never_of_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
