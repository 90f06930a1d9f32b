/* From config.json to the plan: what every field becomes, and which specs are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <linux/capability.h>
#include <cmocka.h>

#include "guest-agent/order.h"
#include "guest-agent/plan.h"
#include "tests/unit/agent_spec.h"

static struct plan *plan_of(json_t *spec, struct error *err)
{
	json_t *order = order_around(spec);
	struct plan *plan = plan_new(order, err);

	json_decref(order);
	return plan;
}

static void test_notify(void **state)
{
	struct error err = {0};
	json_t *order = order_around(spec_new());
	struct plan *plan;
	const struct plan_mount *last;

	(void)state;
	json_object_set_new(order, "notify", json_true());
	plan = plan_new(order, &err);
	json_decref(order);
	if (!plan)
		fail_msg("%s", err.message);
	last = &plan->mounts[plan->n_mounts - 1];
	assert_string_equal(last->destination, "/run/notify/notify.sock");
	assert_true(last->is_socket && last->socket.is_notify);
	assert_int_equal(last->socket.mode, 0777);
	assert_string_equal(plan->process.env[plan->process.n_env - 1], "NOTIFY_SOCKET=/run/notify/notify.sock");
	plan_free(plan);
}

static void test_runc_spec(void **state)
{
	struct error err = {0};
	struct plan *plan = plan_of(spec_new(), &err);

	(void)state;
	if (!plan)
		fail_msg("%s", err.message);
	assert_string_equal(plan->process.args[0], "sh");
	assert_null(plan->process.args[1]);
	assert_int_equal(plan->process.n_env, 2);
	assert_int_equal(plan->process.umask, 022);
	assert_true(plan->process.no_new_privileges);
	assert_false(plan->process.has_oom_score);
	assert_true(plan->process.capabilities.bounding ==
		    (1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE));
	assert_int_equal(plan->process.capabilities.inheritable, 0);
	assert_int_equal(plan->process.n_rlimits, 1);
	assert_true(plan->read_only);
	assert_string_equal(plan->hostname, "runc");
	assert_int_equal(plan->namespaces.use[NAMESPACE_CGROUP], NAMESPACE_OF_MACHINE);
	assert_int_equal(plan->namespaces.use[NAMESPACE_IPC], NAMESPACE_OWN);
	assert_int_equal(plan->n_mounts, 4);
	assert_true(plan->mounts[1].options.flags == (MS_NOSUID | MS_STRICTATIME));
	assert_int_equal(plan->mounts[1].n_data, 2);
	assert_string_equal(plan->mounts[1].data[1], "size=65536k");
	assert_true(plan->mounts[3].options.flags & MS_RDONLY);
	assert_int_equal(plan->stdio[PLAN_STDIN], 1040);
	assert_int_equal(plan->stdio[PLAN_STDERR], 0);
	assert_true(plan->n_device_rules > 5);
	assert_false(plan->device_rules[0].allow);
	assert_int_equal(plan->device_rules[0].type, 'a');
	plan_free(plan);
}

static void expect_activation(json_t *spec, size_t n_before)
{
	json_t *order = order_around(spec);
	struct error err = {0};
	struct plan *plan;

	json_object_set_new(json_object_get(order, "stdio"), "activating", json_integer(2));
	plan = plan_new(order, &err);
	assert_non_null(plan);
	assert_int_equal(plan->process.n_env, n_before + 2);
	assert_string_equal(plan->process.env[n_before], "LISTEN_FDS=2");
	assert_string_equal(plan->process.env[n_before + 1], "LISTEN_PID=1");
	plan_free(plan);
	json_decref(order);
}

static void test_activation(void **state)
{
	json_t *spec = spec_new();

	(void)state;
	expect_activation(spec, 2);
	spec = spec_new();
	spec_set(spec, "process/env", "null");
	expect_activation(spec, 0);
}

static void test_environment(void **state)
{
	json_t *spec = spec_new();
	struct error err = {0};
	struct plan *plan;

	(void)state;
	spec_set(spec, "process/env", "[\"A=1\",\"AB=2\",\"A=3\",\"C=\",\"D==x\",null]");
	plan = plan_of(spec, &err);
	assert_non_null(plan);
	assert_int_equal(plan->process.n_env, 4);
	assert_string_equal(plan->process.env[0], "A=3");
	assert_string_equal(plan->process.env[1], "AB=2");
	assert_string_equal(plan->process.env[2], "C=");
	assert_string_equal(plan->process.env[3], "D==x");
	assert_null(plan->process.env[4]);
	plan_free(plan);
}

static void test_user(void **state)
{
	json_t *spec = spec_new();
	struct error err = {0};
	struct plan *plan;

	(void)state;
	spec_set(spec, "process/user",
		 "{\"uid\":4294967294,\"gid\":7,\"umask\":63,\"additionalGids\":[1,2,4294967295]}");
	spec_set(spec, "process/capabilities/bounding/0", "\"CAP_WARP\"");
	spec_set(spec, "process/rlimits/0/hard", "18446744073709551615e0");
	spec_set(spec, "process/oomScoreAdj", "-1000");
	plan = plan_of(spec, &err);
	assert_non_null(plan);
	assert_true(plan->process.uid == 4294967294u);
	assert_int_equal(plan->process.umask, 077);
	assert_int_equal(plan->process.n_groups, 3);
	assert_int_equal(json_array_size(plan->warnings), 1);
	assert_true(plan->process.rlimits[0].limit.rlim_max == RLIM_INFINITY);
	assert_int_equal(plan->process.oom_score, -1000);
	plan_free(plan);
}

static void test_bind(void **state)
{
	json_t *spec = spec_new();
	struct error err = {0};
	struct plan *plan;
	json_t *order;

	(void)state;
	spec_set(spec, "mounts/4",
		 "{\"destination\":\"a//../b/./c/\",\"source\":\"/srv\",\"options\":[\"rbind\",\"ro\","
		 "\"rslave\",\"rnosuid\"]}");
	assert_null(plan_of(json_incref(spec), &err));
	assert_string_equal(err.message, "mounts[4]: the order names no export for this bind mount");
	order = order_around(spec);
	json_object_set_new(order, "mounts",
			    json_pack("{s:{s:s, s:[s, s]}}", "4", "export", "m4", "options", "nodev", "noatime"));
	plan = plan_new(order, &err);
	json_decref(order);
	assert_non_null(plan);
	assert_string_equal(plan->mounts[4].destination, "/b/c");
	assert_string_equal(plan->mounts[4].exported, "m4");
	assert_true(plan->mounts[4].options.flags == (MS_BIND | MS_REC | MS_RDONLY));
	assert_true(plan->mounts[4].source_flags == (MS_NODEV | MS_NOATIME));
	assert_true(plan->mounts[4].options.propagate[0] == (MS_SLAVE | MS_REC));
	assert_true(plan->mounts[4].options.tree_set == MOUNT_ATTR_NOSUID);
	plan_free(plan);
}

static struct plan *plan_with(const char *path, const char *value)
{
	json_t *spec = spec_new();
	struct error err = {0};
	struct plan *plan;

	spec_set(spec, path, value);
	plan = plan_of(spec, &err);
	if (!plan)
		fail_msg("%s = %s: %s", path, value, err.message);
	return plan;
}

static void test_warnings(void **state)
{
	struct plan *plan = plan_with("linux/uidMappings", "[{\"containerID\":0,\"hostID\":1,\"size\":1}]");

	(void)state;
	assert_int_equal(json_array_size(plan->warnings), 1);
	assert_string_equal(json_string_value(json_array_get(plan->warnings, 0)),
			    "id mappings mean nothing without a user namespace");
	plan_free(plan);
	plan = plan_with("process/capabilities/bounding/3", "\"CAP_UNHEARD_OF\"");
	assert_int_equal(json_array_size(plan->warnings), 1);
	plan_free(plan);
}

/* What the parts have read arrives in the plan. */
static void test_parts(void **state)
{
	struct plan *plan = plan_with("linux/namespaces/5", "{\"type\":\"cgroup\"}");

	(void)state;
	assert_false(plan->writes_cgroup);
	assert_int_equal(plan->devices.n, 6);
	assert_int_equal(plan->resources.n, 0);
	assert_false(plan->has_personality);
	plan_free(plan);
	plan = plan_with("linux/devices", "[{\"path\":\"/dev/null\",\"type\":\"c\",\"major\":9,\"minor\":9}]");
	assert_int_equal(plan->devices.n, 6);
	/* the rule for the default device goes with it */
	for (size_t i = 0; i < plan->n_device_rules; i++)
		assert_false(plan->device_rules[i].major == 1 && plan->device_rules[i].minor == 3);
	plan_free(plan);
	plan = plan_with("linux/resources/pids", "{\"limit\":5}");
	assert_int_equal(plan->resources.n, 1);
	plan_free(plan);
	plan = plan_with("mounts/4",
			 "{\"destination\":\"/"
			 "x\",\"type\":\"tmpfs\",\"options\":[\"remount\",\"shared\",\"rslave\",\"size=1,mode=5\"]}");
	assert_int_equal(plan->mounts[4].options.flags, MS_REMOUNT);
	assert_int_equal(plan->mounts[4].options.n_propagate, 2);
	assert_int_equal(plan->mounts[4].n_data, 2);
	plan_free(plan);
	plan = plan_with("hooks/startContainer", "[{\"path\":\"/bin/true\"}]");
	assert_int_equal(plan->start_hooks.n, 1);
	assert_non_null(strstr(plan->start_hooks.state, "\"id\":\"c1\""));
	plan_free(plan);
}

