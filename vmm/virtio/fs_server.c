/* What passes between the device and the file server. */
#include "vmm/virtio/fs_parts.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"

void fs_end_server(struct fs *fs, const char *reason)
{
	if (fs->dead)
		return;
	fs->dead = true;
	log_line("fs: %s", reason);
	loop_remove(fs->base.loop, &fs->source);
	if (fs->ended)
		fs->ended(fs->owner);
}

/* --- to it ----------------------------------------------------------------------------------------------------------
 */

static uint32_t part_of(uint32_t size, uint32_t done)
{
	return size - done < FS_PAYLOAD_MAX ? size - done : FS_PAYLOAD_MAX;
}

/* Describes the message to be sent for a request: header and arguments as they were checked, then what follows in the
 * chain. READ and WRITE are cut into parts. Returns the number of iovecs. */
static unsigned request_message(struct fs_request *request, struct fuse_in_header *header, void *arguments,
				struct iovec *iovecs, unsigned max)
{
	struct fuse_read_in *read_in = arguments;
	struct fuse_write_in *write_in = arguments;
	size_t data = chain_readable_left(&request->chain);
	unsigned count = 2;

	*header = request->header;
	memcpy(arguments, &request->arguments, request->argument_size);
	if (header->opcode == FUSE_READ) {
		data = 0;
		request->part = part_of(request->arguments.read.size, request->done);
		read_in->size = request->part;
		read_in->offset += request->done;
	} else if (header->opcode == FUSE_WRITE) {
		data = request->part = part_of(request->arguments.write.size, request->done);
		write_in->size = request->part;
		write_in->offset += request->done;
	}
	header->len = (uint32_t)(sizeof(*header) + request->argument_size + data);
	iovecs[0] = (struct iovec){header, sizeof(*header)};
	iovecs[1] = (struct iovec){arguments, request->argument_size};
	return count + chain_readable_iovecs(&request->chain, data, iovecs + count, max - count);
}

