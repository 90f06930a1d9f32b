/*
 * The network card between a driver, good or bad, and a pair of sockets in the place of a tap: one frame a packet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/ring.h"
#include "vmm/virtio/net.h"

#define HEADER 12u
#define FRAME 1000u
#define LARGE 65550u
#define RECEIVE 0
#define TRANSMIT 1

#define IN                                                                                                             \
	(1ull << VIRTIO_NET_F_GUEST_CSUM | 1ull << VIRTIO_NET_F_GUEST_TSO4 | 1ull << VIRTIO_NET_F_GUEST_TSO6 |         \
	 1ull << VIRTIO_NET_F_GUEST_ECN)
#define OUT                                                                                                            \
	(1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6 |                 \
	 1ull << VIRTIO_NET_F_HOST_ECN)
#define MERGE (1ull << VIRTIO_NET_F_MRG_RXBUF)

static const uint8_t mac[NET_MAC_SIZE] = {2, 0, 0, 1, 2, 3};

struct card {
	struct driver driver;
	int wire; /* the other end */
	uint64_t out, in;
	uint64_t rings;
};

static void start(struct card *card, uint64_t features)
{
	card->driver.device->features = features;
	driver_start(&card->driver, card->driver.device);
	card->out = driver_alloc(&card->driver, 1u << 20);
	card->in = driver_alloc(&card->driver, 4u << 20);
}

static void init(struct card *card, uint64_t features)
{
	struct error err;
	int pair[2];

	memset(card, 0, sizeof(*card));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	card->wire = pair[1];
	driver_init(&card->driver);
	card->driver.device = net_new(pair[0], mac, 1400, card->driver.loop, &err);
	assert_non_null(card->driver.device);
	card->rings = driver_mark(&card->driver);
	start(card, features);
}

static void finish(struct card *card)
{
	driver_free(&card->driver);
	if (card->wire >= 0)
		close(card->wire);
}

static uint8_t pattern(size_t at, unsigned seed)
{
	return (uint8_t)(at * 7 + at / 251 + seed);
}

static void fill(uint8_t *data, size_t size, unsigned seed)
{
	for (size_t i = 0; i < size; i++)
		data[i] = pattern(i, seed);
}

static void assert_filled(const uint8_t *data, size_t size, unsigned seed)
{
	for (size_t i = 0; i < size; i++)
		if (data[i] != pattern(i, seed))
			fail_msg("byte %zu of %zu is wrong", i, size);
}

/* --- out ---------------------------------------------------------------------------------------------------------- */

/* A frame in two buffers, the header in the first with some of the data. Not yet rung for. */
static void offer_frame(struct card *card, const struct virtio_net_hdr_v1 *header, uint32_t size, unsigned seed)
{
	static uint8_t frame[HEADER + LARGE + 4096];
	uint32_t first = size < 40 ? 0 : 40;
	struct buffer buffers[] = {{card->out, HEADER + first, false},
				   {card->out + HEADER + first, size - first, false}};

	memcpy(frame, header, HEADER);
	fill(frame + HEADER, size, seed);
	guest_write(card->driver.memory, card->out, frame, HEADER + size);
	assert_true(driver_add(&card->driver, TRANSMIT, buffers, 2) >= 0);
}

static unsigned taken_back(struct card *card, unsigned queue)
{
	unsigned count = 0;
	uint16_t head;
	uint32_t length;

	while (driver_used(&card->driver, queue, &head, &length))
		count++;
	return count;
}

/* The size of the next frame on the wire, or 0; its header and the rest are checked. */
static size_t take_from_wire(struct card *card, struct virtio_net_hdr_v1 *header, unsigned seed)
{
	static uint8_t frame[HEADER + LARGE + 4096];
	ssize_t got = recv(card->wire, frame, sizeof(frame), MSG_DONTWAIT);

	if (got < 0)
		return 0;
	assert_true(got >= HEADER);
	memcpy(header, frame, HEADER);
	assert_filled(frame + HEADER, (size_t)got - HEADER, seed);
	return (size_t)got - HEADER;
}

static const struct virtio_net_hdr_v1 plain;
static const struct virtio_net_hdr_v1 segments = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						  .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
						  .hdr_len = 66,
						  .gso_size = 1448,
						  .csum_start = 34,
						  .csum_offset = 16};

