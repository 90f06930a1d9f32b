/*
 * Waiting for an answer from a guest that may never give one: until a descriptor is ready, or the machine has ended, or
 * a signal asks hull to stop, or the time is over, or the guest turns out to be doing nothing at all. The time is the
 * guest's: on a host with more to do than CPUs to do it, what the machine spent waiting for one does not count.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

/* Seconds that the start of a guest may take; the environment's HULL_START_TIMEOUT overrides it. */
#define WATCH_START_TIMEOUT 60

enum watch_event {
	WATCH_NOTHING,
	WATCH_VMM_ENDED,
	WATCH_FSD_ENDED,
	WATCH_SIGNAL,
	WATCH_TIMEOUT,
	WATCH_FAILURE,
};

struct watch {
	int vmm, fsd;	    /* pidfds, or -1 */
	int signals;	    /* signalfd, or -1 */
	int64_t deadline;   /* CLOCK_MONOTONIC nanoseconds, or 0: none */
	int64_t starved;    /* nanoseconds by which the deadline has been put off, as process_starved counts */
	unsigned timeout;   /* the same in seconds, for the message */
	pid_t idle_process; /* a process that must use CPU time while we wait, or 0 */

	enum watch_event event; /* set when watch_wait fails */
	int signal;		/* with WATCH_SIGNAL */
};

#define WATCH_NONE ((struct watch){.vmm = -1, .fsd = -1, .signals = -1})

/* A wait ended since the machine did, or what spoke for it stopped speaking: its log has the reason. */
static inline bool watch_lost_machine(const struct watch *watch)
{
	return watch->event == WATCH_VMM_ENDED || watch->event == WATCH_FSD_ENDED || watch->event == WATCH_FAILURE;
}

/* Sets the deadline that many seconds from now. */
void watch_set_timeout(struct watch *watch, unsigned seconds);

/* *seconds, the default, is replaced by HULL_START_TIMEOUT where that is set. */
int watch_start_timeout(unsigned *seconds, struct error *err);

/* Waits until fd has one of events (poll bits; an error or hang-up counts). Returns 0, or -1 with watch->event set. */
int watch_wait(struct watch *watch, int fd, short events, struct error *err);
