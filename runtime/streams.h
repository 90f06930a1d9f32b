/*
 * The caller's stdin, stdout and stderr as streams of the virtual machine.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"

enum {
	STDIO_IN,
	STDIO_OUT,
	STDIO_ERR,
	STDIO_COUNT,
};

/* Of a terminal; zeros: not known. */
struct window {
	unsigned columns, rows;
};

struct stdio {
	int fds[STDIO_COUNT]; /* numbers above 2, close-on-exec; -1: /dev/null */
	bool merged;	      /* stderr is what stdout is (2>&1): fds[STDIO_ERR] is -1, one stream serves both */
	bool both_ways;	      /* a terminal whose fds[STDIO_IN] is stdout as well: fds[STDIO_OUT] is -1 */
	struct window window; /* of a terminal */
};

#define STDIO_NONE ((struct stdio){.fds = {-1, -1, -1}})

void stdio_release(struct stdio *stdio);
#define cleanup_stdio __attribute__((cleanup(stdio_release)))

/* Takes the descriptors 0, 1 and 2 as they are now. Fifos and terminals are opened again without blocking: that changes
 * nothing for others who hold the same, which O_NONBLOCK on the inherited descriptor would. */
int stdio_take(struct stdio *stdio, struct error *err);

/* A copy of a descriptor, close-on-exec and above 2; of a fifo or a terminal one that does not block, where that can be
 * had. input: it is to be read, else written. Returns -1 with errno. */
int stream_copy(int fd, bool input);

/* Opens /dev/null for those of the descriptors 0, 1 and 2 that are closed, so that nothing else lands on them. */
int stdio_fill_gaps(struct error *err);

/* Replaces the descriptors 0 and 1 by /dev/null, so that the other ends of pipes see what the container does with
 * its own. */
int stdio_let_go(struct error *err);
