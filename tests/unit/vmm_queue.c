/* Virtqueues as a hostile driver writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/virtio/queue.h"

#define MEMORY (1u << 20)
#define SIZE 8
#define DESCRIPTORS 0x1000u
#define AVAILABLE 0x2000u
#define USED 0x3000u
#define TABLE 0x4000u /* indirect */
#define BUFFERS 0x10000u

struct ring {
	struct guest_memory *memory;
	struct queue queue;
	struct chain chain;
};

static void put(struct ring *ring, uint64_t address, const void *data, size_t size)
{
	assert_true(guest_write(ring->memory, address, data, size));
}

static void put16(struct ring *ring, uint64_t address, uint16_t value)
{
	put(ring, address, &value, sizeof(value));
}

static uint16_t get16(struct ring *ring, uint64_t address)
{
	uint16_t value;

	assert_true(guest_read(ring->memory, address, &value, sizeof(value)));
	return value;
}

static void descriptor_at(struct ring *ring, uint64_t table, unsigned index, uint64_t address, uint32_t length,
			  uint16_t flags, uint16_t next)
{
	struct vring_desc descriptor = {.addr = address, .len = length, .flags = flags, .next = next};

	put(ring, table + index * sizeof(descriptor), &descriptor, sizeof(descriptor));
}

static void descriptor(struct ring *ring, unsigned index, uint64_t address, uint32_t length, uint16_t flags,
		       uint16_t next)
{
	descriptor_at(ring, DESCRIPTORS, index, address, length, flags, next);
}

/* Makes a head available. */
static void offer(struct ring *ring, uint16_t head)
{
	uint16_t index = get16(ring, AVAILABLE + 2);

	put16(ring, AVAILABLE + 4 + 2u * (index % SIZE), head);
	put16(ring, AVAILABLE + 2, (uint16_t)(index + 1));
}

static void set_queue(struct ring *ring)
{
	queue_reset(&ring->queue);
	ring->queue.size = SIZE;
	ring->queue.descriptors = DESCRIPTORS;
	ring->queue.available = AVAILABLE;
	ring->queue.used = USED;
}

static int setup(void **state)
{
	struct ring *ring = calloc(1, sizeof(*ring));
	struct error err;

	ring->memory = guest_memory_new(MEMORY, &err);
	set_queue(ring);
	assert_int_equal(queue_start(&ring->queue, ring->memory), 0);
	*state = ring;
	return 0;
}

static int teardown(void **state)
{
	struct ring *ring = *state;

	guest_memory_free(ring->memory);
	free(ring);
	return 0;
}

static void expect_broken(struct ring *ring)
{
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), -1);
	assert_true(ring->queue.broken);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), -1);
	/* Nothing is written into a broken ring any more. */
	queue_push(&ring->queue, 0, 0);
	assert_int_equal(get16(ring, USED + 2), 0);
	assert_false(queue_needs_interrupt(&ring->queue));
}

static void test_plain(void **state)
{
	struct ring *ring = *state;
	char text[16] = "";

	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 0);
	put(ring, BUFFERS, "hello ", 6);
	put(ring, BUFFERS + 0x1000, "world", 5);
	descriptor(ring, 3, BUFFERS, 6, VRING_DESC_F_NEXT, 5);
	descriptor(ring, 5, BUFFERS + 0x1000, 5, VRING_DESC_F_NEXT, 1);
	descriptor(ring, 1, BUFFERS + 0x2000, 3, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
	descriptor(ring, 2, BUFFERS + 0x3000, 2, VRING_DESC_F_WRITE, 0);
	offer(ring, 3);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 1);
	assert_int_equal(ring->chain.head, 3);
	assert_int_equal(chain_readable_left(&ring->chain), 11);
	assert_int_equal(chain_writable_left(&ring->chain), 5);
	assert_int_equal(chain_read(&ring->chain, text, 4), 4);
	assert_int_equal(chain_skip(&ring->chain, 3), 3);
	assert_int_equal(chain_read(&ring->chain, text + 4, 10), 4);
	assert_string_equal(text, "hellorld");
	assert_int_equal(chain_read(&ring->chain, text, 10), 0);
	assert_int_equal(chain_write(&ring->chain, "12345678", 8), 5);
	chain_seek_write(&ring->chain, 2);
	assert_int_equal(chain_write(&ring->chain, "ab", 2), 2);
	assert_true(guest_read(ring->memory, BUFFERS + 0x2000, text, 3));
	assert_true(guest_read(ring->memory, BUFFERS + 0x3000, text + 3, 2));
	assert_memory_equal(text, "12ab5", 5);
	chain_seek_write(&ring->chain, 100);
	assert_int_equal(ring->chain.written_at, 5);
	queue_push(&ring->queue, 3, 5);
	assert_int_equal(get16(ring, USED + 2), 1);
	assert_int_equal(get16(ring, USED + 4), 3);
	assert_int_equal(get16(ring, USED + 8), 5);
	assert_true(queue_needs_interrupt(&ring->queue));
	assert_false(queue_needs_interrupt(&ring->queue));
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 0);
}

