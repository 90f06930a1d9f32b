/*
 * The agent's event loop: one thread, level-triggered epoll. A watch is embedded in whatever owns the descriptor; the
 * loop neither allocates nor closes anything.
 */
#pragma once

#include <stdint.h>
#include <sys/epoll.h>

#include "common/error.h"

struct watch {
	int fd; /* -1: not watched */
	uint32_t events;
	void (*ready)(struct watch *watch, uint32_t events);
};

#define WATCH_NONE                                                                                                     \
	{                                                                                                              \
		.fd = -1                                                                                               \
	}

int loop_init(struct error *err);

/* Starts watching fd for events (EPOLLIN...; EPOLLERR and EPOLLHUP come in any case). The watch must stay where it is
 * until loop_remove. Return 0 or -1 with errno. */
int loop_add(struct watch *watch, int fd, uint32_t events);

/* Changes what is waited for; does nothing when it is the same. */
void loop_set(struct watch *watch, uint32_t events);

/* Stops watching. The descriptor stays open; the watch may be freed at once, also inside of its own callback. */
void loop_remove(struct watch *watch);

/* Serves events until an error, which is all that ever ends it. */
int loop_run(struct error *err);