static void test_send(void **state)
{
	struct virtio_net_hdr_v1 header,
	    checksum = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
	struct card card;

	(void)state;
	init(&card, IN | OUT | MERGE);
	offer_frame(&card, &plain, FRAME, 1);
	driver_kick(&card.driver, TRANSMIT);
	assert_int_equal(taken_back(&card, TRANSMIT), 1);
	assert_int_equal(card.driver.signals[TRANSMIT], 1);
	assert_int_equal(take_from_wire(&card, &header, 1), FRAME);
	assert_memory_equal(&header, &plain, HEADER);
	offer_frame(&card, &segments, LARGE, 2);
	driver_kick(&card.driver, TRANSMIT);
	assert_int_equal(take_from_wire(&card, &header, 2), LARGE);
	assert_memory_equal(&header, &segments, HEADER);
	offer_frame(&card, &checksum, 60, 3);
	driver_kick(&card.driver, TRANSMIT);
	assert_int_equal(take_from_wire(&card, &header, 3), 60);
	assert_memory_equal(&header, &checksum, HEADER);
	/* The least that there is. */
	offer_frame(&card, &plain, 14, 4);
	driver_kick(&card.driver, TRANSMIT);
	assert_int_equal(take_from_wire(&card, &header, 4), 14);
	assert_false(card.driver.failed);
	finish(&card);
}

/* Words that have no meaning do not reach the host's kernel. */
static void test_meaningless(void **state)
{
	struct virtio_net_hdr_v1 header = {.flags = 0xfe,
					   .hdr_len = 0xffff,
					   .gso_size = 0xffff,
					   .csum_start = 0xffff,
					   .csum_offset = 0xffff,
					   .num_buffers = 0xffff};
	struct card card;

	(void)state;
	init(&card, IN | OUT | MERGE);
	offer_frame(&card, &header, FRAME, 1);
	driver_kick(&card.driver, TRANSMIT);
	assert_int_equal(take_from_wire(&card, &header, 1), FRAME);
	assert_memory_equal(&header, &plain, HEADER);
	finish(&card);
}

static struct virtio_net_hdr_v1 with(struct virtio_net_hdr_v1 header, size_t offset, uint16_t value, size_t size)
{
	memcpy((char *)&header + offset, &value, size);
	return header;
}
#define WITH(field, value) with(segments, offsetof(struct virtio_net_hdr_v1, field), value, sizeof(segments.field))

static void expect_dropped(uint64_t features, struct virtio_net_hdr_v1 header, uint32_t size)
{
	struct card card;

	init(&card, features);
	offer_frame(&card, &header, size, 1);
	driver_kick(&card.driver, TRANSMIT);
	assert_int_equal(taken_back(&card, TRANSMIT), 1);
	assert_int_equal(take_from_wire(&card, &header, 1), 0);
	assert_false(card.driver.failed);
	offer_frame(&card, &plain, FRAME, 1);
	driver_kick(&card.driver, TRANSMIT);
	assert_int_equal(take_from_wire(&card, &header, 1), FRAME);
	finish(&card);
}

static void test_bad_headers(void **state)
{
	const uint64_t all = IN | OUT | MERGE;

	(void)state;
	expect_dropped(all, plain, 13);
	expect_dropped(all, plain, 1);
	expect_dropped(all, plain, 65536 + 65);
	expect_dropped(all, WITH(flags, 0), FRAME);
	expect_dropped(all, WITH(gso_type, VIRTIO_NET_HDR_GSO_UDP), FRAME);
	expect_dropped(all, WITH(gso_type, VIRTIO_NET_HDR_GSO_ECN), FRAME);
	expect_dropped(all, WITH(gso_type, 2), FRAME);
	expect_dropped(all, WITH(gso_type, 0x7f), FRAME);
	expect_dropped(all, WITH(gso_size, 0), FRAME);
	expect_dropped(all, WITH(gso_size, 7), FRAME);
	expect_dropped(all, WITH(gso_size, 0xffff), FRAME);
	expect_dropped(all, WITH(hdr_len, FRAME + 1), FRAME);
	expect_dropped(all, WITH(csum_start, 13), FRAME);
	expect_dropped(all, WITH(csum_start, FRAME - 19), FRAME);
	expect_dropped(all, WITH(csum_start, 0xffff), FRAME);
	expect_dropped(all, WITH(csum_offset, 6), FRAME);
	expect_dropped(all, WITH(csum_offset, 0xffff), FRAME);
	expect_dropped(all, (struct virtio_net_hdr_v1){.flags = 1, .csum_start = FRAME - 1}, FRAME);
	/* What was not negotiated. */
	expect_dropped(IN, segments, FRAME);
	expect_dropped(IN, (struct virtio_net_hdr_v1){.flags = 1, .csum_start = 34, .csum_offset = 16}, FRAME);
	expect_dropped(all & ~(1ull << VIRTIO_NET_F_HOST_TSO4), segments, FRAME);
	expect_dropped(all & ~(1ull << VIRTIO_NET_F_HOST_TSO6), WITH(gso_type, VIRTIO_NET_HDR_GSO_TCPV6), FRAME);
	expect_dropped(all & ~(1ull << VIRTIO_NET_F_HOST_ECN), WITH(gso_type, VIRTIO_NET_HDR_GSO_TCPV4 | 0x80), FRAME);
}