static void test_bad_start(void **state)
{
	static const struct {
		uint16_t size;
		uint64_t descriptors, available, used;
	} cases[] = {
	    {0, DESCRIPTORS, AVAILABLE, USED},
	    {3, DESCRIPTORS, AVAILABLE, USED},
	    {QUEUE_SIZE_MAX * 2, DESCRIPTORS, AVAILABLE, USED},
	    {0x8000, DESCRIPTORS, AVAILABLE, USED},
	    {SIZE, DESCRIPTORS + 8, AVAILABLE, USED},
	    {SIZE, DESCRIPTORS, AVAILABLE + 1, USED},
	    {SIZE, DESCRIPTORS, AVAILABLE, USED + 2},
	    {SIZE, MEMORY - 16 * SIZE + 16, AVAILABLE, USED},
	    {SIZE, DESCRIPTORS, MEMORY - 2 * SIZE - 4, USED},
	    {SIZE, DESCRIPTORS, AVAILABLE, MEMORY - 8 * SIZE - 4},
	    {SIZE, MEMORY, AVAILABLE, USED},
	    {SIZE, UINT64_MAX - 15, AVAILABLE, USED},
	    {SIZE, DESCRIPTORS, UINT64_MAX - 1, USED},
	    {SIZE, DESCRIPTORS, AVAILABLE, UINT64_MAX - 3},
	    {SIZE, 0xc0000000, AVAILABLE, USED},
	};
	struct ring *ring = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		queue_reset(&ring->queue);
		ring->queue.size = cases[i].size;
		ring->queue.descriptors = cases[i].descriptors;
		ring->queue.available = cases[i].available;
		ring->queue.used = cases[i].used;
		assert_int_equal(queue_start(&ring->queue, ring->memory), -1);
		assert_true(ring->queue.broken);
		assert_false(ring->queue.ready);
		assert_int_equal(queue_pop(&ring->queue, &ring->chain), -1);
	}
}

static void test_not_started(void **state)
{
	struct ring *ring = *state;

	set_queue(ring);
	offer(ring, 0);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 0);
	queue_push(&ring->queue, 0, 0);
	queue_notifications(&ring->queue, true);
	assert_false(queue_needs_interrupt(&ring->queue));
}

static void test_head_out_of_range(void **state)
{
	struct ring *ring = *state;

	offer(ring, SIZE);
	expect_broken(ring);
}

static void test_next_out_of_range(void **state)
{
	struct ring *ring = *state;

	descriptor(ring, 0, BUFFERS, 1, VRING_DESC_F_NEXT, 0xffff);
	offer(ring, 0);
	expect_broken(ring);
}

static void test_index_too_far(void **state)
{
	struct ring *ring = *state;

	put16(ring, AVAILABLE + 2, SIZE + 1);
	expect_broken(ring);
}

static void test_index_backwards(void **state)
{
	struct ring *ring = *state;

	descriptor(ring, 0, BUFFERS, 1, 0, 0);
	offer(ring, 0);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 1);
	put16(ring, AVAILABLE + 2, 0);
	expect_broken(ring);
}

