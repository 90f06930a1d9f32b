/*
 * The manual: each verb has a page that names each of its flags, and hull(8) names each verb and global flag. To be run
 * in the repository's top folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "runtime/command.h"

static char *read_page(const char *name)
{
	char path[128], *text;
	struct error err;

	snprintf(path, sizeof(path), "runtime/man/%s.8", name);
	if (read_file_at(AT_FDCWD, path, 1u << 20, &text, NULL, &err) < 0)
		fail_msg("%s", err.message);
	return text;
}

/* "Fl -name" with nothing after it that would make it another flag. */
static void expect_flag(const char *page, const char *text, const char *name)
{
	char macro[64];

	snprintf(macro, sizeof(macro), "Fl -%s", name);
	for (const char *found = strstr(text, macro); found; found = strstr(found + 1, macro))
		if (strchr(" \n", found[strlen(macro)]))
			return;
	fail_msg("%s.8 does not name --%s", page, name);
}

static void test_verbs(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_commands; i++) {
		char page[64], *text;

		snprintf(page, sizeof(page), "hull-%s", commands[i]->name);
		text = read_page(page);
		for (const struct flag *flag = commands[i]->flags; flag && flag->name; flag++)
			expect_flag(page, text, flag->name);
		free(text);
	}
}

static void test_overview(void **state)
{
	char *text = read_page("hull");

	(void)state;
	for (const struct flag *flag = global_flags; flag->name; flag++)
		expect_flag("hull", text, flag->name);
	for (size_t i = 0; i < n_commands; i++) {
		char reference[64];

		snprintf(reference, sizeof(reference), ".Xr hull-%s 8", commands[i]->name);
		if (!strstr(text, reference))
			fail_msg("hull.8 does not refer to hull-%s(8)", commands[i]->name);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_verbs), cmocka_unit_test(test_overview)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
