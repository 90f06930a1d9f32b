/* The process of `hull exec`: process.json, and what the flags change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/exec_process.h"

static json_t *parse(const char *text)
{
	json_t *json = json_loads(text, 0, NULL);

	assert_non_null(json);
	return json;
}

static void expect_json(const json_t *actual, const char *expected)
{
	json_t *wanted = parse(expected);
	char *text = json_dumps(actual, JSON_ENCODE_ANY | JSON_SORT_KEYS);

	if (!json_equal(actual, wanted))
		fail_msg("%s instead of %s", text, expected);
	free(text);
	json_decref(wanted);
}

#define BASE "{\"args\":[\"sh\"],\"cwd\":\"/\",\"env\":[\"A=1\"],\"terminal\":true,\"user\":{\"uid\":0,\"gid\":9}}"

static void test_flags(void **state)
{
	static const char *env[] = {"B=2", "C=3"}, *groups[] = {"10", "11"}, *caps[] = {"CAP_CHOWN"};
	char *args[] = {"ls", "-l", NULL};
	struct exec_flags flags = {
	    .cwd = "/tmp",
	    .user = "5:6",
	    .env = {env, 2},
	    .groups = {groups, 2},
	    .capabilities = {caps, 1},
	    .no_new_privs = true,
	    .args = args,
	};
	json_t *process = parse(BASE);
	struct error err = {0};

	(void)state;
	assert_int_equal(exec_process_apply(&flags, process, &err), 0);
	expect_json(process,
		    "{\"args\":[\"ls\",\"-l\"],\"cwd\":\"/tmp\",\"env\":[\"A=1\",\"B=2\",\"C=3\"],\"terminal\":false,"
		    "\"user\":{\"uid\":5,\"gid\":6,\"additionalGids\":[10,11]},\"noNewPrivileges\":true,"
		    "\"capabilities\":{\"bounding\":[\"CAP_CHOWN\"],\"effective\":[\"CAP_CHOWN\"],"
		    "\"permitted\":[\"CAP_CHOWN\"]}}");
	json_decref(process);
}

static void test_few_flags(void **state)
{
	char *args[] = {"id", NULL};
	struct exec_flags flags = {.user = "7", .tty = true, .args = args};
	json_t *process = parse(BASE);
	struct error err = {0};

	(void)state;
	assert_int_equal(exec_process_apply(&flags, process, &err), 0);
	expect_json(process, "{\"args\":[\"id\"],\"cwd\":\"/\",\"env\":[\"A=1\"],\"terminal\":true,"
			     "\"user\":{\"uid\":7,\"gid\":9}}");
	json_decref(process);
}

/* Ambient ones need inheritable ones. */
static void test_ambient(void **state)
{
	static const char *caps[] = {"CAP_CHOWN"};
	char *args[] = {"id", NULL};
	struct exec_flags flags = {.capabilities = {caps, 1}, .args = args};
	json_t *process = parse("{\"capabilities\":{\"inheritable\":[\"CAP_CHOWN\"]}}");
	struct error err = {0};

	(void)state;
	assert_int_equal(exec_process_apply(&flags, process, &err), 0);
	expect_json(json_object_get(process, "capabilities"),
		    "{\"inheritable\":[\"CAP_CHOWN\"],\"ambient\":[\"CAP_CHOWN\"],\"bounding\":[\"CAP_CHOWN\"],"
		    "\"effective\":[\"CAP_CHOWN\"],\"permitted\":[\"CAP_CHOWN\"]}");
	json_decref(process);
}

static void test_bad_flags(void **state)
{
	static const char *bad_group[] = {"x"}, *bad_text[] = {"A=\xff"};
	const struct exec_flags bad[] = {
	    {.user = "root"},		{.user = "1:x"},	{.user = ":1"},	  {.user = "1:2:3"},
	    {.groups = {bad_group, 1}}, {.env = {bad_text, 1}}, {.cwd = "/\xff"}, {.process_label = "\xff"},
	    {.user = "99999999999"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *process = parse(BASE);
		struct error err = {0};

		if (exec_process_apply(&bad[i], process, &err) == 0)
			fail_msg("number %zu was taken", i);
		assert_true(err.message[0] != '\0');
		json_decref(process);
	}
}

static int take(const char *text, struct exec_process *process, struct error *err)
{
	return exec_process_take_text(strdup(text), strlen(text), process, err);
}

static void test_process_json(void **state)
{
	struct exec_process process;
	struct error err = {0};

	(void)state;
	assert_int_equal(take("{\"args\":[\"ls\"],\"cwd\":\"/\"} ", &process, &err), 0);
	assert_false(process.terminal);
	assert_string_equal(process.text, "{\"args\":[\"ls\"],\"cwd\":\"/\"} ");
	assert_int_equal(process.size, strlen(process.text));
	exec_process_release(&process);
}

static void test_bad_process_json(void **state)
{
	static const struct {
		const char *text, *words;
	} bad[] = {
	    {"", ""},
	    {"[]", ""},
	    {"{\"args\":[\"ls\"],\"cwd\":\"/\"},\"exec\":\"x\"", ""},
	    {"{\"args\":[\"ls\"]}", "Cwd property must not be empty"},
	    {"{\"args\":[\"ls\"],\"cwd\":\"tmp\"}", "Cwd must be an absolute path"},
	    {"{\"args\":[],\"cwd\":\"/\"}", "args must not be empty"},
	    {"{\"args\":\"ls\",\"cwd\":\"/\"}", "process.args must be an array"},
	    {"{\"args\":[1],\"cwd\":\"/\"}", "process.args[0] must be a string"},
	    {"{\"args\":[\"ls\"],\"cwd\":\"/\",\"user\":{\"uid\":\"0\"}}", "process.user.uid"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct exec_process process;
		struct error err = {0};

		if (take(bad[i].text, &process, &err) == 0)
			fail_msg("%s was taken", bad[i].text);
		if (err.message[0] == '\0' || !strstr(err.message, bad[i].words))
			fail_msg("\"%s\" instead of \"%s\"", err.message, bad[i].words);
		assert_null(process.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_flags),	 cmocka_unit_test(test_few_flags),
	    cmocka_unit_test(test_ambient),	 cmocka_unit_test(test_bad_flags),
	    cmocka_unit_test(test_process_json), cmocka_unit_test(test_bad_process_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