static void expect_error(const char *path, const char *value, const char *message)
{
	json_t *spec = spec_new();
	struct error err = {0};
	struct plan *plan;

	spec_set(spec, path, value);
	plan = plan_of(spec, &err);
	if (plan)
		fail_msg("%s = %s was accepted", path, value);
	assert_string_equal(err.message, message);
}

static void test_refused(void **state)
{
	(void)state;
	expect_error("process", "null", "process property must not be empty");
	expect_error("process/args", "[]", "process.args must not be empty");
	expect_error("process/args", "[null]", "process.args must not be empty");
	expect_error("process/cwd", "\"\"", "process.cwd must not be empty");
	expect_error("process/cwd", "\"tmp\"", "process.cwd must be an absolute path, not `tmp`");
	expect_error("process/env/0", "\"PATH\"", "process.env[0]: invalid environment variable: missing '='");
	expect_error("process/env/0", "\"=x\"", "process.env[0]: invalid environment variable: name cannot be empty");
	expect_error("process/oomScoreAdj", "1001", "process.oomScoreAdj must be from -1000 to 1000");
	expect_error("process/rlimits/0/type", "\"RLIMIT_X\"",
		     "process.rlimits[0].type: invalid rlimit type `RLIMIT_X`");
	expect_error("process/rlimits/1", "{\"type\":\"RLIMIT_NOFILE\",\"soft\":1,\"hard\":1}",
		     "process.rlimits[1]: RLIMIT_NOFILE is given twice");
	expect_error("process/rlimits/0/soft", "2000", "process.rlimits[0]: the soft limit is above the hard limit");
	expect_error("mounts/0/destination", "\"\"", "mounts[0].destination must not be empty");
	expect_error("mounts/0/destination", "\"/a/..\"", "mounts[0].destination: a mount over / is not supported");
	expect_error("mounts/0/type", "\"nfs\"", "mounts[0].type: `nfs` is not supported: its source is the host's");
	expect_error("mounts/1/options",
		     "[\"shared\",\"slave\",\"shared\",\"slave\",\"shared\",\"slave\",\"shared\",\"slave\","
		     "\"private\"]",
		     "mounts[1].options: private: more than 8 kinds of propagation");
	expect_error("mounts/0/options", "[\"tmpcopyup\"]", "mounts[0].options: tmpcopyup is for tmpfs only");
	expect_error("linux/namespaces/0/type", "\"user\"", "user namespaces enabled, but no uid mappings found");
	expect_error("linux/namespaces/4/type", "\"cgroup\"",
		     "unable to restrict sys entries without a private MNT namespace");
	expect_error("linux/namespaces/3/type", "\"cgroup\"", "unable to set hostname without a private UTS namespace");
	expect_error("linux/namespaces/0/type", "\"uts\"", "linux.namespaces[3]: uts is given twice");
	expect_error("linux/namespaces/0/type", "\"pids\"", "linux.namespaces[0].type: `pids` does not exist");
	expect_error("linux/resources/devices/0/type", "\"x\"",
		     "linux.resources.devices[0].type must be a, b or c, not `x`");
	expect_error("linux/resources/devices/0/access", "\"rx\"",
		     "linux.resources.devices[0].access must be made of r, w and m");
	expect_error("linux/resources/devices/0/major", "4294967296",
		     "linux.resources.devices[0]: no such device number");
	expect_error("linux/rootfsPropagation", "\"ro\"", "linux.rootfsPropagation: `ro` does not exist");
	expect_error("linux/seccomp", "{\"defaultAction\":\"SCMP_ACT_ERRNO\"}",
		     "create: the order has no filter for linux.seccomp");
}

