/*
 * The vsock device, driven through real rings by a guest that keeps to the rules or breaks them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
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

static void heard(void *owner, enum vsock_event event, uint32_t value)
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
static void rx_offer(struct guest *guest, uint64_t address)
{
	struct buffer buffers[] = {{address, 44, true}, {address + 64, PAGE, true}};
	int head = driver_add(&guest->driver, RX, buffers, 2);

	assert_true(head >= 0);
	guest->rx_address[head / SLOT_BUFFERS] = address;
}

static void rx_fill(struct guest *guest, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		rx_offer(guest, driver_alloc(&guest->driver, PAGE + 64));
	driver_kick(&guest->driver, RX);
}

static void guest_init(struct guest *guest, unsigned rx_buffers)
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

static void guest_free(struct guest *guest)
{
	driver_free(&guest->driver);
}

/* The next packet for the guest; its buffer goes back into the ring. */
static bool receive(struct guest *guest, struct packet *packet)
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

static void expect(struct guest *guest, struct packet *packet, unsigned operation)
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

static void expect_nothing(struct guest *guest)
{
	struct packet packet;

	driver_run(&guest->driver, 20);
	if (receive(guest, &packet))
		fail_msg("unexpected packet, operation %u", packet.header.op);
}

static struct virtio_vsock_hdr header(uint32_t guest_port, uint32_t host_port, unsigned operation)
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
static void transmit(struct guest *guest, const struct virtio_vsock_hdr *packet, const void *data, uint32_t size)
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

static void control(struct guest *guest, uint32_t guest_port, uint32_t host_port, unsigned operation, uint32_t flags)
{
	struct virtio_vsock_hdr packet = header(guest_port, host_port, operation);

	packet.flags = flags;
	transmit(guest, &packet, NULL, 0);
}

static void send_data(struct guest *guest, uint32_t guest_port, uint32_t host_port, const void *data, uint32_t size)
{
	struct virtio_vsock_hdr packet = header(guest_port, host_port, VIRTIO_VSOCK_OP_RW);

	packet.len = size;
	transmit(guest, &packet, data, size);
}

static void report(struct guest *guest, uint32_t kind, uint32_t value)
{
	struct agent_report message = {kind, value};

	send_data(guest, 5000, AGENT_REPORT_PORT, &message, sizeof(message));
}