static void test_loop(void **state)
{
	struct ring *ring = *state;

	descriptor(ring, 0, BUFFERS, 1, VRING_DESC_F_NEXT, 1);
	descriptor(ring, 1, BUFFERS, 1, VRING_DESC_F_NEXT, 0);
	offer(ring, 0);
	expect_broken(ring);
}

/* Buffers without bytes take no place in a chain, but steps they do take. */
static void test_loop_of_nothing(void **state)
{
	struct ring *ring = *state;

	descriptor(ring, 0, BUFFERS, 0, VRING_DESC_F_NEXT, 0);
	offer(ring, 0);
	expect_broken(ring);
}

static void test_empty_buffer(void **state)
{
	struct ring *ring = *state;

	/* Its address counts for nothing. */
	descriptor(ring, 0, UINT64_MAX, 0, VRING_DESC_F_NEXT, 1);
	descriptor(ring, 1, BUFFERS, 4, VRING_DESC_F_WRITE, 0);
	offer(ring, 0);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 1);
	assert_int_equal(chain_readable_left(&ring->chain), 0);
	assert_int_equal(chain_writable_left(&ring->chain), 4);
}

static void test_buffer_outside(void **state)
{
	static const struct {
		uint64_t address;
		uint32_t length;
	} cases[] = {
	    {MEMORY, 1},     {MEMORY - 1, 2}, {UINT64_MAX, 1}, {UINT64_MAX, 2},
	    {0, MEMORY + 1}, {0, UINT32_MAX}, {0xc0000000, 4},
	};
	struct ring *ring = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		set_queue(ring);
		put16(ring, AVAILABLE + 2, 0);
		assert_int_equal(queue_start(&ring->queue, ring->memory), 0);
		descriptor(ring, 0, cases[i].address, cases[i].length, 0, 0);
		offer(ring, 0);
		expect_broken(ring);
	}
}

/* 8 GiB in one chain do not fit into its counters. */
static void test_length_overflow(void **state)
{
	struct ring *ring = *state;
	struct error err;
	struct guest_memory *large = guest_memory_new(3ull << 30, &err);
	struct guest_memory *small = ring->memory;

	if (!large)
		skip();
	ring->memory = large;
	set_queue(ring);
	assert_int_equal(queue_start(&ring->queue, large), 0);
	descriptor(ring, 0, 0, 0xa0000000, VRING_DESC_F_NEXT, 1);
	descriptor(ring, 1, 0, 0xa0000000, 0, 0);
	offer(ring, 0);
	expect_broken(ring);
	ring->memory = small;
	guest_memory_free(large);
}

static void test_readable_after_writable(void **state)
{
	struct ring *ring = *state;

	descriptor(ring, 0, BUFFERS, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
	descriptor(ring, 1, BUFFERS, 1, 0, 0);
	offer(ring, 0);
	expect_broken(ring);
}

static void test_same_head_twice(void **state)
{
	struct ring *ring = *state;

	descriptor(ring, 0, BUFFERS, 1, 0, 0);
	offer(ring, 0);
	offer(ring, 0);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 1);
	assert_int_equal(ring->queue.in_flight_count, 1);
	expect_broken(ring);
}

static void test_head_again_after_push(void **state)
{
	struct ring *ring = *state;

	descriptor(ring, 0, BUFFERS, 1, 0, 0);
	/* Twice around all 16-bit indices. */
	for (unsigned i = 0; i < 2 * 65536 + 3; i++) {
		offer(ring, 0);
		assert_int_equal(queue_pop(&ring->queue, &ring->chain), 1);
		queue_push(&ring->queue, 0, 0);
		/* Pushed once, not twice. */
		queue_push(&ring->queue, 0, 0);
		assert_int_equal(get16(ring, USED + 2), (uint16_t)(i + 1));
	}
	assert_int_equal(ring->queue.in_flight_count, 0);
}

static void test_push_of_unknown(void **state)
{
	struct ring *ring = *state;

	queue_push(&ring->queue, 0, 0);
	queue_push(&ring->queue, SIZE, 0);
	queue_push(&ring->queue, 0xffff, 0);
	assert_int_equal(get16(ring, USED + 2), 0);
}