/* 0, or -1 with errno. */
static int request_transmit(struct fs *fs, struct fs_request *request)
{
	struct fs_message message = {.tag = fs_request_tag(fs, request)};
	struct fuse_in_header header;
	_Alignas(8) uint8_t arguments[sizeof(request->arguments)];
	struct iovec iovecs[CHAIN_BUFFERS_MAX + 3];
	struct msghdr packet = {.msg_iov = iovecs};

	iovecs[0] = (struct iovec){&message, sizeof(message)};
	packet.msg_iovlen = 1 + request_message(request, &header, arguments, iovecs + 1, CHAIN_BUFFERS_MAX + 2);
	return sendmsg(fs->source.fd, &packet, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* What the host's file system does without waiting for a disk, in the usual case. */
static bool is_quick(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_GETATTR:
	case FUSE_SETATTR:
	case FUSE_READLINK:
	case FUSE_SYMLINK:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_LINK:
	case FUSE_OPEN:
	case FUSE_CREATE:
	case FUSE_STATFS:
	case FUSE_GETXATTR:
	case FUSE_SETXATTR:
	case FUSE_LISTXATTR:
	case FUSE_OPENDIR:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		return true;
	default:
		return false;
	}
}

/* Whether this thread, a vCPU's, waits for the answer to a request that is about to be sent. Then the loop's thread is
 * not to be woken by it. */
static void prepare_wait(struct fs *fs, struct fs_request *request)
{
	if (!fs->direct || fs->free_count < REQUESTS_MAX - 1 || !is_quick(request->header.opcode))
		return;
	if (fs->impatience > 0) {
		fs->impatience--;
		return;
	}
	fs->awaited = request;
	loop_watch(fs->base.loop, &fs->source, 0);
}

void fs_request_send(struct fs *fs, struct fs_request *request)
{
	int result;

	prepare_wait(fs, request);
	result = request_transmit(fs, request);

	/* What else goes wrong on a vCPU's thread will go wrong on the loop's as well, where it can be dealt with. */
	if (result < 0 && (errno == EAGAIN || errno == EINTR || fs->direct)) {
		if (request->state != REQUEST_UNSENT)
			fs->unsent_count++;
		request->state = REQUEST_UNSENT;
		return;
	}
	if (result < 0 && (errno == ENOBUFS || errno == ENOMEM || errno == EMSGSIZE)) {
		fs_request_fail(fs, request, errno == EMSGSIZE ? EIO : ENOMEM);
		fs_request_free(fs, request);
		return;
	}
	if (request->state == REQUEST_UNSENT)
		fs->unsent_count--;
	request->state = REQUEST_SENT;
	if (result < 0) {
		fs_end_server(fs, "the file server has closed its socket");
	} else if (!fs_has_answer(request->header.opcode)) {
		fs_request_end(fs, request, 0, 0);
		fs_request_free(fs, request);
	}
}

void fs_send_again(struct fs *fs)
{
	for (unsigned i = 0; i < REQUESTS_MAX && fs->unsent_count > 0; i++) {
		struct fs_request *request = &fs->requests[i];

		if (request->state != REQUEST_UNSENT)
			continue;
		fs_request_send(fs, request);
		if (request->state == REQUEST_UNSENT)
			return;
	}
}

bool fs_has_sent(const struct fs *fs)
{
	return fs->free_count + fs->unsent_count < REQUESTS_MAX;
}

/* --- from it --------------------------------------------------------------------------------------------------------
 */

/* A READ or WRITE that the file server does in parts: size bytes of this part are done. */
static void continue_parts(struct fs *fs, struct fs_request *request, uint32_t size, uint32_t wanted)
{
	request->done += size;
	if (size == request->part && request->done < wanted) {
		fs_request_send(fs, request);
		return;
	}
	if (request->header.opcode == FUSE_READ)
		fs_request_end(fs, request, 0, request->done);
	else
		fs_answer_written(fs, request, request->done);
	fs_request_free(fs, request);
}

/* An error after some parts is left to the guest's next attempt. */
static void fail_part(struct fs *fs, struct fs_request *request, int error)
{
	if (request->done > 0)
		continue_parts(fs, request, 0, 0);
	else {
		fs_request_fail(fs, request, error);
		fs_request_free(fs, request);
	}
}

static bool answer_read(struct fs *fs, struct fs_request *request, const void *payload, size_t size)
{
	if (size > request->part)
		return false;
	chain_seek_write(&request->chain, (uint32_t)sizeof(struct fuse_out_header) + request->done);
	/* No room: the guest asked for more than its chain can take. */
	size = chain_write(&request->chain, payload, size);
	continue_parts(fs, request, (uint32_t)size, request->arguments.read.size);
	return true;
}

static bool answer_write(struct fs *fs, struct fs_request *request, const void *payload, size_t size)
{
	const struct fuse_write_out *out = payload;

	if (size != sizeof(*out) || out->size > request->part)
		return false;
	chain_skip(&request->chain, out->size);
	continue_parts(fs, request, out->size, request->arguments.write.size);
	return true;
}

static void answer_other(struct fs *fs, struct fs_request *request, int error, const void *payload, size_t size)
{
	struct chain *chain = &request->chain;

	if (chain->writable < sizeof(struct fuse_out_header) + size) {
		fs_request_fail(fs, request, EIO);
	} else {
		chain_seek_write(chain, sizeof(struct fuse_out_header));
		chain_write(chain, payload, size);
		fs_request_end(fs, request, error, (uint32_t)size);
	}
	fs_request_free(fs, request);
}

/* False when the message breaks the protocol. */
static bool complete(struct fs *fs, struct fs_request *request, const struct fuse_out_header *out)
{
	uint32_t opcode = request->header.opcode;
	size_t size = out->len - sizeof(*out);

	if (out->error != 0 && (opcode == FUSE_READ || opcode == FUSE_WRITE)) {
		fail_part(fs, request, -out->error);
		return true;
	}
	if (opcode == FUSE_READ)
		return answer_read(fs, request, out + 1, size);
	if (opcode == FUSE_WRITE)
		return answer_write(fs, request, out + 1, size);
	answer_other(fs, request, -out->error, out + 1, size);
	return true;
}

static bool opens_file(const struct fs_request *request)
{
	uint32_t opcode = request->header.opcode;

	return opcode == FUSE_OPEN || opcode == FUSE_CREATE || opcode == FUSE_TMPFILE;
}

/* Checks a message of size bytes and does what it says; takes fd over (-1: none). False when it breaks the protocol. */
static bool handle_message(struct fs *fs, const struct fs_message *message, size_t size, int received_fd)
{
	const struct fuse_out_header *out = (const void *)(message + 1);
	cleanup_close int fd = received_fd;
	struct fs_request *request;

	if (size < sizeof(*message))
		return false;
	if ((message->flags != 0 || fd >= 0) && (message->handle == 0 || message->handle > FS_HANDLE_MAX))
		return false;
	if (message->flags & FS_WRITES_TO_SERVER) {
		if (fs_descriptor_entry(fs, message->handle))
			fs->descriptors[message->handle] |= READS_ONLY;
		return size == sizeof(*message) && fd < 0;
	}
	if (message->flags & FS_CLOSED) {
		fs_descriptor_close(fs, message->handle);
		return size == sizeof(*message) && fd < 0;
	}
	if (size < sizeof(*message) + sizeof(*out) || out->len != size - sizeof(*message))
		return false;
	if (out->error > 0 || out->error <= -512 || (out->error != 0 && out->len != sizeof(*out)))
		return false;
	request = fs_request_find(fs, message->tag);
	if (!request)
		return true;
	if (fd >= 0 && (!opens_file(request) || out->error != 0 || !(message->flags & FS_HAS_DESCRIPTOR)))
		return false;
	if (fd >= 0)
		fs_descriptor_put(fs, message->handle, take_fd(&fd), message->flags & FS_READS_ONLY);
	return complete(fs, request, out);
}

/* The descriptor that came with a packet: 1 and *fd, 0 without one, -1 (and all closed) when there were several. */
static int take_descriptor(struct msghdr *packet, int *fd)
{
	const struct cmsghdr *header = CMSG_FIRSTHDR(packet);
	int fds[2];
	size_t count;

	*fd = -1;
	if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
		return 0;
	/* The alignment of control messages leaves room for a second one. */
	count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(header), count * sizeof(int));
	if (count == 1) {
		*fd = fds[0];
		return 1;
	}
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	return count == 0 ? 0 : -1;
}