static void connect_report(struct guest *guest)
{
	struct packet packet;

	control(guest, 5000, AGENT_REPORT_PORT, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(guest, &packet, VIRTIO_VSOCK_OP_RESPONSE);
}

static void make_ready(struct guest *guest)
{
	connect_report(guest);
	report(guest, AGENT_REPORT_READY, AGENT_PROTOCOL_VERSION);
	assert_true(guest->ready);
}

static int add_stream(struct virtio_device *device, uint32_t port, int fd, unsigned flags)
{
	return vsock_add_stream(device, &port, fd, flags, NULL, NULL);
}

/* Registers one end of a pipe or socket and connects the guest's port 6000 to it. */
static void connect_stream(struct guest *guest, uint32_t port, int fd, unsigned flags)
{
	struct packet packet;

	assert_int_equal(add_stream(guest->device, port, fd, flags), 0);
	control(guest, 6000, port, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(guest, &packet, VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(packet.header.src_port, port);
	assert_int_equal(packet.header.dst_port, 6000);
	assert_int_equal(packet.header.buf_alloc, STREAM_BUFFER_SIZE);
}

static size_t read_some(int fd, void *data, size_t size)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	if (poll(&poll_fd, 1, 0) == 0)
		return 0;
	ssize_t got = read(fd, data, size);

	return got > 0 ? (size_t)got : 0;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static unsigned char pattern(size_t index)
{
	return (unsigned char)(index * 7 + index / 251);
}

static void fill_pattern(unsigned char *data, size_t size, size_t offset)
{
	for (size_t i = 0; i < size; i++)
		data[i] = pattern(offset + i);
}

/* --- tests -------------------------------------------------------------------------------------------------------- */

static void test_config(void **state)
{
	struct guest guest;
	unsigned char data[8];

	(void)state;
	guest_init(&guest, 0);
	guest.device->operations->read_config(guest.device, 0, data, 8);
	assert_memory_equal(data, "\3\0\0\0\0\0\0\0", 8);
	guest.device->operations->read_config(guest.device, 4, data, 8);
	assert_memory_equal(data, "\0\0\0\0\0\0\0\0", 8);
	guest.device->operations->read_config(guest.device, UINT32_MAX, data, 8);
	assert_memory_equal(data, "\0\0\0\0\0\0\0\0", 8);
	guest_free(&guest);
	assert_null(vsock_new(2, NULL, NULL));
	assert_null(vsock_new(UINT32_MAX, NULL, NULL));
}

static void test_report(void **state)
{
	struct guest guest;
	struct packet packet;

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(vsock_status(guest.device), 0);
	make_ready(&guest);
	assert_int_equal(vsock_status(guest.device), VMM_STATUS_READY);
	/* A second agent is none. */
	control(&guest, 5001, AGENT_REPORT_PORT, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
	report(&guest, AGENT_REPORT_EXIT, 42);
	assert_int_equal(guest.events, 1);
	assert_int_equal(guest.event, VSOCK_EXITED);
	assert_int_equal(guest.value, 42);
	/* What comes after it changes nothing. */
	driver_reset_device(&guest.driver);
	driver_run(&guest.driver, 1);
	assert_int_equal(guest.events, 1);
	guest_free(&guest);
}

/* A guest that stops right after its report: the doorbell has not been heard yet. */
static void test_report_without_doorbell(void **state)
{
	struct agent_report message = {AGENT_REPORT_EXIT, 7};
	struct virtio_vsock_hdr packet = header(5000, AGENT_REPORT_PORT, VIRTIO_VSOCK_OP_RW);
	struct guest guest;
	struct buffer buffers[] = {{0, 44, false}, {0, sizeof(message), false}};

	(void)state;
	guest_init(&guest, 16);
	vsock_catch_up(guest.device);
	make_ready(&guest);
	packet.len = sizeof(message);
	buffers[0].address = guest.tx_address;
	buffers[1].address = guest.tx_address + 64;
	guest_write(guest.driver.memory, buffers[0].address, &packet, 44);
	guest_write(guest.driver.memory, buffers[1].address, &message, sizeof(message));
	assert_true(driver_add(&guest.driver, TX, buffers, 2) >= 0);
	assert_int_equal(guest.events, 0);
	vsock_catch_up(guest.device);
	assert_true(vsock_status(guest.device) & VMM_STATUS_EXITING);
	assert_int_equal(guest.event, VSOCK_EXITED);
	assert_int_equal(guest.value, 7);
	guest_free(&guest);
}

/* What the VMM tells the agent: kept until READY; only the last counts; none without credit. */
static void test_notice(void **state)
{
	struct guest guest;
	struct packet packet;
	struct agent_notice notice;
	struct virtio_vsock_hdr update = header(5000, AGENT_REPORT_PORT, VIRTIO_VSOCK_OP_CREDIT_UPDATE);

	(void)state;
	guest_init(&guest, 16);
	vsock_notify_agent(guest.device, AGENT_NOTICE_WINDOW, 1040, 1);
	vsock_notify_agent(guest.device, AGENT_NOTICE_WINDOW, 1040, 2);
	connect_report(&guest);
	expect_nothing(&guest);
	report(&guest, AGENT_REPORT_READY, AGENT_PROTOCOL_VERSION);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RW);
	assert_int_equal(packet.header.len, sizeof(notice));
	assert_int_equal(packet.header.src_port, AGENT_REPORT_PORT);
	memcpy(&notice, packet.data, sizeof(notice));
	assert_int_equal(notice.kind, AGENT_NOTICE_WINDOW);
	assert_int_equal(notice.port, 1040);
	assert_int_equal(notice.value, 2);
	vsock_notify_agent(guest.device, AGENT_NOTICE_WINDOW, 1041, 3);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RW);
	update.buf_alloc = 30;
	transmit(&guest, &update, NULL, 0);
	vsock_notify_agent(guest.device, AGENT_NOTICE_WINDOW, 1041, 4);
	expect_nothing(&guest);
	update.buf_alloc = GUEST_BUFFER;
	update.fwd_cnt = 24;
	transmit(&guest, &update, NULL, 0);
	vsock_notify_agent(guest.device, AGENT_NOTICE_WINDOW, 1041, 5);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RW);
	guest_free(&guest);
}

/* A report in pieces, two in one packet. */
static void test_report_split(void **state)
{
	struct guest guest;
	struct agent_report messages[] = {{AGENT_REPORT_READY, AGENT_PROTOCOL_VERSION}, {AGENT_REPORT_EXIT, 255}};

	(void)state;
	guest_init(&guest, 16);
	connect_report(&guest);
	send_data(&guest, 5000, AGENT_REPORT_PORT, messages, 3);
	assert_false(guest.ready);
	send_data(&guest, 5000, AGENT_REPORT_PORT, (char *)messages + 3, 13);
	assert_true(guest.ready);
	assert_int_equal(guest.event, VSOCK_EXITED);
	assert_int_equal(guest.value, 255);
	guest_free(&guest);
}

static void expect_failure(struct guest *guest, enum vsock_failure failure)
{
	driver_run(&guest->driver, 1);
	assert_int_equal(guest->events, 1);
	assert_int_equal(guest->event, VSOCK_FAILED);
	assert_int_equal(guest->value, failure);
	assert_non_null(vsock_failure_text(failure));
	guest_free(guest);
}

static void test_report_failures(void **state)
{
	struct guest guest;

	(void)state;
	guest_init(&guest, 16);
	make_ready(&guest);
	control(&guest, 5000, AGENT_REPORT_PORT, VIRTIO_VSOCK_OP_RST, 0);
	expect_failure(&guest, VSOCK_AGENT_LOST);

	guest_init(&guest, 16);
	make_ready(&guest);
	control(&guest, 5000, AGENT_REPORT_PORT, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND);
	expect_failure(&guest, VSOCK_AGENT_LOST);

	guest_init(&guest, 16);
	connect_report(&guest);
	report(&guest, AGENT_REPORT_READY, AGENT_PROTOCOL_VERSION + 1);
	expect_failure(&guest, VSOCK_AGENT_VERSION);

	guest_init(&guest, 16);
	make_ready(&guest);
	report(&guest, AGENT_REPORT_EXIT, 256);
	expect_failure(&guest, VSOCK_AGENT_BAD_REPORT);

	guest_init(&guest, 16);
	make_ready(&guest);
	report(&guest, AGENT_REPORT_READY, AGENT_PROTOCOL_VERSION);
	expect_failure(&guest, VSOCK_AGENT_BAD_REPORT);

	guest_init(&guest, 16);
	make_ready(&guest);
	report(&guest, 77, 0);
	expect_failure(&guest, VSOCK_AGENT_BAD_REPORT);

	guest_init(&guest, 16);
	make_ready(&guest);
	driver_reset_device(&guest.driver);
	expect_failure(&guest, VSOCK_DEVICE_RESET);
}

static void test_unknown_port(void **state)
{
	struct guest guest;
	struct packet packet;

	(void)state;
	guest_init(&guest, 16);
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(packet.header.src_port, 1040);
	assert_int_equal(packet.header.dst_port, 6000);
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_RW, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_RST, 0);
	expect_nothing(&guest);
	guest_free(&guest);
}

