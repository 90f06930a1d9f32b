/*
 * The control socket: requests of the runtime, good and bad, over a real socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "common/io.h"
#include "common/vmm_control.h"
#include "tests/unit/ring.h"
#include "vmm/control.h"
#include "vmm/virtio/vsock.h"

struct fixture {
	struct driver driver;
	struct control *control;
	struct sockaddr_un address;
	socklen_t address_size;
	uint64_t rx, tx;
	unsigned descriptors; /* open before the test */
};

static unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void init(struct fixture *fixture)
{
	int fd;

	memset(fixture, 0, sizeof(*fixture));
	signal(SIGPIPE, SIG_IGN);
	fixture->descriptors = open_descriptors();
	driver_init(&fixture->driver);
	driver_start(&fixture->driver, vsock_new(3, fixture->driver.loop, NULL));
	fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	fixture->address.sun_family = AF_UNIX;
	/* An abstract name that the kernel chooses. */
	assert_int_equal(bind(fd, (struct sockaddr *)&fixture->address, sizeof(sa_family_t)), 0);
	fixture->address_size = sizeof(fixture->address);
	getsockname(fd, (struct sockaddr *)&fixture->address, &fixture->address_size);
	assert_int_equal(listen(fd, 64), 0);
	fixture->control = control_new(fd, fixture->driver.device, fixture->driver.loop, NULL);
	assert_non_null(fixture->control);
	fixture->tx = driver_alloc(&fixture->driver, 4096);
	fixture->rx = driver_alloc(&fixture->driver, 4096);
}

static void finish(struct fixture *fixture)
{
	control_free(fixture->control);
	driver_free(&fixture->driver);
	assert_int_equal(open_descriptors(), fixture->descriptors);
}

static int client(struct fixture *fixture)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&fixture->address, fixture->address_size), 0);
	return fd;
}

static void ask(int fd, uint32_t operation, uint32_t port, uint32_t flags, int descriptor)
{
	struct vmm_request request = {VMM_CONTROL_VERSION, operation, port, flags};

	assert_int_equal(send_with_fds(fd, &request, sizeof(request), &descriptor, descriptor >= 0, 0),
			 sizeof(request));
	if (descriptor >= 0)
		close(descriptor);
}

/* True when a packet is there or the connection has ended. */
static bool has_answer(struct fixture *fixture, int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	driver_run(&fixture->driver, 5);
	return poll(&poll_fd, 1, 0) > 0;
}

static struct vmm_reply answer(struct fixture *fixture, int fd)
{
	struct vmm_reply reply = {0};

	assert_true(has_answer(fixture, fd));
	assert_int_equal(recv(fd, &reply, sizeof(reply), 0), sizeof(reply));
	return reply;
}

static void expect_error(struct fixture *fixture, int fd, int error)
{
	assert_int_equal(answer(fixture, fd).error, error);
}

static void expect_end(struct fixture *fixture, int fd)
{
	char byte;

	assert_true(has_answer(fixture, fd));
	assert_true(recv(fd, &byte, 1, 0) <= 0);
	close(fd);
}

/* One packet from the guest. */
static void transmit(struct fixture *fixture, uint32_t guest_port, uint32_t host_port, unsigned operation,
		     const void *data, uint32_t size)
{
	struct virtio_vsock_hdr header = {
	    .src_cid = 3,
	    .dst_cid = 2,
	    .src_port = guest_port,
	    .dst_port = host_port,
	    .len = size,
	    .type = VIRTIO_VSOCK_TYPE_STREAM,
	    .op = (uint16_t)operation,
	    .buf_alloc = 65536,
	};
	struct buffer buffer = {fixture->tx, 44 + size, false};
	uint16_t head;
	uint32_t length;

	guest_write(fixture->driver.memory, fixture->tx, &header, 44);
	if (size)
		guest_write(fixture->driver.memory, fixture->tx + 44, data, size);
	driver_add(&fixture->driver, 1, &buffer, 1);
	driver_kick(&fixture->driver, 1);
	assert_true(driver_used(&fixture->driver, 1, &head, &length));
}

