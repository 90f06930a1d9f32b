/* Paths in a hostile tree, and the search for the program. Everything happens in a temporary directory, without
 * privilege. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "guest-agent/lookup.h"
#include "guest-agent/path.h"

static char base[] = "/tmp/agent_path.XXXXXX";
static int root;

static void shell(const char *command)
{
	assert_int_equal(system(command), 0);
}

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(base) || chdir(base) < 0)
		return -1;
	shell("mkdir -p root/etc root/a/b root/bin outside; echo x > root/file; echo secret > outside/secret;"
	      "ln -s / root/top; ln -s ../../../.. root/up; ln -s /a/b root/link; ln -s /nowhere root/dangling;"
	      "ln -s loop root/loop; ln -s ../gone root/a/b/deepdir; ln -s ../../etc/./made/file root/a/b/deepfile;"
	      "ln -s ../../../../escaped root/out; ln -s /proc/self/root root/magic; mkfifo root/fifo");
	root = open("root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	close(root);
	snprintf(command, sizeof(command), "rm -rf '%s'", base);
	return system(command);
}

/* Opens and closes; returns the inode, 0 on failure. */
static ino_t inode_of(int fd)
{
	struct stat status;

	if (fd < 0)
		return 0;
	assert_int_equal(fstat(fd, &status), 0);
	close(fd);
	return status.st_ino;
}

static ino_t inode_at(const char *path)
{
	struct stat status;

	assert_int_equal(stat(path, &status), 0);
	return status.st_ino;
}

static void test_open_stays_inside(void **state)
{
	(void)state;
	assert_true(inode_of(path_open(root, "/top", O_PATH)) == inode_at("root"));
	assert_true(inode_of(path_open(root, "/up/etc", O_PATH)) == inode_at("root/etc"));
	assert_true(inode_of(path_open(root, "../../etc", O_PATH)) == inode_at("root/etc"));
	assert_int_equal(path_open(root, "/up/outside", O_PATH), -1);
	assert_int_equal(errno, ENOENT);
	assert_true(inode_of(path_open(root, "/link", O_PATH)) == inode_at("root/a/b"));
	assert_int_equal(path_open(root, "/loop", O_PATH), -1);
	assert_int_equal(errno, ELOOP);
}

static void test_open_beneath(void **state)
{
	(void)state;
	assert_true(inode_of(path_open_beneath(root, "a/b", O_PATH)) == inode_at("root/a/b"));
	assert_true(inode_of(path_open_beneath(root, ".", O_PATH)) == inode_at("root"));
	assert_int_equal(path_open_beneath(root, "a/../../outside", O_PATH), -1);
	assert_int_equal(errno, EXDEV);
	assert_int_equal(path_open_beneath(root, "/a", O_PATH), -1);
	assert_int_equal(errno, EXDEV);
	assert_int_equal(path_open_beneath(root, "link/x", O_PATH), -1);
	assert_int_equal(errno, ELOOP);
}

static void test_make_directory(void **state)
{
	struct error err;

	(void)state;
	assert_true(inode_of(path_make_directory(root, "/a/b", false, &err)) == inode_at("root/a/b"));
	assert_true(inode_of(path_make_directory(root, "/", false, &err)) == inode_at("root"));
	assert_true(inode_of(path_make_directory(root, "/new/deep/er", false, &err)) == inode_at("root/new/deep/er"));
	assert_true(inode_of(path_make_directory(root, "/link/below/it", false, &err)) ==
		    inode_at("root/a/b/below/it"));
	assert_true(inode_of(path_make_directory(root, "/up/up/outside", false, &err)) == inode_at("root/outside"));
	assert_int_equal(path_make_directory(root, "/dangling/x", true, &err), -1);
	assert_true(inode_of(path_make_directory(root, "/dangling/x", false, &err)) == inode_at("root/nowhere/x"));
	assert_true(inode_of(path_make_directory(root, "/link/deepdir/d", false, &err)) == inode_at("root/a/gone/d"));
	assert_true(inode_of(path_make_directory(root, "/out", false, &err)) == inode_at("root/escaped"));
	assert_int_equal(access("/nowhere", F_OK), -1);
	assert_int_equal(path_make_directory(root, "/loop/x", false, &err), -1);
	assert_int_equal(err.code, ELOOP);
	assert_int_equal(path_make_directory(root, "/file", false, &err), -1);
	assert_int_equal(err.code, ENOTDIR);
	assert_int_equal(path_make_directory(root, "/file/x", false, &err), -1);
	assert_int_equal(path_make_directory(root, "/link", true, &err), -1);
	assert_true(inode_of(path_make_directory(root, "/p/q", true, &err)) == inode_at("root/p/q"));
}