static void test_bad_chains(void **state)
{
	struct card card;
	struct buffer short_header = {0, HEADER - 1, false}, nothing_to_read = {0, 100, true};
	struct virtio_net_hdr_v1 header;

	(void)state;
	init(&card, IN | OUT | MERGE);
	short_header.address = nothing_to_read.address = card.out;
	driver_add(&card.driver, TRANSMIT, &short_header, 1);
	driver_add(&card.driver, TRANSMIT, &nothing_to_read, 1);
	driver_kick(&card.driver, TRANSMIT);
	assert_int_equal(taken_back(&card, TRANSMIT), 2);
	assert_int_equal(take_from_wire(&card, &header, 0), 0);
	assert_false(card.driver.failed);
	driver_offer(&card.driver, TRANSMIT, 40000);
	driver_kick(&card.driver, TRANSMIT);
	assert_true(card.driver.failed);
	/* The driver sets it up anew. */
	driver_reset_device(&card.driver);
	driver_release(&card.driver, card.rings);
	start(&card, IN | OUT | MERGE);
	driver_offer(&card.driver, RECEIVE, 40000);
	assert_int_equal(send(card.wire, "a frame of more than 26 bytes", 29, 0), 29);
	driver_run(&card.driver, 1);
	assert_true(card.driver.failed);
	driver_run(&card.driver, 1);
	finish(&card);
}

/* More frames than a turn: the rest follows without being rung for. */
static void test_turns(void **state)
{
	struct card card;
	struct virtio_net_hdr_v1 header;
	uint8_t frame[HEADER + 14] = {0};

	(void)state;
	init(&card, IN | OUT | MERGE);
	fill(frame + HEADER, 14, 1);
	guest_write(card.driver.memory, card.out, frame, sizeof(frame));
	/* One descriptor each, outside of the slots. */
	for (uint16_t i = 0; i < 200; i++) {
		driver_descriptor(&card.driver, TRANSMIT, i,
				  (struct vring_desc){.addr = card.out, .len = sizeof(frame)});
		driver_offer(&card.driver, TRANSMIT, i);
	}
	driver_kick(&card.driver, TRANSMIT);
	assert_in_range(taken_back(&card, TRANSMIT), 1, 199);
	for (unsigned i = 0, done = 0; i < 100 && done < 200; i++) {
		driver_run(&card.driver, 1);
		while (take_from_wire(&card, &header, 1))
			done++;
		if (i == 99)
			fail_msg("%u frames", done);
	}
	finish(&card);
}

/* A wire that takes no more: chains stay in the ring, in their order, and follow when it does. */
static void test_full_wire(void **state)
{
	struct card card;
	struct virtio_net_hdr_v1 header;
	uint8_t frame[HEADER + FRAME] = {0};
	unsigned given = 0, done = 0;

	(void)state;
	init(&card, IN | OUT | MERGE);
	for (uint16_t i = 0; i < 250; i++, given++) {
		uint64_t at = card.out + i * 2048ull;

		fill(frame + HEADER, FRAME, i);
		guest_write(card.driver.memory, at, frame, sizeof(frame));
		driver_descriptor(&card.driver, TRANSMIT, i, (struct vring_desc){.addr = at, .len = sizeof(frame)});
		driver_offer(&card.driver, TRANSMIT, i);
	}
	driver_kick(&card.driver, TRANSMIT);
	for (int i = 0; i < 20; i++)
		driver_run(&card.driver, 1);
	assert_in_range(card.driver.device->queues[TRANSMIT].next_used, 1, 249);
	driver_kick(&card.driver, TRANSMIT);
	assert_int_equal(card.driver.device->queues[TRANSMIT].in_flight_count, 0);
	for (int i = 0; i < 1000 && done < given; i++) {
		while (take_from_wire(&card, &header, done))
			done++;
		driver_run(&card.driver, 1);
	}
	assert_int_equal(done, given);
	/* A reset while it is full. */
	for (uint16_t i = 0; i < 250; i++)
		driver_offer(&card.driver, TRANSMIT, i);
	driver_kick(&card.driver, TRANSMIT);
	driver_reset_device(&card.driver);
	driver_run(&card.driver, 1);
	finish(&card);
}