/* --- indirect --------------------------------------------------------------------------------------------------------
 */

static void offer_indirect(struct ring *ring, uint64_t address, uint32_t length, uint16_t flags)
{
	ring->queue.indirect = true;
	descriptor(ring, 0, address, length, VRING_DESC_F_INDIRECT | flags, 1);
	offer(ring, 0);
}

static void test_indirect(void **state)
{
	struct ring *ring = *state;
	unsigned count = 20; /* more than the ring has */

	for (unsigned i = 0; i < count; i++)
		descriptor_at(ring, TABLE, i, BUFFERS + i * 16, 16,
			      (uint16_t)((i + 1 < count ? VRING_DESC_F_NEXT : 0) | (i >= 10 ? VRING_DESC_F_WRITE : 0)),
			      (uint16_t)(i + 1));
	offer_indirect(ring, TABLE, count * 16, 0);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 1);
	assert_int_equal(chain_readable_left(&ring->chain), 160);
	assert_int_equal(chain_writable_left(&ring->chain), 160);
}

static void test_indirect_after_direct(void **state)
{
	struct ring *ring = *state;

	ring->queue.indirect = true;
	descriptor(ring, 0, BUFFERS, 4, VRING_DESC_F_NEXT, 1);
	descriptor(ring, 1, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	descriptor_at(ring, TABLE, 0, BUFFERS, 8, VRING_DESC_F_WRITE, 0);
	offer(ring, 0);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 1);
	assert_int_equal(chain_readable_left(&ring->chain), 4);
	assert_int_equal(chain_writable_left(&ring->chain), 8);
}

static void test_indirect_not_negotiated(void **state)
{
	struct ring *ring = *state;

	descriptor_at(ring, TABLE, 0, BUFFERS, 16, 0, 0);
	offer_indirect(ring, TABLE, 16, 0);
	ring->queue.indirect = false;
	expect_broken(ring);
}

static void test_bad_indirect(void **state)
{
	static const struct {
		uint64_t address;
		uint32_t length;
		uint16_t flags;
	} cases[] = {
	    {TABLE, 0, 0},	    {TABLE, 15, 0},	 {TABLE, 17, 0},	  {TABLE, 16, VRING_DESC_F_NEXT},
	    {MEMORY, 16, 0},	    {MEMORY - 8, 16, 0}, {UINT64_MAX - 7, 16, 0}, {TABLE, 16 * (QUEUE_SIZE_MAX + 1), 0},
	    {TABLE, 0xfffffff0, 0},
	};
	struct ring *ring = *state;

	descriptor_at(ring, TABLE, 0, BUFFERS, 16, 0, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		set_queue(ring);
		put16(ring, AVAILABLE + 2, 0);
		assert_int_equal(queue_start(&ring->queue, ring->memory), 0);
		offer_indirect(ring, cases[i].address, cases[i].length, cases[i].flags);
		expect_broken(ring);
	}
}

