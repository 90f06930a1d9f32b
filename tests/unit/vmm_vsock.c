/*
 * The vsock device: the agent's reports, connections of either side, and guests that break the rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/vsock_guest.h"

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

static void expect_notice(struct guest *guest, uint32_t kind, struct agent_notice *notice)
{
	struct packet packet;

	expect(guest, &packet, VIRTIO_VSOCK_OP_RW);
	assert_int_equal(packet.header.len, sizeof(*notice));
	memcpy(notice, packet.data, sizeof(*notice));
	assert_int_equal(notice->kind, kind);
}

/* The time is told as it is when asked for, once for each time it is; that the clock was set, after READY only. */
static void test_time(void **state)
{
	struct agent_report twice[] = {{AGENT_REPORT_TIME, 0}, {AGENT_REPORT_TIME, 0}};
	struct agent_notice notice;
	struct timespec before, after;
	struct guest guest;
	uint64_t told;

	(void)state;
	guest_init(&guest, 16);
	vsock_clock_was_set(guest.device);
	make_ready(&guest);
	expect_nothing(&guest);
	clock_gettime(CLOCK_REALTIME, &before);
	report(&guest, AGENT_REPORT_TIME, 0);
	clock_gettime(CLOCK_REALTIME, &after);
	expect_notice(&guest, AGENT_NOTICE_TIME, &notice);
	told = (uint64_t)notice.value << 32 | notice.port;
	assert_true(told >= (uint64_t)before.tv_sec * 1000000000u + (uint64_t)before.tv_nsec);
	assert_true(told <= (uint64_t)after.tv_sec * 1000000000u + (uint64_t)after.tv_nsec);
	send_data(&guest, 5000, AGENT_REPORT_PORT, twice, sizeof(twice));
	expect_notice(&guest, AGENT_NOTICE_TIME, &notice);
	expect_nothing(&guest);
	vsock_clock_was_set(guest.device);
	expect_notice(&guest, AGENT_NOTICE_CLOCK_SET, &notice);
	assert_int_equal(guest.events, 0);
	guest_free(&guest);
}

static void test_time_before_ready(void **state)
{
	struct guest guest;

	(void)state;
	guest_init(&guest, 16);
	connect_report(&guest);
	report(&guest, AGENT_REPORT_TIME, 0);
	assert_int_equal(guest.event, VSOCK_FAILED);
	assert_int_equal(guest.value, VSOCK_AGENT_BAD_REPORT);
	guest_free(&guest);
}

static void test_oom(void **state)
{
	struct guest guest;

	(void)state;
	guest_init(&guest, 16);
	make_ready(&guest);
	report(&guest, AGENT_REPORT_OOM, 0);
	assert_int_equal(guest.event, VSOCK_OOM);
	report(&guest, AGENT_REPORT_EXIT, 137);
	assert_int_equal(guest.event, VSOCK_EXITED);
	assert_int_equal(guest.events, 2);
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

/* More output than a pipe holds, whose end is returned, and then the end of the machine. */
static int exit_with_output(struct guest *guest, uint32_t status)
{
	static const unsigned char data[65536];
	int fds[2];

	guest_init(guest, 16);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	make_ready(guest);
	connect_stream(guest, 1040, fds[1], VMM_STREAM_OUT);
	for (int i = 0; i < 3; i++)
		send_data(guest, 6000, 1040, data, sizeof(data));
	report(guest, AGENT_REPORT_EXIT, status);
	return fds[0];
}

static void test_exit_waits_for_reader(void **state)
{
	struct guest guest;
	unsigned char data[65536];
	int reader = exit_with_output(&guest, 128);

	(void)state;
	assert_int_equal(vsock_status(guest.device), VMM_STATUS_READY | VMM_STATUS_EXITING);
	driver_run(&guest.driver, 3000);
	assert_int_equal(guest.events, 0);
	/* The guest goes away meanwhile: no failure. */
	driver_reset_device(&guest.driver);
	for (int i = 0; i < 100 && !guest.events; i++) {
		read_some(reader, data, sizeof(data));
		driver_run(&guest.driver, 1);
	}
	assert_int_equal(guest.event, VSOCK_EXITED);
	assert_int_equal(guest.value, 128);
	close(reader);
	guest_free(&guest);
}

static void test_exit_by_signal_drops(void **state)
{
	struct guest guest;
	int reader = exit_with_output(&guest, 137);

	(void)state;
	driver_run(&guest.driver, 1000);
	assert_int_equal(guest.events, 0);
	driver_run(&guest.driver, 2000);
	assert_int_equal(guest.event, VSOCK_EXITED);
	assert_int_equal(guest.value, 137);
	close(reader);
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

/* --- save and restore ----------------------------------------------------------------------------------------------
 */

static void expect_refused(struct guest *guest, const char *reason)
{
	struct error err;

	assert_int_equal(guest->device->operations->quiesce(guest->device, &err), -1);
	if (!strstr(err.message, reason))
		fail_msg("`%s` does not say `%s`", err.message, reason);
}

/* Only the agent's report may be open, and only while nothing is wrong with it. */
static void test_quiesce(void **state)
{
	struct guest guest;
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	expect_refused(&guest, "not ready");
	make_ready(&guest);
	assert_int_equal(guest.device->operations->quiesce(guest.device, NULL), 0);
	assert_int_equal(guest.device->queues[RX].in_flight_count, 0);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
	expect_refused(&guest, "connection");
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_RST, 0);
	assert_int_equal(guest.device->operations->quiesce(guest.device, NULL), 0);
	report(&guest, AGENT_REPORT_EXIT, 3);
	expect_refused(&guest, "end");
	close(fds[0]);
	guest_free(&guest);
}

static void set_flag(struct vsock_drain *drain)
{
	*(bool *)drain->owner = true;
}

static void test_drain_all(void **state)
{
	struct guest guest;
	bool done = false;
	struct vsock_drain drain = {.done = set_flag, .owner = &done};
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	make_ready(&guest);
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
	vsock_drain(guest.device, &drain, VSOCK_ANY_PORT);
	driver_run(&guest.driver, 5);
	assert_false(done);
	control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_RST, 0);
	driver_run(&guest.driver, 5);
	assert_true(done);
	close(fds[0]);
	guest_free(&guest);
}

