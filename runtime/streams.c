#include "runtime/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NULL_DEVICE makedev(1, 3)

void stdio_release(struct stdio *stdio)
{
	for (int i = 0; i < STDIO_COUNT; i++) {
		if (stdio->fds[i] >= 0)
			close(stdio->fds[i]);
		stdio->fds[i] = -1;
	}
}

static int reopen(int fd, bool input)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, (input ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* Fails where the other end of the fifo is gone or the fifo belongs to somebody else; the descriptor itself serves
 * then. It also does where it is open for both directions: that holds off the end of the stream. */
static int reopen_fifo(int fd, bool input)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || (flags & O_ACCMODE) != (input ? O_RDONLY : O_WRONLY))
		return -1;
	return reopen(fd, input);
}

int stream_copy(int fd, bool input)
{
	struct stat status;
	int copy = -1;

	if (fstat(fd, &status) < 0)
		return -1;
	if (S_ISFIFO(status.st_mode))
		copy = reopen_fifo(fd, input);
	else if (S_ISCHR(status.st_mode) && isatty(fd))
		copy = reopen(fd, input);
	return copy >= 0 ? copy : fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

/* A job in the background would be stopped when it reads its terminal. The VMM, in a session of its own, would get what
 * is typed for the shell: such a terminal has nothing to read. */
static bool is_in_background(int fd)
{
	pid_t foreground = tcgetpgrp(fd);

	return foreground > 0 && foreground != getpgrp();
}

static int take_one(int fd, int *taken, struct error *err)
{
	struct stat status;

	*taken = -1;
	if (fstat(fd, &status) < 0)
		return errno == EBADF ? 0 : error_set_errno(err, "stat descriptor %d", fd);
	if (S_ISCHR(status.st_mode) && status.st_rdev == NULL_DEVICE)
		return 0;
	if (fd == STDIN_FILENO && S_ISCHR(status.st_mode) && is_in_background(fd))
		return 0;
	*taken = stream_copy(fd, fd == STDIN_FILENO);
	return *taken < 0 ? error_set_errno(err, "duplicate descriptor %d", fd) : 0;
}

/* One stream for both keeps the order in which the container wrote. Two descriptors of one regular file are only the
 * same when they share its offset. */
static bool same_stream(int a, int b)
{
	struct stat first, second;

	if (fstat(a, &first) < 0 || fstat(b, &second) < 0 || first.st_dev != second.st_dev ||
	    first.st_ino != second.st_ino)
		return false;
	if (S_ISFIFO(first.st_mode) || S_ISCHR(first.st_mode))
		return true;
	return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b) == 0;
}

int stdio_take(struct stdio *stdio, struct error *err)
{
	*stdio = STDIO_NONE;
	for (int i = 0; i < STDIO_COUNT; i++) {
		if (i == STDIO_ERR && stdio->fds[STDIO_OUT] >= 0 && same_stream(STDOUT_FILENO, STDERR_FILENO)) {
			stdio->merged = true;
			break;
		}
		if (take_one(i, &stdio->fds[i], err) < 0) {
			stdio_release(stdio);
			return -1;
		}
	}
	return 0;
}

int stdio_fill_gaps(struct error *err)
{
	for (int fd = 0; fd < STDIO_COUNT; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		/* The lowest free number is taken, which is fd. */
		if (open("/dev/null", O_RDWR) != fd)
			return error_set_errno(err, "open /dev/null in the place of descriptor %d", fd);
	}
	return 0;
}

int stdio_let_go(struct error *err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return error_set_errno(err, "open /dev/null");
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0) {
		error_set_errno(err, "replace stdin and stdout");
		close(null);
		return -1;
	}
	close(null);
	return 0;
}
