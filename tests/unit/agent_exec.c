/* Orders about processes beside a container's own one: exec, wait, resize, kill; and the plan of an exec. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <linux/capability.h>
#include <cmocka.h>

#include "guest-agent/order.h"
#include "tests/unit/agent_spec.h"

static int parse(const char *text, struct order *order, struct error *err)
{
	json_t *json = spec_parse(text, strlen(text), err);
	int result;

	assert_non_null(json);
	result = order_parse(json, order, err);
	/* What the order points to belongs to the JSON, which its plan keeps. */
	if (!order->plan)
		order->id = order->exec = order->cgroup = NULL;
	json_decref(json);
	return result;
}

#define EXEC "{\"order\":\"exec\",\"id\":\"c\",\"exec\":\"e\","

static void expect_refusal(const char *text, const char *words)
{
	struct error err = {0};
	struct order order;

	assert_int_equal(parse(text, &order, &err), -1);
	if (!strstr(err.message, words))
		fail_msg("\"%s\" instead of \"%s\"", err.message, words);
	order_clear(&order);
}

static void test_exec(void **state)
{
	struct error err = {0};
	struct order order;

	(void)state;
	if (parse(EXEC "\"cgroup\":\"a/b\",\"ignorePaused\":true,"
		       "\"stdio\":{\"stdin\":7,\"stdout\":8,\"stderr\":8},\"process\":{\"args\":[\"ls\",\"-l\"],"
		       "\"cwd\":\"/tmp\",\"env\":[\"A=1\"],\"user\":{\"uid\":5,\"gid\":6,\"additionalGids\":[7,8]}}}",
		  &order, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(order.kind, ORDER_EXEC);
	assert_string_equal(order.exec, "e");
	assert_string_equal(order.cgroup, "a/b");
	assert_true(order.ignore_paused);
	assert_string_equal(order.plan->process.args[1], "-l");
	assert_null(order.plan->process.args[2]);
	assert_string_equal(order.plan->process.cwd, "/tmp");
	assert_int_equal(order.plan->process.uid, 5);
	assert_int_equal(order.plan->process.n_groups, 2);
	assert_int_equal(order.plan->stdio[PLAN_STDIN], 7);
	assert_int_equal(order.plan->stdio[PLAN_STDERR], 8);
	assert_false(order.plan->process.has_capabilities);
	order_clear(&order);
}

static void test_bad_exec(void **state)
{
	(void)state;
	expect_refusal("{\"order\":\"exec\",\"id\":\"c\",\"process\":{}}", "name of the process is missing");
	expect_refusal("{\"order\":\"exec\",\"id\":\"c\",\"exec\":\"\",\"process\":{}}", "exec must be a text");
	expect_refusal("{\"order\":\"exec\",\"id\":\"c\",\"exec\":5,\"process\":{}}", "exec must be a text");
	expect_refusal(EXEC "\"process\":[]}", "process must be an object");
	expect_refusal(EXEC "\"process\":{\"args\":[\"ls\"]}}", "process.cwd");
	expect_refusal(EXEC "\"process\":{\"args\":[\"ls\"],\"cwd\":\"tmp\"}}", "process.cwd");
	expect_refusal(EXEC "\"process\":{\"args\":[],\"cwd\":\"/\"}}", "process.args");
	expect_refusal(EXEC "\"process\":{\"args\":[5],\"cwd\":\"/\"}}", "process.args");
	expect_refusal(EXEC "\"process\":{\"args\":[\"ls\"],\"cwd\":\"/\",\"env\":[\"A\"]}}", "process.env[0]");
	expect_refusal(EXEC "\"ignorePaused\":1,\"process\":{\"args\":[\"ls\"],\"cwd\":\"/\"}}", "ignorePaused");
	expect_refusal(EXEC "\"stdio\":{\"stdin\":1,\"stdout\":1},\"process\":{\"args\":[\"ls\"],\"cwd\":\"/\"}}",
		       "cannot share a stream");
}

static struct plan *container_plan(void)
{
	json_t *json = spec_new();
	json_t *order = order_around(json);
	struct error err;
	struct plan *plan = plan_new(order, &err);

	json_decref(order);
	assert_non_null(plan);
	return plan;
}

/* What process.json leaves open is the container's; what it says counts. */
static void test_inherit(void **state)
{
	struct plan *container = container_plan();
	struct error err = {0};
	struct order order;

	(void)state;
	container->process.has_oom_score = true;
	container->process.oom_score = 77;
	assert_int_equal(parse(EXEC "\"process\":{\"args\":[\"ls\"],\"cwd\":\"/\"}}", &order, &err), 0);
	assert_int_equal(plan_inherit(order.plan, container, &err), 0);
	assert_true(order.plan->process.capabilities.bounding & 1u << CAP_KILL);
	assert_int_equal(order.plan->process.n_rlimits, 1);
	assert_int_equal(order.plan->process.rlimits[0].limit.rlim_cur, 1024);
	assert_int_equal(order.plan->process.oom_score, 77);
	assert_false(order.plan->process.no_new_privileges);
	order_clear(&order);

	assert_int_equal(parse(EXEC "\"process\":{\"args\":[\"ls\"],\"cwd\":\"/\",\"oomScoreAdj\":-5,"
				    "\"capabilities\":{\"bounding\":[\"CAP_CHOWN\"]},"
				    "\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"soft\":1,\"hard\":2}]}}",
			       &order, &err),
			 0);
	assert_int_equal(plan_inherit(order.plan, container, &err), 0);
	assert_true(order.plan->process.capabilities.bounding == 1u << CAP_CHOWN);
	assert_int_equal(order.plan->process.n_rlimits, 1);
	assert_int_equal(order.plan->process.rlimits[0].limit.rlim_max, 2);
	assert_int_equal(order.plan->process.oom_score, -5);
	order_clear(&order);
	plan_free(container);
}

static void test_window(void **state)
{
	struct error err = {0};
	struct order order;

	(void)state;
	if (parse(EXEC "\"stdio\":{\"stdin\":9,\"stdout\":9,\"window\":{\"width\":100,\"height\":30}},\"process\":{"
		       "\"args\":[\"ls\"],"
		       "\"cwd\":\"/\",\"terminal\":true,\"consoleSize\":{\"width\":80,\"height\":25}}}",
		  &order, &err) < 0)
		fail_msg("%s", err.message);
	assert_true(order.plan->process.terminal);
	assert_int_equal(order.plan->stdio[PLAN_STDOUT], 9);
	assert_int_equal(order.plan->window.columns, 100);
	assert_int_equal(order.plan->window.rows, 30);
	order_clear(&order);
	if (parse(EXEC "\"process\":{\"args\":[\"ls\"],\"cwd\":\"/\",\"consoleSize\":{\"width\":80,\"height\":25}}}",
		  &order, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(order.plan->window.columns, 80);
	order_clear(&order);
	expect_refusal(EXEC
		       "\"process\":{\"args\":[\"ls\"],\"cwd\":\"/\",\"consoleSize\":{\"width\":65536,\"height\":1}}}",
		       "consoleSize");
}

static void test_others(void **state)
{
	struct error err = {0};
	struct order order;

	(void)state;
	assert_int_equal(parse("{\"order\":\"wait\",\"id\":\"c\"}", &order, &err), 0);
	assert_int_equal(order.kind, ORDER_WAIT);
	assert_int_equal(
	    parse("{\"order\":\"resize\",\"id\":\"c\",\"exec\":\"e\",\"width\":80,\"height\":25}", &order, &err), 0);
	assert_int_equal(order.kind, ORDER_RESIZE);
	assert_int_equal(order.columns, 80);
	assert_int_equal(order.rows, 25);
	expect_refusal("{\"order\":\"resize\",\"id\":\"c\",\"width\":80}", "width and height");
	expect_refusal("{\"order\":\"resize\",\"id\":\"c\",\"width\":80,\"height\":65536}", "width and height");
	expect_refusal("{\"order\":\"wait\",\"id\":\"c\",\"exec\":[]}", "exec must be a text");
	expect_refusal("{\"order\":\"kill\",\"id\":\"c\",\"signal\":9,\"exec\":{}}", "exec must be a text");
}

#define PRESERVED(list) EXEC "\"stdio\":{\"preserved\":" list "},\"process\":{\"args\":[\"ls\"],\"cwd\":\"/\"}}"

static void test_preserved(void **state)
{
	static const char *const bad[] = {
	    PRESERVED("{}"),
	    PRESERVED("[1]"),
	    PRESERVED("[{}]"),
	    PRESERVED("[{\"port\":5}]"),
	    PRESERVED("[{\"in\":true}]"),
	    PRESERVED("[{\"port\":-1,\"in\":true}]"),
	    PRESERVED("[{\"port\":4294967295,\"in\":true}]"),
	    PRESERVED("[null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,"
		      "null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null]"),
	};
	struct error err = {0};
	struct order order;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect_refusal(bad[i], "stdio.");
	if (parse(PRESERVED("[{\"port\":5,\"in\":true,\"out\":false},null,{\"port\":6,\"in\":true,\"out\":true}]"),
		  &order, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(order.plan->n_preserved, 3);
	assert_int_equal(order.plan->preserved[0].port, 5);
	assert_true(order.plan->preserved[0].in && !order.plan->preserved[0].out);
	assert_int_equal(order.plan->preserved[1].port, 0);
	assert_true(order.plan->preserved[2].in && order.plan->preserved[2].out);
	order_clear(&order);
	assert_int_equal(parse(PRESERVED("[]"), &order, &err), 0);
	assert_int_equal(order.plan->n_preserved, 0);
	order_clear(&order);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_exec),    cmocka_unit_test(test_preserved), cmocka_unit_test(test_bad_exec),
	    cmocka_unit_test(test_inherit), cmocka_unit_test(test_window),    cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