static void test_make_file(void **state)
{
	struct error err;
	struct stat status;

	(void)state;
	assert_true(inode_of(path_make_file(root, "/file", &err)) == inode_at("root/file"));
	assert_true(inode_of(path_make_file(root, "/x/y/z", &err)) == inode_at("root/x/y/z"));
	assert_int_equal(stat("root/x/y/z", &status), 0);
	assert_true(S_ISREG(status.st_mode) && status.st_size == 0);
	assert_true(inode_of(path_make_file(root, "/top2", &err)) == inode_at("root/top2"));
	assert_true(inode_of(path_make_file(root, "/fifo", &err)) == inode_at("root/fifo"));
	assert_true(inode_of(path_make_file(root, "/dangling/f", &err)) == inode_at("root/nowhere/f"));
	assert_true(inode_of(path_make_file(root, "/link/deepfile", &err)) == inode_at("root/etc/made/file"));
	assert_true(inode_of(path_make_file(root, "/link/deepfile", &err)) == inode_at("root/etc/made/file"));
	assert_int_equal(path_make_file(root, "/loop", &err), -1);
	assert_int_equal(err.code, ELOOP);
}

static void test_long_names(void **state)
{
	char path[6000];
	struct error err;

	(void)state;
	path[0] = '/';
	memset(path + 1, 'n', 300);
	path[301] = '\0';
	assert_int_equal(path_make_directory(root, path, false, &err), -1);
	assert_int_equal(err.code, ENAMETOOLONG);
	for (size_t i = 0; i < 5998; i += 2)
		memcpy(path + i, "/n", 3);
	assert_int_equal(path_make_directory(root, path, false, &err), -1);
	assert_int_equal(path_make_file(root, path, &err), -1);
}

static void expect_lookup(const char *name, const char *path_variable, const char *found, const char *message)
{
	char variable[256], path[256];
	char *env[] = {(char *)"X=1", variable, NULL};
	struct error err = {0};
	int status;

	snprintf(variable, sizeof(variable), "%s", path_variable);
	status = lookup_program(name, env, path, sizeof(path), &err);
	if (found) {
		if (status < 0)
			fail_msg("%s", err.message);
		assert_string_equal(path, found);
	} else {
		assert_int_equal(status, -1);
		assert_string_equal(err.message, message);
	}
}

static void test_lookup(void **state)
{
	char first[64], both[160], found[96];

	(void)state;
	shell(
	    "mkdir -p d1 d2/dir; echo > d2/prog; chmod 755 d2/prog; echo > d1/prog; chmod 644 d1/prog; echo > d1/plain;"
	    "mkdir d1/dir");
	snprintf(first, sizeof(first), "PATH=%s/d1", base);
	snprintf(both, sizeof(both), "PATH=/nonexistent:%s/d1:%s/d2", base, base);
	snprintf(found, sizeof(found), "%s/d2/prog", base);
	expect_lookup("prog", both, found, NULL);
	expect_lookup("prog", first, NULL, "exec: \"prog\": executable file not found in $PATH");
	expect_lookup("prog", "PATH=", NULL, "exec: \"prog\": executable file not found in $PATH");
	expect_lookup("prog", "NOPATH=/bin", NULL, "exec: \"prog\": executable file not found in $PATH");
	expect_lookup("dir", both, NULL, "exec: \"dir\": executable file not found in $PATH");
	expect_lookup("", both, NULL, "exec: \"\": executable file not found in $PATH");
	expect_lookup("prog", "PATH=d2", NULL,
		      "exec: \"prog\": cannot run executable found relative to current directory");
	expect_lookup("d2/prog", "PATH=", "d2/prog", NULL);
	expect_lookup("./no", "PATH=", NULL, "exec: \"./no\": stat ./no: no such file or directory");
	expect_lookup("d1/plain/x", "PATH=", NULL, "exec: \"d1/plain/x\": stat d1/plain/x: not a directory");
	expect_lookup("d1/plain", "PATH=", NULL, "exec: \"d1/plain\": permission denied");
	expect_lookup("d1/dir", "PATH=", NULL, "exec: \"d1/dir\": permission denied");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_open_stays_inside), cmocka_unit_test(test_open_beneath),
	    cmocka_unit_test(test_make_directory),    cmocka_unit_test(test_make_file),
	    cmocka_unit_test(test_long_names),	      cmocka_unit_test(test_lookup),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