/* --- in ----------------------------------------------------------------------------------------------------------- */

static void put_on_wire(struct card *card, uint32_t size, unsigned seed)
{
	static uint8_t frame[HEADER + LARGE];

	memcpy(frame, &segments, HEADER);
	fill(frame + HEADER, size, seed);
	assert_int_equal(send(card->wire, frame, HEADER + size, 0), HEADER + size);
}

/* Buffer i of the given size lies at in + i * 64 KiB; descriptors one by one. */
static void give_room(struct card *card, unsigned first, unsigned count, uint32_t size)
{
	for (unsigned i = first; i < first + count; i++) {
		struct vring_desc descriptor = {
		    .addr = card->in + (i % 64) * 0x10000ull, .len = size, .flags = VRING_DESC_F_WRITE};

		driver_descriptor(&card->driver, RECEIVE, (uint16_t)(i % 256), descriptor);
		driver_offer(&card->driver, RECEIVE, (uint16_t)(i % 256));
	}
}

/* The next frame in the ring: its chains are checked against its header. Returns its size, or 0. */
static size_t take_frame(struct card *card, unsigned seed)
{
	static uint8_t frame[HEADER + LARGE + 65536];
	struct virtio_net_hdr_v1 header;
	uint32_t length, size = 0;
	uint16_t head, chains = 1;

	for (unsigned i = 0; i < chains || size < HEADER; i++) {
		if (!driver_used(&card->driver, RECEIVE, &head, &length)) {
			assert_int_equal(i, 0);
			return 0;
		}
		guest_read(card->driver.memory, card->in + (head % 64) * 0x10000ull, frame + size, length);
		size += length;
		if (size >= HEADER) {
			memcpy(&header, frame, HEADER);
			chains = header.num_buffers;
		}
	}
	header.num_buffers = 0;
	assert_memory_equal(&header, &segments, HEADER);
	assert_filled(frame + HEADER, size - HEADER, seed);
	return size - HEADER;
}

static bool wants_doorbell(struct card *card)
{
	uint16_t flags;

	guest_read(card->driver.memory, card->driver.rings[RECEIVE].used_at, &flags, 2);
	return !(flags & VRING_USED_F_NO_NOTIFY);
}

static void test_receive(void **state)
{
	struct card card;

	(void)state;
	init(&card, IN | OUT | MERGE);
	give_room(&card, 0, 60, 1536);
	driver_kick(&card.driver, RECEIVE);
	for (unsigned i = 0; i < 5; i++)
		put_on_wire(&card, 200 * i + 14, i);
	driver_run(&card.driver, 1);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(take_frame(&card, i), 200 * i + 14);
	assert_int_equal(take_frame(&card, 0), 0);
	assert_int_equal(card.driver.signals[RECEIVE], 1);
	put_on_wire(&card, LARGE, 9);
	driver_run(&card.driver, 1);
	assert_int_equal(take_frame(&card, 9), LARGE);
	assert_false(wants_doorbell(&card));
	finish(&card);
}

/* Buffers of few bytes: even the header is in several. */
static void test_small_buffers(void **state)
{
	struct card card;

	(void)state;
	for (uint32_t size = 1; size < 40; size++) {
		init(&card, IN | OUT | MERGE);
		give_room(&card, 0, 60, size);
		put_on_wire(&card, 14, 3);
		driver_run(&card.driver, 1);
		assert_int_equal(take_frame(&card, 3), 14);
		finish(&card);
	}
}

static void test_no_room(void **state)
{
	struct card card;

	(void)state;
	init(&card, IN | OUT | MERGE);
	put_on_wire(&card, FRAME, 1);
	put_on_wire(&card, FRAME, 2);
	driver_run(&card.driver, 1);
	assert_true(wants_doorbell(&card));
	give_room(&card, 0, 1, 2048);
	driver_kick(&card.driver, RECEIVE);
	assert_int_equal(take_frame(&card, 1), FRAME);
	assert_int_equal(take_frame(&card, 2), 0);
	assert_true(wants_doorbell(&card));
	give_room(&card, 1, 1, 2048);
	driver_kick(&card.driver, RECEIVE);
	driver_run(&card.driver, 1);
	assert_int_equal(take_frame(&card, 2), FRAME);
	finish(&card);
}

