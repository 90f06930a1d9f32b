/*
 * The host's end of a vsock connection: a pipe, socket, terminal or file, and the output that it could not take yet.
 *
 * Theory of operation. Nothing here may block, yet a descriptor that is shared with the caller's shell must not be made
 * O_NONBLOCK: that flag belongs to the open file, not to the descriptor. So each kind is used in the way that is safe
 * for it:
 *   socket       MSG_DONTWAIT
 *   nonblocking  O_NONBLOCK was set by whoever opened it: reads and writes of any size
 *   file         regular files and /dev/null: always ready
 *   blocking     RWF_NOWAIT where the kernel knows it for this kind of file; elsewhere one read, or one write of at
 * most PIPE_BUF bytes, for each time that epoll calls it ready
 *
 * Output goes straight from guest memory to the descriptor as long as that takes it; what it does not take waits in a
 * buffer of STREAM_BUFFER_SIZE, which is made at first need. The caller's flow control keeps it from overflowing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/error.h"
#include "vmm/loop.h"
#include "vmm/virtio/queue.h"

#define STREAM_BUFFER_SIZE (256u << 10) /* bytes, a power of two */

enum stream_kind {
	STREAM_SOCKET,
	STREAM_NONBLOCKING,
	STREAM_FILE,
	STREAM_BLOCKING,	 /* and RWF_NOWAIT not yet tried */
	STREAM_BLOCKING_NOWAIT,	 /* RWF_NOWAIT works */
	STREAM_BLOCKING_BY_EPOLL /* it does not */
};

/* Plain data; embedded in its user, must stay where it is between stream_attach and stream_close. */
struct stream {
	int fd; /* -1: closed, or never there */
	enum stream_kind kind;
	bool in;       /* the host's data still flows to the guest */
	bool out;      /* the guest's data still flows to the host */
	bool readable; /* epoll said so, for kinds that need to know */
	bool writable;
	bool wants_input;
	bool blocked;	    /* output waits for EPOLLOUT */
	bool finishing;	    /* the end of the output follows what is buffered */
	uint32_t delivered; /* bytes of output that need no room here any more: taken or dropped; free-running */
	uint32_t first;	    /* of the buffer */
	uint32_t buffered;  /* bytes in it */
	uint8_t *buffer;
	struct loop *loop;
	struct loop_source source;
	bool attached;
	/* Something happened: events as epoll gives them. Input is to be read by stream_read, output to be moved on by
	 * stream_flush, and EPOLLERR or EPOLLHUP may mean that nobody reads any more: stream_output_is_lost. */
	void (*handle)(struct stream *stream, uint32_t events);
};

/* Fills in stream for fd. Fails with EBADF when fd cannot be read (in) or written (out). Takes fd over on success. */
int stream_open(struct stream *stream, int fd, bool in, bool out, struct error *err);

/* Starts watching the descriptor: at first for errors alone. */
int stream_attach(struct stream *stream, struct loop *loop, void (*handle)(struct stream *, uint32_t),
		  struct error *err);

/* Forgets buffered output and closes. Harmless when closed. */
void stream_close(struct stream *stream);

/* Whether handle is to be called when there is input. */
void stream_want_input(struct stream *stream, bool wanted);

/* Reads what is there. Returns bytes, 0 at the end of the input, -1 with EAGAIN (want input to hear when) or another
 * errno. */
ssize_t stream_read(struct stream *stream, const struct iovec *iovecs, unsigned count);
/* No more input is wanted. */
void stream_end_input(struct stream *stream);

/* Takes the next size bytes of the chain; there must be room for them in the buffer. May leave them buffered without
 * an attempt to write: stream_flush follows. Returns 0, or -1 with errno when the output is lost. */
int stream_put(struct stream *stream, struct chain *chain, uint32_t size);
/* Writes what is buffered as far as the descriptor takes it, and ends the output when that was asked for and nothing is
 * left. Returns 0, or -1 with errno when the output is lost. */
int stream_flush(struct stream *stream);
/* The output ends when what is buffered has been taken: a socket is shut down for writing, anything else closed unless
 * it is also read. stream_flush follows. */
void stream_finish_output(struct stream *stream);
/* Drops what is buffered and what may come. */
void stream_drop_output(struct stream *stream);

/* True when these events say that nobody will read the output. */
bool stream_output_is_lost(const struct stream *stream, uint32_t events);
