/* Every generic mount option, alone and against its opposite. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <cmocka.h>

#include "guest-agent/mount_options.h"

static struct mount_options apply(const char *const *names)
{
	struct mount_options options = {0};

	for (; *names; names++)
		assert_int_equal(mount_options_apply(&options, *names), MOUNT_OPTION_TAKEN);
	return options;
}

#define APPLY(...) apply((const char *const[]){__VA_ARGS__, NULL})

static void test_flags(void **state)
{
	(void)state;
	assert_true(APPLY("ro", "nosuid", "nodev", "noexec").flags == (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC));
	assert_true(APPLY("ro", "rw").flags == 0);
	assert_true(APPLY("rw", "ro").flags == MS_RDONLY);
	assert_true(APPLY("nosuid", "suid", "nodev", "dev", "noexec", "exec").flags == 0);
	assert_true(APPLY("noatime", "atime").flags == 0);
	assert_true(APPLY("strictatime", "nostrictatime").flags == 0);
	assert_true(APPLY("rbind").flags == (MS_BIND | MS_REC));
	assert_true(APPLY("defaults", "silent", "loud", "iversion").flags == 0);
	assert_true(APPLY("sync", "dirsync").flags == (MS_SYNCHRONOUS | MS_DIRSYNC));
}

static void test_propagation(void **state)
{
	(void)state;
	assert_true(APPLY("rprivate").propagate[0] == (MS_PRIVATE | MS_REC));
	assert_true(APPLY("shared").propagate[0] == MS_SHARED);
	assert_true(APPLY("shared", "rslave").propagate[1] == (MS_SLAVE | MS_REC));
	assert_true(APPLY("unbindable").propagate[0] == MS_UNBINDABLE);
}

static void test_tree(void **state)
{
	struct mount_options options = APPLY("rro", "rnosuid", "rnoatime");

	(void)state;
	assert_true(options.tree_set == (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME));
	assert_true(options.tree_clear == MOUNT_ATTR__ATIME);
	options = APPLY("rro", "rrw", "rnoatime", "rstrictatime");
	assert_true(options.tree_set == MOUNT_ATTR_STRICTATIME);
	assert_true(options.tree_clear == (MOUNT_ATTR_RDONLY | MOUNT_ATTR__ATIME));
	options = APPLY("rnoatime", "rrelatime");
	assert_true(options.tree_set == 0);
	assert_true(options.tree_clear == MOUNT_ATTR__ATIME);
}

static void test_others(void **state)
{
	struct mount_options options = {0};

	(void)state;
	assert_int_equal(mount_options_apply(&options, "size=64k"), MOUNT_OPTION_DATA);
	assert_int_equal(mount_options_apply(&options, ""), MOUNT_OPTION_DATA);
	/* The host does it. */
	assert_int_equal(mount_options_apply(&options, "ridmap"), MOUNT_OPTION_TAKEN);
	assert_int_equal(mount_options_apply(&options, "idmap"), MOUNT_OPTION_TAKEN);
	for (int i = 0; i < MOUNT_PROPAGATIONS_MAX; i++)
		assert_int_equal(mount_options_apply(&options, "shared"), MOUNT_OPTION_TAKEN);
	assert_int_equal(mount_options_apply(&options, "shared"), MOUNT_OPTION_REFUSED);
	assert_true(APPLY("tmpcopyup").copy_up);
	assert_true(APPLY("remount", "ro").flags == (MS_REMOUNT | MS_RDONLY));
}

static void test_attributes(void **state)
{
	uint64_t clear;

	(void)state;
	assert_true(mount_options_attributes(0, &clear) == 0);
	assert_true(clear == 0);
	assert_true(mount_options_attributes(MS_RDONLY | MS_NODIRATIME, &clear) ==
		    (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODIRATIME));
	assert_true(clear == 0);
	assert_true(mount_options_attributes(MS_NOATIME | MS_STRICTATIME, &clear) == MOUNT_ATTR_STRICTATIME);
	assert_true(clear == MOUNT_ATTR__ATIME);
	assert_true(mount_options_attributes(MS_RELATIME, &clear) == 0);
	assert_true(clear == MOUNT_ATTR__ATIME);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_flags),  cmocka_unit_test(test_propagation), cmocka_unit_test(test_tree),
	    cmocka_unit_test(test_others), cmocka_unit_test(test_attributes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
