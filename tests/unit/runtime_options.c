/*
 * The flag syntax of the command line, signal names and sizes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/machine.h"
#include "runtime/options.h"
#include "runtime/signals.h"
#include "runtime/timestamp.h"
#include "runtime/vm_size.h"

struct values {
	bool force;
	const char *bundle;
	unsigned count;
	struct flag_list names;
};

static const struct flag flags[] = {
    {"force", 'f', FLAG_SWITCH, offsetof(struct values, force), NULL, ""},
    {"bundle", 'b', FLAG_TEXT, offsetof(struct values, bundle), "DIR", ""},
    {"count", 0, FLAG_NUMBER, offsetof(struct values, count), "N", ""},
    {"name", 'n', FLAG_LIST, offsetof(struct values, names), "NAME", ""},
    {0},
};

struct outcome {
	struct values values;
	bool help;
	int argc;
	char *argv[16];
	int result;
	struct error err;
};

/* Parses words, ended by NULL. */
static struct outcome parse(enum options_order order, ...)
{
	struct outcome outcome = {0};
	va_list args;
	char *word;

	va_start(args, order);
	while ((word = va_arg(args, char *)))
		outcome.argv[outcome.argc++] = word;
	va_end(args);
	outcome.result =
	    options_parse(flags, order, &outcome.argc, outcome.argv, &outcome.values, &outcome.help, &outcome.err);
	return outcome;
}

static void test_list(void **state)
{
	struct outcome o;

	(void)state;
	o = parse(OPTIONS_FIRST, "-n", "a", "--name=b,c", "-n=", "id", "-n", "d", NULL);
	assert_int_equal(o.result, 0);
	assert_int_equal(o.values.names.n, 3);
	assert_string_equal(o.values.names.items[0], "a");
	assert_string_equal(o.values.names.items[1], "b,c");
	assert_string_equal(o.values.names.items[2], "");
	assert_int_equal(o.argc, 3);
	assert_string_equal(o.argv[1], "-n");
	free(o.values.names.items);
	o = parse(OPTIONS_FIRST, "-n", NULL);
	assert_int_equal(o.result, -1);
}

static void test_flag_forms(void **state)
{
	struct outcome o;

	(void)state;
	o = parse(OPTIONS_ANYWHERE, "--bundle", "/x", "-f", "id", NULL);
	assert_int_equal(o.result, 0);
	assert_string_equal(o.values.bundle, "/x");
	assert_true(o.values.force);
	assert_int_equal(o.argc, 1);
	assert_string_equal(o.argv[0], "id");
	o = parse(OPTIONS_ANYWHERE, "-bundle=/y=z", "-force=false", "--count=7", NULL);
	assert_int_equal(o.result, 0);
	assert_string_equal(o.values.bundle, "/y=z");
	assert_false(o.values.force);
	assert_int_equal(o.values.count, 7);
	o = parse(OPTIONS_ANYWHERE, "-b", "--force", NULL);
	assert_string_equal(o.values.bundle, "--force");
	o = parse(OPTIONS_ANYWHERE, "--bundle=", NULL);
	assert_string_equal(o.values.bundle, "");
}

static void test_order(void **state)
{
	struct outcome o;

	(void)state;
	o = parse(OPTIONS_ANYWHERE, "id", "--force", "KILL", NULL);
	assert_true(o.values.force);
	assert_int_equal(o.argc, 2);
	assert_string_equal(o.argv[1], "KILL");
	assert_null(o.argv[2]);
	o = parse(OPTIONS_FIRST, "--force", "run", "--count", "x", NULL);
	assert_int_equal(o.result, 0);
	assert_int_equal(o.argc, 3);
	o = parse(OPTIONS_ANYWHERE, "--", "--force", "-", NULL);
	assert_false(o.values.force);
	assert_int_equal(o.argc, 2);
	o = parse(OPTIONS_ANYWHERE, "-", NULL);
	assert_string_equal(o.argv[0], "-");
}

static void test_bad_flags(void **state)
{
	struct outcome o;

	(void)state;
	o = parse(OPTIONS_ANYWHERE, "--nosuch", "x", NULL);
	assert_int_equal(o.result, -1);
	assert_string_equal(o.err.message, "flag provided but not defined: -nosuch");
	o = parse(OPTIONS_ANYWHERE, "--bundle", NULL);
	assert_string_equal(o.err.message, "flag needs an argument: -bundle");
	o = parse(OPTIONS_ANYWHERE, "--force=maybe", NULL);
	assert_string_equal(o.err.message, "invalid boolean value \"maybe\" for -force: parse error");
	o = parse(OPTIONS_ANYWHERE, "--count", "-1", NULL);
	assert_string_equal(o.err.message, "invalid value \"-1\" for flag -count: parse error");
	assert_int_equal(parse(OPTIONS_ANYWHERE, "---force", NULL).result, -1);
	assert_int_equal(parse(OPTIONS_ANYWHERE, "-=x", NULL).result, -1);
	assert_int_equal(parse(OPTIONS_ANYWHERE, "--count=99999999999999999999", NULL).result, -1);
	assert_true(parse(OPTIONS_ANYWHERE, "--help", NULL).help);
	assert_true(parse(OPTIONS_ANYWHERE, "-h", NULL).help);
}

