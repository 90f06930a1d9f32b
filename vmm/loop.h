/*
 * The event loop: one thread serves all devices. Sources are descriptors watched with epoll (level-triggered) and
 * timers.
 *
 * A handler runs with the loop's lock held. The threads of the vCPUs take that lock while they are in the registers of
 * a device, so that handlers and register accesses never see each other half done; device code takes no lock itself.
 * Sources and timers are touched on the loop's thread only, or before loop_run; loop_watch from any that holds the
 * lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "common/error.h"

struct loop;

/* Embedded in its user; must stay where it is from loop_add to loop_remove. A handler may remove and free any source,
 * its own too. */
struct loop_source {
	int fd;
	uint32_t events; /* EPOLLIN, EPOLLOUT; 0 watches for errors and hang-up only */
	void (*handle)(struct loop_source *source, uint32_t events); /* on the loop's thread */
	void *owner;
	bool added;    /* kept by the loop */
	bool unpolled; /* kept by the loop: the descriptor cannot be polled (a regular file, /dev/null) and counts as
			  always ready */
};

struct loop_timer {
	void (*handle)(struct loop_timer *timer);
	void *owner;
	uint64_t deadline; /* CLOCK_MONOTONIC nanoseconds; 0: not armed */
	struct loop_timer *next;
};

struct loop *loop_new(struct error *err);
void loop_free(struct loop *loop);

int loop_add(struct loop *loop, struct loop_source *source, struct error *err);
/* Changes which events are watched; cheap when they stay the same. With 0 an unpolled source rests. */
void loop_watch(struct loop *loop, struct loop_source *source, uint32_t events);
/* Forgets the source. The descriptor stays open. Harmless when it was not added. */
void loop_remove(struct loop *loop, struct loop_source *source);

/* Arms (or moves) a timer to fire once, delay nanoseconds from now; loop_timer_cancel is harmless when it is not armed.
 */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay);
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer);

/* Runs until loop_stop. Returns the value given to the first loop_stop. */
int loop_run(struct loop *loop);
/* From any thread that holds the lock. */
void loop_stop(struct loop *loop, int value);

/* For other threads: hold the lock around whatever belongs to a device. */
void loop_lock(struct loop *loop);
/* False, at once, when another thread holds it. */
bool loop_try_lock(struct loop *loop);
void loop_unlock(struct loop *loop);
/* For a thread that holds the lock: has function run on the loop's thread and waits for its end. The lock is given up
 * meanwhile, so what was read before may have changed. On the loop's own thread, and before loop_run has been entered,
 * function is called directly. */
void loop_call(struct loop *loop, void (*function)(void *argument), void *argument);
