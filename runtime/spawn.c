#include "runtime/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"

#define STACK_SIZE 65536

void arguments_release(struct arguments *arguments)
{
	for (size_t i = 0; i < arguments->n; i++)
		free(arguments->words[i]);
	free(arguments->words);
	*arguments = (struct arguments){0};
}

void arguments_add(struct arguments *arguments, const char *format, ...)
{
	char **larger = realloc(arguments->words, (arguments->n + 2) * sizeof(*larger));
	va_list args;

	if (!larger) {
		arguments->failed = 1;
		return;
	}
	arguments->words = larger;
	va_start(args, format);
	if (vasprintf(&larger[arguments->n], format, args) < 0)
		arguments->failed = 1;
	else
		arguments->n++;
	va_end(args);
	larger[arguments->n] = NULL;
}

void descriptors_release(struct descriptors *descriptors)
{
	free(descriptors->list);
	*descriptors = (struct descriptors){0};
}

void descriptors_add(struct descriptors *descriptors, int fd)
{
	int *larger = realloc(descriptors->list, (descriptors->n + 1) * sizeof(*larger));

	if (!larger) {
		descriptors->failed = 1;
		return;
	}
	descriptors->list = larger;
	larger[descriptors->n++] = fd;
}

int lifeline_make(struct lifeline *lifeline, struct error *err)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set_errno(err, "make a pipe");
	*lifeline = (struct lifeline){.reader = ends[0], .writer = ends[1]};
	return 0;
}

int lifeline_release(struct lifeline *lifeline, struct error *err)
{
	/* O_ASYNC belongs to the open file, which the program shares. */
	if (fcntl(lifeline->reader, F_SETFL, 0) < 0)
		return error_set_errno(err, "release the virtual machine");
	lifeline_cut(lifeline);
	return 0;
}

void lifeline_cut(struct lifeline *lifeline)
{
	if (lifeline->reader >= 0)
		close(lifeline->reader);
	if (lifeline->writer >= 0)
		close(lifeline->writer);
	*lifeline = LIFELINE_NONE;
}

/* What the new process and its parent share until the execve. */
struct birth {
	const struct spawn *spawn;
	bool in_cgroup; /* already there */
	int error;	/* errno of what failed */
	const char *step;
};

static int tie_to_parent(const struct lifeline *lifeline)
{
	struct pollfd end = {.fd = lifeline->reader, .events = POLLIN};

	close(lifeline->writer);
	if (fcntl(lifeline->reader, F_SETOWN, getpid()) < 0 || fcntl(lifeline->reader, F_SETSIG, SIGKILL) < 0 ||
	    fcntl(lifeline->reader, F_SETFL, O_ASYNC) < 0 || set_cloexec(lifeline->reader, false) < 0)
		return -1;
	/* The parent may have died before the signal was armed. */
	if (poll(&end, 1, 0) != 0)
		_exit(1);
	return 0;
}

/* Handlers end with the execve; that some signals may stay ignored does no harm to programs in a session of their own.
 */
static int set_blocked_signals(const struct spawn *spawn)
{
	sigset_t none;

	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, spawn->blocked ? spawn->blocked : &none, NULL);
}

static int use_null_device(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return -1;
	return dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0 ? -1 : 0;
}

static int keep_descriptors(const struct spawn *spawn)
{
	/* Also what hull itself inherited from its caller by mistake. */
	if (close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return -1;
	for (size_t i = 0; i < spawn->keep->n; i++)
		if (set_cloexec(spawn->keep->list[i], false) < 0)
			return -1;
	return 0;
}

/* Into another cgroup by a write: the kernel then waits for a grace period, which a birth there does not need. */
static int move_to_cgroup(int cgroup)
{
	int fd = openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, "0", 1) != 1 ? -1 : 0;
}

