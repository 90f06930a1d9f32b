/*
 * Waiting for a guest: what counts as time, and what ends the wait.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/process.h"
#include "runtime/watch.h"

#define COMPETITORS 4

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static pid_t start(void (*work)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		work();
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void sleep_long(void)
{
	sleep(60);
}

/* All on the first CPU that we may use. */
static void compete(void)
{
	cpu_set_t allowed, one;
	int cpu = 0;

	sched_getaffinity(0, sizeof(allowed), &allowed);
	while (!CPU_ISSET(cpu, &allowed))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
	for (double until = seconds() + 60; seconds() < until;)
		continue;
}

static double wait_in_vain(pid_t machine, unsigned timeout, struct watch *watch)
{
	struct error err;
	int silent[2];
	double began = seconds();

	assert_int_equal(pipe(silent), 0);
	*watch = WATCH_NONE;
	watch->vmm = (int)syscall(SYS_pidfd_open, machine, 0);
	assert_true(watch->vmm >= 0);
	watch_set_timeout(watch, timeout);
	assert_int_equal(watch_wait(watch, silent[0], 1, &err), -1);
	close(watch->vmm);
	close(silent[0]);
	close(silent[1]);
	return seconds() - began;
}

static void test_process_of(void **state)
{
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	pid_t child = start(sleep_long);
	int ended = (int)syscall(SYS_pidfd_open, child, 0);

	(void)state;
	assert_int_equal(process_of(pidfd), getpid());
	assert_int_equal(process_of(ended), child);
	end(child);
	assert_int_equal(process_of(ended), 0);
	assert_int_equal(process_of(-1), 0);
	assert_true(process_starved(child) == 0);
	close(pidfd);
	close(ended);
}

static void test_timeout(void **state)
{
	pid_t machine = start(sleep_long);
	struct watch watch;
	double waited = wait_in_vain(machine, 1, &watch);

	(void)state;
	end(machine);
	assert_int_equal(watch.event, WATCH_TIMEOUT);
	assert_true(waited >= 1);
	assert_true(watch.starved == 0);
}

/* Of four that want one CPU each waits for three quarters of the time: two seconds of one last about eight. */
static void test_starved(void **state)
{
	pid_t competitors[COMPETITORS];
	struct watch watch;
	double waited;

	(void)state;
	for (int i = 0; i < COMPETITORS; i++)
		competitors[i] = start(compete);
	waited = wait_in_vain(competitors[0], 2, &watch);
	for (int i = 0; i < COMPETITORS; i++)
		end(competitors[i]);
	assert_int_equal(watch.event, WATCH_TIMEOUT);
	assert_true(waited >= 3);
	assert_true(watch.starved > 0);
}

static void test_machine_ends(void **state)
{
	pid_t machine = start(sleep_long);
	struct watch watch;

	(void)state;
	kill(machine, SIGKILL);
	wait_in_vain(machine, 30, &watch);
	end(machine);
	assert_int_equal(watch.event, WATCH_VMM_ENDED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_process_of),
	    cmocka_unit_test(test_timeout),
	    cmocka_unit_test(test_starved),
	    cmocka_unit_test(test_machine_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
