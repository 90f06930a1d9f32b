#include "runtime/preserve.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/io.h"
#include "common/vmm_control.h"
#include "runtime/agent.h"
#include "runtime/streams.h"

#define FIRST 3
#define NULL_DEVICE makedev(1, 3)

static int refuse(int fd, const char *what, struct error *err)
{
	return error_set(
	    err, ENOTSUP,
	    "--preserve-fds: descriptor %d is %s: only pipes, fifos, files that are open in one direction and "
	    "connected stream sockets can be relayed into a guest",
	    fd, what);
}

static const char *kind_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFCHR:
		return "a character device";
	case S_IFBLK:
		return "a block device";
	default:
		return "no stream"; /* an epoll set, an event counter, a timer … */
	}
}

static int option_of(int fd, int name)
{
	int value = 0;
	socklen_t size = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? -1 : value;
}

static int check_socket(int fd, uint32_t *flags, struct error *err)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);

	if (option_of(fd, SO_TYPE) != SOCK_STREAM)
		return refuse(fd, "a socket that is no stream", err);
	if (option_of(fd, SO_ACCEPTCONN) != 0)
		return refuse(fd, "a listening socket", err);
	if (getpeername(fd, (struct sockaddr *)&peer, &size) < 0)
		return refuse(fd, "a socket that is not connected", err);
	*flags = VMM_STREAM_IN | VMM_STREAM_OUT;
	return 0;
}

/* A file is read from where its offset is, or written there, as when it is somebody's stdin or stdout. */
static int check_one_way(int fd, const char *kind, int mode, uint32_t *flags, struct error *err)
{
	char what[64];

	snprintf(what, sizeof(what), "a %s that is open for both reading and writing", kind);
	if (mode == O_RDWR)
		return refuse(fd, what, err);
	*flags = mode == O_RDONLY ? VMM_STREAM_IN : VMM_STREAM_OUT;
	return 0;
}

/* flags stay 0 for /dev/null, which the guest has too. */
static int check(int fd, uint32_t *flags, struct error *err)
{
	int mode = fcntl(fd, F_GETFL);
	struct stat status;

	if (mode < 0 || fstat(fd, &status) < 0)
		return error_set_errno(err, "--preserve-fds: descriptor %d", fd);
	*flags = 0;
	if (mode & O_PATH)
		return refuse(fd, "open with O_PATH", err);
	if (S_ISCHR(status.st_mode) && status.st_rdev == NULL_DEVICE)
		return 0;
	if (S_ISFIFO(status.st_mode) || S_ISREG(status.st_mode))
		return check_one_way(fd, S_ISREG(status.st_mode) ? "file" : "fifo", mode & O_ACCMODE, flags, err);
	if (S_ISSOCK(status.st_mode))
		return check_socket(fd, flags, err);
	if (isatty(fd))
		return refuse(fd, "a terminal", err);
	return refuse(fd, kind_name(status.st_mode), err);
}

/* What survived the execve of this program cannot be close-on-exec: hull's own descriptors are. */
static int is_inherited(int fd)
{
	int flags = fcntl(fd, F_GETFD);

	return flags >= 0 && !(flags & FD_CLOEXEC);
}

static int take_one(int fd, struct preserved_stream *stream, struct error *err)
{
	stream->fd = -1;
	stream->port = 0;
	if (check(fd, &stream->flags, err) < 0)
		return -1;
	if (stream->flags != 0) {
		stream->fd = stream_copy(fd, stream->flags == VMM_STREAM_IN);
		if (stream->fd < 0)
			return error_set_errno(err, "duplicate descriptor %d", fd);
	}
	return 0;
}

unsigned preserved_activation(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	uint64_t own, n;

	if (!pid || !count || parse_u64(pid, 1, INT_MAX, &own) < 0 || own != (uint64_t)getpid() ||
	    parse_u64(count, 0, INT_MAX, &n) < 0)
		return 0;
	return (unsigned)n;
}

/* All are looked at before one is closed: a copy may land on a number that has become free, and would be taken for the
 * caller's. */
int preserved_take(unsigned n, struct preserved *preserved, struct error *err)
{
	preserved->n = 0;
	preserved->activating = 0;
	if (n > PRESERVED_MAX)
		return error_set(err, ENOTSUP, "--preserve-fds: no more than %d descriptors can be relayed",
				 PRESERVED_MAX);
	for (unsigned i = 0; i < n; i++)
		if (!is_inherited(FIRST + (int)i))
			return error_set(
			    err, EBADF,
			    "--preserve-fds: unable to stat preserved-fd %u (of %u): stat /proc/self/fd/%u: "
			    "no such file or directory",
			    i, n, FIRST + i);
	for (unsigned i = 0; i < n; i++) {
		if (take_one(FIRST + (int)i, &preserved->list[i], err) < 0)
			return -1;
		preserved->n++;
	}
	/* Nobody else shall hold off the end of a stream. */
	for (unsigned i = 0; i < n; i++)
		close(FIRST + (int)i);
	return 0;
}

int preserved_take_with_activation(unsigned n, struct preserved *preserved, struct error *err)
{
	unsigned activating = preserved_activation();

	if (n > PRESERVED_MAX || activating > PRESERVED_MAX)
		return preserved_take(PRESERVED_MAX + 1, preserved, err);
	if (preserved_take(activating + n, preserved, err) < 0)
		return -1;
	preserved->activating = activating;
	return 0;
}

static void let_go(struct preserved_stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
}

void preserved_release(struct preserved *preserved)
{
	for (size_t i = 0; i < preserved->n; i++)
		let_go(&preserved->list[i]);
	preserved->n = 0;
}

void preserved_number(struct preserved *preserved, uint32_t first)
{
	for (size_t i = 0; i < preserved->n; i++)
		preserved->list[i].port = preserved->list[i].fd >= 0 ? first + (uint32_t)i : 0;
}

int preserved_register(struct preserved *preserved, int control, struct watch *watch, struct error *err)
{
	for (size_t i = 0; i < preserved->n; i++) {
		struct preserved_stream *stream = &preserved->list[i];

		if (stream->fd < 0)
			continue;
		if (vmm_control_stream(control, watch, stream->fd, stream->flags, &stream->port, err) < 0)
			return -1;
		let_go(stream);
	}
	return 0;
}

size_t preserved_outputs(const struct preserved *preserved, uint32_t *ports)
{
	size_t n = 0;

	for (size_t i = 0; i < preserved->n; i++)
		if (preserved->list[i].port && preserved->list[i].flags & VMM_STREAM_OUT)
			ports[n++] = preserved->list[i].port;
	return n;
}

void preserved_write(const struct preserved *preserved, FILE *out)
{
	if (preserved->n == 0)
		return;
	fputs(",\"preserved\":[", out);
	for (size_t i = 0; i < preserved->n; i++) {
		const struct preserved_stream *stream = &preserved->list[i];

		if (i > 0)
			fputc(',', out);
		if (stream->port)
			fprintf(out, "{\"port\":%u,\"in\":%s,\"out\":%s}", stream->port,
				stream->flags & VMM_STREAM_IN ? "true" : "false",
				stream->flags & VMM_STREAM_OUT ? "true" : "false");
		else
			fputs("null", out);
	}
	fputc(']', out);
	if (preserved->activating > 0)
		fprintf(out, ",\"activating\":%u", preserved->activating);
}