/* A frame for which the driver gives room bit by bit. */
static void test_spill(void **state)
{
	struct card card;

	(void)state;
	init(&card, IN | OUT | MERGE);
	give_room(&card, 0, 3, 100);
	put_on_wire(&card, FRAME, 1);
	put_on_wire(&card, FRAME, 2);
	driver_run(&card.driver, 1);
	assert_int_equal(taken_back(&card, RECEIVE), 0);
	for (unsigned i = 3; i < 10; i++) {
		give_room(&card, i, 1, 100);
		driver_kick(&card.driver, RECEIVE);
		driver_run(&card.driver, 1);
		assert_int_equal(card.driver.device->queues[RECEIVE].next_used, 0);
	}
	give_room(&card, 10, 1, 100);
	driver_kick(&card.driver, RECEIVE);
	assert_int_equal(take_frame(&card, 1), FRAME);
	/* A reset with a part of the next one in the room: it is lost, and that is all. */
	give_room(&card, 11, 2, 100);
	driver_kick(&card.driver, RECEIVE);
	driver_run(&card.driver, 1);
	driver_reset_device(&card.driver);
	driver_release(&card.driver, card.rings);
	start(&card, IN | OUT | MERGE);
	give_room(&card, 0, 60, 1536);
	put_on_wire(&card, LARGE, 3);
	driver_run(&card.driver, 1);
	assert_int_equal(take_frame(&card, 3), LARGE);
	finish(&card);
}

/* A frame that no number of the driver's buffers can take is dropped; the next one may fit. */
static void test_too_large(void **state)
{
	struct card card;

	(void)state;
	init(&card, IN | OUT | MERGE);
	give_room(&card, 0, 200, 10);
	put_on_wire(&card, FRAME, 1);
	put_on_wire(&card, 100, 2);
	driver_run(&card.driver, 1);
	assert_int_equal(take_frame(&card, 2), 100);
	finish(&card);
	/* Without mergeable buffers one chain is all that a frame may have. */
	init(&card, IN | OUT);
	give_room(&card, 0, 3, 500);
	put_on_wire(&card, FRAME, 1);
	put_on_wire(&card, 100, 2);
	put_on_wire(&card, 488, 3);
	driver_run(&card.driver, 1);
	assert_int_equal(take_frame(&card, 2), 100);
	assert_int_equal(take_frame(&card, 3), 488);
	assert_int_equal(take_frame(&card, 1), 0);
	finish(&card);
}

static void test_odd_room(void **state)
{
	struct card card;
	struct buffer unwritable = {0, 100, false};
	uint16_t head;
	uint32_t length;

	(void)state;
	init(&card, IN | OUT | MERGE);
	unwritable.address = card.in;
	driver_add(&card.driver, RECEIVE, &unwritable, 1);
	give_room(&card, 8, 2, 4096);
	assert_int_equal(send(card.wire, "short", 5, 0), 5);
	put_on_wire(&card, 100, 1);
	driver_run(&card.driver, 1);
	assert_true(driver_used(&card.driver, RECEIVE, &head, &length));
	assert_int_equal(length, 0);
	assert_int_equal(take_frame(&card, 1), 100);
	finish(&card);
}

/* A frame that is longer than any can be does not end up in pieces. */
static void test_oversize(void **state)
{
	struct card card;
	static uint8_t huge[150000];

	(void)state;
	init(&card, IN | OUT | MERGE);
	give_room(&card, 0, 2, 4096);
	assert_int_equal(send(card.wire, huge, sizeof(huge), 0), sizeof(huge));
	driver_run(&card.driver, 1);
	assert_int_equal(taken_back(&card, RECEIVE), 0);
	finish(&card);
}

/* --- the rest ----------------------------------------------------------------------------------------------------- */

static void test_config(void **state)
{
	struct card card;
	struct virtio_net_config config;
	uint64_t outside = 1;

	(void)state;
	init(&card, IN | OUT | MERGE);
	for (uint32_t i = 0; i < sizeof(config); i++)
		card.driver.device->operations->read_config(card.driver.device, i, (char *)&config + i, 1);
	assert_memory_equal(config.mac, mac, sizeof(mac));
	assert_int_equal(config.status, 0);
	assert_int_equal(config.mtu, 1400);
	card.driver.device->operations->read_config(card.driver.device, sizeof(config) - 2, &outside, 8);
	card.driver.device->operations->read_config(card.driver.device, UINT32_MAX, &outside, 8);
	assert_int_equal(outside, 0);
	/* The link is up when there is room for the first frame. */
	give_room(&card, 0, 1, 4096);
	driver_kick(&card.driver, RECEIVE);
	for (uint32_t i = 0; i < sizeof(config); i++)
		card.driver.device->operations->read_config(card.driver.device, i, (char *)&config + i, 1);
	assert_int_equal(config.status, VIRTIO_NET_S_LINK_UP);
	finish(&card);
}

