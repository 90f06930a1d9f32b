/*
 * The virtio-fs device between a driver and a file server that the tests play themselves: right, wrong and hostile on
 * either side.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fs_protocol.h"
#include "common/io.h"
#include "tests/unit/ring.h"
#include "vmm/virtio/fs.h"

#define HIGH_PRIORITY 0
#define REQUESTS 1
#define ROOM (2u << 20) /* bytes for one request, and for one answer */

struct world {
	struct driver driver;
	int server; /* the file server's end */
	int socket; /* the device's */
	unsigned ends;
	uint64_t in, out; /* guest memory */
	_Alignas(16) uint8_t message[FS_MESSAGE_MAX];
	size_t message_size;
};

static bool direct; /* vCPUs answer the doorbell */

static void count_end(void *owner)
{
	((struct world *)owner)->ends++;
}

static int set_up(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct virtio_device *device;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	world->socket = pair[0];
	world->server = pair[1];
	driver_init(&world->driver);
	world->driver.direct = direct;
	device = fs_new(pair[0], "hull", world->driver.loop, NULL);
	assert_non_null(device);
	fs_on_end(device, count_end, world);
	driver_start(&world->driver, device);
	world->in = driver_alloc(&world->driver, ROOM);
	world->out = driver_alloc(&world->driver, ROOM);
	*state = world;
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;

	driver_free(&world->driver);
	close(world->server);
	free(world);
	return 0;
}

/* Offers a request with `claimed` as its length and room bytes for the answer. Returns its head. */
static int offer(struct world *world, unsigned queue, uint32_t opcode, uint32_t claimed, const void *body, size_t size,
		 uint32_t room)
{
	struct fuse_in_header header = {.len = claimed, .opcode = opcode, .unique = 77, .nodeid = 1};
	struct buffer buffers[2] = {{world->in, (uint32_t)(sizeof(header) + size), false}, {world->out, room, true}};
	int head;

	guest_write(world->driver.memory, world->in, &header, sizeof(header));
	if (size)
		guest_write(world->driver.memory, world->in + sizeof(header), body, size);
	head = driver_add(&world->driver, queue, buffers, room ? 2 : 1);
	driver_kick(&world->driver, queue);
	return head;
}

static int ask(struct world *world, uint32_t opcode, const void *body, size_t size, uint32_t room)
{
	return offer(world, REQUESTS, opcode, (uint32_t)(sizeof(struct fuse_in_header) + size), body, size, room);
}

