/*
 * PID 1 of the emulated KVM host, after `init` has set the machine up: takes the job from the control port, runs its
 * command, carries standard input, output and errors over ports of their own, reports the exit status.
 *
 * A process that the command leaves behind is killed when the command ends: the machine ends with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/random.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

#define OPEN_FILES_MAX 1048576
#define COMMAND_CGROUP "/sys/fs/cgroup/command/cgroup.procs"

static int control = -1;

/* One way of a stream: from a pipe to a port in frames, or from frames of a port to a pipe. */
struct stream {
	int from;
	int to;
	pthread_t thread;
};

static bool write_all(int fd, const void *data, size_t size)
{
	const char *p = data;

	while (size) {
		ssize_t n = write(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		p += n;
		size -= (size_t)n;
	}
	return true;
}

/* Reads exactly size bytes. A port that the other side has not opened yet reads as empty: wait for it. */
static bool read_all(int fd, void *data, size_t size)
{
	char *p = data;

	while (size) {
		ssize_t n = read(fd, p, size);

		if (n < 0 && errno != EINTR)
			return false;
		if (n == 0)
			usleep(1000);
		if (n > 0) {
			p += n;
			size -= (size_t)n;
		}
	}
	return true;
}

static void send_report(enum report_kind kind, int value, const char *text)
{
	struct report report = {.kind = kind, .value = value};

	snprintf(report.text, sizeof(report.text), "%s", text);
	write_all(control, &report, sizeof(report));
}

/* The other side kills QEMU when everything that was sent has arrived there. To power off would lose what has not. */
_Noreturn static void wait_for_the_end(void)
{
	for (;;)
		pause();
}

__attribute__((format(printf, 1, 2))) _Noreturn static void fail(const char *format, ...)
{
	char text[sizeof(((struct report *)0)->text)];
	int error = errno;
	va_list arguments;
	size_t length;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	length = strlen(text);
	if (error)
		snprintf(text + length, sizeof(text) - length, ": %s", strerror(error));
	fprintf(stderr, "machine: %s\n", text); /* the console */
	send_report(REPORT_FAILED, 0, text);
	wait_for_the_end();
}

static int open_port(enum wire_port port)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/vport0p%d", port);
	for (int attempt = 0; attempt < 10000; attempt++) {
		int fd = open(path, O_RDWR | O_CLOEXEC);

		if (fd >= 0)
			return fd;
		usleep(1000); /* ports appear one after the other once the driver has found the device */
	}
	fail("open `%s`", path);
}

/* Takes `count` strings from *next on; the array ends with NULL. */
static char **take_strings(char **next, const char *end, uint32_t count)
{
	char **strings = calloc((size_t)count + 1, sizeof(*strings));

	if (!strings)
		fail("memory for %u strings", count);
	for (uint32_t i = 0; i < count; i++) {
		char *stop = memchr(*next, 0, (size_t)(end - *next));

		errno = 0;
		if (!stop)
			fail("the job has fewer strings than it says");
		strings[i] = *next;
		*next = stop + 1;
	}
	return strings;
}

static void seed_random(const struct job *job)
{
	struct {
		struct rand_pool_info info;
		uint8_t bytes[sizeof(job->seed)];
	} pool = {.info = {.entropy_count = 8 * sizeof(job->seed), .buf_size = sizeof(job->seed)}};
	int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);

	memcpy(pool.bytes, job->seed, sizeof(pool.bytes));
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) || ioctl(fd, RNDRESEEDCRNG))
		fail("seed the random generator");
	close(fd);
}

static void set_clock(const struct job *job)
{
	struct timespec now = {.tv_sec = job->seconds, .tv_nsec = job->nanoseconds};

	if (clock_settime(CLOCK_REALTIME, &now))
		fail("set the clock");
}

static void make_directories(const char *path)
{
	char copy[4096];

	if ((size_t)snprintf(copy, sizeof(copy), "%s", path) >= sizeof(copy)) {
		errno = ENAMETOOLONG;
		fail("`%.100s`", path);
	}
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(copy, 0755);
		*slash = '/';
	}
	mkdir(copy, 0755);
}

/* The one place where the machine changes the build machine's files. cache=mmap: written through, but shared mappings
 * work. */
static void mount_output(const char *path)
{
	if (!*path)
		return;
	make_directories(path);
	if (mount("out", path, "9p", 0, "trans=virtio,version=9p2000.L,msize=512000,cache=mmap,access=any"))
		fail("mount the output directory `%s`", path);
}

/* Carries a pipe's content to a port, then the end of stream. */
static void *send_stream(void *argument)
{
	static _Thread_local struct {
		uint32_t length;
		char data[WIRE_FRAME_MAX];
	} __attribute__((packed)) frame;
	struct stream *stream = argument;
	ssize_t n;

	while ((n = read(stream->from, frame.data, sizeof(frame.data))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		frame.length = (uint32_t)n;
		if (!write_all(stream->to, &frame, sizeof(frame.length) + (size_t)n))
			return NULL;
	}
	frame.length = 0;
	write_all(stream->to, &frame, sizeof(frame.length));
	return NULL;
}

/* Carries frames of a port to a pipe. What comes after the reader has gone is read and dropped: the port stays usable.
 */
static void *receive_stream(void *argument)
{
	static _Thread_local char data[WIRE_FRAME_MAX];
	struct stream *stream = argument;
	bool open = true;
	uint32_t length;

	while (read_all(stream->from, &length, sizeof(length)) && length && length <= sizeof(data)) {
		if (!read_all(stream->from, data, length))
			break;
		open = open && write_all(stream->to, data, length);
	}
	close(stream->to);
	return NULL;
}

static void start_stream(struct stream *stream, void *(*carry)(void *))
{
	errno = pthread_create(&stream->thread, NULL, carry, stream);
	if (errno)
		fail("start a thread");
}

static void set_limits(void)
{
	struct rlimit files = {.rlim_cur = 1024, .rlim_max = OPEN_FILES_MAX};
	struct rlimit unlimited = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};

	if (setrlimit(RLIMIT_NOFILE, &files) || setrlimit(RLIMIT_NPROC, &unlimited) ||
	    setrlimit(RLIMIT_MEMLOCK, &unlimited))
		fail("set the resource limits");
}

