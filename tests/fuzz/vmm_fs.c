/*
 * The virtio-fs device between a hostile guest and a hostile file server: the input is a program of steps, each of them
 * something that one of the two can do at that moment.
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fs_protocol.h"
#include "common/io.h"
#include "tests/fuzz/guest.h"
#include "vmm/virtio/fs.h"

#define ROOM 4096u

struct world {
	struct driver driver;
	struct input input;
	int server;
	int file;
	bool ended;
	uint64_t memory;
	uint64_t tags[4]; /* of requests that the server got */
	unsigned tag_count;
};

static uint32_t number(struct input *input)
{
	static const uint32_t interesting[] = {0,
					       1,
					       15,
					       16,
					       39,
					       40,
					       80,
					       88,
					       4096,
					       FS_PAYLOAD_MAX,
					       FS_PAYLOAD_MAX + 1,
					       FS_HANDLE_MAX,
					       1000,
					       UINT32_MAX,
					       INT32_MAX,
					       FS_HANDLE_MAX + 1};
	uint8_t choice = byte(input);

	return choice < 16 ? interesting[choice] : choice;
}

static void count_end(void *owner)
{
	struct world *world = owner;

	if (world->ended)
		abort();
	world->ended = true;
}

static uint32_t opcode(struct input *input)
{
	static const uint32_t often[] = {FUSE_READ,   FUSE_WRITE, FUSE_OPEN,  FUSE_RELEASE,
					 FUSE_FORGET, FUSE_INIT,  FUSE_LOOKUP};
	uint8_t choice = byte(input);

	return choice < 200 ? often[choice % 7] : choice - 200u;
}

static void guest_request(struct world *world)
{
	struct input *input = &world->input;
	struct fuse_in_header header = {.opcode = opcode(input), .unique = number(input), .nodeid = 1};
	/* The longest arguments that are looked into; the fields lie at the same places in READ and WRITE. */
	struct fuse_write_in in = {.fh = number(input),
				   .offset = number(input),
				   .size = number(input),
				   .flags = byte(input) % 2 ? O_APPEND : 0};
	uint32_t size = byte(input) % 2 ? sizeof(header) + sizeof(in) : number(input) % ROOM;
	uint32_t room = number(input) % ROOM;
	struct buffer buffers[3];
	unsigned count = 0;
	uint8_t queue = byte(input) % 2;

	if (byte(input) % 8 == 0)
		in.offset = UINT64_MAX;
	header.len = byte(input) % 16 ? size : number(input);
	guest_write(world->driver.memory, world->memory, &header, sizeof(header));
	guest_write(world->driver.memory, world->memory + sizeof(header), &in, sizeof(in));
	/* The readable part in two pieces, cut anywhere. */
	if (size > 1) {
		uint32_t cut = byte(input) % size;

		if (cut > 0)
			buffers[count++] = (struct buffer){world->memory, cut, false};
		buffers[count++] = (struct buffer){world->memory + cut, size - cut, false};
	}
	if (room > 0)
		buffers[count++] = (struct buffer){world->memory + ROOM, room, true};
	if (count > 0)
		driver_add(&world->driver, queue, buffers, count);
	world->driver.direct = byte(input) % 2;
	world->driver.late = byte(input) % 2;
	driver_kick(&world->driver, queue);
}

static void server_reads(struct world *world)
{
	static _Alignas(16) uint8_t packet[FS_MESSAGE_MAX];
	const struct fs_message *message = (const void *)packet;
	ssize_t n = recv(world->server, packet, sizeof(packet), MSG_DONTWAIT);

	if (n <= 0)
		return;
	/* Whatever the guest wrote, this side gets messages of the right form. */
	if ((size_t)n < sizeof(*message) + sizeof(struct fuse_in_header) ||
	    ((const struct fuse_in_header *)(message + 1))->len != (size_t)n - sizeof(*message))
		abort();
	world->tags[world->tag_count++ % 4] = message->tag;
}

static void server_writes(struct world *world)
{
	static _Alignas(16) uint8_t packet[FS_MESSAGE_MAX];
	struct input *input = &world->input;
	struct fs_message *message = (void *)packet;
	struct fuse_out_header *out = (void *)(message + 1);
	uint32_t size = byte(input) % 4 ? number(input) % 2000 : 0;
	int fds[2] = {world->file, world->file};
	uint8_t choice = byte(input);

	*message = (struct fs_message){.tag = world->tags[byte(input) % 4],
				       .flags = choice % 4 ? choice & FS_HAS_DESCRIPTOR : choice,
				       .handle = number(input)};
	*out = (struct fuse_out_header){.len = (uint32_t)sizeof(*out) + size, .unique = 1};
	if (byte(input) % 4 == 0) {
		out->error = (int32_t)-number(input);
		out->len = sizeof(*out);
	}
	if (byte(input) % 32 == 0)
		out->len = number(input);
	size = (uint32_t)sizeof(*message) + (byte(input) % 32 ? out->len : number(input));
	if (size > sizeof(packet))
		size = sizeof(packet);
	memset(out + 1, byte(input), 64);
	send_with_fds(world->server, packet, byte(input) % 32 ? size : size % 40, fds,
		      message->flags & FS_HAS_DESCRIPTOR ? 1 + (byte(input) % 32 == 0) : 0, MSG_DONTWAIT);
}

static void step(struct world *world)
{
	switch (byte(&world->input) % 16) {
	case 0:
		driver_reset_device(&world->driver);
		driver_start(&world->driver, world->driver.device);
		break;
	case 1:
		driver_offer(&world->driver, byte(&world->input) % 2, (uint16_t)number(&world->input));
		driver_kick(&world->driver, 1);
		break;
	case 2:
	case 3:
	case 4:
		server_reads(world);
		break;
	case 5:
	case 6:
	case 7:
		server_writes(world);
		break;
	case 8:
	case 9:
		driver_run(&world->driver, 0);
		break;
	default:
		guest_request(world);
	}
	take_used(&world->driver, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world world = {.input = {data, size}};
	struct virtio_device *device;
	int pair[2];

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	world.server = pair[1];
	world.file = memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	/* Writes far out would fill the machine's memory. */
	if (ftruncate(world.file, 10000) < 0 || fcntl(world.file, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) < 0)
		abort();
	driver_init(&world.driver);
	world.memory = driver_alloc(&world.driver, 2 * ROOM);
	device = fs_new(pair[0], "hull", world.driver.loop, NULL);
	fs_on_end(device, count_end, &world);
	driver_start(&world.driver, device);
	while (world.input.size > 0 && world.driver.next_address < DRIVER_MEMORY / 2)
		step(&world);
	driver_free(&world.driver);
	close(world.server);
	close(world.file);
	return 0;
}
