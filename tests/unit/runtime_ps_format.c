/*
 * The options of `hull ps`, and the table that comes of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/ps_format.h"

/* What one process in a machine of 100 MB becomes: alive for 100 s, of which it has computed 25. */
static const char answer_text[] =
    "{\"memory\":100000000,\"processes\":[{\"pid\":7,\"ppid\":1,\"pgid\":7,\"sid\":7,\"uid\":0,\"gid\":5,\"cpu\":25000,"
    "\"start\":1000000,\"now\":1100000,\"nice\":5,\"threads\":3,\"size\":2097152,\"resident\":1000000,"
    "\"foreground\":true,\"state\":\"S\",\"tty\":\"pts/0\",\"name\":\"na\\u001bme\",\"command\":\"name with words\"}]}";

/* options are words with blanks between them. The table's text, to be freed, or NULL with the message in *message. */
static char *table(const char *options, const char *answer, struct error *err)
{
	char *words = strdup(options), *text = NULL, *list[16] = {0};
	json_t *json = answer ? json_loads(answer, 0, NULL) : NULL;
	struct ps_format format;
	size_t size, n = 0;

	for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
		list[n++] = word;
	if (ps_format_parse(list, &format, err) == 0) {
		FILE *out = open_memstream(&text, &size);

		assert_non_null(out);
		ps_format_write(&format, json, out);
		fclose(out);
	}
	json_decref(json);
	free(words);
	return text;
}

static void expect(const char *options, const char *expected)
{
	struct error err = {0};
	char *text = table(options, answer_text, &err);

	if (!text)
		fail_msg("%s: %s", options, err.message);
	assert_string_equal(text, expected);
	free(text);
}

static void test_columns(void **state)
{
	(void)state;
	expect("-o pid,comm", "    PID COMMAND\n      7 na?me\n");
	expect("-e -o user= -o args=", "root     name with words\n");
	expect("o pid,ppid,pgid,sid,gid",
	       "    PID    PPID    PGID     SID   GID\n      7       1       7       7     5\n");
	expect("-o stat,s,ni,nlwp,tty", "STAT S  NI NLWP TTY\nSNsl+ S   5    3 pts/0\n");
	expect("--format=vsz,rss,pmem,pcpu,c", "   VSZ   RSS %MEM %CPU  C\n  2048   976  1.0 25.0 25\n");
	expect("-o time,bsdtime,etime,etimes",
	       "    TIME   TIME     ELAPSED ELAPSED\n00:00:25   0:25       01:40     100\n");
	expect("-o pid=A,B", "    A,B\n      7\n");
}

static void test_forms(void **state)
{
	(void)state;
	expect("-e", "    PID TTY          TIME CMD\n      7 pts/0    00:00:25 na?me\n");
	expect("-e -x", "    PID TTY      STAT   TIME COMMAND\n      7 pts/0    SNsl+   0:25 name with words\n");
	expect("axw", "    PID TTY      STAT   TIME COMMAND\n      7 pts/0    SNsl+   0:25 name with words\n");
	expect("axh", "      7 pts/0    SNsl+   0:25 name with words\n");
	expect("-ej --no-headers", "      7       7       7 pts/0    00:00:25 na?me\n");
}

static void test_nobody(void **state)
{
	struct error err = {0};
	char *text = table("", NULL, &err);

	(void)state;
	assert_string_equal(text, "UID          PID    PPID  C STIME TTY          TIME CMD\n");
	free(text);
	text = table("aux", NULL, &err);
	assert_string_equal(text, "USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND\n");
	free(text);
}

static void test_refused(void **state)
{
	static const struct {
		const char *options, *message;
	} cases[] = {
	    {"-ly", "ps: option -l is not supported"}, {"-p 1", "ps: option -p is not supported"},
	    {"axf", "ps: option f is not supported"},  {"--sort=pid", "ps: option --sort=pid is not supported"},
	    {"-o", "ps: option o needs a list"},       {"-o pid,wchan", "ps: column \"wchan\" is not supported"},
	    {"--format", "ps: option o needs a list"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error err = {0};

		assert_null(table(cases[i].options, answer_text, &err));
		if (strncmp(err.message, cases[i].message, strlen(cases[i].message)) != 0)
			fail_msg("%s: %s", cases[i].options, err.message);
	}
}

static void test_many(void **state)
{
	struct error err = {0};

	(void)state;
	assert_null(
	    table("-o pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,pid,"
		  "pid,pid,pid,pid,pid,pid,pid,pid,pid,pid",
		  answer_text, &err));
	assert_string_equal(err.message, "ps: more than 32 columns");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_columns), cmocka_unit_test(test_forms), cmocka_unit_test(test_nobody),
	    cmocka_unit_test(test_refused), cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