static void test_output(void **state)
{
	struct guest guest;
	struct packet packet;
	unsigned char sent[30000], got[30000];
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
	send_data(&guest, 6000, 1040, "hello", 5);
	assert_int_equal(read_some(fds[0], got, sizeof(got)), 5);
	assert_memory_equal(got, "hello", 5);
	fill_pattern(sent, sizeof(sent), 0);
	send_data(&guest, 6000, 1040, sent, sizeof(sent));
	assert_int_equal(read_some(fds[0], got, sizeof(got)), sizeof(sent));
	assert_memory_equal(got, sent, sizeof(sent));
	/* One use each. */
	control(&guest, 6001, 1040, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
	/* Credit on request. */
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(packet.header.fwd_cnt, 5 + sizeof(sent));
	/* The end of the output closes the descriptor, and the guest may let go. */
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(packet.header.flags, BOTH);
	assert_int_equal(read(fds[0], got, 1), 0);
	assert_false(is_open(fds[1]));
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_RST, 0);
	expect_nothing(&guest);
	close(fds[0]);
	guest_free(&guest);
}

/* A descriptor that blocks is written in small pieces after epoll's word, or without waiting where the kernel can. */
static void test_output_blocking_pipe(void **state)
{
	struct guest guest;
	unsigned char sent[200000], *got = malloc(sizeof(sent));
	size_t total = 0;
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(pipe2(fds, 0), 0);
	connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
	fill_pattern(sent, sizeof(sent), 0);
	for (size_t at = 0; at < sizeof(sent); at += 50000)
		send_data(&guest, 6000, 1040, sent + at, 50000);
	for (int i = 0; i < 1000 && total < sizeof(sent); i++) {
		driver_run(&guest.driver, 1);
		total += read_some(fds[0], got + total, sizeof(sent) - total);
	}
	assert_int_equal(total, sizeof(sent));
	assert_memory_equal(got, sent, sizeof(sent));
	assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
	close(fds[0]);
	free(got);
	guest_free(&guest);
}

static void test_output_to_file(void **state)
{
	struct guest guest;
	char path[] = "/tmp/vmm_vsock_XXXXXX", got[10];
	int fd = mkstemp(path), other = open(path, O_RDONLY);

	(void)state;
	unlink(path);
	guest_init(&guest, 16);
	connect_stream(&guest, 1040, fd, VMM_STREAM_OUT);
	send_data(&guest, 6000, 1040, "abc", 3);
	send_data(&guest, 6000, 1040, "def", 3);
	assert_int_equal(read(other, got, 10), 6);
	assert_memory_equal(got, "abcdef", 6);
	close(other);
	guest_free(&guest);
}

