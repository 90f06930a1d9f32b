#include "vmm/virtio/vsock_credit.h"

#include <endian.h>

#include "vmm/stream.h"

void credit_take(struct vsock_credit *credit, const struct virtio_vsock_hdr *header)
{
	credit->guest_buffer = le32toh(header->buf_alloc);
	credit->guest_forward = le32toh(header->fwd_cnt);
}

uint32_t credit_left(const struct vsock_credit *credit)
{
	uint32_t under_way = credit->sent - credit->guest_forward;

	/* A guest may shrink its buffer below what is under way, or lie. */
	return under_way < credit->guest_buffer ? credit->guest_buffer - under_way : 0;
}

void credit_tell(struct vsock_credit *credit, uint32_t delivered, struct virtio_vsock_hdr *header)
{
	header->buf_alloc = htole32(STREAM_BUFFER_SIZE);
	header->fwd_cnt = htole32(delivered);
	credit->told = delivered;
}

bool credit_is_due(const struct vsock_credit *credit, uint32_t delivered)
{
	return delivered - credit->told >= STREAM_BUFFER_SIZE / 2;
}

bool credit_receive(struct vsock_credit *credit, uint32_t length, uint32_t delivered)
{
	credit->received += length;
	return credit->received - delivered <= STREAM_BUFFER_SIZE;
}
