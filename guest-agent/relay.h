/*
 * One direction of one stream: bytes from a source descriptor to a destination, as they come, none lost, and no more
 * taken from the source than the destination takes (back-pressure).
 *
 * An output goes from a pipe, whose other end the container has, to a vsock stream; the input goes the other way. The
 * end of the source becomes the end of the destination; a destination that no longer takes anything closes the source,
 * so that the writer learns of it (SIGPIPE).
 *
 * The agent serves all relays in its one loop: nothing here blocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "guest-agent/loop.h"

#define RELAY_BUFFER (64u << 10) /* bytes: what a pipe holds, and the largest packet of the guest's vsock */

struct relay {
	struct watch source;
	struct watch destination;
	int source_fd;
	int destination_fd;
	bool connecting;   /* the socket among the two is not connected yet */
	bool finishing;	   /* what is in the source now is all that is wanted */
	bool two_way;	   /* set by the caller: the destination is a socket that another relay reads from */
	bool active;	   /* both are open */
	size_t start, end; /* bytes in the buffer that wait for the destination */
	uint64_t moved;	   /* bytes that the destination has taken */
	char *buffer;
	/* Called once when the relay has connected (0) or could not (errno). May be NULL. */
	void (*connected)(struct relay *relay, int code);
	/* Called when all is delivered, or nothing can be any more. */
	void (*ended)(struct relay *relay);
	void *owner;
};

/* Starts a relay, which then owns both descriptors (closed also on failure); they must be non-blocking.
 * socket_is_source says which of the two is a socket that may still be connecting. The callbacks and owner are set by
 * the caller first. */
int relay_start(struct relay *relay, int source, int destination, bool socket_is_source, struct error *err);

/* Takes what the source holds now, delivers it, and then ends: for a container that has ended, but whose pipe somebody
 * still holds open. */
void relay_finish(struct relay *relay);

/* Ends at once, without the callback. Also for a relay that never started (zeroed). */
void relay_stop(struct relay *relay);