static void test_features(void **state)
{
	struct card card;
	const struct virtio_device_operations *operations;

	(void)state;
	init(&card, IN | OUT | MERGE);
	operations = card.driver.device->operations;
	assert_true(operations->accepts(card.driver.device, card.driver.device->offered));
	assert_true(operations->accepts(card.driver.device, IN));
	assert_true(operations->accepts(card.driver.device, IN | 1ull << VIRTIO_NET_F_CSUM));
	assert_false(operations->accepts(card.driver.device, 0));
	assert_false(operations->accepts(card.driver.device, IN & ~(1ull << VIRTIO_NET_F_GUEST_CSUM)));
	assert_false(operations->accepts(card.driver.device, IN & ~(1ull << VIRTIO_NET_F_GUEST_TSO6)));
	assert_false(operations->accepts(card.driver.device, IN | 1ull << VIRTIO_NET_F_HOST_TSO4));
	finish(&card);
}

static void test_refused(void **state)
{
	static const uint8_t group[NET_MAC_SIZE] = {1}, none[NET_MAC_SIZE];
	struct driver driver;
	struct error err;
	int pair[2], pipes[2], blocking[2];

	(void)state;
	driver_init(&driver);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, blocking), 0);
	assert_int_equal(pipe2(pipes, O_NONBLOCK), 0);
	assert_null(net_new(pair[0], group, 0, driver.loop, &err));
	assert_int_equal(err.code, EINVAL);
	assert_null(net_new(pair[0], none, 0, driver.loop, &err));
	assert_int_equal(err.code, EINVAL);
	assert_null(net_new(pair[0], mac, 67, driver.loop, &err));
	assert_int_equal(err.code, EINVAL);
	assert_null(net_new(pipes[0], mac, 0, driver.loop, &err));
	assert_int_equal(err.code, EINVAL);
	assert_null(net_new(blocking[0], mac, 0, driver.loop, &err));
	assert_int_equal(err.code, EINVAL);
	assert_null(net_new(9999, mac, 0, driver.loop, &err));
	assert_int_equal(err.code, EBADF);
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(pipes[i]);
		close(blocking[i]);
	}
	driver_free(&driver);
}

/* The other end goes: the guest sees a cable that was pulled, and what it sends comes back unsent. */
static void test_lost_wire(void **state)
{
	struct card card;
	uint16_t link = 1;

	(void)state;
	init(&card, IN | OUT | MERGE);
	close(card.wire);
	card.wire = -1;
	driver_run(&card.driver, 1);
	card.driver.device->operations->read_config(card.driver.device, offsetof(struct virtio_net_config, status),
						    &link, sizeof(link));
	assert_int_equal(link, 0);
	offer_frame(&card, &plain, FRAME, 1);
	driver_kick(&card.driver, TRANSMIT);
	assert_int_equal(taken_back(&card, TRANSMIT), 1);
	give_room(&card, 0, 2, 4096);
	driver_kick(&card.driver, RECEIVE);
	driver_reset_device(&card.driver);
	driver_release(&card.driver, card.rings);
	start(&card, IN | OUT | MERGE);
	driver_kick(&card.driver, RECEIVE);
	driver_run(&card.driver, 1);
	assert_false(card.driver.failed);
	finish(&card);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_send),       cmocka_unit_test(test_meaningless),   cmocka_unit_test(test_bad_headers),
	    cmocka_unit_test(test_bad_chains), cmocka_unit_test(test_turns),	     cmocka_unit_test(test_full_wire),
	    cmocka_unit_test(test_receive),    cmocka_unit_test(test_small_buffers), cmocka_unit_test(test_no_room),
	    cmocka_unit_test(test_spill),      cmocka_unit_test(test_too_large),     cmocka_unit_test(test_odd_room),
	    cmocka_unit_test(test_oversize),   cmocka_unit_test(test_config),	     cmocka_unit_test(test_features),
	    cmocka_unit_test(test_refused),    cmocka_unit_test(test_lost_wire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
