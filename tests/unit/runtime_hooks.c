/*
 * Hooks of the host: what they get, and what happens when they fail, hang, or leave something behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/hooks.h"

static char output[] = "/tmp/runtime_hooks.XXXXXX";

static struct hook_subject subject = {.id = "c", .bundle = "/bundle", .status = "creating", .pid = 42};

static json_t *hooks_of(const char *text)
{
	json_t *hooks = json_loads(text, 0, NULL);

	assert_non_null(hooks);
	return hooks;
}

static int run(const char *text, struct error *err)
{
	json_t *hooks = hooks_of(text);
	int result;

	*err = (struct error){0};
	assert_int_equal(hooks_check(hooks, err), 0);
	result = hooks_run(hooks, "prestart", &subject, -1, err);
	json_decref(hooks);
	/* Nothing is left of it. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	return result;
}

static void read_output(char *text, size_t room)
{
	int fd = open(output, O_RDONLY);
	ssize_t n = read(fd, text, room - 1);

	assert_true(n >= 0);
	text[n] = '\0';
	close(fd);
}

static void test_what_it_gets(void **state)
{
	char hooks[512], text[1024];
	struct error err;
	int stray = open("/dev/null", O_RDONLY);

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	snprintf(hooks, sizeof(hooks),
		 "{\"prestart\":[{\"path\":\"/bin/sh\",\"args\":[\"name\",\"-c\",\"(echo $0 $1; cat; echo; "
		 "/usr/bin/env; ls /proc/self/fd | wc -l; grep SigIgn /proc/self/status) >%s\",\"zero\",\"one\"],"
		 "\"env\":[\"A=b\",\"PATH=/bin:/usr/bin\"]}]}",
		 output);
	assert_int_equal(run(hooks, &err), 0);
	close(stray);
	read_output(text, sizeof(text));
	assert_non_null(strstr(text, "zero one\n"));
	assert_non_null(strstr(text, "{\"ociVersion\":\"1.0.2\",\"id\":\"c\",\"status\":\"creating\",\"bundle\":"
				     "\"/bundle\",\"pid\":42}\n"));
	assert_non_null(strstr(text, "A=b\n"));
	assert_null(strstr(text, "HOME="));
	/* The three streams, and the directory that ls reads. */
	assert_non_null(strstr(text, "\n4\nSigIgn:\t"));
	/* Above are signals that the C library keeps for itself. */
	assert_non_null(strstr(text, "0000000\n"));
}

static void test_no_environment(void **state)
{
	char hooks[512], text[1024];
	struct error err;

	(void)state;
	snprintf(hooks, sizeof(hooks),
		 "{\"prestart\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\","
		 "\"cat /proc/$$/environ >%s; exec /bin/true\"],\"env\":[]}]}",
		 output);
	assert_int_equal(run(hooks, &err), 0);
	read_output(text, sizeof(text));
	assert_string_equal(text, "");
}

static void test_inherited_environment(void **state)
{
	char hooks[512], text[1024];
	struct error err;

	(void)state;
	setenv("HULL_TEST_HOOK", "inherited", 1);
	snprintf(hooks, sizeof(hooks),
		 "{\"prestart\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"echo $HULL_TEST_HOOK >%s\"]}]}",
		 output);
	assert_int_equal(run(hooks, &err), 0);
	unsetenv("HULL_TEST_HOOK");
	read_output(text, sizeof(text));
	assert_string_equal(text, "inherited\n");
}

static void test_failures(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(run("{\"prestart\":[{\"path\":\"/bin/true\"},{\"path\":\"/bin/false\"}]}", &err), -1);
	assert_string_equal(err.message, "error running prestart hook #1: exit status 1, stdout: , stderr: ");
	assert_int_equal(run("{\"prestart\":[{\"path\":\"/no/such\"}]}", &err), -1);
	assert_string_equal(err.message,
			    "error running prestart hook #0: fork/exec /no/such: No such file or directory");
	assert_int_equal(run("{\"prestart\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\","
			     "\"echo out; echo err >&2; kill -9 $$\"]}]}",
			     &err),
			 -1);
	assert_non_null(strstr(err.message, "KILL, stdout: out, stderr: err"));
	assert_null(strchr(err.message, '\n'));
	/* Other kinds do not run. */
	assert_int_equal(run("{\"poststop\":[{\"path\":\"/bin/false\"}]}", &err), 0);
}

static void test_timeout(void **state)
{
	struct timespec before, after;
	struct error err;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(
	    run("{\"prestart\":[{\"path\":\"/bin/sleep\",\"args\":[\"sleep\",\"60\"],\"timeout\":1}]}", &err), -1);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_string_equal(err.message, "error running prestart hook #0: hook ran past specified timeout of 1.0s");
	assert_true(after.tv_sec - before.tv_sec < 20);
}

/* A daemon that it leaves behind holds its output open: nobody waits for that. */
static void test_daemon(void **state)
{
	struct timespec before, after;
	struct error err;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(
	    run("{\"prestart\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"/bin/sleep 30 &\"]}]}", &err), 0);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_true(after.tv_sec - before.tv_sec < 20);
}

/* More than a pipe holds, in both directions, from a hook that does not read. */
static void test_large(void **state)
{
	static char bundle[200000];
	struct error err;

	(void)state;
	memset(bundle, 'x', sizeof(bundle) - 1);
	subject.bundle = bundle;
	assert_int_equal(run("{\"prestart\":[{\"path\":\"/bin/true\"}]}", &err), 0);
	assert_int_equal(run("{\"prestart\":[{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"/usr/bin/wc -c >&2; "
			     "/usr/bin/head -c 300000 /dev/zero; exit 3\"]}]}",
			     &err),
			 -1);
	assert_non_null(strstr(err.message, "exit status 3"));
	assert_non_null(strstr(err.message, "stderr: 2000"));
	subject.bundle = "/bundle";
}

static void test_check(void **state)
{
	static const struct {
		const char *hooks, *words;
	} bad[] = {
	    {"{\"prestart\":[{}]}", "hooks.prestart[0].path must be an absolute path"},
	    {"{\"poststop\":[{\"path\":\"/a\"},{\"path\":\"b\"}]}", "hooks.poststop[1].path must be an absolute path"},
	    {"{\"poststart\":[{\"path\":\"/a\",\"timeout\":0}]}", "hooks.poststart[0].timeout"},
	    {"{\"poststart\":[{\"path\":\"/a\",\"timeout\":-1}]}", "hooks.poststart[0].timeout"},
	    {"{\"poststart\":[{\"path\":\"/a\",\"args\":[\"a\",1]}]}", "hooks.poststart[0].args[1]"},
	    {"{\"poststart\":[{\"path\":\"/a\",\"env\":[null]}]}", "hooks.poststart[0].env[0]"},
	};
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *hooks = hooks_of(bad[i].hooks);

		assert_int_equal(hooks_check(hooks, &err), -1);
		assert_non_null(strstr(err.message, bad[i].words));
		json_decref(hooks);
	}
	assert_int_equal(hooks_check(NULL, &err), 0);
}

static int set_up(void **state)
{
	int fd = mkstemp(output);

	(void)state;
	close(fd);
	return fd < 0;
}

static int tear_down(void **state)
{
	(void)state;
	return unlink(output);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_what_it_gets),
	    cmocka_unit_test(test_no_environment),
	    cmocka_unit_test(test_inherited_environment),
	    cmocka_unit_test(test_failures),
	    cmocka_unit_test(test_timeout),
	    cmocka_unit_test(test_daemon),
	    cmocka_unit_test(test_large),
	    cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
