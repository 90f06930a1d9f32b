/*
 * System calls at run time: readv.
 */
#include "vmm/virtio/room.h"

#include <string.h>

void room_init(struct room *room, unsigned chains_limit)
{
	room->size = 0;
	room->chains_limit = chains_limit;
	room->chain_count = room->buffer_count = 0;
}

bool room_is_full(const struct room *room)
{
	return room->chain_count == room->chains_limit || room->buffer_count + CHAIN_BUFFERS_MAX > ROOM_BUFFERS_MAX;
}

static void append(struct room *room, const struct chain *chain)
{
	unsigned count = chain_writable_iovecs(chain, chain->writable, room->buffers + room->buffer_count,
					       ROOM_BUFFERS_MAX - room->buffer_count);

	room->chains[room->chain_count].head = chain->head;
	room->chains[room->chain_count].buffers = (uint16_t)count;
	room->chains[room->chain_count++].size = chain->writable;
	room->buffer_count += count;
	room->size += chain->writable;
}

int room_fill(struct room *room, struct queue *queue, size_t size, struct chain *scratch)
{
	/* A driver that puts empty chains in as fast as they come back would keep this going for ever. */
	for (unsigned taken = 0; room->size < size && !room_is_full(room) && taken < queue->size; taken++) {
		int popped = queue_pop(queue, scratch);

		if (popped <= 0)
			return popped;
		if (scratch->writable)
			append(room, scratch);
		else
			queue_push(queue, scratch->head, 0);
	}
	return 0;
}

ssize_t room_read(struct room *room, int fd, void *spill, size_t spill_size)
{
	room->buffers[room->buffer_count] = (struct iovec){.iov_base = spill, .iov_len = spill_size};
	return readv(fd, room->buffers, (int)room->buffer_count + 1);
}

void room_write(struct room *room, size_t position, const void *data, size_t size)
{
	const char *from = data;

	for (unsigned i = 0; i < room->buffer_count && size > 0; i++) {
		size_t length = room->buffers[i].iov_len;

		if (position >= length) {
			position -= length;
			continue;
		}
		length -= position;
		if (length > size)
			length = size;
		memcpy((char *)room->buffers[i].iov_base + position, from, length);
		position = 0;
		from += length;
		size -= length;
	}
}

unsigned room_chains(const struct room *room, size_t size)
{
	unsigned count = 0;

	for (size_t covered = 0; covered < size && count < room->chain_count;)
		covered += room->chains[count++].size;
	return count;
}

static void forget_first(struct room *room, unsigned chains, unsigned buffers)
{
	room->chain_count -= chains;
	room->buffer_count -= buffers;
	memmove(room->chains, room->chains + chains, room->chain_count * sizeof(room->chains[0]));
	memmove(room->buffers, room->buffers + buffers, room->buffer_count * sizeof(room->buffers[0]));
}

void room_push(struct room *room, struct queue *queue, size_t size)
{
	unsigned chains = room_chains(room, size), buffers = 0;

	for (unsigned i = 0; i < chains; i++) {
		uint32_t capacity = room->chains[i].size, written = size < capacity ? (uint32_t)size : capacity;

		queue_push(queue, room->chains[i].head, written);
		size -= written;
		room->size -= capacity;
		buffers += room->chains[i].buffers;
	}
	forget_first(room, chains, buffers);
}
