#include "runtime/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"

#define FIELD_START 22

int process_parse_stat(const char *text, char *state, uint64_t *start)
{
	/* The name in parentheses may itself hold spaces and parentheses. */
	const char *position = strrchr(text, ')');
	char *end;

	if (!position || position[1] != ' ' || position[2] == '\0')
		return -1;
	position += 2;
	*state = *position;
	for (int field = 3; field < FIELD_START; field++) {
		position = strchr(position, ' ');
		if (!position)
			return -1;
		position++;
	}
	errno = 0;
	*start = strtoull(position, &end, 10);
	return errno == 0 && end != position ? 0 : -1;
}

static int read_stat(pid_t pid, char *state, uint64_t *start)
{
	char path[32], text[1024];
	cleanup_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	return process_parse_stat(text, state, start);
}

int process_identify(pid_t pid, struct process *process, struct error *err)
{
	char state;

	if (read_stat(pid, &state, &process->start) < 0 || state == 'Z' || state == 'X')
		return error_set(err, ESRCH, "process %d has ended", (int)pid);
	process->pid = pid;
	return 0;
}

bool process_alive(const struct process *process)
{
	struct process now = {0};

	return process->pid > 0 && process_identify(process->pid, &now, NULL) == 0 && now.start == process->start;
}

int process_open(const struct process *process)
{
	cleanup_close int fd = -1;

	if (process->pid <= 0) {
		errno = ESRCH;
		return -1;
	}
	fd = (int)syscall(SYS_pidfd_open, process->pid, 0);
	if (fd < 0) {
		/* EINVAL: its parent is reaping it this moment. */
		if (errno == EINVAL)
			errno = ESRCH;
		return -1;
	}
	/* Checked after opening: what the descriptor names cannot change any more. */
	if (!process_alive(process)) {
		errno = ESRCH;
		return -1;
	}
	return take_fd(&fd);
}

static bool wait_for_end(int fd, int timeout_ms)
{
	struct pollfd ended = {.fd = fd, .events = POLLIN};
	int n;

	do
		n = poll(&ended, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n != 0;
}

bool process_wait(const struct process *process, int timeout_ms)
{
	cleanup_close int fd = process_open(process);

	return fd < 0 || wait_for_end(fd, timeout_ms);
}

int process_end(const struct process *process, int timeout_ms, struct error *err)
{
	cleanup_close int fd = process_open(process);

	if (fd < 0 && errno == ESRCH)
		return 0;
	if (fd < 0)
		return error_set_errno(err, "open process %d", (int)process->pid);
	if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return error_set_errno(err, "kill process %d", (int)process->pid);
	if (!wait_for_end(fd, timeout_ms))
		return error_set(err, ETIMEDOUT, "process %d did not end within %d ms of SIGKILL", (int)process->pid,
				 timeout_ms);
	return 0;
}

int64_t process_cpu_time(pid_t pid)
{
	clockid_t clock;
	struct timespec used;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) < 0)
		return -1;
	return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

pid_t process_of(int pidfd)
{
	cleanup_file FILE *info = NULL;
	char path[64], line[128];
	int pid;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	info = fopen(path, "re");
	while (info && fgets(line, sizeof(line), info))
		if (sscanf(line, "Pid: %d", &pid) == 1)
			return pid > 0 ? pid : 0;
	return 0;
}

static int64_t thread_starved(int tasks, const char *thread)
{
	char path[NAME_MAX + sizeof("/schedstat")];
	cleanup_file FILE *file = NULL;
	long long ran, waited;
	int fd;

	snprintf(path, sizeof(path), "%s/schedstat", thread);
	fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
	file = fd < 0 ? NULL : fdopen(fd, "r");
	return file && fscanf(file, "%lld %lld", &ran, &waited) == 2 ? waited : 0;
}

int64_t process_starved(pid_t pid)
{
	struct dirent *entry;
	int64_t most = 0;
	char path[32];
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		int64_t waited = entry->d_name[0] == '.' ? 0 : thread_starved(dirfd(tasks), entry->d_name);

		if (waited > most)
			most = waited;
	}
	if (tasks)
		closedir(tasks);
	return most;
}