static int read_filter(const char *text, struct syscall_filter *filter, struct error *err)
{
	json_t *json = json_loads(text, 0, NULL);
	int status = syscall_filter_read(json, filter, err);

	json_decref(json);
	return status;
}

static void test_filter(void **state)
{
	static const char *const bad[] = {"{}",
					  "{\"filter\":5}",
					  "{\"filter\":\"\"}",
					  "{\"filter\":\"002000000000000\"}",
					  "{\"filter\":\"002000000000000g\"}",
					  "{\"filter\":\"002000000000000A\"}",
					  "{\"filter\":\"0020000000000004\",\"flags\":-1}",
					  "{\"filter\":\"0020000000000004\",\"flags\":\"1\"}"};
	struct syscall_filter filter;
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(read_filter(bad[i], &filter, &err), -1);
		syscall_filter_release(&filter);
	}
	assert_int_equal(read_filter("{\"filter\":\"0020000000000004001501ffc000003e\",\"flags\":2}", &filter, &err),
			 0);
	assert_int_equal(filter.n, 2);
	assert_int_equal(filter.flags, 2);
	assert_int_equal(filter.code[0].code, BPF_LD | BPF_W | BPF_ABS);
	assert_int_equal(filter.code[0].k, 4);
	assert_int_equal(filter.code[1].code, 0x15);
	assert_int_equal(filter.code[1].jt, 1);
	assert_int_equal(filter.code[1].jf, 255);
	assert_int_equal(filter.code[1].k, 0xc000003e);
	syscall_filter_release(&filter);
}

