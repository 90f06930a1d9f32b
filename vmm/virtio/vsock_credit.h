/*
 * Flow control of one vsock connection (virtio 1.2, section 5.10.6.3): how much each side may send, from free-running
 * 32-bit counters. Only arithmetic; what the guest says is believed for its own buffer alone.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <linux/virtio_vsock.h>

/* Zeroed: nothing has been sent. */
struct vsock_credit {
	uint32_t received;	/* bytes from the guest */
	uint32_t told;		/* the last count of delivered bytes that the guest was told */
	uint32_t sent;		/* bytes to the guest */
	uint32_t guest_buffer;	/* what the guest said last */
	uint32_t guest_forward; /* what the guest said last */
};

/* The guest's word in the header of each of its packets. */
void credit_take(struct vsock_credit *credit, const struct virtio_vsock_hdr *header);

/* How many bytes the guest has room for. */
uint32_t credit_left(const struct vsock_credit *credit);

/* Our word in the header of each packet to it: delivered counts the bytes that need no room here any more. */
void credit_tell(struct vsock_credit *credit, uint32_t delivered, struct virtio_vsock_hdr *header);

/* Whether the guest has to hear of delivered bytes before it comes to a standstill. */
bool credit_is_due(const struct vsock_credit *credit, uint32_t delivered);

/* The guest has sent that many bytes. False when it had no credit for them. */
bool credit_receive(struct vsock_credit *credit, uint32_t length, uint32_t delivered);
