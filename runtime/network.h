/*
 * A container's network. The engine prepares a network namespace on the host, in which the process that stands for the
 * container lives: one that it names by a path, or the one that is made with that process and that its hooks, or it
 * itself between create and start, put interfaces into. At start, hull looks into it. Where there are interfaces, a
 * process of its own, hull-net (network_watch.h), gives the container the same in the guest and keeps it so.
 *
 * Containers of one sandbox that share a network namespace have it from the one that brought it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/netlink.h"
#include "runtime/container.h"
#include "runtime/sandbox.h"
#include "runtime/spawn.h"
#include "runtime/spec.h"
#include "runtime/watch.h"

/* What the spec says. */
struct network_plan {
	bool own;	  /* a network namespace that is not another container's */
	const char *path; /* of that, where there is one already; NULL: it is to be made; belongs to the spec */
	int fd;		  /* the same, opened, or -1 */
};

#define NETWORK_PLAN_NONE ((struct network_plan){.fd = -1})

void network_plan_release(struct network_plan *plan);

/* Messages name the field. The network of the host itself cannot be had. */
int network_plan_read(const struct spec *spec, const struct joined *joined, struct network_plan *plan,
		      struct error *err);

/* Whether the file is a network namespace. */
bool network_is_namespace(const char *path);

/* Connects the network namespace of a container that is made, not started, and whose state says that it has one of its
 * own. Where there is nothing in it, nothing is done. *process becomes hull-net, which ends with this process until
 * network_keep has been called. The container's state is changed; the caller saves it. */
struct network_process {
	struct child child;
	struct lifeline lifeline;
};

#define NETWORK_PROCESS_NONE ((struct network_process){CHILD_NONE, LIFELINE_NONE})

int network_connect(struct container *container, struct watch *watch, struct network_process *process,
		    struct error *err);
int network_keep(struct network_process *process, struct error *err);
void network_process_end(struct network_process *process);
#define cleanup_network_process __attribute__((cleanup(network_process_end)))

/* The network namespace in the state, while there may be something of hull in it: a descriptor, or -1 when it is gone
 * or nothing ever was. To be looked for while processes of the container still live. */
int network_find(const struct state *state);

/* Takes what is hull's out of it again. */
int network_clear(int namespace, const struct state *state, struct error *err);
