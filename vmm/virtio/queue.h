/*
 * Split virtqueues (virtio 1.2, section 2.7), device side.
 *
 * Everything in a ring is written by the guest and hostile until checked: queue_pop copies each descriptor once, checks
 * that its buffer lies in RAM, bounds the chain's length and bytes, refuses loops and a head that is already in flight,
 * and gives out a chain. Device code reaches the buffers only through the chain_* functions, which never go beyond
 * them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "vmm/memory.h"
#include "vmm/state.h"

#define QUEUE_SIZE_MAX 1024
#define CHAIN_BUFFERS_MAX 260 /* data of 1 MiB in pages, plus two headers and their arguments (virtio-fs) */

/* Frozen copies of what the driver configured; taken over at DRIVER_OK by queue_start. */
struct queue {
	const struct guest_memory *memory;
	uint16_t size; /* entries, a power of two, at most QUEUE_SIZE_MAX */
	bool ready;
	bool broken;	      /* the guest broke the ring's rules: nothing is taken from or put into it until reset */
	bool event_index;     /* VIRTIO_F_EVENT_IDX was negotiated */
	bool indirect;	      /* VIRTIO_F_INDIRECT_DESC was negotiated */
	bool quiet;	      /* the driver was told that it need not ring the doorbell */
	uint64_t descriptors; /* guest-physical addresses */
	uint64_t available;
	uint64_t used;
	uint16_t next_available; /* free-running */
	uint16_t next_used;	 /* free-running */
	uint16_t signalled_used; /* next_used when the driver was last interrupted */
	bool signalled_valid;
	uint32_t in_flight_count;
	uint64_t in_flight[QUEUE_SIZE_MAX / 64]; /* a bit for each head that was popped and not yet pushed */
};

/* One request: device-readable buffers first, device-writable ones after them. Plain data; no release needed, but each
 * popped chain is to be pushed exactly once. */
struct chain {
	uint16_t head;
	uint16_t readable_count;		 /* buffers[0 .. readable_count) are to be read */
	uint16_t count;				 /* buffers[readable_count .. count) are to be written */
	uint32_t readable;			 /* bytes */
	uint32_t writable;			 /* bytes */
	uint32_t read_at;			 /* bytes consumed so far */
	uint32_t written_at;			 /* bytes written so far: the length for queue_push */
	struct iovec buffers[CHAIN_BUFFERS_MAX]; /* for vmm/virtio/queue.c only */
};

/* Checks size and addresses (alignment, all of the three areas in RAM) and starts the queue. Returns 0, or -1 and marks
 * it broken. */
int queue_start(struct queue *queue, const struct guest_memory *memory);
void queue_reset(struct queue *queue);

/* Takes the next chain. 1: chain is filled; 0: nothing available; -1: the ring is broken (queue->broken is set; the
 * device has to be put into DEVICE_NEEDS_RESET by virtio_device_failed). */
int queue_pop(struct queue *queue, struct chain *chain);

/* Returns a chain with the number of bytes written into it (chain->written_at). */
void queue_push(struct queue *queue, uint16_t head, uint32_t written);

/* True when the driver wants an interrupt for what was pushed since the last call that returned true. */
bool queue_needs_interrupt(struct queue *queue);

/* Tell the driver whether it needs to ring the doorbell for new chains; at first it does. After enabling, check the
 * ring once more: queue_pop. */
void queue_notifications(struct queue *queue, bool enable);

/* Gives back the count chains that were taken last and have not been pushed, as if they had not been taken. */
void queue_put_back(struct queue *queue, unsigned count);
/* Whether there is a chain to be taken. */
bool queue_has_more(const struct queue *queue);

/* Where a queue of which no chain is in flight stands; restored into one that was just started. A queue that does not
 * fit what lies in the ring is refused. */
void queue_save(const struct queue *queue, struct state_writer *writer);
int queue_restore(struct queue *queue, struct state_reader *reader, struct error *err);

/* Copy the next bytes out of the readable part / into the writable part; return how many there were (less than size at
 * the end). */
size_t chain_read(struct chain *chain, void *data, size_t size);
size_t chain_write(struct chain *chain, const void *data, size_t size);
/* Skips bytes of the readable part. Returns how many were skipped. */
size_t chain_skip(struct chain *chain, size_t size);
size_t chain_readable_left(const struct chain *chain);
size_t chain_writable_left(const struct chain *chain);

/* Move up to size bytes between a file and the chain without a copy in between, by one preadv/pwritev (offset >= 0) or
 * readv/writev (offset -1). Return what the system call returned, -1 with errno set; the chain advances by what was
 * moved. */
ssize_t chain_write_from_fd(struct chain *chain, int fd, size_t size, off_t offset);
ssize_t chain_read_to_fd(struct chain *chain, int fd, size_t size, off_t offset);
/* The same with recvmsg/sendmsg and their flags (MSG_DONTWAIT). */
ssize_t chain_write_from_socket(struct chain *chain, int fd, size_t size, int flags);
ssize_t chain_read_to_socket(struct chain *chain, int fd, size_t size, int flags);

/* Rewinds or advances the write position: for a device that fills in a header after its data (positions are bytes from
 * the start of the writable part, at most chain->writable). */
void chain_seek_write(struct chain *chain, uint32_t position);

/* For devices that hand the buffers to io_uring: the iovecs of the next size bytes of one part, at most max of them;
 * returns their number. The kernel, not the device, touches the memory behind them. */
unsigned chain_readable_iovecs(const struct chain *chain, size_t size, struct iovec *iovecs, unsigned max);
unsigned chain_writable_iovecs(const struct chain *chain, size_t size, struct iovec *iovecs, unsigned max);