/* In the child. Only what the command itself is to blame for is said on its standard error, in the words of a shell. */
_Noreturn static void run_command(char **arguments, char **environment, const char *directory, const int descriptors[3])
{
	sigset_t none;
	int fd;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	for (int i = 0; i < 3; i++)
		dup2(descriptors[i], i);
	fd = open(COMMAND_CGROUP, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1) {
		fprintf(stderr, "machine: join `%s`: %s\n", COMMAND_CGROUP, strerror(errno));
		_exit(125);
	}
	if (chdir(directory)) {
		fprintf(stderr, "machine: chdir to `%s`: %s\n", directory, strerror(errno));
		_exit(125);
	}
	environ = environment;
	execvp(arguments[0], arguments);
	fprintf(stderr, "machine: %s: %s\n", arguments[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Returns the command's exit status; reaps what the machine's other processes leave to PID 1 meanwhile. */
static int wait_for(pid_t command)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, 0);

		if (pid == command)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (pid < 0 && errno == ECHILD)
			return 125; /* not reached: the command is a child until here */
	}
}

static void end_everything(void)
{
	struct timespec pause_time = {.tv_nsec = 1000000};

	/* Bounded: a process in an uninterruptible wait must not hold the status back. */
	for (int attempt = 0; attempt < 3000; attempt++) {
		pid_t pid;

		kill(-1, SIGKILL);
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0)
			return;
		nanosleep(&pause_time, NULL);
	}
}

static void join_stream(struct stream *stream)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 3600; /* a slow reader is waited for; the caller's time-out is what ends it */
	pthread_timedjoin_np(stream->thread, NULL, &limit);
}

/*
 * Keeps one VM that nobody uses, with a CPU whose LAPIC is off. Whenever the number of VMs, or of LAPICs that are off,
 * leaves or reaches 0, the kernel patches a static key into its own running code; QEMU's emulation with several CPUs
 * mishandles that now and then, and a CPU spins for ever. One CPU alone is safe, and there (--icount) a VM has its true
 * cost, the first one's.
 */
static void hold_vm(void)
{
	int kvm, vm;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return;
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0 || ioctl(vm, KVM_CREATE_VCPU, 0) < 0)
		fail("create a virtual machine");
	close(kvm);
}

static void make_pipe(int ends[2])
{
	if (pipe2(ends, O_CLOEXEC))
		fail("make a pipe");
}

static int run_job(char **arguments, char **environment, const char *directory)
{
	int input[2], output[2], errors[2], status;
	struct stream to_command, from_output, from_errors;
	pid_t command;

	make_pipe(input);
	make_pipe(output);
	make_pipe(errors);
	send_report(REPORT_READY, 0, "");
	command = fork();
	if (command < 0)
		fail("fork");
	if (!command)
		run_command(arguments, environment, directory, (const int[]){input[0], output[1], errors[1]});
	close(input[0]);
	close(output[1]);
	close(errors[1]);

	to_command = (struct stream){.from = open_port(WIRE_INPUT), .to = input[1]};
	from_output = (struct stream){.from = output[0], .to = open_port(WIRE_OUTPUT)};
	from_errors = (struct stream){.from = errors[0], .to = open_port(WIRE_ERRORS)};
	start_stream(&to_command, receive_stream);
	start_stream(&from_output, send_stream);
	start_stream(&from_errors, send_stream);

	status = wait_for(command);
	end_everything();
	join_stream(&from_output);
	join_stream(&from_errors);
	return status;
}

int main(void)
{
	char *strings, *next, *end, **paths, **arguments, **environment;
	struct job job;
	int status;

	signal(SIGPIPE, SIG_IGN);
	control = open_port(WIRE_CONTROL);
	errno = 0;
	if (!read_all(control, &job, sizeof(job)) || job.magic != WIRE_MAGIC)
		fail("no job");
	strings = malloc(job.size);
	if (!strings || !read_all(control, strings, job.size))
		fail("read the job");
	next = strings;
	end = strings + job.size;
	paths = take_strings(&next, end, 2);
	arguments = take_strings(&next, end, job.arguments);
	environment = take_strings(&next, end, job.variables);

	set_clock(&job);
	seed_random(&job);
	mount_output(paths[1]);
	set_limits();
	hold_vm();
	environ = environment;
	status = run_job(arguments, environment, paths[0]);
	sync();
	if (*paths[1] && umount2(paths[1], 0))
		umount2(paths[1], MNT_DETACH);
	send_report(REPORT_STATUS, status, "");
	wait_for_the_end();
}
