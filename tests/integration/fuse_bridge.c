/*
 * Mounts hull-fsd on this host's own kernel: what the VMM's virtio-fs device does, with /dev/fuse in the place of the
 * ring. For tests of the file server without a virtual machine.
 *
 *   fuse_bridge HULL-FSD MOUNTPOINT EXPORT-OPTION=PATH...
 *
 * EXPORT-OPTION=PATH is "NAME[,ro]=PATH". Prints "mounted" when it is, and serves until it is
 * unmounted or the file server ends (status 1).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fs_protocol.h"

/* <sys/mount.h> and <linux/mount.h> cannot both be included. */
int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);

static int server, device;
static int descriptors[FS_HANDLE_MAX + 1]; /* + 1; 0: none */
static char reads_only[FS_HANDLE_MAX + 1];
static _Alignas(16) char request[4 << 20], answer[4 << 20];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* As the runtime does it. */
static int clone_tree(int fd, bool read_only)
{
	struct mount_attr attributes = {.attr_set = read_only ? MOUNT_ATTR_RDONLY : 0, .propagation = MS_PRIVATE};
	int tree = (int)syscall(SYS_open_tree, fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);

	if (tree < 0 || syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) < 0)
		die("clone a mount");
	return tree;
}

static void start_server(const char *program, char **exports, int count)
{
	char *arguments[64] = {(char *)program};
	int pair[2], used = 1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
		die("socketpair");
	asprintf(&arguments[used++], "--socket=%d", pair[1]);
	arguments[used++] = "--log=2";
	for (int i = 0; i < count; i++) {
		char *path = strrchr(exports[i], '='), *comma;
		int fd;

		*path++ = '\0';
		fd = open(path, O_PATH | O_NOFOLLOW);
		if (fd < 0)
			die(path);
		comma = strchr(exports[i], ',');
		if (comma)
			*comma++ = '\0';
		fd = clone_tree(fd, comma && strcmp(comma, "ro") == 0);
		asprintf(&arguments[used++], "--export=%s=%d", exports[i], fd);
	}
	if (fork() == 0) {
		close(pair[0]);
		execv(program, arguments);
		die(program);
	}
	close(pair[1]);
	server = pair[0];
}

static void reply(const void *data, size_t size)
{
	/* ENOENT: the caller was interrupted and no longer waits. */
	if (write(device, data, size) < 0 && errno != ENOENT && errno != ENODEV)
		fprintf(stderr, "answer of %zu bytes: %s\n", size, strerror(errno));
}

static void reply_error(const struct fuse_in_header *header, int error)
{
	struct fuse_out_header out = {.len = sizeof(out), .error = -error, .unique = header->unique};

	reply(&out, sizeof(out));
}

static void keep_descriptor(const struct fs_message *message, int fd)
{
	uint32_t handle = message->handle;

	if (descriptors[handle])
		close(descriptors[handle] - 1);
	descriptors[handle] = fd + 1;
	reads_only[handle] = (message->flags & FS_READS_ONLY) != 0;
}

/* One message, and the descriptor that may come with it (-1). */
static ssize_t receive(int *fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr alignment;
	} control;
	struct iovec iov = {answer, sizeof(answer)};
	struct msghdr packet = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)};
	ssize_t size = recvmsg(server, &packet, MSG_CMSG_CLOEXEC);

	*fd = -1;
	if (size > 0 && CMSG_FIRSTHDR(&packet))
		memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&packet)), sizeof(int));
	return size;
}

static void ask_server(size_t size)
{
	struct fs_message message = {.tag = 42};
	struct iovec iovecs[2] = {{&message, sizeof(message)}, {request, size}};
	struct fuse_in_header *header = (void *)request;
	struct fs_message *got = (void *)answer;

	if (writev(server, iovecs, 2) < 0)
		die("file server");
	if (header->opcode == FUSE_RELEASE || header->opcode == FUSE_RELEASEDIR)
		reply_error(header, 0);
	if (!fs_has_answer(header->opcode))
		return;
	for (;;) {
		int fd;
		ssize_t n = receive(&fd);

		if (n <= 0)
			die("file server ended");
		if (got->flags & FS_WRITES_TO_SERVER) {
			reads_only[got->handle] = 1;
			continue;
		}
		if (fd >= 0)
			keep_descriptor(got, fd);
		reply(answer + sizeof(*got), (size_t)n - sizeof(*got));
		return;
	}
}

