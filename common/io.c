#include "common/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

int read_exactly(int fd, void *data, size_t size)
{
	char *position = data;

	while (size > 0) {
		ssize_t n = read(fd, position, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ENODATA;
		if (n <= 0)
			return -1;
		position += n;
		size -= (size_t)n;
	}
	return 0;
}

int write_exactly(int fd, const void *data, size_t size)
{
	const char *position = data;

	while (size > 0) {
		ssize_t n = write(fd, position, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		position += n;
		size -= (size_t)n;
	}
	return 0;
}

int read_stream(int fd, size_t limit, char **data, size_t *size, struct error *err)
{
	size_t capacity = 16384, used = 0;
	cleanup_free char *buffer = malloc(capacity + 1);

	if (!buffer)
		return error_set_errno(err, "allocate %zu bytes", capacity);
	for (;;) {
		ssize_t n = read(fd, buffer + used, capacity - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, "read");
		if (n == 0)
			break;
		used += (size_t)n;
		if (used > limit)
			return error_set(err, EFBIG, "larger than %zu bytes", limit);
		if (used == capacity) {
			char *larger = realloc(buffer, 2 * capacity + 1);

			if (!larger)
				return error_set_errno(err, "allocate %zu bytes", 2 * capacity);
			buffer = larger;
			capacity *= 2;
		}
	}
	buffer[used] = '\0';
	*data = take_pointer(buffer);
	if (size)
		*size = used;
	return 0;
}

int read_file_at(int dir_fd, const char *path, size_t limit, char **data, size_t *size, struct error *err)
{
	/* O_NONBLOCK: a fifo in the place of a file must not hang the caller. */
	cleanup_close int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return error_set_errno(err, "open `%s`", path);
	if (read_stream(fd, limit, data, size, err) < 0)
		return error_prefix(err, "read `%s`", path);
	return 0;
}

int write_file_atomically_at(int dir_fd, const char *path, const void *data, size_t size, mode_t mode,
			     struct error *err)
{
	char temporary[512];
	cleanup_close int fd = -1;

	if ((size_t)snprintf(temporary, sizeof(temporary), "%s.%ld.tmp", path, (long)getpid()) >= sizeof(temporary))
		return error_set(err, ENAMETOOLONG, "write `%s`: name too long", path);
	fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return error_set_errno(err, "create `%s`", temporary);
	if (write_exactly(fd, data, size) < 0 || renameat(dir_fd, temporary, dir_fd, path) < 0) {
		error_set_errno(err, "write `%s`", path);
		unlinkat(dir_fd, temporary, 0);
		return -1;
	}
	return 0;
}

ssize_t send_with_fds(int socket, const void *data, size_t size, const int *fds, size_t n_fds, int flags)
{
	union {
		char space[CMSG_SPACE(IO_MAX_FDS * sizeof(int))];
		struct cmsghdr alignment;
	} control = {0};
	struct iovec iov = {.iov_base = (void *)data, .iov_len = size};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (n_fds > IO_MAX_FDS) {
		errno = EINVAL;
		return -1;
	}
	if (n_fds > 0) {
		struct cmsghdr *header;

		message.msg_control = control.space;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(header), fds, n_fds * sizeof(int));
	}
	do
		n = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n;
}

static void collect_fds(struct msghdr *message, int *fds, size_t room, size_t *n_fds)
{
	*n_fds = 0;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
		size_t count;

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
			if (*n_fds < room) {
				fds[(*n_fds)++] = fd;
				continue;
			}
			close(fd);
			message->msg_flags |= MSG_CTRUNC;
		}
	}
}

ssize_t receive_with_fds(int socket, void *data, size_t size, int *fds, size_t *n_fds, int flags)
{
	union {
		char space[CMSG_SPACE(IO_MAX_FDS * sizeof(int))];
		struct cmsghdr alignment;
	} control;
	struct iovec iov = {.iov_base = data, .iov_len = size};
	struct msghdr message = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)};
	size_t room = *n_fds;
	ssize_t n;

	do
		n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	*n_fds = 0;
	if (n < 0)
		return -1;
	collect_fds(&message, fds, room, n_fds);
	if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		for (size_t i = 0; i < *n_fds; i++)
			close(fds[i]);
		*n_fds = 0;
		errno = EMSGSIZE;
		return -1;
	}
	return n;
}

int set_cloexec(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFD);

	if (flags < 0)
		return -1;
	return fcntl(fd, F_SETFD, on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC);
}

int set_nonblocking(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -1;
	return fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	unsigned long long number;
	char *end;

	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || number < min || number > max)
		return -1;
	*value = number;
	return 0;
}
