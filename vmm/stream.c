#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/stream.h"

/* Smaller pieces are worth a copy: the flush that follows a batch of them is one system call for all. */
#define COPY_BELOW 4096u

/*
 * System calls at run time: fstat, fcntl(F_GETFL), epoll_ctl (loop); readv, preadv2, recvmsg; writev, pwritev2,
 * sendmsg; shutdown, close; mmap, munmap, brk (the buffer).
 */

/* /dev/null, /dev/zero and the like (Documentation/admin-guide/devices.txt): nothing of theirs is ever waited for. */
static bool is_memory_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && major(st->st_rdev) == 1;
}

static enum stream_kind kind_of(const struct stat *st, int flags)
{
	if (S_ISSOCK(st->st_mode))
		return STREAM_SOCKET;
	if (S_ISREG(st->st_mode) || is_memory_device(st))
		return STREAM_FILE;
	return flags & O_NONBLOCK ? STREAM_NONBLOCKING : STREAM_BLOCKING;
}

int stream_open(struct stream *stream, int fd, bool in, bool out, struct error *err)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &st) < 0)
		return error_set_errno(err, "stream descriptor");
	if (flags & O_PATH || S_ISDIR(st.st_mode))
		return error_set(err, EBADF, "stream descriptor is neither a stream nor a file");
	if (in && (flags & O_ACCMODE) == O_WRONLY)
		return error_set(err, EBADF, "stream descriptor is not open for reading");
	if (out && (flags & O_ACCMODE) == O_RDONLY)
		return error_set(err, EBADF, "stream descriptor is not open for writing");
	*stream = (struct stream){.fd = fd, .kind = kind_of(&st, flags), .in = in, .out = out};
	return 0;
}

static bool is_blocking(const struct stream *stream)
{
	return stream->kind >= STREAM_BLOCKING;
}

/* Of a descriptor that hung up, epoll would tell without end, wanted or not: it rests outside the loop until something
 * is wanted of it again. */
static void stream_event(struct loop_source *source, uint32_t events)
{
	struct stream *stream = source->owner;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		stream->readable = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
		stream->writable = true;
		stream->blocked = false;
	}
	if (events & (EPOLLHUP | EPOLLERR) && !source->events)
		loop_remove(stream->loop, source);
	stream->handle(stream, events);
}

/* Makes the loop watch what is needed now. */
static void stream_rewatch(struct stream *stream)
{
	uint32_t events = (stream->wants_input ? EPOLLIN : 0) | (stream->blocked ? EPOLLOUT : 0);

	if (!stream->attached || stream->fd < 0)
		return;
	if (stream->source.added) {
		loop_watch(stream->loop, &stream->source, events);
	} else if (events) {
		stream->source.events = events;
		/* It was in the loop before; only lack of memory can keep it out now. Then the stream stands still. */
		loop_add(stream->loop, &stream->source, NULL);
	}
}

int stream_attach(struct stream *stream, struct loop *loop, void (*handle)(struct stream *, uint32_t),
		  struct error *err)
{
	stream->loop = loop;
	stream->handle = handle;
	stream->source = (struct loop_source){.fd = stream->fd, .handle = stream_event, .owner = stream};
	if (loop_add(loop, &stream->source, err) < 0)
		return -1;
	stream->attached = true;
	return 0;
}

static void release_descriptor(struct stream *stream)
{
	if (stream->attached)
		loop_remove(stream->loop, &stream->source);
	stream->attached = false;
	stream->wants_input = false;
	stream->blocked = false;
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
}

void stream_close(struct stream *stream)
{
	stream->in = false;
	stream->out = false;
	stream->finishing = false;
	stream->delivered += stream->buffered;
	stream->buffered = 0;
	release_descriptor(stream);
	free(stream->buffer);
	stream->buffer = NULL;
}

void stream_want_input(struct stream *stream, bool wanted)
{
	if (wanted == stream->wants_input)
		return;
	stream->wants_input = wanted;
	stream_rewatch(stream);
}

