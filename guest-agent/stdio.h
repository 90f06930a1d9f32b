/*
 * stdin, stdout and stderr of a process in a container: pipes or a terminal, and the relays between them and the host's
 * streams. Descriptors that follow them (plan.preserved) are pipes, or sockets where they go both ways.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "guest-agent/loop.h"
#include "guest-agent/plan.h"
#include "guest-agent/relay.h"

enum { STDIO_IN, STDIO_OUT, STDIO_ERR, STDIO_COUNT };

/* What a process gets as its descriptors 0, 1, 2 and so on. */
struct stdio_fds {
	int list[STDIO_COUNT + PLAN_PRESERVED_MAX]; /* close-on-exec */
	size_t n;
};

struct stdio {
	struct relay relays[STDIO_COUNT];
	struct stdio_both {
		struct relay in, out; /* from the host, to the host */
	} * preserved;
	size_t n_preserved;
	int connecting;	       /* streams that are not connected yet */
	bool quiet;	       /* no callbacks now */
	bool both_ways;	       /* one stream for input and output */
	int terminal;	       /* -1, or the master of its terminal, for the window size */
	int slave;	       /* held open, so that a terminal that nobody has open for a moment is not at its end */
	struct watch patience; /* a timer, while output of a killed process waits for its reader */
	uint64_t moved;	       /* by all streams, at the timer's last tick */
	/* A stream has connected (0) or could not (errno): then it has been given up. */
	void (*connected)(struct stdio *stdio, int code);
	/* A stream has ended; after stdio_finish, when stdio_is_draining says so, all output is delivered or given up.
	 */
	void (*ended)(struct stdio *stdio);
	void *owner;
};

/* Before anything else. */
void stdio_init(struct stdio *stdio, void *owner, void (*connected)(struct stdio *stdio, int code),
		void (*ended)(struct stdio *stdio));

/* Begins to connect to the host's ports that the plan names (0: /dev/null; without a terminal's, which comes later) and
 * makes the process's descriptors for them: pipes that belong to `user`, so that /dev/stdout can be opened again. Equal
 * ports for stdout and stderr are one pipe, so that their order is kept. Returns 0, or -1 with err; fds is for
 * stdio_close_fds in either case. */
int stdio_open(struct stdio *stdio, const struct plan *plan, uid_t user, struct stdio_fds *fds, struct error *err);
void stdio_close_fds(struct stdio_fds *fds);

/* Begins to connect a terminal to the host's ports of stdin and stdout. Takes over the master, which comes from a
 * container and is looked at first. The terminal hangs up when nobody reads what it shows any more, or when the one
 * stream that serves both directions ends. */
int stdio_open_terminal(struct stdio *stdio, int master, const uint32_t ports[STDIO_COUNT], struct error *err);

int stdio_resize(struct stdio *stdio, unsigned columns, unsigned rows, struct error *err);

/* The process has ended: input that nobody read is lost, output that is there is delivered. That of a process that was
 * killed does not wait long for a reader that stands still. Without a callback: stdio_is_draining tells whether `ended`
 * is still to come. */
void stdio_finish(struct stdio *stdio, bool killed);

/* From now on output does not wait long for a reader that stands still. */
void stdio_lose_patience(struct stdio *stdio);

bool stdio_is_draining(const struct stdio *stdio);

/* Gives everything up at once, without a callback. */
void stdio_close(struct stdio *stdio);
