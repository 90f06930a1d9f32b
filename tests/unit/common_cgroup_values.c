#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/cgroup_values.h"

static void test_weight(void **state)
{
	(void)state;
	assert_int_equal(cgroup_cpu_weight(0), 1);
	assert_int_equal(cgroup_cpu_weight(1), 1);
	assert_int_equal(cgroup_cpu_weight(2), 1);
	assert_int_equal(cgroup_cpu_weight(1024), 39);
	assert_int_equal(cgroup_cpu_weight(262144), 10000);
	assert_int_equal(cgroup_cpu_weight(UINT64_MAX), 10000);
}

static void expect_refused(int64_t limit, int64_t swap, const char *reason)
{
	struct error err;

	assert_int_equal(cgroup_check_swap(limit, swap, &err), -1);
	assert_non_null(strstr(err.message, reason));
}

static void test_swap(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(cgroup_swap_max(0, 0), CGROUP_UNSET);
	assert_int_equal(cgroup_swap_max(5, 0), CGROUP_UNSET);
	assert_int_equal(cgroup_swap_max(-1, 0), CGROUP_UNLIMITED);
	assert_int_equal(cgroup_swap_max(5, -1), CGROUP_UNLIMITED);
	assert_int_equal(cgroup_swap_max(5, 5), 0);
	assert_int_equal(cgroup_swap_max(5, 8), 3);
	assert_int_equal(cgroup_check_swap(5, 5, &err), 0);
	assert_int_equal(cgroup_check_swap(-1, 0, &err), 0);
	assert_int_equal(cgroup_check_swap(-1, -1, &err), 0);
	expect_refused(0, 5, "without memory limit");
	expect_refused(-1, 5, "without memory limit");
	expect_refused(6, 5, "should be >= memory limit");
	expect_refused(-6, 5, "invalid memory value: -6");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_weight),
	    cmocka_unit_test(test_swap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
