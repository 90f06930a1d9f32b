#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "common/path.h"

static void expect_clean(const char *path, const char *clean)
{
	char *result = path_clean(path);

	assert_string_equal(result, clean);
	free(result);
}

static void test_clean(void **state)
{
	(void)state;
	expect_clean("", "/");
	expect_clean("/", "/");
	expect_clean("a", "/a");
	expect_clean("//a///b/", "/a/b");
	expect_clean("/a/./b/../c", "/a/c");
	expect_clean("../../x", "/x");
	expect_clean("/..", "/");
	expect_clean("/a/../..", "/");
	expect_clean("...", "/...");
	expect_clean("a//./b/", "/a/b");
	expect_clean("../../a/../b", "/b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
