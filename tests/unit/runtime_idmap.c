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

static void expect_mapping(const json_t *mappings, size_t i, long long file_id, long long host, long long size)
{
	const json_t *mapping = json_array_get(mappings, i);

	assert_int_equal(json_integer_value(json_object_get(mapping, "containerID")), file_id);
	assert_int_equal(json_integer_value(json_object_get(mapping, "hostID")), host);
	assert_int_equal(json_integer_value(json_object_get(mapping, "size")), size);
}

static void test_option(void **state)
{
	static const char *const bad[] = {"uids=",
					  "uids=0-1",
					  "uids=0-1-x",
					  "0-1-10",
					  "uids=0-1-10#",
					  "uids=0-1-10,gids",
					  "uids=@9-1-10;gids=@0-0-1",
					  "uids=-1-1-1",
					  "uids=0-5000000000-1"};
	struct idmap idmap;

	(void)state;
	idmap = expect("\"bind\",\"idmap=uids=0-2-10#10-100-10;gids=+0-1-10\"", "", USER_NAMESPACE);
	assert_int_equal(json_array_size(idmap.users), 2);
	expect_mapping(idmap.users, 0, 0, 2, 10);
	expect_mapping(idmap.users, 1, 10, 100, 10);
	expect_mapping(idmap.groups, 0, 0, 1, 10);
	idmap = expect("\"bind\",\"idmap=gids=@2-0-5;uids=@0-1-10\"", "", USER_NAMESPACE);
	expect_mapping(idmap.users, 0, 0, 100001, 10);
	expect_mapping(idmap.groups, 0, 2, 200000, 5);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error err = {0};
		char option[96];

		snprintf(option, sizeof(option), "\"bind\",\"idmap=%s\"", bad[i]);
		if (read_mount(option, "", USER_NAMESPACE, &idmap, &err) == 0)
			fail_msg("%s was taken", bad[i]);
	}
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
	    cmocka_unit_test(test_option),
	    cmocka_unit_test(test_read),
	    cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, release);
}