static void test_indirect_in_indirect(void **state)
{
	struct ring *ring = *state;

	descriptor_at(ring, TABLE, 0, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	offer_indirect(ring, TABLE, 16, 0);
	expect_broken(ring);
}

static void test_indirect_loop(void **state)
{
	struct ring *ring = *state;

	descriptor_at(ring, TABLE, 0, BUFFERS, 0, VRING_DESC_F_NEXT, 1);
	descriptor_at(ring, TABLE, 1, BUFFERS, 0, VRING_DESC_F_NEXT, 0);
	offer_indirect(ring, TABLE, 32, 0);
	expect_broken(ring);
}

static void test_indirect_next_outside(void **state)
{
	struct ring *ring = *state;

	descriptor_at(ring, TABLE, 0, BUFFERS, 1, VRING_DESC_F_NEXT, 1);
	descriptor_at(ring, TABLE, 1, BUFFERS, 1, 0, 0); /* there, but beyond the table's length */
	offer_indirect(ring, TABLE, 16, 0);
	expect_broken(ring);
}

static void test_too_many_buffers(void **state)
{
	struct ring *ring = *state;
	unsigned count = CHAIN_BUFFERS_MAX + 1;

	for (unsigned i = 0; i < count; i++)
		descriptor_at(ring, TABLE, i, BUFFERS, 1, i + 1 < count ? VRING_DESC_F_NEXT : 0, (uint16_t)(i + 1));
	offer_indirect(ring, TABLE, count * 16, 0);
	expect_broken(ring);
}

/* --- changes under the device's feet ---------------------------------------------------------------------------------
 */

static void *scribble(void *argument)
{
	struct ring *ring = argument;
	uint64_t *words = guest_range(ring->memory, 0, 0x8000);
	uint64_t seed = 88172645463325252ull;

	for (unsigned i = 0; i < 3000000; i++) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		/* All over rings and tables, with values that are often plausible. */
		__atomic_store_n(&words[0x1000 / 8 + seed % (0x4000 / 8)],
				 seed & 0x100 ? seed : seed & 0x0003000700ffffffull, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void use_chain(struct ring *ring)
{
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
	const struct chain *chain = &ring->chain;
	uint8_t *start = guest_range(ring->memory, 0, MEMORY);
	unsigned count = chain_readable_iovecs(chain, SIZE_MAX, iovecs, CHAIN_BUFFERS_MAX);

	count += chain_writable_iovecs(chain, SIZE_MAX, iovecs + count, CHAIN_BUFFERS_MAX - count);
	for (unsigned i = 0; i < count; i++) {
		uint8_t *base = iovecs[i].iov_base;

		assert_true(base >= start && base < start + MEMORY);
		assert_true(iovecs[i].iov_len <= (size_t)(start + MEMORY - base));
	}
}

static void test_changing_ring(void **state)
{
	struct ring *ring = *state;
	pthread_t thread;
	unsigned popped = 0, broke = 0;

	assert_int_equal(pthread_create(&thread, NULL, scribble, ring), 0);
	while (popped + broke < 60000 && pthread_tryjoin_np(thread, NULL) != 0) {
		int result = queue_pop(&ring->queue, &ring->chain);

		if (result == 1) {
			popped++;
			use_chain(ring);
			queue_push(&ring->queue, ring->chain.head, 0);
			queue_needs_interrupt(&ring->queue);
		}
		if (result < 0) {
			broke++;
			set_queue(ring);
			ring->queue.indirect = ring->queue.event_index = broke % 2;
			assert_int_equal(queue_start(&ring->queue, ring->memory), 0);
		}
		if (popped + broke == 60000) {
			pthread_join(thread, NULL);
			break;
		}
	}
	assert_true(broke > 0);
}

/* --- notifications ---------------------------------------------------------------------------------------------------
 */

static void exchange(struct ring *ring)
{
	descriptor(ring, 0, BUFFERS, 1, 0, 0);
	offer(ring, 0);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 1);
	queue_push(&ring->queue, 0, 0);
}

static void test_interrupt_flag(void **state)
{
	struct ring *ring = *state;

	exchange(ring);
	assert_true(queue_needs_interrupt(&ring->queue));
	put16(ring, AVAILABLE, VRING_AVAIL_F_NO_INTERRUPT);
	exchange(ring);
	assert_false(queue_needs_interrupt(&ring->queue));
	put16(ring, AVAILABLE, 0);
	exchange(ring);
	assert_true(queue_needs_interrupt(&ring->queue));
}

static void test_interrupt_index(void **state)
{
	struct ring *ring = *state;
	uint64_t wanted = AVAILABLE + 4 + 2 * SIZE;

	ring->queue.event_index = true;
	exchange(ring); /* used index 1 */
	assert_true(queue_needs_interrupt(&ring->queue));
	put16(ring, wanted, 3);
	exchange(ring);
	assert_false(queue_needs_interrupt(&ring->queue));
	exchange(ring);
	assert_false(queue_needs_interrupt(&ring->queue));
	exchange(ring); /* used index 4: the element with index 3 is there */
	assert_true(queue_needs_interrupt(&ring->queue));
	exchange(ring);
	assert_false(queue_needs_interrupt(&ring->queue));
}

static void test_doorbell_flag(void **state)
{
	struct ring *ring = *state;

	queue_notifications(&ring->queue, false);
	assert_int_equal(get16(ring, USED), VRING_USED_F_NO_NOTIFY);
	queue_notifications(&ring->queue, true);
	assert_int_equal(get16(ring, USED), 0);
}

/* With event indices each time that the ring is found empty, the next doorbell is asked for. */
static void test_doorbell_index(void **state)
{
	struct ring *ring = *state;
	uint64_t asked = USED + 4 + 8 * SIZE;

	ring->queue.event_index = true;
	exchange(ring);
	assert_int_equal(get16(ring, asked), 0);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 0);
	assert_int_equal(get16(ring, asked), 1);
	queue_notifications(&ring->queue, false);
	exchange(ring);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 0);
	assert_int_equal(get16(ring, asked), 1);
	queue_notifications(&ring->queue, true);
	assert_int_equal(get16(ring, asked), 2);
}

