/*
 * Room for what comes in: several chains of a queue taken ahead and filled one after the other, as mergeable receive
 * buffers are (virtio 1.2, section 5.1.6.4). The chains were checked when they were taken from the ring; data goes into
 * their buffers by one readv, or by room_write.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/virtio/queue.h"

#define ROOM_CHAINS_MAX 64
#define ROOM_BUFFERS_MAX (ROOM_CHAINS_MAX + CHAIN_BUFFERS_MAX)

struct room {
	size_t size;	       /* bytes */
	unsigned chains_limit; /* at most ROOM_CHAINS_MAX */
	unsigned chain_count;
	unsigned buffer_count;
	struct {
		uint16_t head;
		uint16_t buffers;
		uint32_t size;
	} chains[ROOM_CHAINS_MAX];
	struct iovec buffers[ROOM_BUFFERS_MAX + 1]; /* for vmm/virtio/room.c only; the last is the caller's spill */
};

/* An empty room that takes at most so many chains; those that it had are forgotten. */
void room_init(struct room *room, unsigned chains_limit);

/* Takes chains until there are size bytes, or no more can be had. Chains in which nothing can be written go back.
 * scratch is used meanwhile. Returns 0, or -1 when the ring is broken. */
int room_fill(struct room *room, struct queue *queue, size_t size, struct chain *scratch);
/* Whether it cannot take another chain. */
bool room_is_full(const struct room *room);

/* One readv into the room and, beyond it, into spill. Returns what readv returned. */
ssize_t room_read(struct room *room, int fd, void *spill, size_t spill_size);
/* Copies data to a position in the room; all of it has to lie there. */
void room_write(struct room *room, size_t position, const void *data, size_t size);
/* How many chains the first size bytes take; size is at most that of the room. */
unsigned room_chains(const struct room *room, size_t size);
/* Gives the chains with the first size bytes back to the driver, each with what lies in it. */
void room_push(struct room *room, struct queue *queue, size_t size);
