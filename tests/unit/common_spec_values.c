#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/spec_values.h"

static void test_members(void **state)
{
	json_t *object =
	    json_pack("{s:s, s:i, s:i, s:f, s:n}", "text", "x", "one", 1, "minus", -1, "huge", 1.8e19, "null");

	(void)state;
	assert_non_null(object);
	assert_string_equal(spec_text(object, "text", "y"), "x");
	assert_string_equal(spec_text(object, "none", "y"), "y");
	assert_string_equal(spec_text(object, "one", "y"), "y");
	assert_null(spec_text(object, "null", NULL));
	assert_string_equal(spec_text(NULL, "text", ""), "");
	assert_int_equal(spec_u64(object, "one", 7), 1);
	assert_int_equal(spec_u64(object, "minus", 7), 7);
	assert_true(spec_u64(object, "huge", 7) == UINT64_MAX);
	assert_int_equal(spec_u64(object, "text", 7), 7);
	assert_int_equal(spec_u64(NULL, "one", 7), 7);
	assert_int_equal(spec_i64(object, "minus", 7), -1);
	assert_int_equal(spec_i64(object, "huge", 7), 7);
	assert_int_equal(spec_i64(object, "null", -7), -7);
	json_decref(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_members),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
