/*
 * A guest's vsock driver for tests: it sends and takes packets through real rings (ring.h), by the rules or against
 * them. Include it once a program, after cmocka.h.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "tests/unit/ring.h"
#include "vmm/stream.h"
#include "vmm/virtio/vsock.h"

#define RX 0
#define TX 1
#define CID 3
#define PAGE 4096u
#define GUEST_BUFFER (256u << 10)
#define BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

struct guest {
	struct driver driver;
	struct virtio_device *device;
	uint64_t rx_address[QUEUE_SIZE_MAX / SLOT_BUFFERS];
	uint64_t tx_address;
	unsigned events;
	enum vsock_event event;
	uint32_t value;
	bool ready;
};

struct packet {
	struct virtio_vsock_hdr header;
	unsigned char data[PAGE];
};

static inline void heard(void *owner, enum vsock_event event, uint32_t value)
{
	struct guest *guest = owner;

	if (event == VSOCK_READY) {
		guest->ready = true;
		return;
	}
	guest->events++;
	guest->event = event;
	guest->value = value;
}

/* Header and data in buffers of their own, as Linux does it. */
static inline void rx_offer(struct guest *guest, uint64_t address)
{
	struct buffer buffers[] = {{address, 44, true}, {address + 64, PAGE, true}};
	int head = driver_add(&guest->driver, RX, buffers, 2);

	assert_true(head >= 0);
	guest->rx_address[head / SLOT_BUFFERS] = address;
}

static inline void rx_fill(struct guest *guest, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		rx_offer(guest, driver_alloc(&guest->driver, PAGE + 64));
	driver_kick(&guest->driver, RX);
}

static inline void guest_init(struct guest *guest, unsigned rx_buffers)
{
	memset(guest, 0, sizeof(*guest));
	signal(SIGPIPE, SIG_IGN);
	driver_init(&guest->driver);
	guest->device = vsock_new(CID, guest->driver.loop, NULL);
	assert_non_null(guest->device);
	vsock_on_report(guest->device, heard, guest);
	driver_start(&guest->driver, guest->device);
	guest->tx_address = driver_alloc(&guest->driver, 1u << 20);
	rx_fill(guest, rx_buffers);
}

static inline void guest_free(struct guest *guest)
{
	driver_free(&guest->driver);
}

/* The next packet for the guest; its buffer goes back into the ring. */
static inline bool receive(struct guest *guest, struct packet *packet)
{
	uint16_t head;
	uint32_t length;
	uint64_t address;

	if (!driver_used(&guest->driver, RX, &head, &length))
		return false;
	address = guest->rx_address[head / SLOT_BUFFERS];
	assert_in_range(length, 44, 44 + PAGE);
	guest_read(guest->driver.memory, address, &packet->header, 44);
	assert_int_equal(packet->header.len, length - 44);
	guest_read(guest->driver.memory, address + 64, packet->data, packet->header.len);
	assert_int_equal(packet->header.src_cid, 2);
	assert_int_equal(packet->header.dst_cid, CID);
	assert_int_equal(packet->header.type, VIRTIO_VSOCK_TYPE_STREAM);
	rx_offer(guest, address);
	driver_kick(&guest->driver, RX);
	return true;
}

static inline void expect(struct guest *guest, struct packet *packet, unsigned operation)
{
	for (int i = 0; i < 200; i++) {
		if (receive(guest, packet)) {
			assert_int_equal(packet->header.op, operation);
			return;
		}
		driver_run(&guest->driver, 1);
	}
	fail_msg("no packet, expected operation %u", operation);
}

static inline void expect_nothing(struct guest *guest)
{
	struct packet packet;

	driver_run(&guest->driver, 20);
	if (receive(guest, &packet))
		fail_msg("unexpected packet, operation %u", packet.header.op);
}

static inline struct virtio_vsock_hdr header(uint32_t guest_port, uint32_t host_port, unsigned operation)
{
	return (struct virtio_vsock_hdr){
	    .src_cid = CID,
	    .dst_cid = 2,
	    .src_port = guest_port,
	    .dst_port = host_port,
	    .type = VIRTIO_VSOCK_TYPE_STREAM,
	    .op = (uint16_t)operation,
	    .buf_alloc = GUEST_BUFFER,
	};
}

/* One packet: the header as it is, with size bytes of data behind it. */
static inline void transmit(struct guest *guest, const struct virtio_vsock_hdr *packet, const void *data, uint32_t size)
{
	struct buffer buffers[] = {{guest->tx_address, 44, false}, {guest->tx_address + 64, size, false}};
	uint16_t head;
	uint32_t length;

	guest_write(guest->driver.memory, guest->tx_address, packet, 44);
	if (size)
		guest_write(guest->driver.memory, guest->tx_address + 64, data, size);
	assert_true(driver_add(&guest->driver, TX, buffers, size ? 2 : 1) >= 0);
	driver_kick(&guest->driver, TX);
	while (!driver_used(&guest->driver, TX, &head, &length) && !guest->driver.failed)
		driver_run(&guest->driver, 1);
}

static inline void control(struct guest *guest, uint32_t guest_port, uint32_t host_port, unsigned operation,
			   uint32_t flags)
{
	struct virtio_vsock_hdr packet = header(guest_port, host_port, operation);

	packet.flags = flags;
	transmit(guest, &packet, NULL, 0);
}

static inline void send_data(struct guest *guest, uint32_t guest_port, uint32_t host_port, const void *data,
			     uint32_t size)
{
	struct virtio_vsock_hdr packet = header(guest_port, host_port, VIRTIO_VSOCK_OP_RW);

	packet.len = size;
	transmit(guest, &packet, data, size);
}

static inline void report(struct guest *guest, uint32_t kind, uint32_t value)
{
	struct agent_report message = {kind, value};

	send_data(guest, 5000, AGENT_REPORT_PORT, &message, sizeof(message));
}

static inline void connect_report(struct guest *guest)
{
	struct packet packet;

	control(guest, 5000, AGENT_REPORT_PORT, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(guest, &packet, VIRTIO_VSOCK_OP_RESPONSE);
}

static inline void make_ready(struct guest *guest)
{
	connect_report(guest);
	report(guest, AGENT_REPORT_READY, AGENT_PROTOCOL_VERSION);
	assert_true(guest->ready);
}

static inline int add_stream(struct virtio_device *device, uint32_t port, int fd, unsigned flags)
{
	return vsock_add_stream(device, &port, fd, flags, NULL, NULL);
}

/* Registers one end of a pipe or socket and connects the guest's port 6000 to it. */
static inline void connect_stream(struct guest *guest, uint32_t port, int fd, unsigned flags)
{
	struct packet packet;

	assert_int_equal(add_stream(guest->device, port, fd, flags), 0);
	control(guest, 6000, port, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(guest, &packet, VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(packet.header.src_port, port);
	assert_int_equal(packet.header.dst_port, 6000);
	assert_int_equal(packet.header.buf_alloc, STREAM_BUFFER_SIZE);
}

static inline size_t read_some(int fd, void *data, size_t size)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	if (poll(&poll_fd, 1, 0) == 0)
		return 0;
	ssize_t got = read(fd, data, size);

	return got > 0 ? (size_t)got : 0;
}

static inline bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}
