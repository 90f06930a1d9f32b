/*
 * A connection that a process in the guest has made and that is answered on the host: a socket here and a stream to a
 * vsock port there, with a relay for each direction.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"
#include "guest-agent/relay.h"

struct relay_pair {
	int fd; /* the guest's socket, non-blocking, until the relays have it; then -1 */
	struct relay out, in;
	/* Called once: both directions have ended, or there is nobody at the port. It may free the pair. */
	void (*ended)(struct relay_pair *pair);
	void *owner;
};

/* Connects to the port and begins to relay. After a failure the pair is still to be stopped. */
int relay_pair_start(struct relay_pair *pair, uint32_t port, struct error *err);

/* Ends at once, without the callback, and closes what is open. */
void relay_pair_stop(struct relay_pair *pair);
