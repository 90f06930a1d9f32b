/*
 * Memory order. The driver runs on other CPUs at the same time, so each field that both sides use is loaded or stored
 * once, whole, with one of these rules:
 *
 *   available index   loaded with acquire: what is read after it (ring entry, descriptors, buffers) is what the driver
 *                     wrote before it moved the index.
 *   used index        stored with release: when the driver sees it, the used entry and the data are there.
 *   notification      "move an index, then read whether the other side wants to hear of it" on both sides at once needs
 *   suppression       a full barrier between the two steps on either side; otherwise both may read the old value, and
 *                     each believes that the other will look again.
 */
#include "vmm/virtio/queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/socket.h>

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags;
	uint16_t next;
};

struct used_element {
	uint32_t id;
	uint32_t length;
};

/* The three areas of a ring (2.7.6, 2.7.8). Flags and index stand before the entries, the event index after them. */
#define AVAILABLE_ENTRIES 4u
#define USED_ENTRIES 4u
#define INDEX 2u

static uint64_t available_size(uint16_t size)
{
	return AVAILABLE_ENTRIES + sizeof(uint16_t) * size + sizeof(uint16_t);
}

static uint64_t used_size(uint16_t size)
{
	return USED_ENTRIES + sizeof(struct used_element) * size + sizeof(uint16_t);
}

/* The areas were checked to be RAM when the queue was started, and RAM does not move; the check is repeated at each
 * access all the same, since it costs little and a mistake here would be the guest's way into this process. */
static uint16_t *field(const struct queue *queue, uint64_t address)
{
	return guest_range(queue->memory, address, sizeof(uint16_t));
}

static uint16_t load(const struct queue *queue, uint64_t address, int order)
{
	uint16_t *host = field(queue, address);

	return host ? __atomic_load_n(host, order) : 0;
}

static void store(const struct queue *queue, uint64_t address, uint16_t value, int order)
{
	uint16_t *host = field(queue, address);

	if (host)
		__atomic_store_n(host, value, order);
}

static int broken(struct queue *queue)
{
	queue->broken = true;
	return -1;
}

static bool is_area(const struct guest_memory *memory, uint64_t address, uint64_t size, uint64_t alignment)
{
	return address % alignment == 0 && guest_range(memory, address, size);
}

int queue_start(struct queue *queue, const struct guest_memory *memory)
{
	uint16_t size = queue->size;

	queue->memory = memory;
	queue->broken = false;
	queue->quiet = false;
	queue->next_available = queue->next_used = queue->signalled_used = 0;
	queue->signalled_valid = false;
	queue->in_flight_count = 0;
	memset(queue->in_flight, 0, sizeof(queue->in_flight));
	if (size == 0 || size > QUEUE_SIZE_MAX || (size & (size - 1)) != 0)
		return broken(queue);
	if (!is_area(memory, queue->descriptors, sizeof(struct descriptor) * size, 16) ||
	    !is_area(memory, queue->available, available_size(size), 2) ||
	    !is_area(memory, queue->used, used_size(size), 4))
		return broken(queue);
	queue->ready = true;
	return 0;
}

void queue_reset(struct queue *queue)
{
	memset(queue, 0, sizeof(*queue));
}

static bool is_in_flight(const struct queue *queue, uint16_t head)
{
	return queue->in_flight[head / 64] >> (head % 64) & 1;
}

/* A table of descriptors: the ring's own, or one that an indirect descriptor names. */
struct table {
	uint64_t address;
	uint32_t size;
	bool indirect;
};

/* The one place where a descriptor is read: copied once, used from the copy. */
static bool read_descriptor(const struct queue *queue, const struct table *table, uint32_t index,
			    struct descriptor *descriptor)
{
	if (index >= table->size)
		return false;
	return guest_read(queue->memory, table->address + index * sizeof(*descriptor), descriptor, sizeof(*descriptor));
}