static void expect_order(const char *text, const char *message)
{
	json_t *json = json_loads(text, 0, NULL);
	struct error err = {0};
	struct order order;
	int status = order_parse(json, &order, &err);

	if (message) {
		assert_int_equal(status, -1);
		assert_string_equal(err.message, message);
	} else if (status < 0) {
		fail_msg("%s: %s", text, err.message);
	}
	order_clear(&order);
	json_decref(json);
}

static void test_seed(void **state)
{
	json_t *json = json_pack("{s:s, s:s, s:s, s:{}}", "order", "create", "id", "c", "seed",
				 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff", "spec");
	struct error err = {0};
	struct order order;

	(void)state;
	order_parse(json, &order, &err); /* the rest of it is missing */
	assert_true(order.has_seed);
	for (unsigned i = 0; i < AGENT_SEED_SIZE - 1; i++)
		assert_int_equal(order.seed[i], i);
	assert_int_equal(order.seed[AGENT_SEED_SIZE - 1], 0xff);
	order_clear(&order);
	json_decref(json);
}

static void test_orders(void **state)
{
	(void)state;
	expect_order("{}", "order: its name is missing");
	expect_order("{\"order\":7}", "order: its name is missing");
	expect_order("{\"order\":\"dance\"}", "unknown order `dance`");
	expect_order("{\"order\":\"start\"}", "start: id must be a text of 1 to 1024 bytes");
	expect_order("{\"order\":\"start\",\"id\":\"\"}", "start: id must be a text of 1 to 1024 bytes");
	expect_order("{\"order\":\"start\",\"id\":\"c\"}", NULL);
	expect_order("{\"order\":\"kill\",\"id\":\"c\"}", "kill: signal must be a number from 0 to 64");
	expect_order("{\"order\":\"kill\",\"id\":\"c\",\"signal\":65}", "kill: signal must be a number from 0 to 64");
	expect_order("{\"order\":\"kill\",\"id\":\"c\",\"signal\":9,\"all\":1}", "order: all must be true or false");
	expect_order("{\"order\":\"kill\",\"id\":\"c\",\"signal\":9,\"all\":true}", NULL);
	expect_order("{\"order\":\"delete\",\"id\":\"c\",\"force\":false}", NULL);
	expect_order("{\"order\":\"create\",\"id\":\"c\",\"time\":-5,\"spec\":{}}",
		     "create: time must be a positive number of nanoseconds");
	expect_order("{\"order\":\"create\",\"id\":\"c\",\"seed\":\"00\",\"spec\":{}}",
		     "create: seed must be 64 hexadecimal digits");
	expect_order("{\"order\":\"create\",\"id\":\"c\",\"seed\":7,\"spec\":{}}",
		     "create: seed must be 64 hexadecimal digits");
	expect_order("{\"order\":\"create\",\"id\":\"c\",\"trace\":1,\"spec\":{}}",
		     "order: trace must be true or false");
	expect_order("{\"order\":\"create\",\"id\":\"c\"}", "create: spec must be an object");
	expect_order("{\"order\":\"create\",\"id\":\"c\",\"spec\":{}}", "create: rootfs.export is missing");
	expect_order("{\"order\":\"create\",\"id\":\"c\",\"spec\":{},\"rootfs\":{\"export\":\"../etc\"}}",
		     "create: rootfs.export is missing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_notify),     cmocka_unit_test(test_runc_spec), cmocka_unit_test(test_environment),
	    cmocka_unit_test(test_activation), cmocka_unit_test(test_user),	 cmocka_unit_test(test_bind),
	    cmocka_unit_test(test_refused),    cmocka_unit_test(test_orders),	 cmocka_unit_test(test_filter),
	    cmocka_unit_test(test_warnings),   cmocka_unit_test(test_parts),	 cmocka_unit_test(test_seed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