static void test_back_pressure(void **state)
{
	struct guest guest;
	struct packet packet;
	unsigned char *sent = malloc(STREAM_BUFFER_SIZE), *got = malloc(STREAM_BUFFER_SIZE);
	size_t total = 0, pipe_size;
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	pipe_size = (size_t)fcntl(fds[1], F_GETPIPE_SZ);
	connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
	fill_pattern(sent, STREAM_BUFFER_SIZE, 0);
	for (size_t at = 0; at < STREAM_BUFFER_SIZE; at += 65536)
		send_data(&guest, 6000, 1040, sent + at, 65536);
	/* The pipe is full, less than half of the credit has come back, nobody reads: the guest hears nothing. */
	expect_nothing(&guest);
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(packet.header.fwd_cnt, pipe_size);
	while (total < STREAM_BUFFER_SIZE) {
		total += read_some(fds[0], got + total, STREAM_BUFFER_SIZE - total);
		driver_run(&guest.driver, 1);
	}
	assert_memory_equal(got, sent, STREAM_BUFFER_SIZE);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	expect_nothing(&guest);
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(packet.header.fwd_cnt, STREAM_BUFFER_SIZE);
	close(fds[0]);
	free(sent);
	free(got);
	guest_free(&guest);
}

/* More than the credit: the connection ends, what fitted is still delivered. */
static void test_credit_overrun(void **state)
{
	struct guest guest;
	struct packet packet;
	unsigned char data[65536], *got = malloc(STREAM_BUFFER_SIZE * 2);
	size_t total = 0;
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
	memset(data, 'x', sizeof(data));
	for (int i = 0; i < 5; i++)
		send_data(&guest, 6000, 1040, data, sizeof(data));
	expect_nothing(&guest);
	send_data(&guest, 6000, 1040, data, sizeof(data));
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
	for (int i = 0; i < 100; i++) {
		total += read_some(fds[0], got, STREAM_BUFFER_SIZE);
		driver_run(&guest.driver, 0);
	}
	assert_int_equal(total, 5 * sizeof(data));
	assert_int_equal(read(fds[0], got, 1), 0);
	assert_false(is_open(fds[1]));
	close(fds[0]);
	free(got);
	guest_free(&guest);
}