static void make_ready(struct fixture *fixture)
{
	struct agent_report ready = {AGENT_REPORT_READY, AGENT_PROTOCOL_VERSION};

	transmit(fixture, 5000, AGENT_REPORT_PORT, VIRTIO_VSOCK_OP_REQUEST, NULL, 0);
	transmit(fixture, 5000, AGENT_REPORT_PORT, VIRTIO_VSOCK_OP_RW, &ready, sizeof(ready));
}

/* The header of the next packet for the guest with the given operation. */
static struct virtio_vsock_hdr receive(struct fixture *fixture, unsigned operation)
{
	struct virtio_vsock_hdr header = {0};
	struct buffer buffer = {fixture->rx, 1024, true};
	uint16_t head;
	uint32_t length;

	for (int i = 0; i < 100; i++) {
		driver_add(&fixture->driver, 0, &buffer, 1);
		driver_kick(&fixture->driver, 0);
		driver_run(&fixture->driver, 1);
		if (!driver_used(&fixture->driver, 0, &head, &length))
			continue;
		guest_read(fixture->driver.memory, fixture->rx, &header, sizeof(header));
		if (header.op == operation)
			return header;
	}
	fail_msg("no packet for the guest");
	return header;
}

static void test_status(void **state)
{
	struct fixture fixture;
	struct vmm_reply reply;
	int fd;

	(void)state;
	init(&fixture);
	fd = client(&fixture);
	ask(fd, VMM_STATUS, 0, 0, -1);
	reply = answer(&fixture, fd);
	assert_int_equal(reply.error, 0);
	assert_int_equal(reply.value, 0);
	make_ready(&fixture);
	ask(fd, VMM_STATUS, 0, 0, -1);
	assert_int_equal(answer(&fixture, fd).value, VMM_STATUS_READY);
	close(fd);
	driver_run(&fixture.driver, 5);
	finish(&fixture);
}

static void test_bad_requests(void **state)
{
	struct fixture fixture;
	struct vmm_request request = {VMM_CONTROL_VERSION + 1, VMM_STATUS, 0, 0};
	char large[sizeof(request) + 1] = {1};
	int fd, fds[2], many[3] = {0, 1, 2};

	(void)state;
	init(&fixture);
	fd = client(&fixture);
	send(fd, &request, sizeof(request), 0);
	expect_error(&fixture, fd, EPROTONOSUPPORT);
	ask(fd, 99, 0, 0, -1);
	expect_error(&fixture, fd, EOPNOTSUPP);
	ask(fd, VMM_STATUS, 1, 0, -1);
	expect_error(&fixture, fd, EINVAL);
	ask(fd, VMM_STATUS, 0, 0, dup(0));
	expect_error(&fixture, fd, EINVAL);
	ask(fd, VMM_NET_REMOVE, 5, 0, -1);
	expect_error(&fixture, fd, EOPNOTSUPP);
	ask(fd, VMM_CONNECT, 1024, 0, -1);
	expect_error(&fixture, fd, EBADF);
	ask(fd, VMM_CONNECT, 1024, 1, dup(0));
	expect_error(&fixture, fd, EINVAL);
	ask(fd, VMM_STREAM, 1040, VMM_STREAM_IN, -1);
	expect_error(&fixture, fd, EBADF);
	assert_int_equal(pipe(fds), 0);
	ask(fd, VMM_STREAM, 1040, 0, dup(fds[0]));
	expect_error(&fixture, fd, EINVAL);
	ask(fd, VMM_STREAM, 1040, VMM_STREAM_OUT, dup(fds[0]));
	expect_error(&fixture, fd, EBADF);
	ask(fd, VMM_CONNECT, 1024, 0, dup(fds[0]));
	expect_error(&fixture, fd, EBADF);
	ask(fd, VMM_STREAM, 1040, VMM_STREAM_IN, dup(fds[0]));
	expect_error(&fixture, fd, 0);
	ask(fd, VMM_STREAM, 1040, VMM_STREAM_IN, fds[0]);
	expect_error(&fixture, fd, EADDRINUSE);
	close(fds[1]);
	/* Anything else ends the connection. */
	send(fd, &request, 3, 0);
	expect_end(&fixture, fd);
	fd = client(&fixture);
	send(fd, large, sizeof(large), 0);
	expect_end(&fixture, fd);
	fd = client(&fixture);
	send(fd, "", 0, 0);
	expect_end(&fixture, fd);
	fd = client(&fixture);
	request.version = VMM_CONTROL_VERSION;
	send_with_fds(fd, &request, sizeof(request), many, 2, 0);
	expect_error(&fixture, fd, EINVAL);
	send_with_fds(fd, &request, sizeof(request), many, 3, 0);
	expect_end(&fixture, fd);
	finish(&fixture);
}

