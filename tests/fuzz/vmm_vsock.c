/*
 * The vsock device under a hostile guest: the input is a program of steps, each of them something that a guest or the
 * host's readers and writers can do at that moment.
 */
#include <fcntl.h>
#include <linux/virtio_vsock.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "tests/fuzz/guest.h"
#include "vmm/stream.h"
#include "vmm/virtio/vsock.h"

#define RX 0
#define TX 1
#define PAIRS 4
#define ASKED 4

struct world {
	struct driver driver;
	struct input input;
	uint64_t rx_memory, tx_memory;
	int host[PAIRS]; /* the host's ends of what was handed over, or -1 */
	struct vsock_connect asked[ASKED];
	unsigned events;
};

/* Numbers that matter, or any. */
static uint64_t number(struct input *input)
{
	static const uint32_t interesting[] = {
	    0, 1, 43, 44, 100, 4096, 65536, 0x3fff, STREAM_BUFFER_SIZE, STREAM_BUFFER_SIZE + 1, INT32_MAX, UINT32_MAX};
	uint8_t choice = byte(input);

	return choice < sizeof(interesting) / sizeof(interesting[0]) ? interesting[choice] : word(input);
}

static uint32_t guest_port(struct input *input)
{
	static const uint32_t ports[] = {5000, 6000, 6001, AGENT_PORT};

	return ports[byte(input) % 4];
}

static uint32_t host_port(struct input *input)
{
	static const uint32_t ports[] = {AGENT_REPORT_PORT, 1040, 1041, 1042, 0x40000000, 0x40000001, 7, 0};

	return ports[byte(input) % 8];
}

static void heard(void *owner, enum vsock_event event, uint32_t value)
{
	struct world *world = owner;

	(void)value;
	if (event != VSOCK_READY && ++world->events > 1)
		abort();
}

static void asked_done(struct vsock_connect *connect, int error)
{
	(void)error;
	if (connect->connection)
		abort();
}

/* One packet of the guest, its data is whatever lies there. */
static void transmit(struct world *world, const struct virtio_vsock_hdr *header, uint32_t size)
{
	struct buffer buffer = {world->tx_memory, size, false};

	guest_write(world->driver.memory, world->tx_memory, header, sizeof(*header));
	if (buffer.size)
		driver_add(&world->driver, TX, &buffer, 1);
	driver_kick(&world->driver, TX);
}

static struct virtio_vsock_hdr sane_header(uint32_t from, uint32_t to, uint16_t operation)
{
	return (struct virtio_vsock_hdr){.src_cid = 3,
					 .dst_cid = 2,
					 .src_port = from,
					 .dst_port = to,
					 .type = VIRTIO_VSOCK_TYPE_STREAM,
					 .op = operation,
					 .buf_alloc = 65536};
}

/* Ports, operation and length; a second byte says what else is out of order. */
static void step_transmit(struct world *world)
{
	struct input *input = &world->input;
	uint8_t operation = byte(input);
	struct virtio_vsock_hdr header = sane_header(guest_port(input), host_port(input), operation & 15);
	uint32_t size = header.op == VIRTIO_VSOCK_OP_RW ? number(input) % 70000 : 0;
	uint8_t odd = operation & 0x80 ? byte(input) : 0;

	header.len = size;
	header.flags = operation >> 4 & 3;
	if (odd & 1)
		header.len = (uint32_t)number(input);
	if (odd & 2)
		header.type = byte(input);
	if (odd & 4)
		header.dst_cid = word(input);
	if (odd & 8)
		header.buf_alloc = (uint32_t)number(input);
	if (odd & 16)
		header.fwd_cnt = (uint32_t)number(input);
	if (odd & 32)
		header.flags = word(input);
	transmit(world, &header, odd & 64 ? byte(input) : (uint32_t)sizeof(header) + size);
}

static void step_report(struct world *world)
{
	struct agent_report report = {1 + byte(&world->input) % 3, byte(&world->input)};
	struct virtio_vsock_hdr header = sane_header(5000, AGENT_REPORT_PORT, VIRTIO_VSOCK_OP_REQUEST);

	if (report.kind == AGENT_REPORT_READY) {
		transmit(world, &header, sizeof(header));
		report.value %= 3;
	}
	header.op = VIRTIO_VSOCK_OP_RW;
	header.len = sizeof(report);
	guest_write(world->driver.memory, world->tx_memory + sizeof(header), &report, sizeof(report));
	transmit(world, &header, sizeof(header) + sizeof(report));
}

/* Data, or the end of it, on a connection that step_stream made. */
static void step_output(struct world *world)
{
	uint8_t choice = byte(&world->input);
	struct virtio_vsock_hdr header = sane_header(6000, 1040 + choice % 3, VIRTIO_VSOCK_OP_RW);

	if (choice & 0xc0) {
		header.len = number(&world->input) % 70000;
	} else {
		header.op = VIRTIO_VSOCK_OP_SHUTDOWN;
		header.flags = choice >> 4;
	}
	transmit(world, &header, (uint32_t)sizeof(header) + header.len);
}

/* Answers what the host asked for, if it did. */
static void step_respond(struct world *world)
{
	uint8_t choice = byte(&world->input);
	struct virtio_vsock_hdr header = sane_header(guest_port(&world->input), 0x40000000 + choice % 8,
						     choice & 8 ? VIRTIO_VSOCK_OP_RST : VIRTIO_VSOCK_OP_RESPONSE);

	transmit(world, &header, sizeof(header));
}

static void step_receive_buffers(struct world *world)
{
	uint8_t count = byte(&world->input) % 32;
	uint32_t size = byte(&world->input) % 8 ? 4096 + 44 : 44 + byte(&world->input);
	struct buffer buffer = {world->rx_memory, size, true};

	for (unsigned i = 0; i < count; i++)
		driver_add(&world->driver, RX, &buffer, 1);
	driver_kick(&world->driver, RX);
}