static void test_reader_gone(void **state)
{
	struct guest guest;
	struct packet packet;
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
	close(fds[0]);
	/* Without a write: epoll tells. */
	expect(&guest, &packet, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_true(packet.header.flags & VIRTIO_VSOCK_SHUTDOWN_RCV);
	/* What comes all the same is dropped and paid for. */
	for (int i = 0; i < 32; i++)
		send_data(&guest, 6000, 1040, "lost", 4);
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH);
	do
		assert_true(receive(&guest, &packet));
	while (packet.header.op == VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(packet.header.op, VIRTIO_VSOCK_OP_RST);
	guest_free(&guest);
}

static void test_reader_gone_at_write(void **state)
{
	struct guest guest;
	struct packet packet;
	unsigned char data[65536] = {0};
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
	send_data(&guest, 6000, 1040, data, sizeof(data));
	send_data(&guest, 6000, 1040, data, sizeof(data));
	close(fds[0]);
	send_data(&guest, 6000, 1040, data, sizeof(data));
	expect(&guest, &packet, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(packet.header.flags, BOTH);
	assert_int_equal(packet.header.fwd_cnt, 3 * sizeof(data));
	assert_false(is_open(fds[1]));
	guest_free(&guest);
}

/* All packets of data until `size` bytes have come. */
static void receive_data(struct guest *guest, unsigned char *data, size_t size)
{
	struct packet packet;
	size_t total = 0;

	while (total < size) {
		expect(guest, &packet, VIRTIO_VSOCK_OP_RW);
		assert_true(total + packet.header.len <= size);
		memcpy(data + total, packet.data, packet.header.len);
		total += packet.header.len;
	}
}

static void test_input_and_credit(void **state)
{
	struct guest guest;
	struct packet packet;
	struct virtio_vsock_hdr update = header(6000, 1041, VIRTIO_VSOCK_OP_REQUEST);
	unsigned char sent[60000], got[60000];
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	fill_pattern(sent, sizeof(sent), 0);
	assert_int_equal(write(fds[1], sent, sizeof(sent)), sizeof(sent));
	assert_int_equal(add_stream(guest.device, 1041, fds[0], VMM_STREAM_IN), 0);
	update.buf_alloc = 10000;
	transmit(&guest, &update, NULL, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RESPONSE);
	receive_data(&guest, got, 10000);
	expect_nothing(&guest);
	/* 4000 read; the buffer grows. */
	update.op = VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	update.fwd_cnt = 4000;
	update.buf_alloc = 20000;
	transmit(&guest, &update, NULL, 0);
	receive_data(&guest, got + 10000, 14000);
	expect_nothing(&guest);
	/* The buffer shrinks below what is under way: no credit, no wrap-around. */
	update.buf_alloc = 100;
	transmit(&guest, &update, NULL, 0);
	expect_nothing(&guest);
	/* More forwarded than was ever sent: a lie, and no credit. */
	update.fwd_cnt = 30000;
	update.buf_alloc = 20000;
	transmit(&guest, &update, NULL, 0);
	expect_nothing(&guest);
	update.fwd_cnt = 24000;
	update.buf_alloc = 100000;
	transmit(&guest, &update, NULL, 0);
	close(fds[1]);
	receive_data(&guest, got + 24000, 36000);
	assert_memory_equal(got, sent, sizeof(sent));
	expect(&guest, &packet, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_true(packet.header.flags & VIRTIO_VSOCK_SHUTDOWN_SEND);
	control(&guest, 6000, 1041, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
	guest_free(&guest);
}

/* Input that ended while the guest had no credit does not keep the loop busy, and comes when there is credit. */
static void test_input_hang_up_without_credit(void **state)
{
	struct guest guest;
	struct packet packet;
	struct virtio_vsock_hdr update = header(6000, 1041, VIRTIO_VSOCK_OP_REQUEST);
	unsigned char got[10];
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(pipe2(fds, 0), 0);
	assert_int_equal(write(fds[1], "0123456789", 10), 10);
	assert_int_equal(add_stream(guest.device, 1041, fds[0], VMM_STREAM_IN), 0);
	update.buf_alloc = 4;
	transmit(&guest, &update, NULL, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RESPONSE);
	receive_data(&guest, got, 4);
	close(fds[1]);
	expect_nothing(&guest);
	update.op = VIRTIO_VSOCK_OP_CREDIT_UPDATE;
	update.fwd_cnt = 4;
	update.buf_alloc = 100;
	transmit(&guest, &update, NULL, 0);
	receive_data(&guest, got + 4, 6);
	assert_memory_equal(got, "0123456789", 10);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_SHUTDOWN);
	guest_free(&guest);
}

static void test_input_without_buffers(void **state)
{
	struct guest guest;
	struct packet packet;
	unsigned char sent[50000], got[50000];
	int fds[2];

	(void)state;
	guest_init(&guest, 1);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	connect_stream(&guest, 1041, fds[0], VMM_STREAM_IN);
	fill_pattern(sent, sizeof(sent), 0);
	assert_int_equal(write(fds[1], sent, sizeof(sent)), sizeof(sent));
	receive_data(&guest, got, sizeof(got));
	assert_memory_equal(got, sent, sizeof(sent));
	close(fds[1]);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_SHUTDOWN);
	guest_free(&guest);
}

static void test_input_from_file(void **state)
{
	struct guest guest;
	struct packet packet;
	char path[] = "/tmp/vmm_vsock_XXXXXX";
	unsigned char sent[100000], *got = malloc(sizeof(sent));
	int fd = mkstemp(path);

	(void)state;
	fill_pattern(sent, sizeof(sent), 0);
	assert_int_equal(write(fd, sent, sizeof(sent)), sizeof(sent));
	lseek(fd, 0, SEEK_SET);
	unlink(path);
	guest_init(&guest, 4);
	connect_stream(&guest, 1041, fd, VMM_STREAM_IN);
	receive_data(&guest, got, sizeof(sent));
	assert_memory_equal(got, sent, sizeof(sent));
	expect(&guest, &packet, VIRTIO_VSOCK_OP_SHUTDOWN);
	/* The guest writes to what is only read: told once, never stuck. */
	send_data(&guest, 6000, 1041, "x", 1);
	free(got);
	guest_free(&guest);
}

/* Endless input and a sink: the loop is not held up by either. */
static void test_memory_devices(void **state)
{
	struct guest guest;
	struct packet packet;
	unsigned char data[65536] = {0};

	(void)state;
	guest_init(&guest, 4);
	connect_stream(&guest, 1040, open("/dev/null", O_WRONLY), VMM_STREAM_OUT);
	for (int i = 0; i < 64; i++)
		send_data(&guest, 6000, 1040, data, sizeof(data));
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH);
	do
		assert_true(receive(&guest, &packet));
	while (packet.header.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(packet.header.op, VIRTIO_VSOCK_OP_RST);
	connect_stream(&guest, 1041, open("/dev/zero", O_RDONLY), VMM_STREAM_IN);
	receive_data(&guest, data, 65536);
	guest_free(&guest);
}

struct asked {
	struct vsock_connect connect;
	unsigned calls;
	int error;
};

static void asked_done(struct vsock_connect *connect, int error)
{
	struct asked *asked = connect->owner;

	asked->calls++;
	asked->error = error;
}

static int ask(struct guest *guest, struct asked *asked, uint32_t port, int fd)
{
	*asked = (struct asked){.connect = {.done = asked_done, .owner = asked}};
	return vsock_connect(guest->device, &asked->connect, port, fd, NULL);
}

static void test_connect(void **state)
{
	struct guest guest;
	struct packet packet;
	struct asked asked;
	char data[100];
	uint32_t port;
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(ask(&guest, &asked, 1024, fds[0]), 0);
	/* Waits for READY, and a reset with which a driver begins does not end it. */
	expect_nothing(&guest);
	make_ready(&guest);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(packet.header.dst_port, 1024);
	port = packet.header.src_port;
	assert_int_equal(asked.calls, 0);
	control(&guest, 1024, port, VIRTIO_VSOCK_OP_RESPONSE, 0);
	assert_int_equal(asked.calls, 1);
	assert_int_equal(asked.error, 0);
	assert_int_equal(write(fds[1], "order", 5), 5);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RW);
	assert_memory_equal(packet.data, "order", 5);
	send_data(&guest, 1024, port, "answer", 6);
	assert_int_equal(read_some(fds[1], data, sizeof(data)), 6);
	/* Half-close from the guest. */
	control(&guest, 1024, port, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND);
	assert_int_equal(read(fds[1], data, 1), 0);
	assert_int_equal(write(fds[1], "more", 4), 4);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RW);
	/* Half-close from the host: both directions are over. */
	shutdown(fds[1], SHUT_WR);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(packet.header.flags, BOTH);
	control(&guest, 1024, port, VIRTIO_VSOCK_OP_RST, 0);
	assert_false(is_open(fds[0]));
	close(fds[1]);
	expect_nothing(&guest);
	guest_free(&guest);
}