/* What the file server gets next; false when there is nothing. */
static bool server_gets(struct world *world)
{
	ssize_t n = recv(world->server, world->message, sizeof(world->message), MSG_DONTWAIT);

	world->message_size = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static const struct fs_message *got_message(const struct world *world)
{
	return (const void *)world->message;
}

static const struct fuse_in_header *got_header(const struct world *world)
{
	return (const void *)(got_message(world) + 1);
}

static const void *got_body(const struct world *world)
{
	return got_header(world) + 1;
}

/* Sends a message of any form, and lets the device see it. */
static void server_says(struct world *world, const void *message, size_t size, const int *fds, size_t count)
{
	assert_true(send_with_fds(world->server, message, size, fds, count, MSG_DONTWAIT) == (ssize_t)size);
	driver_run(&world->driver, 0);
}

/* Answers the request that the server got last. */
static void server_answers(struct world *world, int error, const void *payload, size_t size, uint32_t flags,
			   uint32_t handle, int fd)
{
	static _Alignas(16) uint8_t packet[FS_MESSAGE_MAX];
	struct fs_message *message = (void *)packet;
	struct fuse_out_header *out = (void *)(message + 1);

	*message = (struct fs_message){.tag = got_message(world)->tag, .flags = flags, .handle = handle};
	*out = (struct fuse_out_header){.len = (uint32_t)(sizeof(*out) + size), .error = -error, .unique = 1};
	if (size)
		memcpy(out + 1, payload, size);
	server_says(world, packet, sizeof(*message) + out->len, &fd, fd >= 0);
}

/* The next answer in the ring, which has to be there, has to be of this chain and say this. */
static void expect_answer(struct world *world, unsigned queue, int head, int error, uint32_t payload)
{
	struct fuse_out_header out;
	uint16_t used;
	uint32_t length;

	assert_true(driver_used(&world->driver, queue, &used, &length));
	assert_int_equal(used, head);
	assert_int_equal(length, sizeof(out) + payload);
	guest_read(world->driver.memory, world->out, &out, sizeof(out));
	assert_int_equal(out.error, -error);
	assert_int_equal(out.len, length);
	assert_int_equal(out.unique, 77);
}

static void expect_nothing(struct world *world)
{
	uint16_t used;
	uint32_t length;

	assert_false(driver_used(&world->driver, REQUESTS, &used, &length));
	assert_false(driver_used(&world->driver, HIGH_PRIORITY, &used, &length));
}

static int new_file(const char *content)
{
	char path[] = "/tmp/vmm_fs_XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(pwrite(fd, content, strlen(content), 0), strlen(content));
	return fd;
}

/* Opens a handle whose descriptor is fd's file. Returns the number of the device's descriptor. */
static int open_handle(struct world *world, uint32_t handle, int fd, uint32_t flags)
{
	struct fuse_open_out out = {.fh = handle};
	int head = ask(world, FUSE_OPEN, &(struct fuse_open_in){0}, sizeof(struct fuse_open_in), 4096);
	int next = dup(fd);

	close(next);
	assert_true(server_gets(world));
	server_answers(world, 0, &out, sizeof(out), FS_HAS_DESCRIPTOR | flags, handle, fd);
	expect_answer(world, REQUESTS, head, 0, sizeof(out));
	return next;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* --- the usual -------------------------------------------------------------------------------------------------------
 */

static void test_config(void **state)
{
	struct world *world = *state;
	const struct virtio_device_operations *operations = world->driver.device->operations;
	char tag[36] = "";
	uint32_t queues = 0, beyond = 1;

	operations->read_config(world->driver.device, 0, tag, 36);
	assert_string_equal(tag, "hull");
	operations->read_config(world->driver.device, 36, &queues, 4);
	assert_int_equal(queues, 1);
	operations->read_config(world->driver.device, 44, &beyond, 4);
	assert_int_equal(beyond, 0);
	operations->read_config(world->driver.device, UINT32_MAX, &beyond, 4);
	assert_int_equal(beyond, 0);
}

static void test_request_and_answer(void **state)
{
	struct world *world = *state;
	int head = ask(world, FUSE_LOOKUP, "name", 5, 4096);
	char payload[100] = "payload", back[100];

	assert_true(server_gets(world));
	assert_int_equal(world->message_size, sizeof(struct fs_message) + sizeof(struct fuse_in_header) + 5);
	assert_int_equal(got_header(world)->opcode, FUSE_LOOKUP);
	assert_int_equal(got_header(world)->len, sizeof(struct fuse_in_header) + 5);
	assert_string_equal(got_body(world), "name");
	expect_nothing(world);
	server_answers(world, 0, payload, sizeof(payload), 0, 0, -1);
	expect_answer(world, REQUESTS, head, 0, sizeof(payload));
	guest_read(world->driver.memory, world->out + sizeof(struct fuse_out_header), back, sizeof(back));
	assert_memory_equal(back, payload, sizeof(back));
	assert_int_equal(world->driver.signals[REQUESTS], 1);
	head = ask(world, FUSE_GETATTR, payload, 16, 4096);
	assert_true(server_gets(world));
	server_answers(world, ENOENT, NULL, 0, 0, 0, -1);
	expect_answer(world, REQUESTS, head, ENOENT, 0);
}

static void test_forget_has_no_answer(void **state)
{
	struct world *world = *state;
	struct fuse_forget_in in = {.nlookup = 1};
	uint16_t used;
	uint32_t length;
	int head =
	    offer(world, HIGH_PRIORITY, FUSE_FORGET, sizeof(struct fuse_in_header) + sizeof(in), &in, sizeof(in), 0);

	assert_true(server_gets(world));
	assert_true(driver_used(&world->driver, HIGH_PRIORITY, &used, &length));
	assert_int_equal(used, head);
	assert_int_equal(length, 0);
}

static void test_read_without_server(void **state)
{
	struct world *world = *state;
	int file = new_file("0123456789");
	struct fuse_read_in in = {.fh = 5, .size = 4, .offset = 3};
	char back[5] = "";
	int head;

	open_handle(world, 5, file, FS_READS_ONLY);
	head = ask(world, FUSE_READ, &in, sizeof(in), 4096);
	expect_answer(world, REQUESTS, head, 0, 4);
	guest_read(world->driver.memory, world->out + sizeof(struct fuse_out_header), back, 4);
	assert_string_equal(back, "3456");
	/* At the end, beyond it, and more than the chain has room for. */
	in = (struct fuse_read_in){.fh = 5, .size = 100, .offset = 8};
	head = ask(world, FUSE_READ, &in, sizeof(in), 4096);
	expect_answer(world, REQUESTS, head, 0, 2);
	in.offset = 1000;
	head = ask(world, FUSE_READ, &in, sizeof(in), 4096);
	expect_answer(world, REQUESTS, head, 0, 0);
	in = (struct fuse_read_in){.fh = 5, .size = UINT32_MAX};
	head = ask(world, FUSE_READ, &in, sizeof(in), sizeof(struct fuse_out_header) + 3);
	expect_answer(world, REQUESTS, head, 0, 3);
	in.offset = UINT64_MAX;
	head = ask(world, FUSE_READ, &in, sizeof(in), 4096);
	expect_answer(world, REQUESTS, head, EINVAL, 0);
	assert_false(server_gets(world));
	close(file);
}

/* What a vCPU leaves to the loop's thread, which is late here: nothing overtakes it, and nothing is lost. */
static void test_postponed(void **state)
{
	static struct {
		struct fuse_write_in in;
		char data[100000];
	} large = {.in = {.fh = 5, .size = sizeof(large.data)}};
	struct world *world = *state;
	struct virtio_device *device = world->driver.device;
	int file = new_file(""), head, next;

	open_handle(world, 5, file, 0);
	world->driver.direct = world->driver.late = true;
	head = ask(world, FUSE_WRITE, &large, sizeof(large), 4096);
	expect_nothing(world);
	next = ask(world, FUSE_LOOKUP, "name", 5, 4096);
	assert_false(server_gets(world));
	device->operations->notify(device, REQUESTS);
	expect_answer(world, REQUESTS, head, 0, sizeof(struct fuse_write_out));
	assert_true(server_gets(world));
	server_answers(world, ENOENT, NULL, 0, 0, 0, -1);
	expect_answer(world, REQUESTS, next, ENOENT, 0);
	/* And what is given up with the rest. */
	ask(world, FUSE_WRITE, &large, sizeof(large), 4096);
	driver_reset_device(&world->driver);
	driver_start(&world->driver, device);
	assert_int_equal(device->operations->quiesce(device, NULL), 0);
	close(file);
}

struct write_request {
	struct fuse_write_in in;
	char data[8];
};

static int ask_write(struct world *world, uint64_t handle, uint64_t offset, uint32_t flags, uint32_t size)
{
	struct write_request request = {.in = {.fh = handle, .offset = offset, .size = size, .flags = flags},
					.data = "abcdefgh"};

	return ask(world, FUSE_WRITE, &request, sizeof(request), 4096);
}

static void expect_content(int file, const char *content)
{
	char back[100] = "";

	assert_int_equal(pread(file, back, sizeof(back), 0), strlen(content));
	assert_string_equal(back, content);
}

static void test_write_without_server(void **state)
{
	struct world *world = *state;
	int file = new_file("0123456789");
	struct fuse_write_out out;

	open_handle(world, 5, file, 0);
	expect_answer(world, REQUESTS, ask_write(world, 5, 2, 0, 3), 0, sizeof(out));
	guest_read(world->driver.memory, world->out + sizeof(struct fuse_out_header), &out, sizeof(out));
	assert_int_equal(out.size, 3);
	expect_content(file, "01abc56789");
	expect_answer(world, REQUESTS, ask_write(world, 5, 0, O_APPEND, 2), 0, sizeof(out));
	expect_content(file, "01abc56789ab");
	expect_answer(world, REQUESTS, ask_write(world, 5, 1ull << 63, 0, 2), EINVAL, 0);
	expect_answer(world, REQUESTS, ask_write(world, 5, 1ull << 62, 0, 2), EFBIG, 0);
	/* More than there is. */
	expect_answer(world, REQUESTS, ask_write(world, 5, 0, 0, 9), EINVAL, 0);
	assert_false(server_gets(world));
	close(file);
}

static void test_write_through_server(void **state)
{
	struct world *world = *state;
	struct fuse_write_out out = {.size = 3};
	struct fs_message revoke = {.flags = FS_WRITES_TO_SERVER, .handle = 5};
	int file = new_file("0123456789"), head;

	open_handle(world, 5, file, 0);
	open_handle(world, 6, file, FS_READS_ONLY);
	for (unsigned i = 0; i < 2; i++) {
		if (i == 1)
			server_says(world, &revoke, sizeof(revoke), NULL, 0);
		head = ask_write(world, i == 0 ? 6 : 5, 0, 0, 3);
		assert_true(server_gets(world));
		assert_int_equal(((const struct fuse_write_in *)got_body(world))->size, 3);
		server_answers(world, 0, &out, sizeof(out), 0, 0, -1);
		expect_answer(world, REQUESTS, head, 0, sizeof(out));
	}
	expect_content(file, "0123456789");
	/* Reading goes on as before. */
	head = ask(world, FUSE_READ, &(struct fuse_read_in){.fh = 5, .size = 4}, sizeof(struct fuse_read_in), 4096);
	expect_answer(world, REQUESTS, head, 0, 4);
	close(file);
}

/* An export that is taken back takes the guest's open files along. */
static void test_server_closes(void **state)
{
	struct world *world = *state;
	struct fs_message closed = {.flags = FS_CLOSED, .handle = 5};
	int file = new_file("0123456789"), fd = open_handle(world, 5, file, 0), head;

	assert_true(is_open(fd));
	server_says(world, &closed, sizeof(closed), NULL, 0);
	assert_false(is_open(fd));
	head = ask(world, FUSE_READ, &(struct fuse_read_in){.fh = 5, .size = 4}, sizeof(struct fuse_read_in), 4096);
	assert_true(server_gets(world));
	server_answers(world, EBADF, NULL, 0, 0, 0, -1);
	expect_answer(world, REQUESTS, head, EBADF, 0);
	/* Of a handle that nobody has: nothing. */
	closed.handle = 77;
	server_says(world, &closed, sizeof(closed), NULL, 0);
	close(file);
}

static void test_release_closes(void **state)
{
	struct world *world = *state;
	int file = new_file("x"), fd = open_handle(world, 5, file, 0);
	struct fuse_release_in release = {.fh = 5};
	int head, second;

	assert_true(is_open(fd));
	head = ask(world, FUSE_RELEASE, &release, sizeof(release), 4096);
	assert_false(is_open(fd));
	/* Answered here. */
	assert_true(server_gets(world));
	assert_int_equal(((const struct fuse_release_in *)got_body(world))->fh, 5);
	expect_answer(world, REQUESTS, head, 0, 0);
	/* The handle is used again; the old file must not be behind it. */
	fd = open_handle(world, 5, file, 0);
	second = open_handle(world, 5, file, 0);
	assert_false(is_open(fd));
	assert_true(is_open(second));
	/* A new session forgets all. */
	head = ask(world, FUSE_DESTROY, NULL, 0, 4096);
	assert_false(is_open(second));
	assert_true(server_gets(world));
	server_answers(world, 0, NULL, 0, 0, 0, -1);
	expect_answer(world, REQUESTS, head, 0, 0);
	close(file);
}

/* Without a descriptor, large requests go through the socket in parts. */
static void test_parts(void **state)
{
	static uint8_t body[sizeof(struct fuse_write_in) + (300u << 10)], back[300u << 10];
	struct world *world = *state;
	struct fuse_write_in *in = (void *)body;
	struct fuse_write_out out;
	uint32_t size = 300u << 10, sum = 0;
	int head;

	*in = (struct fuse_write_in){.fh = 9, .offset = 1000, .size = size};
	for (uint32_t i = 0; i < size; i++)
		body[sizeof(*in) + i] = (uint8_t)(i / 777);
	head = ask(world, FUSE_WRITE, body, sizeof(body), 4096);
	while (server_gets(world)) {
		const struct fuse_write_in *part = got_body(world);

		assert_int_equal(part->offset, 1000 + sum);
		assert_memory_equal(part + 1, body + sizeof(*in) + sum, part->size);
		sum += part->size;
		out = (struct fuse_write_out){.size = part->size};
		server_answers(world, 0, &out, sizeof(out), 0, 0, -1);
	}
	assert_int_equal(sum, size);
	expect_answer(world, REQUESTS, head, 0, sizeof(out));
	guest_read(world->driver.memory, world->out + sizeof(struct fuse_out_header), &out, sizeof(out));
	assert_int_equal(out.size, size);

	head = ask(world, FUSE_READ, &(struct fuse_read_in){.fh = 9, .size = size}, sizeof(struct fuse_read_in), ROOM);
	while (server_gets(world)) {
		const struct fuse_read_in *part = got_body(world);

		server_answers(world, 0, body + sizeof(*in) + part->offset, part->size, 0, 0, -1);
	}
	expect_answer(world, REQUESTS, head, 0, size);
	guest_read(world->driver.memory, world->out + sizeof(struct fuse_out_header), back, size);
	assert_memory_equal(back, body + sizeof(*in), size);

	/* The second part fails: what was done counts. */
	head = ask(world, FUSE_WRITE, body, sizeof(body), 4096);
	assert_true(server_gets(world));
	out = (struct fuse_write_out){.size = FS_PAYLOAD_MAX};
	server_answers(world, 0, &out, sizeof(out), 0, 0, -1);
	assert_true(server_gets(world));
	server_answers(world, ENOSPC, NULL, 0, 0, 0, -1);
	expect_answer(world, REQUESTS, head, 0, sizeof(out));
	head = ask(world, FUSE_WRITE, body, sizeof(body), 4096);
	assert_true(server_gets(world));
	server_answers(world, ENOSPC, NULL, 0, 0, 0, -1);
	expect_answer(world, REQUESTS, head, ENOSPC, 0);
}

/* The server does not read: the device waits, the ring holds the rest, and nothing is lost. */
static void test_full_socket(void **state)
{
	struct world *world = *state;
	unsigned asked = 0, got = 0;

	while (asked < 200 && ask(world, FUSE_LOOKUP, "name", 5, 4096) >= 0)
		asked++;
	assert_int_equal(asked, 200);
	driver_run(&world->driver, 1);
	expect_nothing(world);
	for (unsigned round = 0; round < 1000 && got < asked; round++) {
		uint16_t used;
		uint32_t length;

		if (server_gets(world))
			server_answers(world, ENOENT, NULL, 0, 0, 0, -1);
		else
			driver_run(&world->driver, 1);
		while (driver_used(&world->driver, REQUESTS, &used, &length))
			got++;
	}
	assert_int_equal(got, asked);
}

/* --- hostile guests --------------------------------------------------------------------------------------------------
 */

static void test_bad_requests(void **state)
{
	struct world *world = *state;
	struct buffer tiny[2] = {{world->in, 10, false}, {world->out, 4096, true}};
	static char large[200 << 10];
	uint16_t used;
	uint32_t length;
	int head;

	/* A length that is not the chain's. */
	head = offer(world, REQUESTS, FUSE_LOOKUP, 1000, "name", 5, 4096);
	expect_answer(world, REQUESTS, head, EINVAL, 0);
	head = offer(world, REQUESTS, FUSE_LOOKUP, 0, "name", 5, 4096);
	expect_answer(world, REQUESTS, head, EINVAL, 0);
	/* No whole header, no room for an answer, neither. */
	head = driver_add(&world->driver, REQUESTS, tiny, 2);
	driver_kick(&world->driver, REQUESTS);
	assert_true(driver_used(&world->driver, REQUESTS, &used, &length));
	assert_int_equal(length, sizeof(struct fuse_out_header));
	driver_add(&world->driver, REQUESTS, tiny, 1);
	driver_kick(&world->driver, REQUESTS);
	assert_true(driver_used(&world->driver, REQUESTS, &used, &length));
	assert_int_equal(length, 0);
	offer(world, REQUESTS, FUSE_LOOKUP, 1, "name", 5, 8);
	assert_true(driver_used(&world->driver, REQUESTS, &used, &length));
	assert_int_equal(length, 0);
	driver_add(&world->driver, REQUESTS, &tiny[1], 1);
	driver_kick(&world->driver, REQUESTS);
	assert_true(driver_used(&world->driver, REQUESTS, &used, &length));
	assert_false(server_gets(world));
	/* Arguments that are not all there. */
	head = ask(world, FUSE_READ, large, 39, 4096);
	expect_answer(world, REQUESTS, head, EINVAL, 0);
	head = ask(world, FUSE_WRITE, large, 39, 4096);
	expect_answer(world, REQUESTS, head, EINVAL, 0);
	head = ask(world, FUSE_RELEASE, large, 23, 4096);
	expect_answer(world, REQUESTS, head, EINVAL, 0);
	/* More than a message takes. */
	head = ask(world, FUSE_SETXATTR, large, sizeof(large), 4096);
	expect_answer(world, REQUESTS, head, E2BIG, 0);
	/* Handles that do not exist are the file server's business; none is an index here. */
	head = ask(world, FUSE_READ, &(struct fuse_read_in){.fh = UINT64_MAX, .size = 10}, sizeof(struct fuse_read_in),
		   4096);
	assert_true(server_gets(world));
	server_answers(world, EBADF, NULL, 0, 0, 0, -1);
	expect_answer(world, REQUESTS, head, EBADF, 0);
	head = ask(world, FUSE_RELEASE, &(struct fuse_release_in){.fh = FS_HANDLE_MAX + 1ull},
		   sizeof(struct fuse_release_in), 4096);
	assert_true(server_gets(world));
	expect_answer(world, REQUESTS, head, 0, 0);
	/* An answer for which there is no room. */
	head = ask(world, FUSE_GETATTR, large, 16, 20);
	assert_true(server_gets(world));
	server_answers(world, 0, large, 104, 0, 0, -1);
	expect_answer(world, REQUESTS, head, EIO, 0);
	/* An operation that nobody knows is passed on. */
	head = ask(world, 0xffffffff, NULL, 0, 4096);
	assert_true(server_gets(world));
	server_answers(world, ENOSYS, NULL, 0, 0, 0, -1);
	expect_answer(world, REQUESTS, head, ENOSYS, 0);
	assert_int_equal(world->ends, 0);
	assert_false(world->driver.failed);
}

static void test_broken_ring(void **state)
{
	struct world *world = *state;

	driver_offer(&world->driver, REQUESTS, 5000);
	driver_kick(&world->driver, REQUESTS);
	assert_true(world->driver.failed);
	assert_int_equal(world->ends, 0);
}

/* The guest resets the device while requests are under way: what still comes is dropped, descriptors too. */
static void test_reset(void **state)
{
	struct world *world = *state;
	struct fuse_open_out out = {.fh = 5};
	int file = new_file("x"), fd = open_handle(world, 7, file, 0), head;

	ask(world, FUSE_OPEN, &(struct fuse_open_in){0}, sizeof(struct fuse_open_in), 4096);
	assert_true(server_gets(world));
	driver_reset_device(&world->driver);
	assert_false(is_open(fd));
	driver_start(&world->driver, world->driver.device);
	server_answers(world, 0, &out, sizeof(out), FS_HAS_DESCRIPTOR, 5, file);
	assert_false(is_open(fd));
	expect_nothing(world);
	head = ask(world, FUSE_LOOKUP, "name", 5, 4096);
	assert_true(server_gets(world));
	server_answers(world, ENOENT, NULL, 0, 0, 0, -1);
	expect_answer(world, REQUESTS, head, ENOENT, 0);
	assert_int_equal(world->ends, 0);
	close(file);
}

/* --- hostile file servers --------------------------------------------------------------------------------------------
 */

/* Each makes a message that must end the file server's service; returns its size. */
struct bad {
	struct fs_message message;
	struct fuse_out_header out;
	uint64_t payload[20];
};

static void expect_end(struct world *world, const struct bad *bad, size_t size, const int *fds, size_t count)
{
	int next = dup(0);

	close(next);
	server_says(world, bad, size, fds, count);
	assert_int_equal(world->ends, 1);
	/* No descriptor stayed. */
	assert_false(is_open(next));
	expect_nothing(world);
	/* What the guest does then goes nowhere. */
	ask(world, FUSE_LOOKUP, "name", 5, 4096);
	driver_run(&world->driver, 0);
	assert_int_equal(world->ends, 1);
}

static struct bad begin_bad(struct world *world, uint32_t opcode, size_t payload)
{
	struct fuse_write_in in = {.fh = 1, .size = 0};

	ask(world, opcode, &in, sizeof(in), 4096);
	assert_true(server_gets(world));
	return (struct bad){.message = {.tag = got_message(world)->tag},
			    .out = {.len = (uint32_t)(sizeof(struct fuse_out_header) + payload)}};
}

static void test_short_message(void **state)
{
	struct bad bad = begin_bad(*state, FUSE_LOOKUP, 0);

	expect_end(*state, &bad, 10, NULL, 0);
}

static void test_short_header(void **state)
{
	struct bad bad = begin_bad(*state, FUSE_LOOKUP, 0);

	expect_end(*state, &bad, sizeof(bad.message) + 8, NULL, 0);
}

static void test_wrong_length(void **state)
{
	struct bad bad = begin_bad(*state, FUSE_LOOKUP, 8);

	expect_end(*state, &bad, sizeof(bad.message) + sizeof(bad.out) + 16, NULL, 0);
}

static void test_tiny_length(void **state)
{
	struct bad bad = begin_bad(*state, FUSE_LOOKUP, 0);

	bad.out.len = 3;
	expect_end(*state, &bad, sizeof(bad.message) + sizeof(bad.out), NULL, 0);
}

static void test_wrong_error(void **state)
{
	struct bad bad = begin_bad(*state, FUSE_LOOKUP, 0);

	bad.out.error = 5;
	expect_end(*state, &bad, sizeof(bad.message) + sizeof(bad.out), NULL, 0);
}

static void test_least_error(void **state)
{
	struct bad bad = begin_bad(*state, FUSE_LOOKUP, 0);

	bad.out.error = INT32_MIN;
	expect_end(*state, &bad, sizeof(bad.message) + sizeof(bad.out), NULL, 0);
}

static void test_unwanted_descriptor(void **state)
{
	struct bad bad = begin_bad(*state, FUSE_LOOKUP, 0);

	bad.message.flags = FS_HAS_DESCRIPTOR;
	bad.message.handle = 1;
	expect_end(*state, &bad, sizeof(bad.message) + sizeof(bad.out), &(int){1}, 1);
}

static void test_two_descriptors(void **state)
{
	struct bad bad = begin_bad(*state, FUSE_OPEN, 16);

	bad.message.flags = FS_HAS_DESCRIPTOR;
	bad.message.handle = 1;
	expect_end(*state, &bad, sizeof(bad.message) + bad.out.len, (int[]){1, 2}, 2);
}

static void test_handle_out_of_range(void **state)
{
	struct bad bad = begin_bad(*state, FUSE_OPEN, 16);

	bad.message.flags = FS_HAS_DESCRIPTOR;
	bad.message.handle = FS_HANDLE_MAX + 1;
	expect_end(*state, &bad, sizeof(bad.message) + bad.out.len, &(int){1}, 1);
}

static void test_read_too_long(void **state)
{
	struct bad bad = begin_bad(*state, FUSE_READ, 160);

	expect_end(*state, &bad, sizeof(bad.message) + bad.out.len, NULL, 0);
}

static void test_written_too_much(void **state)
{
	struct bad bad = begin_bad(*state, FUSE_WRITE, 8);

	bad.payload[0] = 1000;
	expect_end(*state, &bad, sizeof(bad.message) + bad.out.len, NULL, 0);
}

static void test_unknown_tags(void **state)
{
	struct world *world = *state;
	struct bad bad = begin_bad(world, FUSE_LOOKUP, 0);
	uint64_t tag = bad.message.tag;
	static const uint64_t wrong[] = {1, 1ull << 32, UINT64_MAX, 64, 1ull << 63};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		bad.message.tag = tag ^ wrong[i];
		server_says(world, &bad, sizeof(bad.message) + sizeof(bad.out), NULL, 0);
		expect_nothing(world);
	}
	bad.message.tag = tag;
	server_says(world, &bad, sizeof(bad.message) + sizeof(bad.out), NULL, 0);
	/* The second answer to the same request. */
	server_says(world, &bad, sizeof(bad.message) + sizeof(bad.out), NULL, 0);
	expect_answer(world, REQUESTS, 0, 0, 0);
	expect_nothing(world);
	assert_int_equal(world->ends, 0);
}

static void test_server_ends(void **state)
{
	struct world *world = *state;

	ask(world, FUSE_LOOKUP, "name", 5, 4096);
	close(world->server);
	world->server = dup(0);
	driver_run(&world->driver, 0);
	assert_int_equal(world->ends, 1);
	ask(world, FUSE_LOOKUP, "name", 5, 4096);
	assert_int_equal(world->ends, 1);
}

/* The VMM has no room for one more descriptor: the handle is served by the file server. */
static void test_no_room_for_descriptor(void **state)
{
	struct world *world = *state;
	struct fuse_open_out out = {.fh = 5};
	struct rlimit old, limit;
	int file = new_file("x"), head;

	getrlimit(RLIMIT_NOFILE, &old);
	head = ask(world, FUSE_OPEN, &(struct fuse_open_in){0}, sizeof(struct fuse_open_in), 4096);
	assert_true(server_gets(world));
	limit = (struct rlimit){(rlim_t)file + 1, old.rlim_max};
	setrlimit(RLIMIT_NOFILE, &limit);
	server_answers(world, 0, &out, sizeof(out), FS_HAS_DESCRIPTOR, 5, file);
	setrlimit(RLIMIT_NOFILE, &old);
	expect_answer(world, REQUESTS, head, 0, sizeof(out));
	ask(world, FUSE_READ, &(struct fuse_read_in){.fh = 5, .size = 10}, sizeof(struct fuse_read_in), 4096);
	assert_true(server_gets(world));
	assert_int_equal(got_header(world)->opcode, FUSE_READ);
	close(file);
}

/* --- a vCPU waits for the answer ------------------------------------------------------------------------------------
 */

/* A file server that takes one request and sends these packets. */
struct prompt_server {
	pthread_t thread;
	int socket;
	unsigned count;
	struct packet {
		bool nonsense, closes;
		uint32_t flags, handle;
		int fd; /* -1: none */
		uint32_t size;
		union {
			struct fuse_entry_out entry;
			struct fuse_open_out open;
		} payload;
		int error;
	} packets[2];
};

static void send_packet(const struct prompt_server *server, const struct fs_message *request,
			const struct packet *packet)
{
	struct {
		struct fs_message message;
		struct fuse_out_header out;
		uint8_t payload[sizeof(packet->payload)];
	} answer = {.message = {.tag = request->tag, .flags = packet->flags, .handle = packet->handle},
		    .out = {.len = (uint32_t)sizeof(answer.out) + packet->size, .error = -packet->error}};
	size_t size = sizeof(answer.message);

	if (packet->nonsense)
		size -= 1;
	else if (!packet->closes)
		size += answer.out.len;
	memcpy(answer.payload, &packet->payload, packet->size);
	send_with_fds(server->socket, &answer, size, &packet->fd, packet->fd >= 0, 0);
}

static void *answer_one(void *argument)
{
	const struct prompt_server *server = argument;
	_Alignas(16) uint8_t request[4096];

	if (recv(server->socket, request, sizeof(request), 0) < (ssize_t)sizeof(struct fs_message))
		return NULL;
	for (unsigned i = 0; i < server->count; i++)
		send_packet(server, (const void *)request, &server->packets[i]);
	if (server->count == 0)
		shutdown(server->socket, SHUT_RDWR);
	return NULL;
}

/* Only the thread of the vCPU has a hand in it, with more patience than in earnest: the machine of the tests may be
 * slow. Returns the head. */
static int ask_prompt_server(struct world *world, struct prompt_server *server, uint32_t opcode, const void *body,
			     size_t size)
{
	const struct timeval patience = {.tv_sec = 60};
	int head;

	assert_int_equal(setsockopt(world->socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	server->socket = world->server;
	world->driver.late = true;
	assert_int_equal(pthread_create(&server->thread, NULL, answer_one, server), 0);
	head = ask(world, opcode, body, size, 4096);
	pthread_join(server->thread, NULL);
	return head;
}

static void test_awaited(void **state)
{
	struct prompt_server server = {.count = 1, .packets = {{.error = ENOENT, .fd = -1}}};
	struct world *world = *state;

	for (int i = 0; i < 100; i++)
		expect_answer(world, REQUESTS, ask_prompt_server(world, &server, FUSE_LOOKUP, "name", 5), ENOENT, 0);
}

/* Opens handle 5. */
static void open_promptly(struct world *world, int file)
{
	struct fuse_open_in in = {0};
	struct prompt_server server = {
	    .count = 1,
	    .packets = {{.flags = FS_HAS_DESCRIPTOR, .handle = 5, .fd = file, .size = sizeof(struct fuse_open_out)}}};
	int head = ask_prompt_server(world, &server, FUSE_OPEN, &in, sizeof(in));

	expect_answer(world, REQUESTS, head, 0, sizeof(struct fuse_open_out));
}

static void test_awaited_descriptor(void **state)
{
	struct world *world = *state;
	int file = new_file("content"), head;

	open_promptly(world, file);
	head = ask(world, FUSE_READ, &(struct fuse_read_in){.fh = 5, .size = 10}, sizeof(struct fuse_read_in), 4096);
	expect_answer(world, REQUESTS, head, 0, 7);
	close(file);
}

/* What it says of another file comes first. */
static void test_awaited_after_another(void **state)
{
	struct prompt_server server = {
	    .count = 2,
	    .packets = {{.closes = true, .flags = FS_CLOSED, .handle = 5, .fd = -1}, {.error = ENOENT, .fd = -1}}};
	struct world *world = *state;
	int file = new_file("x"), number = dup(file), head;

	close(number);
	open_promptly(world, file);
	assert_true(is_open(number));
	head = ask_prompt_server(world, &server, FUSE_LOOKUP, "name", 5);
	expect_answer(world, REQUESTS, head, ENOENT, 0);
	assert_false(is_open(number));
	close(file);
}

/* The end of the file server is the loop's thread's, also when it was found here. */
static void expect_late_end(struct world *world, struct prompt_server *server)
{
	ask_prompt_server(world, server, FUSE_LOOKUP, "name", 5);
	expect_nothing(world);
	assert_int_equal(world->ends, 0);
	world->driver.device->operations->notify(world->driver.device, REQUESTS);
	assert_int_equal(world->ends, 1);
	expect_nothing(world);
}

static void test_awaited_nonsense(void **state)
{
	expect_late_end(*state, &(struct prompt_server){.count = 1, .packets = {{.nonsense = true, .fd = -1}}});
}

static void test_awaited_end(void **state)
{
	expect_late_end(*state, &(struct prompt_server){.count = 0});
}

/* One that does not answer in time is answered by the loop's thread, as is what follows. */
static void test_awaited_in_vain(void **state)
{
	struct world *world = *state;
	int head;

	for (int i = 0; i < 3; i++) {
		head = ask(world, FUSE_LOOKUP, "name", 5, 4096);
		expect_nothing(world);
		assert_true(server_gets(world));
		server_answers(world, ENOENT, NULL, 0, 0, 0, -1);
		expect_answer(world, REQUESTS, head, ENOENT, 0);
	}
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest of_vcpu[] = {
	    TEST(test_awaited),		 TEST(test_awaited_descriptor), TEST(test_awaited_after_another),
	    TEST(test_awaited_nonsense), TEST(test_awaited_end),	TEST(test_awaited_in_vain),
	};
	const struct CMUnitTest tests[] = {
	    TEST(test_config),
	    TEST(test_request_and_answer),
	    TEST(test_forget_has_no_answer),
	    TEST(test_read_without_server),
	    TEST(test_postponed),
	    TEST(test_write_without_server),
	    TEST(test_write_through_server),
	    TEST(test_server_closes),
	    TEST(test_release_closes),
	    TEST(test_parts),
	    TEST(test_full_socket),
	    TEST(test_bad_requests),
	    TEST(test_broken_ring),
	    TEST(test_reset),
	    TEST(test_short_message),
	    TEST(test_short_header),
	    TEST(test_wrong_length),
	    TEST(test_tiny_length),
	    TEST(test_wrong_error),
	    TEST(test_least_error),
	    TEST(test_unwanted_descriptor),
	    TEST(test_two_descriptors),
	    TEST(test_handle_out_of_range),
	    TEST(test_read_too_long),
	    TEST(test_written_too_much),
	    TEST(test_unknown_tags),
	    TEST(test_server_ends),
	    TEST(test_no_room_for_descriptor),
	};

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (cmocka_run_group_tests_name("the loop's thread answers the doorbell", tests, NULL, NULL) != 0)
		return 1;
	direct = true;
	if (cmocka_run_group_tests_name("the vCPU answers the doorbell", tests, NULL, NULL) != 0)
		return 1;
	return cmocka_run_group_tests_name("and waits for the file server", of_vcpu, NULL, NULL);
}