static int free_pair(const struct world *world)
{
	for (int i = 0; i < PAIRS; i++)
		if (world->host[i] < 0)
			return i;
	return -1;
}

static void step_stream(struct world *world)
{
	struct virtio_vsock_hdr header;
	int slot = free_pair(world), fds[2];
	uint8_t kind = byte(&world->input);
	uint32_t port;

	if (slot < 0 ||
	    (kind & 1 ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe2(fds, kind & 2 ? O_NONBLOCK : 0)) < 0)
		return;
	if (!(kind & 1) && kind & 4) { /* the guest writes */
		int other = fds[0];

		fds[0] = fds[1];
		fds[1] = other;
	}
	port = kind & 16 ? 0 : 1040 + byte(&world->input) % 3;
	if (vsock_add_stream(world->driver.device, &port, fds[0],
			     kind & 1	? 3
			     : kind & 4 ? VMM_STREAM_OUT
					: VMM_STREAM_IN,
			     kind & 32 ? world : NULL, NULL) < 0) {
		close(fds[0]);
		close(fds[1]);
		return;
	}
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	world->host[slot] = fds[1];
	header = sane_header(6000, port, VIRTIO_VSOCK_OP_REQUEST);
	if (kind & 64)
		vsock_drop_streams(world->driver.device, world);
	if (kind & 8)
		transmit(world, &header, sizeof(header));
}

static void step_connect(struct world *world)
{
	struct vsock_connect *connect = &world->asked[byte(&world->input) % ASKED];
	int slot = free_pair(world), fds[2];

	vsock_connect_cancel(connect);
	if (slot < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		return;
	connect->done = asked_done;
	if (vsock_connect(world->driver.device, connect, guest_port(&world->input), fds[0], NULL) < 0) {
		close(fds[0]);
		close(fds[1]);
		return;
	}
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	world->host[slot] = fds[1];
}

static void step_host(struct world *world)
{
	static char data[40000];
	uint8_t what = byte(&world->input);
	int *fd = &world->host[what % PAIRS];
	ssize_t moved = 0;

	if (*fd < 0)
		return;
	switch (what / PAIRS % 4) {
	case 0:
		moved = read(*fd, data, sizeof(data));
		break;
	case 1:
		moved = write(*fd, data, number(&world->input) % sizeof(data));
		break;
	case 2:
		shutdown(*fd, SHUT_WR);
		break;
	case 3:
		close(*fd);
		*fd = -1;
	}
	(void)moved;
}

static void step_reset(struct world *world)
{
	driver_reset_device(&world->driver);
	driver_run(&world->driver, 0);
	driver_release(&world->driver, world->rx_memory + 8192);
	driver_start(&world->driver, world->driver.device);
}

static void step(struct world *world)
{
	switch (byte(&world->input) % 18) {
	case 0:
		step_stream(world);
		return;
	case 1:
		step_connect(world);
		return;
	case 2:
		vsock_connect_cancel(&world->asked[byte(&world->input) % ASKED]);
		return;
	case 3:
	case 4:
		step_receive_buffers(world);
		return;
	case 5:
	case 6:
		step_host(world);
		return;
	case 7:
		driver_run(&world->driver, 0);
		return;
	case 8:
		take_used(&world->driver, 2);
		return;
	case 9:
		offer_raw_descriptor(&world->driver, &world->input, byte(&world->input) % 3, number);
		return;
	case 10:
		step_reset(world);
		return;
	case 11:
		step_report(world);
		return;
	case 12:
		step_respond(world);
		return;
	case 13:
	case 14:
		step_output(world);
		return;
	default:
		step_transmit(world);
	}
}

/* A good beginning, in all its parts or some, so that the steps reach what lies behind it. */
static void prelude(struct world *world, uint8_t parts)
{
	static const uint8_t ready[] = {0, AGENT_PROTOCOL_VERSION}, buffers[] = {31, 1}, output[] = {12 | 2, 0},
			     input[] = {8, 1}, both[] = {9, 2}, ask[] = {0, 3};
	struct input steps = world->input;

	if (parts & 1) {
		world->input = (struct input){buffers, sizeof(buffers)};
		step_receive_buffers(world);
	}
	if (parts & 2) {
		world->input = (struct input){ready, sizeof(ready)};
		step_report(world);
	}
	if (parts & 4) {
		world->input = (struct input){output, sizeof(output)};
		step_stream(world);
	}
	if (parts & 8) {
		world->input = (struct input){input, sizeof(input)};
		step_stream(world);
	}
	if (parts & 16) {
		world->input = (struct input){both, sizeof(both)};
		step_stream(world);
	}
	if (parts & 32) {
		world->input = (struct input){ask, sizeof(ask)};
		step_connect(world);
		driver_run(&world->driver, 0);
	}
	world->input = steps;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world world = {.input = {data, size}, .host = {-1, -1, -1, -1}};

	signal(SIGPIPE, SIG_IGN);
	driver_init(&world.driver);
	world.tx_memory = driver_alloc(&world.driver, 128u << 10);
	world.rx_memory = driver_alloc(&world.driver, 8192);
	world.driver.device = vsock_new(3, world.driver.loop, NULL);
	vsock_on_report(world.driver.device, heard, &world);
	driver_start(&world.driver, world.driver.device);
	prelude(&world, byte(&world.input));
	while (world.input.size)
		step(&world);
	driver_run(&world.driver, 0);
	vsock_status(world.driver.device);
	driver_free(&world.driver);
	for (int i = 0; i < PAIRS; i++)
		if (world.host[i] >= 0)
			close(world.host[i]);
	return 0;
}
