/*
 * Which ids of a bind mount are mapped, and how.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "runtime/idmap.h"

#define MAP(host) "[{\"containerID\":0,\"hostID\":" #host ",\"size\":9}]"
#define OWN ",\"uidMappings\":" MAP(5) ",\"gidMappings\":" MAP(6)
#define USER_NAMESPACE                                                                                                 \
	"\"namespaces\":[{\"type\":\"user\"}],\"uidMappings\":" MAP(100000) ",\"gidMappings\":" MAP(200000)

static json_t *config;

/* mounts[1] has these options and other members, linux these members. */
static int read_mount(const char *options, const char *others, const char *linux_part, struct idmap *idmap,
		      struct error *err)
{
	char text[2048];

	snprintf(text, sizeof(text),
		 "{\"mounts\":[{\"destination\":\"/a\",\"type\":\"proc\"},"
		 "{\"destination\":\"/b\",\"options\":[%s]%s}],\"linux\":{%s}}",
		 options, others, linux_part);
	json_decref(config);
	config = json_loads(text, 0, NULL);
	assert_non_null(config);
	return idmap_read(config, 1, idmap, err);
}

static long long first_host_id(const json_t *mappings)
{
	return json_integer_value(json_object_get(json_array_get(mappings, 0), "hostID"));
}

static struct idmap expect(const char *options, const char *others, const char *linux_part)
{
	struct error err = {0};
	struct idmap idmap;

	if (read_mount(options, others, linux_part, &idmap, &err) < 0)
		fail_msg("%s %s: %s", options, others, err.message);
	return idmap;
}

static void test_read(void **state)
{
	struct idmap idmap = expect("\"bind\"", "", USER_NAMESPACE);

	(void)state;
	assert_null(idmap.users);
	idmap = expect("\"bind\"", OWN, USER_NAMESPACE);
	assert_int_equal(first_host_id(idmap.users), 5);
	assert_int_equal(first_host_id(idmap.groups), 6);
	assert_false(idmap.recursive);
	assert_true(expect("\"rbind\",\"ridmap\"", OWN, "").recursive);
	assert_false(expect("\"rbind\",\"idmap\"", OWN, "").recursive);
	idmap = expect("\"rbind\",\"idmap\"", "", USER_NAMESPACE);
	assert_int_equal(first_host_id(idmap.users), 100000);
	assert_int_equal(first_host_id(idmap.groups), 200000);
}

static void expect_refusal(const char *options, const char *others, const char *linux_part, const char *message)
{
	struct error err = {0};
	struct idmap idmap;

	assert_int_equal(read_mount(options, others, linux_part, &idmap, &err), -1);
	assert_string_equal(err.message, message);
}

static void test_refused(void **state)
{
	(void)state;
	expect_refusal("\"bind\",\"idmap\"", "", "",
		       "config.json: mounts[1].options: idmap without mappings, and without a user namespace");
	expect_refusal("\"bind\",\"ridmap\"", "", "\"namespaces\":[{\"type\":\"user\",\"path\":\"/x\"}]",
		       "config.json: mounts[1].options: ridmap without mappings, and without a user namespace");
	expect_refusal("\"bind\"", ",\"uidMappings\":" MAP(5), USER_NAMESPACE,
		       "config.json: mounts[1]: uidMappings and gidMappings belong together");
	expect_refusal("\"idmap\"", OWN, "", "config.json: mounts[1]: ids can be mapped for bind mounts only");
	expect_refusal("\"ro\"", OWN, "", "config.json: mounts[1]: ids can be mapped for bind mounts only");
}

static int release(void **state)
{
	(void)state;
	json_decref(config);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_read),
	    cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, release);
}