static void test_signals(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(signal_parse("9", &err), 9);
	assert_int_equal(signal_parse("0", &err), 0);
	assert_int_equal(signal_parse("KILL", &err), SIGKILL);
	assert_int_equal(signal_parse("sigterm", &err), SIGTERM);
	assert_int_equal(signal_parse("SIGIOT", &err), SIGABRT);
	assert_int_equal(signal_parse("RTMIN", &err), SIGRTMIN);
	assert_int_equal(signal_parse("SIGRTMIN+3", &err), SIGRTMIN + 3);
	assert_int_equal(signal_parse("RTMAX-1", &err), SIGRTMAX - 1);
	assert_int_equal(signal_parse("FOO", &err), -1);
	assert_string_equal(err.message, "unknown signal \"FOO\"");
	assert_int_equal(signal_parse("65", &err), -1);
	assert_int_equal(signal_parse("-9", &err), -1);
	assert_int_equal(signal_parse("", &err), -1);
	assert_int_equal(signal_parse("SIG", &err), -1);
	assert_int_equal(signal_parse("RTMIN+99", &err), -1);
	assert_int_equal(signal_parse("RTMINx", &err), -1);
	assert_int_equal(signal_parse("9x", &err), -1);
}

static void test_sizes(void **state)
{
	uint64_t bytes;

	(void)state;
	assert_int_equal(vm_size_parse_memory("1048576", &bytes), 0);
	assert_int_equal(bytes, 1048576);
	assert_int_equal(vm_size_parse_memory("512M", &bytes), 0);
	assert_int_equal(bytes, 512u << 20);
	assert_int_equal(vm_size_parse_memory("2g", &bytes), 0);
	assert_int_equal(bytes, 2ull << 30);
	assert_int_equal(vm_size_parse_memory("", &bytes), -1);
	assert_int_equal(vm_size_parse_memory("M", &bytes), -1);
	assert_int_equal(vm_size_parse_memory("-1", &bytes), -1);
	assert_int_equal(vm_size_parse_memory("1MB", &bytes), -1);
	assert_int_equal(vm_size_parse_memory("1.5G", &bytes), -1);
	assert_int_equal(vm_size_parse_memory("99999999999T", &bytes), -1);
	assert_int_equal(vm_size_parse_memory("99999999999999999999999999999999", &bytes), -1);
}

static void test_results(void **state)
{
	struct result result;

	(void)state;
	result_parse("exited 42\n", &result);
	assert_int_equal(result.kind, RESULT_EXITED);
	assert_int_equal(result.status, 42);
	result_parse("exited 256\n", &result);
	assert_int_equal(result.kind, RESULT_NONE);
	result_parse("exited", &result);
	assert_int_equal(result.kind, RESULT_NONE);
	result_parse("panic\n", &result);
	assert_int_equal(result.kind, RESULT_PANIC);
	result_parse("failed file server\x1b[2J ended\nmore", &result);
	assert_int_equal(result.kind, RESULT_FAILED);
	assert_string_equal(result.text, "file server?[2J ended");
	result_parse("", &result);
	assert_int_equal(result.kind, RESULT_NONE);
	result_parse("exi", &result);
	assert_int_equal(result.kind, RESULT_NONE);
}

static void test_timestamps(void **state)
{
	struct timespec when = {.tv_sec = 1795467643, .tv_nsec = 5};
	char text[TIMESTAMP_SIZE], expected[64];
	struct tm tm;

	(void)state;
	timestamp_nanoseconds(&when, text);
	assert_string_equal(text, "2026-11-23T21:00:43.000000005Z");
	for (time_t day = 0; day < 400 * 366; day++) {
		time_t second = day * 86400 + day % 86400;

		gmtime_r(&second, &tm);
		strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%SZ", &tm);
		timestamp_seconds(second, text);
		if (strcmp(text, expected) != 0)
			fail_msg("%s instead of %s", text, expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_list),      cmocka_unit_test(test_flag_forms), cmocka_unit_test(test_order),
	    cmocka_unit_test(test_bad_flags), cmocka_unit_test(test_signals),	 cmocka_unit_test(test_sizes),
	    cmocka_unit_test(test_results),   cmocka_unit_test(test_timestamps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
