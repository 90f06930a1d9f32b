/*
 * What a process can ask the kernel about itself and shell tools do not tell. Runs in containers of the tests:
 *
 *   spec_probe WORD [ARG...]      prints one line for each thing asked; the words are in the table below
 */
#include <errno.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *result_text(long result)
{
	static char text[64];

	if (result < 0 && result > -4096)
		snprintf(text, sizeof(text), "%s", strerrorname_np((int)-result));
	else
		snprintf(text, sizeof(text), "%ld", result);
	return text;
}

static long number(int argc, char **argv, int index)
{
	return index < argc ? strtol(argv[index], NULL, 0) : 0;
}

/* call NUMBER [ARG...]: a system call of x86-64 (or x32, with its bit in the number) */
static int probe_call(int argc, char **argv)
{
	long a[7];
	long result;

	for (int i = 0; i < 7; i++)
		a[i] = number(argc, argv, i);
	result = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
	printf("call %#lx: %s\n", a[0], result_text(result == -1 ? -errno : result));
	return 0;
}

/* call32 NUMBER [ARG...]: a system call of 32-bit programs */
static int probe_call32(int argc, char **argv)
{
	long nr = number(argc, argv, 0), b = number(argc, argv, 1), c = number(argc, argv, 2),
	     d = number(argc, argv, 3);
	int result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(nr), "b"(b), "c"(c), "d"(d)
			 : "memory", "r8", "r9", "r10", "r11");
	printf("call32 %ld: %s\n", nr, result_text(result));
	return 0;
}

struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static int probe_scheduler(int argc, char **argv)
{
	struct attributes a = {.size = sizeof(a)};

	(void)argc;
	(void)argv;
	if (syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0) < 0)
		return 1;
	printf("scheduler: policy %u flags %llu nice %d priority %u runtime %llu deadline %llu period %llu\n", a.policy,
	       (unsigned long long)a.flags, a.nice, a.priority, (unsigned long long)a.runtime,
	       (unsigned long long)a.deadline, (unsigned long long)a.period);
	return 0;
}

static int probe_io_priority(int argc, char **argv)
{
	long value = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);

	(void)argc;
	(void)argv;
	printf("io priority: class %ld level %ld\n", value >> 13, value & 0x1fff);
	return 0;
}

static int probe_personality(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	printf("personality: %#x\n", personality(0xffffffff));
	return 0;
}

static int probe_affinity(int argc, char **argv)
{
	cpu_set_t set;

	(void)argc;
	(void)argv;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	printf("affinity:");
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &set))
			printf(" %d", i);
	puts("");
	return 0;
}

/* Whole minutes: the two clocks run on while this does. */
static int probe_clocks(int argc, char **argv)
{
	struct timespec monotonic, boot;

	(void)argc;
	(void)argv;
	clock_gettime(CLOCK_MONOTONIC, &monotonic);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	printf("clocks: monotonic %ld h boot %ld h\n", (long)monotonic.tv_sec / 3600, (long)boot.tv_sec / 3600);
	return 0;
}

/* memory MIB: takes that much and touches it */
static int probe_memory(int argc, char **argv)
{
	size_t size = (size_t)number(argc, argv, 0) << 20;
	volatile char *memory = malloc(size + 1);

	if (!memory)
		return 1;
	for (size_t i = 0; i <= size; i += 1024)
		memory[i] = 1;
	printf("memory: %ld MiB taken\n", number(argc, argv, 0));
	return 0;
}

/* forks N: how many children that wait can be had, at most N */
static int probe_forks(int argc, char **argv)
{
	long n = 0, wanted = number(argc, argv, 0);
	int ends[2];
	char byte;

	if (pipe(ends) < 0)
		return 1;
	while (n < wanted) {
		pid_t pid = fork();

		if (pid < 0)
			break;
		if (pid == 0) {
			close(ends[1]);
			_exit(read(ends[0], &byte, 1) != 0);
		}
		n++;
	}
	printf("forks: %ld of %ld, then %s\n", n, wanted, n < wanted ? strerrorname_np(errno) : "no need of more");
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *word;
		int (*run)(int argc, char **argv);
	} probes[] = {
	    {"call", probe_call},
	    {"call32", probe_call32},
	    {"scheduler", probe_scheduler},
	    {"io-priority", probe_io_priority},
	    {"personality", probe_personality},
	    {"affinity", probe_affinity},
	    {"clocks", probe_clocks},
	    {"memory", probe_memory},
	    {"forks", probe_forks},
	};

	for (size_t i = 0; argc > 1 && i < sizeof(probes) / sizeof(probes[0]); i++)
		if (strcmp(argv[1], probes[i].word) == 0)
			return probes[i].run(argc - 2, argv + 2);
	fprintf(stderr, "usage: spec_probe WORD [ARG...]\n");
	return 2;
}