/* What is larger than one message goes in parts: answered at the end. */
static void write_in_parts(void)
{
	static _Alignas(16) char part[FS_MESSAGE_MAX], got[FS_MESSAGE_MAX];
	const struct fuse_in_header *header = (void *)request;
	const struct fuse_write_in *in = (void *)(header + 1);
	struct fs_message *message = (void *)part;
	struct fuse_in_header *part_header = (void *)(message + 1);
	struct fuse_write_in *part_in = (void *)(part_header + 1);
	struct {
		struct fuse_out_header header;
		struct fuse_write_out body;
	} out = {.header = {.len = sizeof(out), .unique = header->unique}};

	while (out.body.size < in->size) {
		uint32_t left = in->size - out.body.size, size = left < FS_PAYLOAD_MAX ? left : FS_PAYLOAD_MAX;

		*message = (struct fs_message){.tag = 43};
		*part_header = *header;
		*part_in = *in;
		part_in->offset += out.body.size;
		part_in->size = size;
		part_header->len = (uint32_t)(sizeof(*header) + sizeof(*in)) + size;
		memcpy(part_in + 1, (const char *)(in + 1) + out.body.size, size);
		if (write(server, part, sizeof(*message) + part_header->len) < 0 || read(server, got, sizeof(got)) <= 0)
			die("file server");
		out.header.error = ((struct fuse_out_header *)(got + sizeof(*message)))->error;
		if (out.header.error)
			break;
		out.body.size += ((struct fuse_write_out *)(got + sizeof(*message) + sizeof(out.header)))->size;
	}
	if (out.header.error)
		out.header.len = sizeof(out.header);
	reply(&out, out.header.len);
}

static void serve_read(const struct fuse_in_header *header, const struct fuse_read_in *in)
{
	struct fuse_out_header *out = (void *)answer;
	ssize_t n = pread(descriptors[in->fh] - 1, out + 1, in->size, (off_t)in->offset);

	if (n < 0) {
		reply_error(header, errno);
		return;
	}
	*out = (struct fuse_out_header){.len = (uint32_t)(sizeof(*out) + (size_t)n), .unique = header->unique};
	reply(out, out->len);
}

static void serve_write(const struct fuse_in_header *header, const struct fuse_write_in *in)
{
	struct {
		struct fuse_out_header header;
		struct fuse_write_out body;
	} out = {.header = {.len = sizeof(out), .unique = header->unique}};
	struct iovec data = {(void *)(in + 1), in->size};
	ssize_t n =
	    pwritev2(descriptors[in->fh] - 1, &data, 1, (off_t)in->offset, in->flags & O_APPEND ? RWF_APPEND : 0);

	if (n < 0) {
		reply_error(header, errno);
		return;
	}
	out.body.size = (uint32_t)n;
	reply(&out, sizeof(out));
}

static void serve(size_t size)
{
	struct fuse_in_header *header = (void *)request;
	uint64_t fh = *(uint64_t *)(header + 1);
	const struct fuse_write_in *write_in = (void *)(header + 1);

	if (header->opcode == FUSE_READ && descriptors[fh]) {
		serve_read(header, (void *)(header + 1));
	} else if (header->opcode == FUSE_WRITE && descriptors[fh] && !reads_only[fh]) {
		serve_write(header, write_in);
	} else if (header->opcode == FUSE_WRITE && write_in->size > FS_PAYLOAD_MAX) {
		write_in_parts();
	} else {
		if (header->opcode == FUSE_RELEASE && descriptors[fh]) {
			close(descriptors[fh] - 1);
			descriptors[fh] = 0;
		}
		ask_server(size);
	}
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	char options[100];
	int large = 1 << 20;

	if (argc < 4)
		return 2;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	start_server(argv[1], argv + 3, argc - 3);
	setsockopt(server, SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
		 device);
	if (device < 0 || mount("hull", argv[2], "fuse.hull", 0, options) < 0)
		die("mount");
	puts("mounted");
	fflush(stdout);
	for (;;) {
		ssize_t n = read(device, request, sizeof(request));

		if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
			continue;
		if (n <= 0)
			return 0;
		serve((size_t)n);
	}
}