/* --- input ------------------------------------------------------------------------------------------------------- */

static ssize_t read_nowait(struct stream *stream, const struct iovec *iovecs, unsigned count)
{
	ssize_t got = preadv2(stream->fd, iovecs, (int)count, -1, RWF_NOWAIT);

	if (got >= 0 || errno != EOPNOTSUPP) {
		stream->kind = STREAM_BLOCKING_NOWAIT;
		return got;
	}
	stream->kind = STREAM_BLOCKING_BY_EPOLL;
	return readv(stream->fd, iovecs, (int)count);
}

static ssize_t read_once(struct stream *stream, const struct iovec *iovecs, unsigned count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)iovecs, .msg_iovlen = count};

	switch (stream->kind) {
	case STREAM_SOCKET:
		return recvmsg(stream->fd, &message, MSG_DONTWAIT);
	case STREAM_BLOCKING:
	case STREAM_BLOCKING_NOWAIT:
		return read_nowait(stream, iovecs, count);
	default:
		return readv(stream->fd, iovecs, (int)count);
	}
}

ssize_t stream_read(struct stream *stream, const struct iovec *iovecs, unsigned count)
{
	ssize_t got;

	if (is_blocking(stream) && !stream->readable) {
		errno = EAGAIN;
		return -1;
	}
	do
		got = read_once(stream, iovecs, count);
	while (got < 0 && errno == EINTR);
	stream->readable = false;
	return got;
}

void stream_end_input(struct stream *stream)
{
	if (!stream->in)
		return;
	stream->in = false;
	stream_want_input(stream, false);
	if (!stream->out)
		release_descriptor(stream);
	else if (stream->kind == STREAM_SOCKET)
		shutdown(stream->fd, SHUT_RD);
}

/* --- output ------------------------------------------------------------------------------------------------------ */

static ssize_t write_nowait(struct stream *stream, const struct iovec *iovecs, unsigned count)
{
	ssize_t put = pwritev2(stream->fd, iovecs, (int)count, -1, RWF_NOWAIT);

	if (put >= 0 || errno != EOPNOTSUPP) {
		stream->kind = STREAM_BLOCKING_NOWAIT;
		return put;
	}
	stream->kind = STREAM_BLOCKING_BY_EPOLL;
	errno = EAGAIN;
	return -1;
}

/* Only after EPOLLOUT, which promises room for this much. */
static ssize_t write_one_piece(struct stream *stream, const struct iovec *iovec)
{
	if (!stream->writable) {
		errno = EAGAIN;
		return -1;
	}
	stream->writable = false;
	return write(stream->fd, iovec->iov_base, iovec->iov_len < PIPE_BUF ? iovec->iov_len : PIPE_BUF);
}

