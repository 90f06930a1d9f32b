#include "guest-agent/loop.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#define BATCH 16

static int epoll_fd = -1;

/* The events that are being served. loop_remove clears its watch here, because a callback may end another watch whose
 * event has been fetched already. */
static struct epoll_event batch[BATCH];
static int n_batch;

int loop_init(struct error *err)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		return error_set_errno(err, "epoll_create1");
	return 0;
}

int loop_add(struct watch *watch, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -1;
	watch->fd = fd;
	watch->events = events;
	return 0;
}

void loop_set(struct watch *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (watch->fd < 0 || watch->events == events)
		return;
	/* Cannot fail: the descriptor is in the set, and no memory is needed. */
	epoll_ctl(epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
	watch->events = events;
}

void loop_remove(struct watch *watch)
{
	if (watch->fd < 0)
		return;
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->fd = -1;
	for (int i = 0; i < n_batch; i++)
		if (batch[i].data.ptr == watch)
			batch[i].data.ptr = NULL;
}

int loop_run(struct error *err)
{
	for (;;) {
		n_batch = epoll_wait(epoll_fd, batch, BATCH, -1);
		if (n_batch < 0 && errno != EINTR)
			return error_set_errno(err, "epoll_wait");
		for (int i = 0; i < n_batch; i++) {
			struct watch *watch = batch[i].data.ptr;

			if (watch)
				watch->ready(watch, batch[i].events);
		}
		n_batch = 0;
	}
}
