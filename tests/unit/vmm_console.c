/* vmm/console: what of the guest kernel's last words is kept, and what is made of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/console.h"

#define LINE_CONTROL (CONSOLE_PORT + 3)

static void put(struct console *console, const char *text)
{
	for (; *text; text++)
		console_write(console, CONSOLE_PORT, (uint8_t)*text);
}

static void expect_last(struct console *console, const char *expected)
{
	char last[CONSOLE_TAIL + 1];

	console_last(console, last);
	assert_string_equal(last, expected);
}

static void test_tail(void **state)
{
	static struct console console;
	char line[65], expected[CONSOLE_TAIL + 1];

	(void)state;
	console_init(&console, -1);
	expect_last(&console, "");
	/* The divisor of the speed is no text. */
	console_write(&console, LINE_CONTROL, 0x80);
	put(&console, "xy");
	console_write(&console, LINE_CONTROL, 0x03);
	put(&console, "a\tb\x1b[2J\xff\r\n");
	expect_last(&console, "a?b?[2J?\n");
	for (int i = 0; i < 1000; i++) {
		snprintf(line, sizeof(line), "%063d\n", i);
		put(&console, line);
	}
	for (int i = 0; i < CONSOLE_TAIL / 64; i++)
		snprintf(expected + 64 * i, sizeof(expected) - 64 * (size_t)i, "%063d\n", 1000 - CONSOLE_TAIL / 64 + i);
	expect_last(&console, expected);
}

/* With a reader it is kept as well, and a reader that is gone is no reason to stop. */
static void test_reader(void **state)
{
	static struct console console;
	char text[16] = "";
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	console_init(&console, fds[1]);
	put(&console, "one\ntwo");
	assert_int_equal(read(fds[0], text, sizeof(text)), 4);
	assert_memory_equal(text, "one\n", 4);
	console_flush(&console);
	assert_int_equal(read(fds[0], text, sizeof(text)), 3);
	close(fds[0]);
	close(fds[1]);
	put(&console, "\nthree\n");
	expect_last(&console, "one\ntwo\nthree\n");
}

static void expect_panic(const char *last, const char *expected)
{
	char why[256];

	console_panic(last, why, sizeof(why));
	assert_string_equal(why, expected);
}

static void test_panic(void **state)
{
	(void)state;
	expect_panic("", "");
	expect_panic("[    1.000000] hello\n", "");
	expect_panic("[    1.000000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n[    "
		     "1.1] CPU: 0\n",
		     "Attempted to kill init! exitcode=0x0000000b");
	/* The place that was printed last before: a later one is that of the panic itself. */
	expect_panic("[ 1.0] RIP: 0010:early+0x1/0x2\n[ 2.0] RIP: 0010:late+0x1/0x2\n"
		     "[ 2.1] Kernel panic - not syncing: Fatal exception\n[ 2.2] RIP: 0033:0x1234\n",
		     "Fatal exception, RIP: 0010:late+0x1/0x2");
	/* Somebody else's words, and none that are whole. */
	expect_panic("[ 1.0] x: Kernel panic - not syncing: fake\n[ 1.1] Kernel panic - not syncing: real", "real");
	expect_panic("Kernel panic - not syncing: ", "");
}

static void test_panic_long(void **state)
{
	char last[CONSOLE_TAIL + 1] = "Kernel panic - not syncing: ", why[16];

	(void)state;
	memset(last + strlen(last), 'x', sizeof(last) - 1 - strlen(last));
	last[CONSOLE_TAIL] = '\0';
	console_panic(last, why, sizeof(why));
	assert_string_equal(why, "xxxxxxxxxxxxxxx");
}

static void expect_line(const char *last, const char *expected)
{
	char line[32];

	console_last_line(last, line, sizeof(line));
	assert_string_equal(line, expected);
}

static void test_last_line(void **state)
{
	(void)state;
	expect_line("", "");
	expect_line("\n\n", "");
	expect_line("one", "one");
	expect_line("[    1.5] one\n[    2.5] agent: two\n\n", "agent: two");
	expect_line("[no time] x\n", "[no time] x");
	expect_line("[", "[");
	expect_line("[   1.5", "[   1.5");
	expect_line("[    1.5] a line that is longer than the room\n", "a line that is longer than the ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_tail),       cmocka_unit_test(test_reader),	 cmocka_unit_test(test_panic),
	    cmocka_unit_test(test_panic_long), cmocka_unit_test(test_last_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
