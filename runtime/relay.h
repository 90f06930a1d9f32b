/*
 * Sockets of the host in a container (guest-agent/sockets.h): the host's part. A process of its own, because the VMM
 * opens nothing: it waits for the agent to say that somebody in the guest connects, connects to the host's socket, and
 * hands the descriptor to the VMM as a stream. It never touches what is sent. It holds no more than the sockets
 * themselves, by descriptor, and the right to connect to them; it ends with the container.
 *
 * What listens on the host sees this process as its peer, with the uid and gid of whoever called hull.
 */
#pragma once

#include <stddef.h>

#include "common/error.h"
#include "runtime/exports.h"
#include "runtime/spawn.h"

#define RELAY_SOCKETS_MAX 64

struct relay_socket {
	size_t index; /* into spec.mounts */
	int fd;	      /* O_PATH */
};

struct relay {
	const char *id; /* the container */
	int control;	/* connection to the VMM: the streams live as long as it */
	int agent;	/* connection to the agent */
	struct relay_socket sockets[RELAY_SOCKETS_MAX];
	size_t n;
};

/* Whether a container needs one. */
bool relay_needed(const struct exports *exports);

/* Starts the process. cgroup is a descriptor or -1. */
int relay_spawn(const char *id, const struct exports *exports, int control, int agent, int cgroup, struct child *child,
		struct error *err);

/* What it does, until the container or its machine has ended: returns 0 then, or -1. */
int relay_serve(const struct relay *relay, struct error *err);