/* --- descriptors -----------------------------------------------------------------------------------------------------
 */

static void test_files(void **state)
{
	struct ring *ring = *state;
	int fd = memfd_create("file", MFD_CLOEXEC), sockets[2];
	char text[16] = "";

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
	put(ring, BUFFERS, "abcd", 4);
	descriptor(ring, 0, BUFFERS, 2, VRING_DESC_F_NEXT, 1);
	descriptor(ring, 1, BUFFERS + 2, 2, VRING_DESC_F_NEXT, 2);
	descriptor(ring, 2, BUFFERS + 64, 3, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 3);
	descriptor(ring, 3, BUFFERS + 67, 5, VRING_DESC_F_WRITE, 0);
	offer(ring, 0);
	assert_int_equal(queue_pop(&ring->queue, &ring->chain), 1);
	assert_int_equal(chain_read_to_fd(&ring->chain, fd, 3, 10), 3);
	assert_int_equal(chain_read_to_socket(&ring->chain, sockets[0], 100, MSG_DONTWAIT), 1);
	assert_int_equal(ring->chain.read_at, 4);
	assert_int_equal(pread(fd, text, 16, 10), 3);
	assert_memory_equal(text, "abc", 3);
	assert_int_equal(chain_write_from_fd(&ring->chain, fd, 4, 10), 3);
	assert_int_equal(chain_write_from_socket(&ring->chain, sockets[1], 100, MSG_DONTWAIT), 1);
	assert_int_equal(chain_write_from_socket(&ring->chain, sockets[1], 100, MSG_DONTWAIT), -1);
	assert_int_equal(ring->chain.written_at, 4);
	assert_true(guest_read(ring->memory, BUFFERS + 64, text, 4));
	assert_memory_equal(text, "abcd", 4);
	assert_int_equal(chain_write_from_fd(&ring->chain, -1, 4, 0), -1);
	assert_int_equal(ring->chain.written_at, 4);
	close(fd);
	close(sockets[0]);
	close(sockets[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_plain),
	    TEST(test_bad_start),
	    TEST(test_not_started),
	    TEST(test_head_out_of_range),
	    TEST(test_next_out_of_range),
	    TEST(test_index_too_far),
	    TEST(test_index_backwards),
	    TEST(test_loop),
	    TEST(test_loop_of_nothing),
	    TEST(test_empty_buffer),
	    TEST(test_buffer_outside),
	    TEST(test_length_overflow),
	    TEST(test_readable_after_writable),
	    TEST(test_same_head_twice),
	    TEST(test_head_again_after_push),
	    TEST(test_push_of_unknown),
	    TEST(test_indirect),
	    TEST(test_indirect_after_direct),
	    TEST(test_indirect_not_negotiated),
	    TEST(test_bad_indirect),
	    TEST(test_indirect_in_indirect),
	    TEST(test_indirect_loop),
	    TEST(test_indirect_next_outside),
	    TEST(test_too_many_buffers),
	    TEST(test_changing_ring),
	    TEST(test_interrupt_flag),
	    TEST(test_interrupt_index),
	    TEST(test_doorbell_flag),
	    TEST(test_doorbell_index),
	    TEST(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
