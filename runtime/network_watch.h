/*
 * hull-net: gives a container what the network namespace holds that it was started in, and what appears, changes or
 * goes there while the container runs. A process of its own, because hull has no daemon and the VMM opens nothing. It
 * ends with the process that stands for the container, and leaves the namespace as the engine made it.
 *
 * It holds no more than the right to administer that one network namespace, and connections to the VMM and the agent.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"
#include "runtime/spawn.h"

/* What it writes when the container has its network; anything else is an error. */
#define NETWORK_READY "ready"

struct network_watcher {
	const char *id; /* the container */
	int control;	/* connection to the VMM */
	int agent;	/* connection to the agent */
	int owner;	/* pidfd of the process that stands for the container */
	uint32_t owner_pid;
	int log;
	int ready; /* where NETWORK_READY is to be written */
};

/* Starts it in the network namespace. cgroup is a descriptor or -1. */
int network_watcher_spawn(const struct network_watcher *watcher, int namespace, int cgroup,
			  const struct lifeline *lifeline, struct child *child, struct error *err);

/* What it does, until the container has ended: returns 0 then, or -1 when it could not even begin. */
int network_watcher_run(const struct network_watcher *watcher, struct error *err);
