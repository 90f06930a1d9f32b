/*
 * The file server under a hostile guest: the input is a list of requests, which it carries out on a scratch directory
 * in memory. Nothing outside of the directory may ever change, and no answer may be malformed.
 *
 * Each request of the input: opcode, which node and which handle (of those that were given out, or a made-up one), then
 * the number of argument bytes and these. The first eight bytes of the arguments are replaced by the handle where an
 * operation expects one.
 */
#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "tests/fuzz/input.h"
#include "vmm/fsd/jail.h"
#include "vmm/fsd/server.h"

#define NODES 16
#define HANDLES 16
#define TMPFS_MAGIC_NUMBER 0x01021994

static struct server server;
static char scratch[64];
static int home_fd; /* where the fuzzer's own files are: the file server's current directory is another */
static uint64_t nodes[NODES], handles[HANDLES];
static unsigned node_count, handle_count;
static _Alignas(16) uint8_t request[FS_MESSAGE_MAX], answer[FS_MESSAGE_MAX];

static void revoked(struct server *of, uint32_t handle, uint32_t flag)
{
	(void)of;
	assert(handle != 0 && (flag == FS_WRITES_TO_SERVER || flag == FS_CLOSED));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	if (at->level > 0)
		remove(path);
	return 0;
}

static void empty_scratch(void)
{
	nftw(scratch, remove_one, 20, FTW_DEPTH | FTW_PHYS);
}

static void remove_scratch(void)
{
	empty_scratch();
	rmdir(scratch);
}

static void set_up(void)
{
	struct rlimit limit = {4 << 20, 4 << 20}; /* no input may fill the machine's memory */
	struct statfs fs;

	snprintf(scratch, sizeof(scratch), "/dev/shm/fsd_request_XXXXXX");
	if (!mkdtemp(scratch) || statfs(scratch, &fs) < 0 || fs.f_type != TMPFS_MAGIC_NUMBER)
		abort();
	atexit(remove_scratch);
	home_fd = open(".", O_PATH | O_DIRECTORY);
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	if (server_init(&server, 20, NULL) < 0)
		abort();
	server.revoke = revoked;
	if (server_export(&server, "tree", 1, open(scratch, O_PATH), NULL) < 0 ||
	    server_export(&server, "null", 0, open("/dev/null", O_PATH), NULL) < 0)
		abort();
}

static size_t send_request(uint32_t opcode, uint64_t node, const void *arguments, size_t size)
{
	struct fuse_in_header header = {
	    .len = (uint32_t)(sizeof(header) + size), .opcode = opcode, .unique = 5, .nodeid = node};
	const struct fuse_out_header *out = (const void *)(answer + sizeof(struct fs_message));
	int descriptor;
	size_t got;

	memcpy(request, &header, sizeof(header));
	if (size > 0)
		memcpy(request + sizeof(header), arguments, size);
	got = server_handle(&server, request, sizeof(header) + size, answer, &descriptor);
	if (got == 0)
		return 0;
	assert(got == sizeof(struct fs_message) + out->len && out->unique == 5);
	assert(out->error <= 0 && out->error > -512 && (out->error == 0 || out->len == sizeof(*out)));
	assert(descriptor < 0 || fcntl(descriptor, F_GETFD) >= 0);
	return out->error == 0 ? out->len - sizeof(*out) : 0;
}

static const void *payload(void)
{
	return answer + sizeof(struct fs_message) + sizeof(struct fuse_out_header);
}

static void begin_session(void)
{
	struct fuse_init_in init = {.major = 7, .minor = 37, .flags = ~0u};

	send_request(FUSE_INIT, 0, &init, sizeof(init));
	send_request(FUSE_LOOKUP, FUSE_ROOT_ID, "tree", 5);
	nodes[0] = FUSE_ROOT_ID;
	nodes[1] = ((const struct fuse_entry_out *)payload())->nodeid;
	node_count = 2;
	handle_count = 0;
}

/* Remembers what an answer gave out. */
static void learn(uint32_t opcode, size_t size)
{
	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_SYMLINK:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		if (size >= sizeof(struct fuse_entry_out))
			nodes[node_count++ % NODES] = ((const struct fuse_entry_out *)payload())->nodeid;
		if (size >= sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out))
			handles[handle_count++ % HANDLES] =
			    ((const struct fuse_open_out *)((const struct fuse_entry_out *)payload() + 1))->fh;
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		if (size >= sizeof(struct fuse_open_out))
			handles[handle_count++ % HANDLES] = ((const struct fuse_open_out *)payload())->fh;
		break;
	default:
		break;
	}
}

static bool begins_with_handle(uint32_t opcode)
{
	return opcode == FUSE_READ || opcode == FUSE_WRITE || opcode == FUSE_RELEASE || opcode == FUSE_FSYNC ||
	       opcode == FUSE_READDIR || opcode == FUSE_READDIRPLUS || opcode == FUSE_RELEASEDIR ||
	       opcode == FUSE_FSYNCDIR || opcode == FUSE_FALLOCATE || opcode == FUSE_LSEEK ||
	       opcode == FUSE_COPY_FILE_RANGE;
}

static void one_request(struct input *input)
{
	static uint8_t arguments[1024];
	uint32_t opcode = byte(input) % 56;
	uint64_t node = byte(input), handle = byte(input);
	size_t size = byte(input) * 4u;

	/* The host's disks are not to be synced thousands of times. */
	if (opcode == FUSE_SYNCFS)
		return;
	node = node < 200 ? nodes[node % (node_count < NODES ? node_count : NODES)] : node - 200;
	handle = handle < 200 && handle_count > 0 ? handles[handle % (handle_count < HANDLES ? handle_count : HANDLES)]
						  : handle;
	if (size > input->size)
		size = input->size;
	memcpy(arguments, input->data, size);
	input->data += size;
	input->size -= size;
	if (begins_with_handle(opcode) && size >= 8)
		memcpy(arguments, &handle, 8);
	if ((opcode == FUSE_RENAME || opcode == FUSE_RENAME2 || opcode == FUSE_LINK) && size >= 8)
		memcpy(arguments, &nodes[handle % 2], 8);
	learn(opcode, send_request(opcode, node, arguments, size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};

	if (!scratch[0])
		set_up();
	if (jail_enter_self(NULL) < 0)
		abort();
	begin_session();
	while (input.size > 0)
		one_request(&input);
	send_request(FUSE_DESTROY, 0, NULL, 0);
	empty_scratch();
	return fchdir(home_fd);
}