/* --- devices that come and go ----------------------------------------------------------------------------------------
 */

struct plugger {
	struct vmm_net net;
	uint32_t removed;
	int fd, result;
};

static int add_net(void *machine, int *fd, const struct vmm_net *net, uint32_t *slot)
{
	struct plugger *plugger = machine;

	*slot = 7;
	if (plugger->result)
		return plugger->result;
	plugger->net = *net;
	plugger->fd = *fd;
	*fd = -1;
	return 0;
}

static int remove_net(void *machine, uint32_t slot)
{
	struct plugger *plugger = machine;

	plugger->removed = slot;
	return plugger->result;
}

static void ask_net(int fd, const struct vmm_request *request, const struct vmm_net *net, size_t size, int descriptor)
{
	char packet[sizeof(*request) + sizeof(*net) + 1] = {0};

	memcpy(packet, request, sizeof(*request));
	memcpy(packet + sizeof(*request), net, sizeof(*net));
	assert_int_equal(send_with_fds(fd, packet, size, &descriptor, descriptor >= 0, 0), size);
	if (descriptor >= 0)
		close(descriptor);
}

static void test_net(void **state)
{
	struct fixture fixture;
	struct plugger plugger = {.fd = -1};
	const struct control_plugger table = {add_net, remove_net, &plugger};
	struct vmm_request request = {VMM_CONTROL_VERSION, VMM_NET_ADD, 0, 0}, other = request;
	struct vmm_net net = {.mac = {2, 1, 2, 3, 4, 5}, .mtu = 9000}, reserved = {.reserved = 1};
	const size_t size = sizeof(request) + sizeof(net);
	struct vmm_reply reply;
	int fd;

	(void)state;
	init(&fixture);
	fd = client(&fixture);
	ask_net(fd, &request, &net, size, dup(0));
	expect_error(&fixture, fd, EOPNOTSUPP);
	control_on_plug(fixture.control, &table);
	ask_net(fd, &request, &net, size, dup(0));
	reply = answer(&fixture, fd);
	assert_int_equal(reply.error, 0);
	assert_int_equal(reply.value, 7);
	assert_memory_equal(&plugger.net, &net, sizeof(net));
	assert_true(plugger.fd >= 0 && close(plugger.fd) == 0);
	ask_net(fd, &request, &net, size, -1);
	expect_error(&fixture, fd, EBADF);
	ask_net(fd, &request, &reserved, size, dup(0));
	expect_error(&fixture, fd, EINVAL);
	other.flags = 1;
	ask_net(fd, &other, &net, size, dup(0));
	expect_error(&fixture, fd, EINVAL);
	other = (struct vmm_request){VMM_CONTROL_VERSION, VMM_NET_ADD, 3, 0};
	ask_net(fd, &other, &net, size, dup(0));
	expect_error(&fixture, fd, EINVAL);
	ask(fd, VMM_NET_REMOVE, 7, 0, -1);
	expect_error(&fixture, fd, 0);
	assert_int_equal(plugger.removed, 7);
	ask(fd, VMM_NET_REMOVE, 7, 1, -1);
	expect_error(&fixture, fd, EINVAL);
	plugger.result = ENOSPC;
	ask_net(fd, &request, &net, size, dup(0));
	reply = answer(&fixture, fd);
	assert_int_equal(reply.error, ENOSPC);
	assert_int_equal(reply.value, 0);
	ask(fd, VMM_NET_REMOVE, 99, 0, -1);
	expect_error(&fixture, fd, ENOSPC);
	/* Packets of another length. */
	for (int odd = -1; odd <= 1; odd += 2) {
		ask_net(fd, &request, &net, size + (size_t)odd, dup(0));
		expect_end(&fixture, fd);
		fd = client(&fixture);
	}
	ask(fd, VMM_NET_ADD, 0, 0, dup(0));
	expect_end(&fixture, fd);
	fd = client(&fixture);
	other = (struct vmm_request){VMM_CONTROL_VERSION, VMM_STATUS, 0, 0};
	ask_net(fd, &other, &net, size, -1);
	expect_end(&fixture, fd);
	finish(&fixture);
}

