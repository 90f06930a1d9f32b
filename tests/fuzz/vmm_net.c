/*
 * The network card under a hostile guest, with frames of any size coming in meanwhile. What reaches the wire is a whole
 * frame with a header that a host can live with.
 */
#include <linux/virtio_net.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/guest.h"
#include "vmm/virtio/net.h"

#define FRAME_MAX (12u + 65536u + 64u)

static uint64_t number(struct input *input)
{
	static const uint64_t interesting[] = {0,     1,     11,	12,	    13,		14,
					       25,    26,    100,	256,	    1500,	4096,
					       65535, 65536, FRAME_MAX, UINT32_MAX, UINT64_MAX, 1ull << 24};
	uint8_t choice = byte(input);

	if (choice < sizeof(interesting) / sizeof(interesting[0]))
		return interesting[choice];
	return (uint64_t)byte(input) << 8 | byte(input);
}

static void step_send(struct driver *driver, struct input *input, uint64_t memory)
{
	static const uint8_t types[] = {0, 1, 4, 3, 0x81, 0x84, 0x80, 5};
	struct virtio_net_hdr_v1 header = {.flags = byte(input) & 3,
					   .gso_type = types[byte(input) % 8],
					   .hdr_len = (uint16_t)number(input),
					   .gso_size = (uint16_t)number(input),
					   .csum_start = (uint16_t)number(input),
					   .csum_offset = byte(input) & 1 ? 16 : (uint16_t)number(input)};
	uint32_t first = byte(input) % 32, size = (uint32_t)number(input) % (1u << 17);
	struct buffer buffers[] = {{memory, first, false}, {memory + first, size, byte(input) % 16 == 0}};

	guest_write(driver->memory, memory, &header, sizeof(header));
	driver_add(driver, 1, buffers, 2);
	if (byte(input) & 1)
		driver_kick(driver, 1);
}

static void step_room(struct driver *driver, struct input *input, uint64_t memory)
{
	unsigned count = 1 + byte(input) % 3;
	struct buffer buffers[3];

	for (unsigned i = 0; i < count; i++)
		buffers[i] = (struct buffer){memory + 64u * byte(input), (uint32_t)number(input) % (1u << 20),
					     byte(input) % 16 != 0};
	driver_add(driver, 0, buffers, count);
	if (byte(input) & 1)
		driver_kick(driver, 0);
}

static void check_header(const struct virtio_net_hdr_v1 *header, size_t frame, uint64_t features)
{
	bool needs_checksum = header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
	bool good = frame >= 14 && !(header->flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM) && header->num_buffers == 0;

	if (needs_checksum)
		good = good && (features & 1u << VIRTIO_NET_F_CSUM) && header->csum_start >= 14 &&
		       header->csum_start + header->csum_offset + 2u <= frame;
	if (header->gso_type)
		good = good && needs_checksum && header->gso_size >= 8 && header->gso_size < 0xffff &&
		       header->hdr_len <= frame && header->csum_offset == 16 && header->csum_start + 20u <= frame;
	driver_must(good, "a bad header has reached the wire");
}

static void take_from_wire(struct driver *driver, int wire)
{
	static uint8_t frame[FRAME_MAX + 1];
	struct virtio_net_hdr_v1 header;
	ssize_t got;

	while ((got = recv(wire, frame, sizeof(frame), MSG_DONTWAIT)) > 0) {
		driver_must(got >= 12 && (size_t)got <= FRAME_MAX, "a frame of impossible size has reached the wire");
		memcpy(&header, frame, sizeof(header));
		check_header(&header, (size_t)got - 12, driver->device->features);
	}
}

static void restart(struct driver *driver, uint64_t rings, uint64_t features)
{
	driver_release(driver, rings);
	driver->device->features = features;
	driver_start(driver, driver->device);
}

static void step(struct driver *driver, struct input *input, uint64_t memory, uint64_t rings, int wire)
{
	static uint8_t frame[FRAME_MAX];

	switch (byte(input) % 8) {
	case 0:
		driver_run(driver, 0);
		return;
	case 1:
		take_used(driver, 2);
		return;
	case 2:
		offer_raw_descriptor(driver, input, byte(input) & 1, number);
		return;
	case 3:
		if (byte(input) % 8)
			return;
		take_from_wire(driver, wire); /* while it is known what was negotiated */
		driver_reset_device(driver);
		restart(driver, rings, byte(input) & 1 ? driver->device->offered : 0);
		return;
	case 4:
		take_from_wire(driver, wire);
		return;
	case 5:
		if (send(wire, frame, number(input) % sizeof(frame) + 1, MSG_DONTWAIT) < 0)
			return;
		driver_run(driver, 0);
		return;
	case 6:
		step_room(driver, input, memory);
		return;
	default:
		step_send(driver, input, memory);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[NET_MAC_SIZE] = {2};
	struct input input = {data, size};
	struct driver driver;
	uint64_t memory, rings;
	int pair[2];

	signal(SIGPIPE, SIG_IGN);
	driver_init(&driver);
	driver_must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0, "socket pair");
	driver.device = net_new(pair[0], mac, 1500, driver.loop, NULL);
	driver_must(driver.device, "card");
	memory = driver_alloc(&driver, 2u << 20);
	rings = driver_mark(&driver);
	restart(&driver, rings, byte(&input) & 1 ? driver.device->offered : 0);
	while (input.size)
		step(&driver, &input, memory, rings, pair[1]);
	driver_kick(&driver, 0);
	driver_kick(&driver, 1);
	take_from_wire(&driver, pair[1]);
	if (size % 2)
		close(pair[1]);
	driver_run(&driver, 0);
	driver_free(&driver);
	if (size % 2 == 0)
		close(pair[1]);
	return 0;
}
