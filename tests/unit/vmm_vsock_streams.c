/*
 * Data through the vsock device: what the host's descriptors give and take, flow control, and either side's end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/vsock_guest.h"

static unsigned char pattern(size_t index)
{
	return (unsigned char)(index * 7 + index / 251);
}

static void fill_pattern(unsigned char *data, size_t size, size_t offset)
{
	for (size_t i = 0; i < size; i++)
		data[i] = pattern(offset + i);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	    cmocka_unit_test(test_socket_peer_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