/* Ends it, where that may be done. Returns -1. */
static int lose_server(struct fs *fs, const char *reason)
{
	if (fs->direct)
		fs->failure = reason;
	else
		fs_end_server(fs, reason);
	return -1;
}

int fs_receive(struct fs *fs, int flags)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr alignment;
	} control;
	struct iovec iov = {fs->answer, sizeof(fs->answer)};
	struct msghdr packet = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)};
	ssize_t size = recvmsg(fs->source.fd, &packet, flags | MSG_CMSG_CLOEXEC);
	bool truncated;
	int fd;

	if (size < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (size == 0)
		return lose_server(fs, "the file server has ended");
	/* A descriptor for which this process's table has no room (MSG_CTRUNC) is not missed: the file server does the
	 * work then. */
	truncated = packet.msg_flags & MSG_TRUNC;
	if (take_descriptor(&packet, &fd) < 0 || !handle_message(fs, (const void *)fs->answer, (size_t)size, fd) ||
	    truncated)
		return lose_server(fs, "the file server broke the protocol");
	return 1;
}

/* Takes the answer that was prepared for, if it comes in time. */
void fs_wait_for_answer(struct fs *fs)
{
	const struct fs_request *request = fs->awaited;
	uint32_t generation;

	if (!request)
		return;
	generation = request->generation;
	while (request->generation == generation && request->state == REQUEST_SENT) {
		if (fs_receive(fs, 0) > 0)
			continue;
		fs->impatience = IMPATIENCE;
		break;
	}
	fs->awaited = NULL;
	loop_watch(fs->base.loop, &fs->source, fs->unsent_count > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}
