/*
 * The file server's control requests, mixed with those of a guest: the input is a list of packets. Each begins with a
 * byte that says from whom it comes (a connection's number, or the guest), whether a descriptor is attached, or that
 * the connection ends; then its size and its bytes. No descriptor may be left when all connections have ended.
 */
#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/fsd/control.h"
#include "vmm/fsd/jail.h"

#define CONNECTIONS 3
#define GUEST 15
#define END 0x40
#define ATTACHED 0x80

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct server server;
static int home_fd;
static _Alignas(16) uint8_t packet[FS_MESSAGE_MAX], answer[FS_MESSAGE_MAX];

static void told(struct server *of, uint32_t handle, uint32_t flag)
{
	(void)of;
	assert(handle != 0 && (flag == FS_WRITES_TO_SERVER || flag == FS_CLOSED));
}

static unsigned count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

/* Nothing that changes files: that is another target's business. */
static bool is_harmless(uint32_t opcode)
{
	return opcode == FUSE_LOOKUP || opcode == FUSE_FORGET || opcode == FUSE_GETATTR || opcode == FUSE_OPENDIR ||
	       opcode == FUSE_READDIR || opcode == FUSE_READDIRPLUS || opcode == FUSE_RELEASEDIR ||
	       opcode == FUSE_STATFS || opcode == FUSE_BATCH_FORGET;
}

static void from_guest(size_t size)
{
	const struct fuse_in_header *header = (const void *)packet;
	int descriptor;

	if (size >= sizeof(*header) && is_harmless(header->opcode))
		server_handle(&server, packet, size, answer, &descriptor);
}

static void one_packet(uint8_t what, const uint8_t *data, size_t size)
{
	unsigned connection = what % CONNECTIONS + 1;
	struct fsd_reply reply;

	/* Room after the packet, so that a short one is not completed by the one before. */
	memset(packet, 0, 512);
	memcpy(packet, data, size);
	if ((what & 0x3f) == GUEST)
		from_guest(size);
	else if (what & END)
		control_undo(&server, connection);
	else
		control_handle(&server, connection, packet, size, what & ATTACHED ? open("/dev", O_PATH) : -1, &reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuse_init_in init = {.major = 7, .minor = 37, .flags = ~0u};
	struct fuse_in_header header = {.opcode = FUSE_INIT, .len = sizeof(header) + sizeof(init)};
	struct fsd_request keep = {.version = FSD_CONTROL_VERSION, .operation = FSD_KEEP};
	struct fsd_reply reply;
	unsigned before;
	int descriptor;

	home_fd = open(".", O_PATH | O_DIRECTORY);
	if (jail_enter_self(NULL) < 0 || server_init(&server, 100, NULL) < 0)
		abort();
	server.revoke = told;
	before = count_descriptors();
	memcpy(packet, &header, sizeof(header));
	memcpy(packet + sizeof(header), &init, sizeof(init));
	server_handle(&server, packet, sizeof(header) + sizeof(init), answer, &descriptor);
	while (size >= 2) {
		uint8_t what = data[0];
		size_t length = data[1] < size - 2 ? data[1] : size - 2;

		one_packet(what, data + 2, length);
		data += 2 + length;
		size -= 2 + length;
	}
	/* What was kept belongs to nobody: group by group it is not ours to know, so each by its name. */
	control_handle(&server, 1, &keep, sizeof(keep), -1, &reply);
	for (unsigned i = 0; i < server.exports_end; i++)
		if (server.exports[i].node != 0)
			assert(server_unexport(&server, server.exports[i].name, false) == 1);
	assert(server.export_count == 0);
	header = (struct fuse_in_header){.opcode = FUSE_DESTROY, .len = sizeof(header)};
	memcpy(packet, &header, sizeof(header));
	server_handle(&server, packet, sizeof(header), answer, &descriptor);
	assert(count_descriptors() == before);
	server_free(&server);
	assert(fchdir(home_fd) == 0);
	close(home_fd);
	return 0;
}