static void test_connect_refused_and_reset(void **state)
{
	struct guest guest;
	struct packet packet;
	struct asked refused, reset, cancelled, held;
	int fds[2], more[2], third[2], pipes[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, more), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, third), 0);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(ask(&guest, &refused, 1024, pipes[0]), -1);
	close(pipes[0]);
	close(pipes[1]);

	make_ready(&guest);
	assert_int_equal(ask(&guest, &refused, 1024, fds[0]), 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_REQUEST);
	control(&guest, 1024, packet.header.src_port, VIRTIO_VSOCK_OP_RST, 0);
	assert_int_equal(refused.calls, 1);
	assert_int_equal(refused.error, ECONNREFUSED);
	assert_int_equal(read(fds[1], &packet, 1), 0);

	assert_int_equal(ask(&guest, &cancelled, 1024, third[0]), 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_REQUEST);
	vsock_connect_cancel(&cancelled.connect);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(cancelled.calls, 0);
	assert_false(is_open(third[0]));

	assert_int_equal(ask(&guest, &reset, 1024, more[0]), 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_REQUEST);
	driver_reset_device(&guest.driver);
	assert_int_equal(reset.error, ECONNRESET);
	driver_run(&guest.driver, 1);
	assert_int_equal(guest.event, VSOCK_FAILED);
	assert_int_equal(ask(&guest, &held, 1024, fds[1]), -1);
	close(fds[1]);
	close(more[1]);
	close(third[1]);
	guest_free(&guest);
}

/* A request that waits for READY survives a driver's first reset, and learns of the end. */
static void test_connect_held(void **state)
{
	struct guest guest;
	struct packet packet;
	struct asked first, second;
	int fds[2], more[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, more), 0);
	assert_int_equal(ask(&guest, &first, 1024, fds[0]), 0);
	assert_int_equal(ask(&guest, &second, 1024, more[0]), 0);
	driver_reset_device(&guest.driver);
	driver_start(&guest.driver, guest.device);
	rx_fill(&guest, 8);
	vsock_connect_cancel(&second.connect);
	/* A guest that accepts what was not asked yet is not believed. */
	control(&guest, 1024, 0x40000000, VIRTIO_VSOCK_OP_RESPONSE, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(first.error, ECONNREFUSED);
	close(fds[1]);
	close(more[1]);
	guest_free(&guest);
}