/* --- saving ---------------------------------------------------------------------------------------------------------
 */

struct saver {
	struct save_request *request;
	int result;
	unsigned cancelled;
};

static int begin_save(void *machine, struct save_request *request)
{
	struct saver *saver = machine;

	if (saver->result)
		return saver->result;
	saver->request = request;
	return 0;
}

static void cancel_save(void *machine, struct save_request *request)
{
	struct saver *saver = machine;

	if (saver->request == request)
		saver->cancelled++;
	saver->request = NULL;
}

static void ask_save(int fd, uint32_t flags)
{
	struct vmm_request request = {VMM_CONTROL_VERSION, VMM_SAVE, 0, flags};
	int fds[2] = {0, 1};

	assert_int_equal(send_with_fds(fd, &request, sizeof(request), fds, 2, 0), sizeof(request));
}

static void end_save(struct saver *saver, int error)
{
	struct save_request *request = saver->request;

	saver->request = NULL;
	request->done(request, error);
}

static void test_save(void **state)
{
	struct fixture fixture;
	struct saver saver = {0};
	struct control_saver table = {begin_save, cancel_save, &saver};
	unsigned before;
	int fd;

	(void)state;
	init(&fixture);
	fd = client(&fixture);
	ask_save(fd, 0);
	expect_error(&fixture, fd, EOPNOTSUPP);
	control_on_save(fixture.control, &table);
	ask(fd, VMM_SAVE, 0, 0, -1);
	expect_error(&fixture, fd, EBADF);
	ask(fd, VMM_SAVE, 0, 0, dup(0));
	expect_error(&fixture, fd, EBADF);
	ask_save(fd, 4);
	expect_error(&fixture, fd, EINVAL);
	make_ready(&fixture);
	receive(&fixture, VIRTIO_VSOCK_OP_RESPONSE);
	before = open_descriptors();
	ask_save(fd, VMM_SAVE_AND_END);
	assert_false(has_answer(&fixture, fd));
	assert_true(saver.request && saver.request->end);
	assert_true(fcntl(saver.request->state_fd, F_GETFD) >= 0 && fcntl(saver.request->memory_fd, F_GETFD) >= 0);
	end_save(&saver, 0);
	expect_error(&fixture, fd, 0);
	ask_save(fd, 0);
	assert_false(has_answer(&fixture, fd));
	assert_false(saver.request->end);
	end_save(&saver, ENOSPC);
	expect_error(&fixture, fd, ENOSPC);
	saver.result = EBUSY;
	ask_save(fd, 0);
	expect_error(&fixture, fd, EBUSY);
	assert_int_equal(open_descriptors(), before);
	assert_int_equal(saver.cancelled, 0);
	/* The one who asked goes away. */
	saver.result = 0;
	ask_save(fd, 0);
	assert_false(has_answer(&fixture, fd));
	close(fd);
	driver_run(&fixture.driver, 5);
	assert_int_equal(saver.cancelled, 1);
	finish(&fixture);
}

