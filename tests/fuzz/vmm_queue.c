/*
 * A virtqueue whose rings, tables and buffers are the fuzzer's bytes. The input's first bytes choose size and features;
 * then each step rewrites some guest memory and serves the queue. Whatever comes out of queue_pop has to lie in guest
 * memory, which the sanitizer checks when the chains are read and written.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/virtio/queue.h"

#define MEMORY 0x10000u
#define STEP 24u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void serve(struct queue *queue, uint8_t how)
{
	static struct chain chain;
	uint8_t bytes[512];

	for (unsigned i = 0; i < 16 && queue_pop(queue, &chain) == 1; i++) {
		if (chain_read(&chain, bytes, sizeof(bytes)) > sizeof(bytes) || chain.read_at > chain.readable)
			abort();
		chain_skip(&chain, how);
		chain_write(&chain, bytes, how * 2u);
		chain_seek_write(&chain, how);
		chain_write(&chain, bytes, sizeof(bytes));
		if (chain.written_at > chain.writable || chain.count > CHAIN_BUFFERS_MAX)
			abort();
		if (how & 1)
			queue_push(queue, chain.head, chain.written_at);
		queue_needs_interrupt(queue);
		queue_notifications(queue, how & 2);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest_memory *memory;
	static struct queue queue;
	static uint8_t zeros[MEMORY];

	if (!memory)
		memory = guest_memory_new(MEMORY, NULL);
	if (size < 8)
		return 0;
	guest_write(memory, 0, zeros, MEMORY);
	queue_reset(&queue);
	queue.size = (uint16_t)(data[0] | data[1] << 8);
	queue.descriptors = (uint64_t)data[2] << 8;
	queue.available = (uint64_t)data[3] << 8;
	queue.used = (uint64_t)data[4] << 8;
	if (data[5] & 4)
		queue.size = (uint16_t)(1u << (data[0] % 11));
	queue.event_index = data[5] & 1;
	queue.indirect = data[5] & 2;
	if (queue_start(&queue, memory) < 0)
		return 0;
	data += 8;
	size -= 8;
	while (size >= 4) {
		size_t part = size - 4 < STEP ? size - 4 : STEP;

		guest_write(memory, (uint64_t)(data[0] | data[1] << 8), data + 4, part);
		serve(&queue, data[2]);
		data += 4 + part;
		size -= 4 + part;
	}
	return 0;
}