/* Runs in the parent's memory while the parent waits (CLONE_VFORK), so nothing here may allocate or return. */
static int be_born(void *argument)
{
	struct birth *birth = argument;
	const struct spawn *spawn = birth->spawn;
	/* What engines keep in theirs is nothing that a jailed process should hold. */
	static char *const no_environment[] = {NULL};

	birth->step = "place it in its cgroup";
	if (!birth->in_cgroup && move_to_cgroup(spawn->cgroup) < 0)
		goto fail;
	birth->step = "place it in its network namespace";
	if (spawn->network > 0 ? setns(spawn->network, CLONE_NEWNET) < 0
			       : spawn->own_network && unshare(CLONE_NEWNET) < 0)
		goto fail;
	birth->step = "start a session";
	if (setsid() < 0)
		goto fail;
	birth->step = "give it its terminal";
	if (spawn->terminal > 0 && ioctl(spawn->terminal, TIOCSCTTY, 0) < 0)
		goto fail;
	birth->step = "open /dev/null";
	if (use_null_device() < 0)
		goto fail;
	birth->step = "hand over descriptors";
	if (keep_descriptors(spawn) < 0)
		goto fail;
	birth->step = "tie it to its parent";
	if (spawn->lifeline && tie_to_parent(spawn->lifeline) < 0)
		goto fail;
	birth->step = "set blocked signals";
	if (set_blocked_signals(spawn) < 0)
		goto fail;
	for (int i = 0; i < 2; i++)
		if (spawn->own_id[i])
			snprintf(spawn->own_id[i], SPAWN_ID_SIZE, "%u", SPAWN_ID_BASE + (unsigned)getpid());
	birth->step = "execute it";
	execve(spawn->program, spawn->arguments->words, no_environment);
fail:
	birth->error = errno;
	_exit(127);
}

#define BIRTH_FLAGS (CLONE_VM | CLONE_VFORK | CLONE_PIDFD)

/* The C library's clone cannot name a cgroup. Returns as clone does, ENOSYS also where this is not written for. */
static pid_t clone_into_cgroup(char *stack, struct birth *birth, int *pidfd)
{
#ifdef __x86_64__
	struct clone_args args = {
	    .flags = BIRTH_FLAGS | CLONE_INTO_CGROUP,
	    .pidfd = (uintptr_t)pidfd,
	    .exit_signal = SIGCHLD,
	    .stack = (uintptr_t)stack,
	    .stack_size = STACK_SIZE,
	    .cgroup = (uint64_t)birth->spawn->cgroup,
	};
	register int (*function)(void *) __asm__("r12") = be_born;
	register struct birth *argument __asm__("r13") = birth;
	long result = SYS_clone3;

	/* The child comes out of the system call on its own stack and never leaves be_born. */
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "mov %%r13, %%rdi\n\t"
			 "call *%%r12\n\t"
			 "hlt\n"
			 "1:"
			 : "+a"(result)
			 : "D"(&args), "S"(sizeof(args)), "r"(function), "r"(argument)
			 : "rcx", "r11", "memory", "cc");
	if (result >= 0)
		return (pid_t)result;
	errno = (int)-result;
	return -1;
#else
	(void)stack;
	(void)birth;
	(void)pidfd;
	errno = ENOSYS;
	return -1;
#endif
}

static pid_t give_birth(struct birth *birth, int *pidfd)
{
	static char stack[STACK_SIZE] __attribute__((aligned(64)));
	pid_t pid;

	birth->in_cgroup = true;
	if (birth->spawn->cgroup >= 0) {
		pid = clone_into_cgroup(stack, birth, pidfd);
		if (pid >= 0 || errno != ENOSYS)
			return pid;
		birth->in_cgroup = false;
	}
	return clone(be_born, stack + sizeof(stack), BIRTH_FLAGS | SIGCHLD, birth, pidfd);
}

int spawn(const struct spawn *spawn, struct child *child, struct error *err)
{
	struct birth birth = {.spawn = spawn};
	sigset_t all, before;
	int pidfd = -1;
	pid_t pid;

	if (spawn->arguments->failed || spawn->keep->failed)
		return error_set(err, ENOMEM, "make the command line of `%s`", spawn->program);
	/* No handler may run in the child while it shares our memory. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = give_birth(&birth, &pidfd);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return error_set_errno(err, "start `%s`", spawn->program);
	*child = (struct child){.pid = pid, .pidfd = pidfd};
	if (birth.error == 0)
		return 0;
	child_end(child);
	return error_set(err, birth.error, "start `%s`: %s: %s", spawn->program, birth.step, strerror(birth.error));
}

int child_wait(struct child *child)
{
	int status;
	pid_t pid;

	do
		pid = waitpid(child->pid, &status, 0);
	while (pid < 0 && errno == EINTR);
	close(child->pidfd);
	*child = CHILD_NONE;
	if (pid < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void child_end(struct child *child)
{
	if (child->pid <= 0)
		return;
	/* Not reaped yet, so the number cannot belong to anybody else. */
	kill(child->pid, SIGKILL);
	child_wait(child);
}