/* Not before the last connection to the guest has gone. */
static void test_save_waits(void **state)
{
	struct fixture fixture;
	struct saver saver = {0};
	struct control_saver table = {begin_save, cancel_save, &saver};
	struct virtio_vsock_hdr header;
	int fd, other, fds[2];

	(void)state;
	init(&fixture);
	control_on_save(fixture.control, &table);
	make_ready(&fixture);
	fd = client(&fixture);
	other = client(&fixture);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	ask(other, VMM_CONNECT, 1024, 0, fds[0]);
	header = receive(&fixture, VIRTIO_VSOCK_OP_REQUEST);
	transmit(&fixture, 1024, header.src_port, VIRTIO_VSOCK_OP_RESPONSE, NULL, 0);
	expect_error(&fixture, other, 0);
	ask_save(fd, 0);
	assert_false(has_answer(&fixture, fd));
	assert_null(saver.request);
	transmit(&fixture, 1024, header.src_port, VIRTIO_VSOCK_OP_RST, NULL, 0);
	driver_run(&fixture.driver, 5);
	assert_non_null(saver.request);
	end_save(&saver, 0);
	expect_error(&fixture, fd, 0);
	close(fd);
	close(other);
	close(fds[1]);
	driver_run(&fixture.driver, 5);
	finish(&fixture);
}

static void test_connect_in_order(void **state)
{
	struct fixture fixture;
	struct virtio_vsock_hdr header;
	int fd, fds[2], more[2];

	(void)state;
	init(&fixture);
	fd = client(&fixture);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, more), 0);
	ask(fd, VMM_CONNECT, 1024, 0, fds[0]);
	ask(fd, VMM_STATUS, 0, 0, -1);
	assert_false(has_answer(&fixture, fd));
	make_ready(&fixture);
	header = receive(&fixture, VIRTIO_VSOCK_OP_REQUEST);
	assert_false(has_answer(&fixture, fd));
	transmit(&fixture, 1024, header.src_port, VIRTIO_VSOCK_OP_RESPONSE, NULL, 0);
	expect_error(&fixture, fd, 0);
	assert_int_equal(answer(&fixture, fd).value, VMM_STATUS_READY);

	ask(fd, VMM_CONNECT, 1024, 0, more[0]);
	header = receive(&fixture, VIRTIO_VSOCK_OP_REQUEST);
	transmit(&fixture, 1024, header.src_port, VIRTIO_VSOCK_OP_RST, NULL, 0);
	expect_error(&fixture, fd, ECONNREFUSED);
	close(fd);
	close(fds[1]);
	close(more[1]);
	finish(&fixture);
}

static void test_client_goes_away(void **state)
{
	struct fixture fixture;
	unsigned before;
	int fd, fds[2];

	(void)state;
	init(&fixture);
	make_ready(&fixture);
	before = open_descriptors();
	fd = client(&fixture);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	ask(fd, VMM_CONNECT, 1024, 0, fds[0]);
	receive(&fixture, VIRTIO_VSOCK_OP_REQUEST);
	close(fd);
	driver_run(&fixture.driver, 5);
	receive(&fixture, VIRTIO_VSOCK_OP_RST);
	close(fds[1]);
	assert_int_equal(open_descriptors(), before);
	finish(&fixture);
}