static ssize_t write_once(struct stream *stream, const struct iovec *iovecs, unsigned count)
{
	struct msghdr message = {.msg_iov = (struct iovec *)iovecs, .msg_iovlen = count};

	switch (stream->kind) {
	case STREAM_SOCKET:
		return sendmsg(stream->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	case STREAM_BLOCKING:
	case STREAM_BLOCKING_NOWAIT:
		return write_nowait(stream, iovecs, count);
	case STREAM_BLOCKING_BY_EPOLL:
		return write_one_piece(stream, iovecs);
	default:
		return writev(stream->fd, iovecs, (int)count);
	}
}

static unsigned buffered_iovecs(const struct stream *stream, struct iovec iovecs[2])
{
	uint32_t to_end = STREAM_BUFFER_SIZE - stream->first;
	uint32_t straight = stream->buffered < to_end ? stream->buffered : to_end;

	iovecs[0] = (struct iovec){stream->buffer + stream->first, straight};
	iovecs[1] = (struct iovec){stream->buffer, stream->buffered - straight};
	return iovecs[1].iov_len ? 2 : 1;
}

static void output_taken(struct stream *stream, uint32_t size)
{
	stream->delivered += size;
	stream->buffered -= size;
	stream->first = stream->buffered ? (stream->first + size) % STREAM_BUFFER_SIZE : 0;
}

static void output_blocks(struct stream *stream)
{
	stream->blocked = true;
	stream_rewatch(stream);
}

static void end_output(struct stream *stream)
{
	stream->out = false;
	stream->finishing = false;
	if (stream->kind == STREAM_SOCKET && stream->in)
		shutdown(stream->fd, SHUT_WR);
	else if (!stream->in)
		release_descriptor(stream);
}

int stream_flush(struct stream *stream)
{
	while (stream->buffered && !stream->blocked) {
		struct iovec iovecs[2];
		ssize_t put = write_once(stream, iovecs, buffered_iovecs(stream, iovecs));

		if (put >= 0)
			output_taken(stream, (uint32_t)put);
		else if (errno == EAGAIN)
			output_blocks(stream);
		else if (errno != EINTR)
			return -1;
	}
	if (!stream->blocked)
		stream_rewatch(stream);
	if (stream->finishing && !stream->buffered)
		end_output(stream);
	return 0;
}

/* Copies; the caller's flow control made sure of the room. */
static int buffer_chain(struct stream *stream, struct chain *chain, uint32_t size)
{
	if (!stream->buffer)
		stream->buffer = malloc(STREAM_BUFFER_SIZE);
	if (!stream->buffer || size > STREAM_BUFFER_SIZE - stream->buffered) {
		errno = ENOBUFS;
		return -1;
	}
	while (size) {
		uint32_t at = (stream->first + stream->buffered) % STREAM_BUFFER_SIZE;
		uint32_t straight = STREAM_BUFFER_SIZE - at < size ? STREAM_BUFFER_SIZE - at : size;

		if (chain_read(chain, stream->buffer + at, straight) != straight) {
			errno = EPROTO;
			return -1;
		}
		stream->buffered += straight;
		size -= straight;
	}
	return 0;
}

/* Moves bytes from guest memory to the descriptor with no copy in between. Returns how many, or -1 with errno. */
static ssize_t put_directly(struct stream *stream, struct chain *chain, uint32_t size)
{
	ssize_t put;

	do
		put = stream->kind == STREAM_SOCKET
			  ? chain_read_to_socket(chain, stream->fd, size, MSG_DONTWAIT | MSG_NOSIGNAL)
			  : chain_read_to_fd(chain, stream->fd, size, -1);
	while (put < 0 && errno == EINTR);
	if (put < 0 && errno == EAGAIN) {
		output_blocks(stream);
		return 0;
	}
	if (put > 0)
		stream->delivered += (uint32_t)put;
	return put;
}

int stream_put(struct stream *stream, struct chain *chain, uint32_t size)
{
	ssize_t put = 0;

	if (!stream->out) {
		stream->delivered += size;
		return 0;
	}
	if (size >= COPY_BELOW && !is_blocking(stream) && !stream->blocked) {
		if (stream_flush(stream) < 0)
			return -1;
		if (!stream->buffered)
			put = put_directly(stream, chain, size);
		if (put < 0)
			return -1;
	}
	return (uint32_t)put < size ? buffer_chain(stream, chain, size - (uint32_t)put) : 0;
}

void stream_finish_output(struct stream *stream)
{
	if (stream->out)
		stream->finishing = true;
}

void stream_drop_output(struct stream *stream)
{
	stream->delivered += stream->buffered;
	stream->buffered = 0;
	stream->first = 0;
	stream->blocked = false;
	stream_rewatch(stream);
	if (stream->out)
		end_output(stream);
}

/* The reading end of a pipe that closes gives EPOLLERR on the writing end; a socket whose peer is gone, or a terminal,
 * gives EPOLLHUP. */
bool stream_output_is_lost(const struct stream *stream, uint32_t events)
{
	return stream->out && events & (EPOLLERR | EPOLLHUP);
}
