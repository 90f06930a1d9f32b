/*
 * Pausing a container: the freezer of its cgroup (Documentation/admin-guide/cgroup-v2.rst "cgroup.freeze"). It takes
 * the kernel a moment to stop all processes; the order is answered when it has.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "guest-agent/connection.h"
#include "guest-agent/loop.h"

struct freezer {
	struct watch watch; /* cgroup.events, while the answer waits; its descriptor is owned */
	bool frozen;	    /* wanted, and the case when no answer waits */
	struct answer answer;
};

#define FREEZER_NONE                                                                                                   \
	{                                                                                                              \
		.watch = {.fd = -1 }                                                                                   \
	}

/* EINVAL: it is as wanted already. */
int freezer_set(struct freezer *freezer, int cgroup, bool frozen, struct answer *answer, struct error *err);

/* The container has ended. */
void freezer_release(struct freezer *freezer);
