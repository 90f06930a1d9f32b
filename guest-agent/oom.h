/*
 * Telling the host of processes that the kernel killed for want of memory: an order that is answered when there is
 * something to tell, or when the container has ended.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "guest-agent/connection.h"
#include "guest-agent/loop.h"

#define OOM_WAITERS 4 /* orders that may wait at a time, for each container */

struct oom_watch {
	struct watch watch; /* memory.events; its descriptor is owned */
	int cgroup;	    /* not owned */
	bool reports;	    /* the first kill goes to the VMM, once */
	uint64_t seen;
	struct answer answers[OOM_WAITERS];
};

#define OOM_WATCH_NONE                                                                                                 \
	{                                                                                                              \
		.watch = {.fd = -1 }                                                                                   \
	}

/* The first kill is reported to the VMM, before the container's end is. */
int oom_report(struct oom_watch *oom, int cgroup, struct error *err);

/* Answers when more than `known` kills have happened: {"oomKills": N, "ended": false}. EBUSY: too many wait. */
int oom_wait(struct oom_watch *oom, int cgroup, uint64_t known, struct answer *answer, struct error *err);

/* The container's process has ended: whoever waits hears the last count, with "ended": true. */
void oom_container_ended(struct oom_watch *oom);

void oom_release(struct oom_watch *oom);