/* Appends a buffer. Those to be written have to follow those to be read (2.7.4.2). */
static bool add_buffer(const struct queue *queue, struct chain *chain, const struct descriptor *descriptor)
{
	bool writable = descriptor->flags & VRING_DESC_F_WRITE;
	uint32_t *total = writable ? &chain->writable : &chain->readable;
	void *host;

	if (!writable && chain->count > chain->readable_count)
		return false;
	if (descriptor->length == 0)
		return true;
	host = guest_range(queue->memory, descriptor->address, descriptor->length);
	if (!host || chain->count == CHAIN_BUFFERS_MAX || descriptor->length > UINT32_MAX - *total)
		return false;
	*total += descriptor->length;
	chain->buffers[chain->count++] = (struct iovec){.iov_base = host, .iov_len = descriptor->length};
	if (!writable)
		chain->readable_count = chain->count;
	return true;
}

/* An indirect table ends its chain and holds no further indirect descriptor (2.7.5.3.1). */
static bool enter_indirect(const struct queue *queue, const struct descriptor *descriptor, struct table *table)
{
	if (!queue->indirect || table->indirect || (descriptor->flags & VRING_DESC_F_NEXT))
		return false;
	if (descriptor->length == 0 || descriptor->length % sizeof(struct descriptor) != 0)
		return false;
	table->indirect = true;
	table->address = descriptor->address;
	table->size = descriptor->length / sizeof(struct descriptor);
	return table->size <= QUEUE_SIZE_MAX;
}

/* Follows a chain from its head. Bounded by the number of descriptors in the table: who needs more steps goes in
 * circles. */
static bool walk(const struct queue *queue, uint16_t head, struct chain *chain)
{
	struct table table = {.address = queue->descriptors, .size = queue->size};
	struct descriptor descriptor;
	uint32_t index = head, steps = 0;

	while (steps++ < table.size) {
		if (!read_descriptor(queue, &table, index, &descriptor))
			return false;
		if (descriptor.flags & VRING_DESC_F_INDIRECT) {
			if (!enter_indirect(queue, &descriptor, &table))
				return false;
			index = steps = 0;
			continue;
		}
		if (!add_buffer(queue, chain, &descriptor))
			return false;
		if (!(descriptor.flags & VRING_DESC_F_NEXT))
			return true;
		index = descriptor.next;
	}
	return false;
}

/* How many chains the driver has made available, or -1 when the index is nonsense. */
static int available_count(struct queue *queue)
{
	uint16_t index = load(queue, queue->available + INDEX, __ATOMIC_ACQUIRE);
	uint16_t count = (uint16_t)(index - queue->next_available);

	return count <= queue->size ? count : broken(queue);
}

static uint64_t wanted_doorbell(const struct queue *queue)
{
	return queue->used + USED_ENTRIES + sizeof(struct used_element) * queue->size;
}

/* Asks the driver to ring for the very next chain. With event indices that has to be said again each time the ring has
 * been emptied. */
static void ask_for_doorbell(struct queue *queue)
{
	if (queue->event_index)
		store(queue, wanted_doorbell(queue), queue->next_available, __ATOMIC_RELAXED);
	else
		store(queue, queue->used, 0, __ATOMIC_RELAXED);
	/* Before the caller looks whether a chain has come meanwhile; see the head of this file. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static int available_or_ask(struct queue *queue)
{
	int count = available_count(queue);

	if (count != 0 || queue->quiet || !queue->event_index)
		return count;
	ask_for_doorbell(queue);
	return available_count(queue);
}

int queue_pop(struct queue *queue, struct chain *chain)
{
	uint16_t head;
	int count;

	if (queue->broken)
		return -1;
	if (!queue->ready)
		return 0;
	count = available_or_ask(queue);
	if (count <= 0)
		return count;
	head = load(queue, queue->available + AVAILABLE_ENTRIES + 2ull * (queue->next_available & (queue->size - 1u)),
		    __ATOMIC_RELAXED);
	if (head >= queue->size || is_in_flight(queue, head))
		return broken(queue);
	chain->head = head;
	chain->readable_count = chain->count = 0;
	chain->readable = chain->writable = chain->read_at = chain->written_at = 0;
	if (!walk(queue, head, chain))
		return broken(queue);
	queue->in_flight[head / 64] |= 1ull << (head % 64);
	queue->in_flight_count++;
	queue->next_available++;
	return 1;
}

void queue_push(struct queue *queue, uint16_t head, uint32_t written)
{
	struct used_element element = {.id = head, .length = written};
	uint64_t slot = queue->used + USED_ENTRIES + sizeof(element) * (queue->next_used & (queue->size - 1u));

	if (queue->broken || !queue->ready || head >= queue->size || !is_in_flight(queue, head))
		return;
	queue->in_flight[head / 64] &= ~(1ull << (head % 64));
	queue->in_flight_count--;
	guest_write(queue->memory, slot, &element, sizeof(element));
	queue->next_used++;
	store(queue, queue->used + INDEX, queue->next_used, __ATOMIC_RELEASE);
}

bool queue_needs_interrupt(struct queue *queue)
{
	uint16_t new = queue->next_used, old = queue->signalled_used;
	bool valid = queue->signalled_valid;
	uint16_t event;

	if (queue->broken || !queue->ready || (valid && new == old))
		return false;
	queue->signalled_used = new;
	queue->signalled_valid = true;
	/* Between the used index and the driver's wish; see the head of this file. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!queue->event_index)
		return !(load(queue, queue->available, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
	event = load(queue, queue->available + AVAILABLE_ENTRIES + 2ull * queue->size, __ATOMIC_RELAXED);
	return !valid || vring_need_event(event, new, old);
}

void queue_notifications(struct queue *queue, bool enable)
{
	if (queue->broken || !queue->ready)
		return;
	queue->quiet = !enable;
	if (enable)
		ask_for_doorbell(queue);
	else if (!queue->event_index)
		store(queue, queue->used, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
	/* With event indices silence needs no word: the index that was asked for stays behind. */
}