static void test_end_answers_waiting(void **state)
{
	struct fixture fixture;
	struct vmm_reply reply;
	int fd, fds[2];

	(void)state;
	init(&fixture);
	fd = client(&fixture);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	ask(fd, VMM_CONNECT, 1024, 0, fds[0]);
	assert_false(has_answer(&fixture, fd));
	control_free(fixture.control);
	fixture.control = NULL;
	assert_int_equal(recv(fd, &reply, sizeof(reply), 0), sizeof(reply));
	assert_int_equal(reply.error, ECONNRESET);
	close(fd);
	close(fds[1]);
	finish(&fixture);
}

/* A pipe as an output stream at a port that the VMM chooses; its reading end. */
static int register_output(struct fixture *fixture, int fd, uint32_t *port)
{
	struct vmm_reply reply;
	int fds[2];

	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	ask(fd, VMM_STREAM, 0, VMM_STREAM_OUT, fds[1]);
	reply = answer(fixture, fd);
	assert_int_equal(reply.error, 0);
	*port = reply.value;
	return fds[0];
}

static void test_chosen_ports(void **state)
{
	struct fixture fixture;
	uint32_t first, second;
	int fd, pipes[2];

	(void)state;
	init(&fixture);
	fd = client(&fixture);
	pipes[0] = register_output(&fixture, fd, &first);
	pipes[1] = register_output(&fixture, fd, &second);
	assert_true(first >= 0x10000 && second >= 0x10000);
	assert_int_not_equal(first, second);
	make_ready(&fixture);
	transmit(&fixture, 6000, second, VIRTIO_VSOCK_OP_REQUEST, NULL, 0);
	receive(&fixture, VIRTIO_VSOCK_OP_RESPONSE);
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
	finish(&fixture);
}

static void test_drain(void **state)
{
	struct fixture fixture;
	char text[8192] = {0};
	uint32_t port;
	int fd, reader, size = 0;

	(void)state;
	init(&fixture);
	make_ready(&fixture);
	fd = client(&fixture);
	ask(fd, VMM_DRAIN, 4711, 0, -1);
	expect_error(&fixture, fd, 0);
	ask(fd, VMM_DRAIN, 4711, 1, -1);
	expect_error(&fixture, fd, EINVAL);
	ask(fd, VMM_DRAIN, 4711, 0, dup(0));
	expect_error(&fixture, fd, EINVAL);
	reader = register_output(&fixture, fd, &port);
	size = fcntl(reader, F_SETPIPE_SZ, 4096);
	assert_true(size >= 4096);
	ask(fd, VMM_DRAIN, port, 0, -1);
	/* Registered; connected; its end is known but not delivered. */
	assert_false(has_answer(&fixture, fd));
	transmit(&fixture, 6000, port, VIRTIO_VSOCK_OP_REQUEST, NULL, 0);
	assert_false(has_answer(&fixture, fd));
	for (int sent = 0; sent < size + 1000; sent += 1000)
		transmit(&fixture, 6000, port, VIRTIO_VSOCK_OP_RW, text, 1000);
	transmit(&fixture, 6000, port, VIRTIO_VSOCK_OP_RST, NULL, 0);
	assert_false(has_answer(&fixture, fd));
	while (read(reader, text, sizeof(text)) > 0)
		driver_run(&fixture.driver, 5);
	expect_error(&fixture, fd, 0);
	assert_int_equal(read(reader, text, 1), 0);
	/* One that goes away while it waits. */
	ask(fd, VMM_STREAM, 1040, VMM_STREAM_IN, reader);
	expect_error(&fixture, fd, 0);
	ask(fd, VMM_DRAIN, 1040, 0, -1);
	assert_false(has_answer(&fixture, fd));
	close(fd);
	driver_run(&fixture.driver, 5);
	finish(&fixture);
}

