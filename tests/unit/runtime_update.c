/*
 * Merging of resources for `hull update`, and durations.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "runtime/duration.h"
#include "runtime/update.h"

static void expect_merge(const char *before, const char *asked, const char *expected)
{
	json_t *old = json_loads(before, 0, NULL), *new = json_loads(asked, 0, NULL), *merged;
	struct error err = {0};
	char *text;

	assert_non_null(old);
	assert_non_null(new);
	merged = update_merge(old, new, &err);
	if (!merged)
		fail_msg("%s + %s: %s", before, asked, err.message);
	text = json_dumps(merged, JSON_COMPACT | JSON_SORT_KEYS);
	assert_string_equal(text, expected);
	free(text);
	/* What was there is not touched: it is what holds when applying fails. */
	text = json_dumps(old, JSON_COMPACT);
	assert_string_equal(text, before);
	free(text);
	json_decref(merged);
	json_decref(old);
	json_decref(new);
}

static void expect_refusal(const char *asked, const char *words)
{
	json_t *new = json_loads(asked, 0, NULL);
	struct error err = {0};

	assert_null(update_merge(NULL, new, &err));
	if (!strstr(err.message, words))
		fail_msg("%s: \"%s\" does not say \"%s\"", asked, err.message, words);
	json_decref(new);
}

static void test_merge(void **state)
{
	(void)state;
	expect_merge("{}", "{\"cpu\":{\"shares\":5,\"quota\":0}}", "{\"cpu\":{\"shares\":5}}");
	expect_merge("{\"cpu\":{\"shares\":5,\"quota\":7}}",
		     "{\"cpu\":{\"quota\":8,\"cpus\":\"\"},\"blockIO\":{\"weight\":30}}",
		     "{\"blockIO\":{\"weight\":30},\"cpu\":{\"quota\":8,\"shares\":5}}");
	expect_merge("{\"cpu\":{\"idle\":1}}", "{\"cpu\":{\"idle\":0}}", "{\"cpu\":{\"idle\":0}}");
	expect_merge("{\"devices\":[{\"allow\":false}]}", "{\"devices\":[],\"blockIO\":{\"weight\":0}}",
		     "{\"blockIO\":{},\"devices\":[{\"allow\":false}]}");
}

static void test_swap(void **state)
{
	(void)state;
	/* The room for swap stays 50. */
	expect_merge("{\"memory\":{\"limit\":100,\"swap\":150}}", "{\"memory\":{\"limit\":200}}",
		     "{\"memory\":{\"limit\":200,\"swap\":250}}");
	expect_merge("{\"memory\":{\"limit\":100,\"swap\":150}}", "{\"memory\":{\"limit\":-1}}",
		     "{\"memory\":{\"limit\":-1}}");
	expect_merge("{\"memory\":{\"limit\":100,\"swap\":-1}}", "{\"memory\":{\"limit\":200}}",
		     "{\"memory\":{\"limit\":200,\"swap\":-1}}");
	expect_merge("{\"memory\":{\"limit\":100,\"swap\":150}}", "{\"memory\":{\"limit\":60,\"swap\":60}}",
		     "{\"memory\":{\"limit\":60,\"swap\":60}}");
	expect_merge("{\"memory\":{\"limit\":9223372036854775800,\"swap\":9223372036854775801}}",
		     "{\"memory\":{\"limit\":9223372036854775807}}", "{\"memory\":{\"limit\":9223372036854775807}}");
}

static void test_refused(void **state)
{
	(void)state;
	expect_refusal("[]", "not a JSON object");
	expect_refusal("{\"memory\":{\"limit\":\"x\"}}", "linux.resources.memory.limit");
	expect_refusal("{\"rdma\":{\"x\":{\"hcaHandles\":5}}}", "linux.resources.rdma is not supported");
	expect_refusal("{\"memory\":5}", "linux.resources.memory");
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		int64_t nanoseconds; /* -1: none */
	} cases[] = {
	    {"5s", 5000000000},
	    {"1m30s", 90000000000},
	    {"500ms", 500000000},
	    {"1.5h", 5400000000000},
	    {"100us", 100000},
	    {"0", 0},
	    {"0s", 0},
	    {".5s", 500000000},
	    {"7ns", 7},
	    {"5", -1},
	    {"", -1},
	    {"s", -1},
	    {"-5s", -1},
	    {"5x", -1},
	    {"1e3s", -1},
	    {"0x5s", -1},
	    {"9999999999999999h", -1},
	    {"5s ", -1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t nanoseconds = -1;

		if (duration_parse(cases[i].text, &nanoseconds) < 0)
			nanoseconds = -1;
		if (nanoseconds != cases[i].nanoseconds)
			fail_msg("\"%s\": %lld", cases[i].text, (long long)nanoseconds);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_merge),
	    cmocka_unit_test(test_swap),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_durations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