/* --- save and restore ------------------------------------------------------------------------------------------------
 */

void queue_put_back(struct queue *queue, unsigned count)
{
	for (; count > 0 && queue->ready && !queue->broken; count--) {
		uint16_t head = load(
		    queue, queue->available + AVAILABLE_ENTRIES + 2ull * (--queue->next_available & (queue->size - 1u)),
		    __ATOMIC_RELAXED);

		/* A guest that has changed the entry meanwhile has broken its own ring. */
		if (head >= queue->size || !is_in_flight(queue, head)) {
			broken(queue);
			return;
		}
		queue->in_flight[head / 64] &= ~(1ull << (head % 64));
		queue->in_flight_count--;
	}
}

bool queue_has_more(const struct queue *queue)
{
	return queue->ready && !queue->broken &&
	       load(queue, queue->available + INDEX, __ATOMIC_ACQUIRE) != queue->next_available;
}

/* With nothing in flight as many chains have been pushed as were taken, so that one index says both. */
struct saved_queue {
	uint16_t next;
	uint16_t signalled_used;
	uint8_t signalled_valid;
	uint8_t quiet;
	uint8_t filling[2];
};

void queue_save(const struct queue *queue, struct state_writer *writer)
{
	struct saved_queue saved = {.next = queue->next_available,
				    .signalled_used = queue->signalled_used,
				    .signalled_valid = queue->signalled_valid,
				    .quiet = queue->quiet};

	state_put(writer, &saved, sizeof(saved));
}

int queue_restore(struct queue *queue, struct state_reader *reader, struct error *err)
{
	struct saved_queue saved;

	if (state_take(reader, &saved, sizeof(saved), err) < 0)
		return -1;
	if (!queue->ready)
		return 0;
	/* The used index is the device's alone: the guest cannot have moved it. */
	if (load(queue, queue->used + INDEX, __ATOMIC_RELAXED) != saved.next)
		return error_set(err, EINVAL, "a queue stands at %u, its ring at another place", saved.next);
	queue->next_available = queue->next_used = saved.next;
	queue->signalled_used = saved.signalled_used;
	queue->signalled_valid = saved.signalled_valid;
	queue->quiet = saved.quiet;
	return available_count(queue) < 0 ? error_set(err, EINVAL, "a queue that its ring does not fit") : 0;
}

/* --- chains ----------------------------------------------------------------------------------------------------------
 */