static void test_socket_peer_gone(void **state)
{
	struct guest guest;
	struct packet packet;
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	connect_stream(&guest, 1040, fds[0], VMM_STREAM_IN | VMM_STREAM_OUT);
	assert_int_equal(write(fds[1], "last", 4), 4);
	close(fds[1]);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RW);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_SHUTDOWN);
	while (packet.header.flags != BOTH)
		expect(&guest, &packet, VIRTIO_VSOCK_OP_SHUTDOWN);
	guest_free(&guest);
}

static void test_exit_waits_for_reader(void **state)
{
	struct guest guest;
	unsigned char data[65536] = {0};
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	make_ready(&guest);
	connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
	for (int i = 0; i < 3; i++)
		send_data(&guest, 6000, 1040, data, sizeof(data));
	report(&guest, AGENT_REPORT_EXIT, 128);
	assert_int_equal(vsock_status(guest.device), VMM_STATUS_READY | VMM_STATUS_EXITING);
	driver_run(&guest.driver, 3000);
	assert_int_equal(guest.events, 0);
	/* The guest goes away meanwhile: no failure. */
	driver_reset_device(&guest.driver);
	for (int i = 0; i < 100 && !guest.events; i++) {
		read_some(fds[0], data, sizeof(data));
		driver_run(&guest.driver, 1);
	}
	assert_int_equal(guest.event, VSOCK_EXITED);
	assert_int_equal(guest.value, 128);
	close(fds[0]);
	guest_free(&guest);
}

static void test_exit_by_signal_drops(void **state)
{
	struct guest guest;
	unsigned char data[65536] = {0};
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	make_ready(&guest);
	connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
	for (int i = 0; i < 3; i++)
		send_data(&guest, 6000, 1040, data, sizeof(data));
	report(&guest, AGENT_REPORT_EXIT, 137);
	driver_run(&guest.driver, 1000);
	assert_int_equal(guest.events, 0);
	driver_run(&guest.driver, 2000);
	assert_int_equal(guest.event, VSOCK_EXITED);
	assert_int_equal(guest.value, 137);
	close(fds[0]);
	guest_free(&guest);
}

/* Bad packets cost the guest its connection at most. */
static void test_hostile_packets(void **state)
{
	struct guest guest;
	struct packet packet;
	struct virtio_vsock_hdr bad;
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);

	/* Foreign CIDs are ignored, types we do not have are refused. */
	bad = header(6000, 1040, VIRTIO_VSOCK_OP_REQUEST);
	bad.src_cid = 4;
	transmit(&guest, &bad, NULL, 0);
	bad = header(6000, 1040, VIRTIO_VSOCK_OP_REQUEST);
	bad.dst_cid = 1ull << 32 | 2;
	transmit(&guest, &bad, NULL, 0);
	expect_nothing(&guest);
	bad = header(6000, 1040, VIRTIO_VSOCK_OP_REQUEST);
	bad.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	transmit(&guest, &bad, NULL, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);

	/* A length beyond the buffer. */
	connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
	bad = header(6000, 1040, VIRTIO_VSOCK_OP_RW);
	bad.len = 11;
	transmit(&guest, &bad, "0123456789", 10);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(read(fds[0], &packet, 1), 0);
	close(fds[0]);

	/* Data after the end of data; an unknown operation; a second request. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
		connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
		if (i == 0) {
			unsigned char data[65536] = {0};

			for (int j = 0; j < 2; j++)
				send_data(&guest, 6000, 1040, data, sizeof(data));
			control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_SHUTDOWN_SEND);
			send_data(&guest, 6000, 1040, "x", 1);
		} else {
			control(&guest, 6000, 1040, i == 1 ? 99 : VIRTIO_VSOCK_OP_REQUEST, 0);
		}
		expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
		close(fds[0]);
		driver_run(&guest.driver, 1);
		assert_false(is_open(fds[1]));
	}
	assert_false(guest.driver.failed);
	guest_free(&guest);
}

static void test_short_header(void **state)
{
	struct guest guest;
	struct buffer buffer = {0, 43, false};
	uint16_t head;
	uint32_t length;

	(void)state;
	guest_init(&guest, 4);
	buffer.address = guest.tx_address;
	driver_add(&guest.driver, TX, &buffer, 1);
	driver_kick(&guest.driver, TX);
	assert_true(driver_used(&guest.driver, TX, &head, &length));
	expect_nothing(&guest);
	assert_false(guest.driver.failed);
	guest_free(&guest);
}

static void test_small_receive_buffer(void **state)
{
	struct guest guest;
	struct buffer buffer = {0, 44, true};
	struct virtio_vsock_hdr request = header(6000, 1, VIRTIO_VSOCK_OP_REQUEST);

	(void)state;
	guest_init(&guest, 0);
	buffer.address = driver_alloc(&guest.driver, 64);
	driver_add(&guest.driver, RX, &buffer, 1);
	transmit(&guest, &request, NULL, 0);
	assert_true(guest.driver.failed);
	expect_failure(&guest, VSOCK_DEVICE_BROKEN);
}

static void test_broken_ring(void **state)
{
	struct guest guest;
	struct asked asked;
	int fds[2];

	(void)state;
	guest_init(&guest, 4);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(ask(&guest, &asked, 1024, fds[0]), 0);
	driver_offer(&guest.driver, TX, 60000);
	driver_kick(&guest.driver, TX);
	assert_true(guest.driver.failed);
	assert_int_equal(asked.error, ECONNRESET);
	close(fds[1]);
	expect_failure(&guest, VSOCK_DEVICE_BROKEN);
}

/* A guest that gives no receive buffers costs a bounded amount of memory, and may lose resets. */
static void test_flood_without_buffers(void **state)
{
	struct guest guest;
	struct packet packet;
	unsigned resets = 0;

	(void)state;
	guest_init(&guest, 0);
	for (uint32_t i = 0; i < 3000; i++)
		control(&guest, 10000 + i, 7, VIRTIO_VSOCK_OP_REQUEST, 0);
	rx_fill(&guest, 8);
	while (receive(&guest, &packet))
		resets += packet.header.op == VIRTIO_VSOCK_OP_RST;
	assert_in_range(resets, 1, 3000);
	assert_false(guest.driver.failed);
	guest_free(&guest);
}

