/* What an order says about disks, put into the spec with the guest's numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "guest-agent/disks.h"

static void expect(const char *order_text, const char *disk_text, const char *expected_text)
{
	json_t *order = json_loads(order_text, 0, NULL), *disk = json_loads(disk_text, 0, NULL);
	json_t *expected = json_loads(expected_text, 0, NULL);
	struct error err;

	assert_non_null(order);
	assert_non_null(disk);
	assert_non_null(expected);
	if (disks_apply(order, disk, makedev(254, 16), &err) < 0)
		fail_msg("%s", err.message);
	if (!json_equal(order, expected)) {
		char *text = json_dumps(order, 0);

		print_error("%s\n", text);
		free(text);
		fail();
	}
	json_decref(order);
	json_decref(disk);
	json_decref(expected);
}

static void expect_error(const char *order_text, const char *disk_text, const char *message)
{
	json_t *order = json_loads(order_text, 0, NULL), *disk = json_loads(disk_text, 0, NULL);
	struct error err;

	assert_int_equal(disks_apply(order, disk, makedev(254, 16), &err), -1);
	assert_string_equal(err.message, message);
	json_decref(order);
	json_decref(disk);
}

static void test_rootfs_and_mounts(void **state)
{
	(void)state;
	expect("{\"spec\":{}}", "{\"serial\":\"hull-0\",\"rootfs\":true}",
	       "{\"spec\":{},\"rootfs\":{\"disk\":\"/disks/hull-0\"}}");
	expect("{\"spec\":{\"mounts\":[{},{\"type\":\"ext4\",\"source\":\"/dev/sdb1\"}]}}",
	       "{\"serial\":\"hull-1\",\"mount\":1}",
	       "{\"spec\":{\"mounts\":[{},{\"type\":\"ext4\",\"source\":\"/disks/hull-1\"}]}}");
	expect_error("{\"spec\":{\"mounts\":[{}]}}", "{\"serial\":\"hull-1\",\"mount\":1}",
		     "create: disks: no mounts[1]");
}

static void test_devices(void **state)
{
	(void)state;
	/* Rules about it, and about a group that it is in, hold for the guest's device; others stay alone. */
	expect("{\"spec\":{\"linux\":{\"devices\":[{\"type\":\"b\",\"path\":\"/dev/x\",\"major\":8,\"minor\":16}],"
	       "\"resources\":{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
	       "{\"allow\":true,\"type\":\"b\",\"major\":8,\"minor\":16,\"access\":\"r\"},"
	       "{\"allow\":true,\"type\":\"b\",\"major\":8,\"minor\":17,\"access\":\"r\"},"
	       "{\"allow\":true,\"type\":\"c\",\"major\":8,\"minor\":16,\"access\":\"r\"},"
	       "{\"allow\":true,\"type\":\"b\",\"major\":8,\"access\":\"w\"}]}}}}",
	       "{\"serial\":\"hull-0\",\"device\":0}",
	       "{\"spec\":{\"linux\":{\"devices\":[{\"type\":\"b\",\"path\":\"/dev/x\",\"major\":254,\"minor\":16}],"
	       "\"resources\":{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
	       "{\"allow\":true,\"type\":\"b\",\"major\":8,\"minor\":16,\"access\":\"r\"},"
	       "{\"allow\":true,\"type\":\"b\",\"major\":254,\"minor\":16,\"access\":\"r\"},"
	       "{\"allow\":true,\"type\":\"b\",\"major\":8,\"minor\":17,\"access\":\"r\"},"
	       "{\"allow\":true,\"type\":\"c\",\"major\":8,\"minor\":16,\"access\":\"r\"},"
	       "{\"allow\":true,\"type\":\"b\",\"major\":8,\"access\":\"w\"},"
	       "{\"allow\":true,\"type\":\"b\",\"major\":254,\"minor\":16,\"access\":\"w\"}]}}}}");
	expect_error("{\"spec\":{\"linux\":{\"devices\":[]}}}", "{\"serial\":\"hull-0\",\"device\":0}",
		     "create: disks: no linux.devices[0]");
}

static void test_names(void **state)
{
	(void)state;
	expect("{\"spec\":{}}", "{\"serial\":\"hull-0\",\"name\":\"data\"}",
	       "{\"spec\":{\"linux\":{\"devices\":[{\"type\":\"b\",\"path\":\"/dev/data\",\"fileMode\":432,\"uid\":0,"
	       "\"gid\":0,\"major\":254,\"minor\":16}],\"resources\":{\"devices\":[{\"allow\":true,\"type\":\"b\","
	       "\"access\":\"rwm\",\"major\":254,\"minor\":16}]}}}}");
}

static void test_nonsense(void **state)
{
	(void)state;
	expect_error("{\"spec\":{}}", "{\"rootfs\":true}", "create: disks: a disk without a serial number");
	expect_error("{\"spec\":{}}", "{\"serial\":\"../x\",\"rootfs\":true}",
		     "create: disks: a disk without a serial number");
	expect_error("{\"spec\":{}}", "{\"serial\":\"x\"}", "create: disks: a disk that is for nothing");
	expect_error("{\"spec\":{}}", "{\"serial\":\"x\",\"mount\":-1}", "create: disks: a disk that is for nothing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rootfs_and_mounts),
	    cmocka_unit_test(test_devices),
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
