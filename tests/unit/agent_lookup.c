/*
 * The program is found, also below a system call filter that is older than what looking for it uses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest-agent/lookup.h"

static char *const env[] = {"PATH=/usr/bin:/bin", NULL};

/* faccessat2 gives `answer`, all else works. */
static int filter_access(int answer)
{
	struct sock_filter program[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_faccessat2, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)answer),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {.len = sizeof(program) / sizeof(program[0]), .filter = program};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

static int find(const char *name)
{
	struct error err = {0};
	char path[4096];

	return lookup_program(name, env, path, sizeof(path), &err) == 0 ? 0 : err.code;
}

/* What finding name ends with, 0 or an errno value, in a process of its own below the filter; 0 as answer: without. */
static int find_below(int answer, const char *name)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(answer && filter_access(answer) < 0 ? 255 : find(name));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_find(void **state)
{
	static const int answers[] = {0, EPERM, ENOSYS};

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		assert_int_equal(find_below(answers[i], "sh"), 0);
		assert_int_equal(find_below(answers[i], "/bin/sh"), 0);
		assert_int_equal(find_below(answers[i], "/etc/passwd"), EACCES);
		assert_int_equal(find_below(answers[i], "/etc"), EACCES);
		assert_int_equal(find_below(answers[i], "/no/such"), ENOENT);
		assert_int_equal(find_below(answers[i], "no-such-program"), ENOENT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_find),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
