/*
 * busy: how much work a command makes, as the time that the CPUs were not idle.
 *
 *   busy                              prints the nanoseconds that all CPUs have been busy since the start
 *   busy [-n N] [-s MS] COMMAND...    runs COMMAND N times; one line a run on standard output: busy nanoseconds, wall
 *                                     nanoseconds, exit status. The command's own output goes to standard error.
 *
 * In a machine that was started with --icount one busy nanosecond is one executed instruction, those of KVM guests
 * included. -s: milliseconds to wait before each reading (default 100), so that what the command has left to the kernel
 * (teardown of a VM, of namespaces, of a cgroup) counts as well. Waiting is idle time and does not.
 *
 * Source: /proc/schedstat, Documentation/scheduler/sched-stats.rst: cpu<N>'s seventh number is the time spent running
 * tasks.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t busy_time(void)
{
	uint64_t sum = 0;
	char line[512];
	FILE *file = fopen("/proc/schedstat", "re");

	if (!file) {
		fprintf(stderr, "busy: open `/proc/schedstat`: %s\n", strerror(errno));
		exit(125);
	}
	while (fgets(line, sizeof(line), file)) {
		uint64_t running;

		if (sscanf(line, "cpu%*u %*u %*u %*u %*u %*u %*u %" SCNu64, &running) == 1)
			sum += running;
	}
	fclose(file);
	return sum;
}

static uint64_t wall_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void settle(long milliseconds)
{
	struct timespec pause = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};

	nanosleep(&pause, NULL);
}

static int run(char **command)
{
	int status;
	pid_t child = fork();

	if (child < 0) {
		fprintf(stderr, "busy: fork: %s\n", strerror(errno));
		exit(125);
	}
	if (!child) {
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execvp(command[0], command);
		fprintf(stderr, "busy: %s: %s\n", command[0], strerror(errno));
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	long runs = 1, milliseconds = 100;
	int option, status = 0;

	while ((option = getopt(argc, argv, "+n:s:")) != -1) {
		if (option == 'n')
			runs = strtol(optarg, NULL, 10);
		else if (option == 's')
			milliseconds = strtol(optarg, NULL, 10);
		else
			return 125;
	}
	if (optind == argc) {
		printf("%" PRIu64 "\n", busy_time());
		return 0;
	}
	for (long i = 0; i < runs; i++) {
		uint64_t busy, start, end;

		settle(milliseconds);
		busy = busy_time();
		start = wall_time();
		status = run(argv + optind);
		end = wall_time();
		settle(milliseconds);
		printf("%" PRIu64 " %" PRIu64 " %d\n", busy_time() - busy, end - start, status);
		fflush(stdout);
	}
	return status;
}
