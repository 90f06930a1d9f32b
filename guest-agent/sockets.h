/*
 * Unix sockets of the host in a container. A process in the guest cannot reach what listens on the host, so the agent
 * listens in its place: at the destination of the bind mount lies a socket of the agent's. For each connection a relay
 * process on the host (runtime/relay.h) is asked for one to the real socket; it names a vsock port in answer, and bytes
 * go both ways from then on. The relay asks by the order "sockets", which is answered when there is something to do.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "guest-agent/connection.h"
#include "guest-agent/order.h"

struct socket_listener;
struct socket_connection;

/* Those of one container. Zeroed: none. */
struct sockets {
	struct socket_listener *listeners;
	struct socket_connection *connections;
	struct answer answer; /* to the relay on the host, which waits for the next connection */
	uint32_t last_id;
	unsigned count;
	bool ended;
};

/* Makes the sockets that the plan wants and writes their places into it. number tells containers apart. */
int sockets_open(struct sockets *sockets, struct plan *plan, unsigned number, struct error *err);
/* The container has ended: nothing listens any more, and the relay is told as soon as what its processes had sent is
 * delivered. */
void sockets_end(struct sockets *sockets);
/* The container is forgotten. */
void sockets_close(struct sockets *sockets);

/* The order: what became of the connection that was given out last, and a wish for the next one. */
int sockets_order(struct sockets *sockets, const struct order *order, struct answer *answer, struct error *err);