/* The buffers of one part of a chain, from a position in bytes on. */
static unsigned slice(const struct iovec *buffers, unsigned count, uint32_t position, size_t size, struct iovec *iovecs,
		      unsigned max)
{
	unsigned used = 0;

	for (unsigned i = 0; i < count && used < max && size > 0; i++) {
		size_t length = buffers[i].iov_len;

		if (position >= length) {
			position -= (uint32_t)length;
			continue;
		}
		length -= position;
		if (length > size)
			length = size;
		iovecs[used].iov_base = (char *)buffers[i].iov_base + position;
		iovecs[used++].iov_len = length;
		position = 0;
		size -= length;
	}
	return used;
}

unsigned chain_readable_iovecs(const struct chain *chain, size_t size, struct iovec *iovecs, unsigned max)
{
	return slice(chain->buffers, chain->readable_count, chain->read_at, size, iovecs, max);
}

unsigned chain_writable_iovecs(const struct chain *chain, size_t size, struct iovec *iovecs, unsigned max)
{
	return slice(chain->buffers + chain->readable_count, chain->count - chain->readable_count, chain->written_at,
		     size, iovecs, max);
}

size_t chain_readable_left(const struct chain *chain)
{
	return chain->readable - chain->read_at;
}

size_t chain_writable_left(const struct chain *chain)
{
	return chain->writable - chain->written_at;
}

static size_t at_most(size_t size, size_t limit)
{
	return size < limit ? size : limit;
}

size_t chain_read(struct chain *chain, void *data, size_t size)
{
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
	unsigned count;
	size_t done = 0;

	size = at_most(size, chain_readable_left(chain));
	count = chain_readable_iovecs(chain, size, iovecs, CHAIN_BUFFERS_MAX);
	for (unsigned i = 0; i < count; done += iovecs[i++].iov_len)
		memcpy((char *)data + done, iovecs[i].iov_base, iovecs[i].iov_len);
	chain->read_at += (uint32_t)done;
	return done;
}

size_t chain_write(struct chain *chain, const void *data, size_t size)
{
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
	unsigned count;
	size_t done = 0;

	size = at_most(size, chain_writable_left(chain));
	count = chain_writable_iovecs(chain, size, iovecs, CHAIN_BUFFERS_MAX);
	for (unsigned i = 0; i < count; done += iovecs[i++].iov_len)
		memcpy(iovecs[i].iov_base, (const char *)data + done, iovecs[i].iov_len);
	chain->written_at += (uint32_t)done;
	return done;
}

size_t chain_skip(struct chain *chain, size_t size)
{
	size = at_most(size, chain_readable_left(chain));
	chain->read_at += (uint32_t)size;
	return size;
}

void chain_seek_write(struct chain *chain, uint32_t position)
{
	chain->written_at = position < chain->writable ? position : chain->writable;
}

static ssize_t advance(uint32_t *position, ssize_t moved)
{
	if (moved > 0)
		*position += (uint32_t)moved;
	return moved;
}

ssize_t chain_write_from_fd(struct chain *chain, int fd, size_t size, off_t offset)
{
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
	int count = (int)chain_writable_iovecs(chain, size, iovecs, CHAIN_BUFFERS_MAX);

	return advance(&chain->written_at, offset < 0 ? readv(fd, iovecs, count) : preadv(fd, iovecs, count, offset));
}

ssize_t chain_read_to_fd(struct chain *chain, int fd, size_t size, off_t offset)
{
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
	int count = (int)chain_readable_iovecs(chain, size, iovecs, CHAIN_BUFFERS_MAX);

	return advance(&chain->read_at, offset < 0 ? writev(fd, iovecs, count) : pwritev(fd, iovecs, count, offset));
}

ssize_t chain_write_from_socket(struct chain *chain, int fd, size_t size, int flags)
{
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
	struct msghdr message = {.msg_iov = iovecs};

	message.msg_iovlen = chain_writable_iovecs(chain, size, iovecs, CHAIN_BUFFERS_MAX);
	return advance(&chain->written_at, recvmsg(fd, &message, flags));
}

ssize_t chain_read_to_socket(struct chain *chain, int fd, size_t size, int flags)
{
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
	struct msghdr message = {.msg_iov = iovecs};

	message.msg_iovlen = chain_readable_iovecs(chain, size, iovecs, CHAIN_BUFFERS_MAX);
	return advance(&chain->read_at, sendmsg(fd, &message, flags | MSG_NOSIGNAL));
}