/* Another device in the place of the first, which goes on with the guest's rings. */
static void replace_device(struct guest *guest)
{
	struct state_writer writer = {0};
	struct state_reader reader;
	struct virtio_device *old = guest->device, *new = vsock_new(CID, guest->driver.loop, NULL);

	assert_int_equal(old->operations->quiesce(old, NULL), 0);
	for (unsigned i = 0; i < old->operations->queue_count; i++)
		queue_save(&old->queues[i], &writer);
	old->operations->save(old, &writer);
	reader = (struct state_reader){writer.data, writer.size};
	for (unsigned i = 0; i < new->operations->queue_count; i++) {
		new->queues[i] = (struct queue){.size = old->queues[i].size,
						.descriptors = old->queues[i].descriptors,
						.available = old->queues[i].available,
						.used = old->queues[i].used,
						.event_index = old->queues[i].event_index};
		assert_int_equal(queue_start(&new->queues[i], guest->driver.memory), 0);
		assert_int_equal(queue_restore(&new->queues[i], &reader, NULL), 0);
	}
	new->active = true;
	guest->ready = false;
	vsock_on_report(new, heard, guest);
	assert_int_equal(new->operations->restore(new, &reader, NULL), 0);
	assert_int_equal(state_end(&reader, NULL), 0);
	state_writer_free(&writer);
	old->operations->free(old);
	guest->device = guest->driver.device = new;
	driver_run(&guest->driver, 5);
	assert_true(guest->ready);
}

/* The guest sees no difference: its report connection goes on, byte by byte, and so do both directions of new ones. */
static void test_restore(void **state)
{
	struct guest guest;
	struct packet packet;
	char text[8];
	int fds[2];

	(void)state;
	guest_init(&guest, 16);
	make_ready(&guest);
	vsock_notify_agent(guest.device, AGENT_NOTICE_WINDOW, 1040, 7);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RW);
	for (int round = 0; round < 3; round++) {
		replace_device(&guest);
		assert_int_equal(vsock_status(guest.device), VMM_STATUS_READY);
		vsock_notify_agent(guest.device, AGENT_NOTICE_WINDOW, 1040, 8);
		expect(&guest, &packet, VIRTIO_VSOCK_OP_RW);
		assert_int_equal(packet.header.dst_port, 5000);
		assert_int_equal(packet.header.fwd_cnt, sizeof(struct agent_report));
		assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
		connect_stream(&guest, 1040, fds[1], VMM_STREAM_OUT);
		send_data(&guest, 6000, 1040, "hello", 5);
		driver_run(&guest.driver, 5);
		assert_int_equal(read_some(fds[0], text, sizeof(text)), 5);
		control(&guest, 6000, 1040, VIRTIO_VSOCK_OP_SHUTDOWN, BOTH);
		expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
		close(fds[0]);
	}
	/* A second agent is none. */
	control(&guest, 5001, AGENT_REPORT_PORT, VIRTIO_VSOCK_OP_REQUEST, 0);
	expect(&guest, &packet, VIRTIO_VSOCK_OP_RST);
	report(&guest, AGENT_REPORT_EXIT, 3);
	driver_run(&guest.driver, 5);
	assert_int_equal(guest.event, VSOCK_EXITED);
	assert_int_equal(guest.value, 3);
	guest_free(&guest);
}

static void test_restore_refused(void **state)
{
	struct guest guest;
	struct state_writer writer = {0};
	struct state_reader reader;
	struct virtio_device *other = NULL;
	struct error err;

	(void)state;
	guest_init(&guest, 16);
	make_ready(&guest);
	assert_int_equal(guest.device->operations->quiesce(guest.device, NULL), 0);
	guest.device->operations->save(guest.device, &writer);
	other = vsock_new(CID + 1, guest.driver.loop, NULL);
	other->active = true;
	reader = (struct state_reader){writer.data, writer.size};
	assert_int_equal(other->operations->restore(other, &reader, &err), -1);
	assert_non_null(strstr(err.message, "CID"));
	reader = (struct state_reader){writer.data, writer.size - 1};
	assert_int_equal(other->operations->restore(other, &reader, NULL), -1);
	other->operations->free(other);
	state_writer_free(&writer);
	guest_free(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_quiesce),
	    cmocka_unit_test(test_drain_all),
	    cmocka_unit_test(test_restore),
	    cmocka_unit_test(test_restore_refused),
	    cmocka_unit_test(test_config),
	    cmocka_unit_test(test_report),
	    cmocka_unit_test(test_notice),
	    cmocka_unit_test(test_time),
	    cmocka_unit_test(test_time_before_ready),
	    cmocka_unit_test(test_oom),
	    cmocka_unit_test(test_report_split),
	    cmocka_unit_test(test_report_without_doorbell),
	    cmocka_unit_test(test_report_failures),
	    cmocka_unit_test(test_unknown_port),
	    cmocka_unit_test(test_connect),
	    cmocka_unit_test(test_connect_refused_and_reset),
	    cmocka_unit_test(test_connect_held),
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
