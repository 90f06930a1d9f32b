#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "guest-agent/copy_tree.h"

static char top[64];
static int from, to;

static int set_up(void **state)
{
	(void)state;
	snprintf(top, sizeof(top), "/tmp/agent_copy_tree.XXXXXX");
	if (!mkdtemp(top) || chdir(top) < 0 || mkdir("from", 0755) < 0 || mkdir("to", 0700) < 0)
		return -1;
	from = open("from", O_PATH | O_DIRECTORY);
	to = open("to", O_PATH | O_DIRECTORY);
	return from < 0 || to < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	char command[256];

	(void)state;
	close(from);
	close(to);
	snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", top, top);
	return chdir("/") < 0 || system(command) != 0;
}

static void write_file(const char *path, size_t size)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0640);

	assert_true(fd >= 0);
	for (size_t i = 0; i < size; i++)
		assert_int_equal(write(fd, &"0123456789"[i % 10], 1), 1);
	close(fd);
}

static void test_copy(void **state)
{
	const struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
	struct error err = {0};
	struct stat status;

	(void)state;
	mkdir("from/a", 0755);
	mkdir("from/a/b", 0755);
	write_file("from/a/b/file", 12345);
	write_file("from/empty", 0);
	chmod("from/empty", 04711);
	assert_int_equal(symlink("../../etc/passwd", "from/a/link"), 0);
	assert_int_equal(mkfifo("from/fifo", 0600), 0);
	chmod("from/a/b", 01777);
	chmod("from", 0751);
	assert_int_equal(utimensat(AT_FDCWD, "from/a/b", times, 0), 0);
	if (copy_tree(from, to, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(system("diff -r --no-dereference from/a to/a && cmp from/empty to/empty"), 0);
	assert_int_equal(stat("to/empty", &status), 0);
	assert_int_equal(status.st_mode, S_IFREG | 04711);
	assert_int_equal(stat("to/fifo", &status), 0);
	assert_int_equal(status.st_mode, S_IFIFO | 0600);
	assert_int_equal(lstat("to/a/link", &status), 0);
	assert_true(S_ISLNK(status.st_mode));
	assert_int_equal(stat("to/a/b", &status), 0);
	assert_int_equal(status.st_mode, S_IFDIR | 01777);
	assert_int_equal(status.st_mtim.tv_sec, 2000);
	assert_int_equal(stat("to", &status), 0);
	assert_int_equal(status.st_mode, S_IFDIR | 0751);
}

static void test_errors(void **state)
{
	struct error err = {0};
	int fd = open("from", O_RDONLY | O_DIRECTORY);

	(void)state;
	for (int i = 0; i < COPY_TREE_DEPTH_MAX + 1; i++) {
		int next;

		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	assert_int_equal(copy_tree(from, to, &err), -1);
	assert_int_equal(err.code, ELOOP);
	assert_non_null(strstr(err.message, "`d`: more than 200 directories in one another"));
}

static void test_there_already(void **state)
{
	struct error err = {0};

	(void)state;
	write_file("from/file", 1);
	write_file("to/file", 1);
	assert_int_equal(copy_tree(from, to, &err), -1);
	assert_string_equal(err.message, "`file`: copy: File exists");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_copy, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_there_already, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