static void test_registration(void **state)
{
	struct guest guest;
	int fds[2], directory = open("/", O_RDONLY), path = open("/", O_PATH);
	unsigned added = 0;

	(void)state;
	guest_init(&guest, 0);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(add_stream(guest.device, 1040, fds[0], 0), -1);
	assert_int_equal(add_stream(guest.device, 1040, fds[0], 8), -1);
	assert_int_equal(add_stream(guest.device, 1040, fds[0], VMM_STREAM_OUT), -1);
	assert_int_equal(add_stream(guest.device, 1040, fds[1], VMM_STREAM_IN), -1);
	assert_int_equal(add_stream(guest.device, 1040, directory, VMM_STREAM_IN), -1);
	assert_int_equal(add_stream(guest.device, 1040, path, VMM_STREAM_IN), -1);
	assert_int_equal(add_stream(guest.device, 1040, 9999, VMM_STREAM_IN), -1);
	assert_int_equal(add_stream(guest.device, AGENT_REPORT_PORT, fds[0], VMM_STREAM_IN), -1);
	assert_int_equal(add_stream(guest.device, 1040, fds[0], VMM_STREAM_IN), 0);
	assert_int_equal(add_stream(guest.device, 1040, fds[1], VMM_STREAM_OUT), -1);
	for (uint32_t port = 2000; port < 3000; port++) {
		int fd = dup(fds[1]);

		if (add_stream(guest.device, port, fd, VMM_STREAM_OUT) == 0)
			added++;
		else
			close(fd);
	}
	assert_int_equal(added, 255);
	close(fds[1]);
	close(directory);
	close(path);
	guest_free(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_config),
	    cmocka_unit_test(test_report),
	    cmocka_unit_test(test_notice),
	    cmocka_unit_test(test_report_split),
	    cmocka_unit_test(test_report_without_doorbell),
	    cmocka_unit_test(test_report_failures),
	    cmocka_unit_test(test_unknown_port),
	    cmocka_unit_test(test_output),
	    cmocka_unit_test(test_output_blocking_pipe),
	    cmocka_unit_test(test_output_to_file),
	    cmocka_unit_test(test_back_pressure),
	    cmocka_unit_test(test_credit_overrun),
	    cmocka_unit_test(test_reader_gone),
	    cmocka_unit_test(test_reader_gone_at_write),
	    cmocka_unit_test(test_input_and_credit),
	    cmocka_unit_test(test_input_hang_up_without_credit),
	    cmocka_unit_test(test_input_without_buffers),
	    cmocka_unit_test(test_input_from_file),
	    cmocka_unit_test(test_memory_devices),
	    cmocka_unit_test(test_connect),
	    cmocka_unit_test(test_connect_refused_and_reset),
	    cmocka_unit_test(test_connect_held),
	    cmocka_unit_test(test_socket_peer_gone),
	    cmocka_unit_test(test_exit_waits_for_reader),
	    cmocka_unit_test(test_exit_by_signal_drops),
	    cmocka_unit_test(test_hostile_packets),
	    cmocka_unit_test(test_short_header),
	    cmocka_unit_test(test_small_receive_buffer),
	    cmocka_unit_test(test_broken_ring),
	    cmocka_unit_test(test_flood_without_buffers),
	    cmocka_unit_test(test_registration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