/* What a client registered goes with it, wherever it stands; what others wait for there is over. */
static void test_streams_go_with_client(void **state)
{
	struct fixture fixture;
	uint32_t registered, connected, draining, kept;
	int fd, other, readers[4];
	char byte;

	(void)state;
	init(&fixture);
	make_ready(&fixture);
	fd = client(&fixture);
	other = client(&fixture);
	readers[0] = register_output(&fixture, fd, &registered);
	readers[1] = register_output(&fixture, fd, &connected);
	readers[2] = register_output(&fixture, fd, &draining);
	readers[3] = register_output(&fixture, other, &kept);
	transmit(&fixture, 6001, connected, VIRTIO_VSOCK_OP_REQUEST, NULL, 0);
	transmit(&fixture, 6002, draining, VIRTIO_VSOCK_OP_REQUEST, NULL, 0);
	transmit(&fixture, 6003, kept, VIRTIO_VSOCK_OP_REQUEST, NULL, 0);
	assert_true(fcntl(readers[2], F_SETPIPE_SZ, 4096) >= 4096);
	for (int i = 0; i < 20; i++) {
		char data[900] = {0};

		transmit(&fixture, 6002, draining, VIRTIO_VSOCK_OP_RW, data, sizeof(data));
	}
	transmit(&fixture, 6002, draining, VIRTIO_VSOCK_OP_RST, NULL, 0);
	ask(other, VMM_DRAIN, draining, 0, -1);
	assert_false(has_answer(&fixture, other));
	close(fd);
	expect_error(&fixture, other, 0);
	assert_int_equal(receive(&fixture, VIRTIO_VSOCK_OP_RST).dst_port, 6001);
	for (int i = 0; i < 3; i++) {
		ssize_t n;

		do
			n = read(readers[i], &byte, 1);
		while (n > 0);
		assert_int_equal(n, 0);
		close(readers[i]);
	}
	assert_int_equal(read(readers[3], &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
	close(readers[3]);
	close(other);
	finish(&fixture);
}

static void test_many_clients(void **state)
{
	struct fixture fixture;
	int fds[513];
	char byte;

	(void)state;
	init(&fixture);
	for (int i = 0; i < 513; i++) {
		fds[i] = client(&fixture);
		driver_run(&fixture.driver, 1);
	}
	driver_run(&fixture.driver, 20);
	ask(fds[0], VMM_STATUS, 0, 0, -1);
	expect_error(&fixture, fds[0], 0);
	assert_int_equal(recv(fds[512], &byte, 1, MSG_DONTWAIT), 0);
	for (int i = 0; i < 513; i++)
		close(fds[i]);
	for (int i = 0; i < 100; i++)
		driver_run(&fixture.driver, 1);
	fds[0] = client(&fixture);
	ask(fds[0], VMM_STATUS, 0, 0, -1);
	expect_error(&fixture, fds[0], 0);
	close(fds[0]);
	finish(&fixture);
}

/* A client that never reads its answers is dropped, not waited for. */
static void test_deaf_client(void **state)
{
	struct fixture fixture;
	struct vmm_request request = {VMM_CONTROL_VERSION, VMM_STATUS, 0, 0};
	int fd, sent = 0;

	(void)state;
	init(&fixture);
	fd = client(&fixture);
	for (int i = 0; i < 20000; i++) {
		if (send(fd, &request, sizeof(request), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			sent++;
		else if (errno == EPIPE || errno == ECONNRESET)
			break;
		else
			driver_run(&fixture.driver, 0);
	}
	assert_int_not_equal(errno, EAGAIN);
	assert_true(sent > 0);
	close(fd);
	finish(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_status),
	    cmocka_unit_test(test_bad_requests),
	    cmocka_unit_test(test_net),
	    cmocka_unit_test(test_save),
	    cmocka_unit_test(test_save_waits),
	    cmocka_unit_test(test_connect_in_order),
	    cmocka_unit_test(test_client_goes_away),
	    cmocka_unit_test(test_end_answers_waiting),
	    cmocka_unit_test(test_chosen_ports),
	    cmocka_unit_test(test_drain),
	    cmocka_unit_test(test_streams_go_with_client),
	    cmocka_unit_test(test_many_clients),
	    cmocka_unit_test(test_deaf_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
