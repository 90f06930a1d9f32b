/*
 * The virtio-fs device.
 *
 * A chain holds a fuse_in_header, the operation's arguments and, behind them, room for a fuse_out_header and the
 * answer. It is popped into a free slot of a small table. READ and WRITE on a file whose descriptor is here are done at
 * once, and the slot stays free. Everything else goes to the file server, and the slot waits for the answer; its index
 * and a generation that changes at each use are the message's tag. When all slots wait, or the socket is full, nothing
 * more is popped: the ring holds the rest.
 *
 * The vCPU that rings the doorbell does most of this itself: sending a request to the file server never waits, and READ
 * and WRITE of little that is in the page cache take less time than to wake the loop's thread and to put the vCPU to
 * sleep meanwhile. What may wait (a READ of what is not in memory, large READs and WRITEs), what is not the usual case
 * (errors) and all answers of the file server are the loop's thread's. A request that turns out to be of that kind is
 * postponed, and nothing behind it is taken before it.
 *
 * System calls at run time: preadv, preadv2, pwritev, pwritev2, sendmsg, close; on the loop's thread also recvmsg.
 */
#include "vmm/virtio/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/fs_protocol.h"
#include "common/log.h"

#define TAG_SIZE 36
#define QUEUE_HIGH_PRIORITY 0
#define QUEUE_REQUESTS 1
#define QUEUE_COUNT 2
#define QUEUE_SIZE 1024

/* The socket takes about a dozen messages in each direction; more waiting requests would not make anything faster. */
#define REQUESTS_MAX 64

/* Served in one go before other devices get their turn: requests, and pieces of WORK_BYTES that were copied. */
#define BATCH_MAX 64
#define WORK_BYTES 65536u

/* What a vCPU does itself when it rings. */
#define DIRECT_MAX 8
#define DIRECT_BYTES 65536u

#define ANSWERS_MAX 64
#define SOCKET_BUFFER (2 * FS_MESSAGE_MAX)

struct fs_config {
	char tag[TAG_SIZE];
	uint32_t request_queues;
	uint32_t notify_buffer_size;
};

enum request_state {
	REQUEST_FREE,
	REQUEST_POSTPONED,
	REQUEST_UNSENT, /* the socket was full */
	REQUEST_SENT,
};

struct fs_request {
	struct chain chain;
	struct fuse_in_header header; /* the one copy, of which the length has been checked */
	union {
		struct fuse_read_in read;
		struct fuse_write_in write;
		struct fuse_release_in release;
	} arguments; /* copied for these three operations; the chain stands behind them */
	uint32_t argument_size;
	uint32_t part; /* READ and WRITE by the file server: bytes that the present message is about */
	uint32_t done; /* and those before */
	uint32_t generation;
	uint8_t queue;
	enum request_state state;
};

struct fs {
	struct virtio_device base;
	struct fs_config config;
	struct loop_source source;
	struct loop_timer again; /* more to do after a batch */
	void (*ended)(void *owner);
	void *owner;
	bool dead;    /* the file server has gone */
	bool mounted; /* the guest has begun a session, of which the file server holds a part */

	bool direct;		      /* on the thread of a vCPU */
	struct fs_request *postponed; /* NULL: none */

	/* By handle: descriptor + 1, READS_ONLY and MAY_WAIT; 0: none. Address space for all, reserved at the start. */
	uint32_t *descriptors;
	uint32_t descriptors_end;

	struct fs_request requests[REQUESTS_MAX];
	uint16_t free[REQUESTS_MAX];
	unsigned free_count;
	unsigned unsent_count;
	unsigned work; /* of the present batch */
	bool pushed[QUEUE_COUNT];

	_Alignas(16) uint8_t answer[FS_MESSAGE_MAX];
};

#define READS_ONLY (1u << 31)
#define MAY_WAIT (1u << 30) /* the file's file system cannot say whether a READ would wait */
#define DESCRIPTOR(entry) ((int)((entry) & ~(READS_ONLY | MAY_WAIT)) - 1)
#define DESCRIPTORS_SIZE ((FS_HANDLE_MAX + 1ul) * sizeof(uint32_t))

static struct fs *fs_of(struct virtio_device *device)
{
	return (struct fs *)device;
}

/* --- descriptors -----------------------------------------------------------------------------------------------------
 */

static uint32_t descriptor_entry(const struct fs *fs, uint64_t handle)
{
	return handle < fs->descriptors_end ? fs->descriptors[handle] : 0;
}

/* The open file of a handle, or -1 when the file server has to be asked. */
static int descriptor_get(const struct fs *fs, uint64_t handle, bool to_write)
{
	uint32_t entry = descriptor_entry(fs, handle);

	if (to_write && (entry & READS_ONLY))
		return -1;
	return DESCRIPTOR(entry);
}

static void descriptor_close(struct fs *fs, uint64_t handle)
{
	uint32_t entry = descriptor_entry(fs, handle);

	if (entry == 0)
		return;
	close(DESCRIPTOR(entry));
	fs->descriptors[handle] = 0;
}

/* handle is from 1 to FS_HANDLE_MAX; fd is taken over. */
static void descriptor_put(struct fs *fs, uint32_t handle, int fd, bool reads_only)
{
	descriptor_close(fs, handle);
	fs->descriptors[handle] = ((uint32_t)fd + 1) | (reads_only ? READS_ONLY : 0);
	if (handle >= fs->descriptors_end)
		fs->descriptors_end = handle + 1;
}

static void descriptor_close_all(struct fs *fs)
{
	for (uint32_t handle = 1; handle < fs->descriptors_end; handle++)
		descriptor_close(fs, handle);
	fs->descriptors_end = 0;
}

/* --- requests --------------------------------------------------------------------------------------------------------
 */

static void request_free(struct fs *fs, struct fs_request *request)
{
	if (request->state == REQUEST_UNSENT)
		fs->unsent_count--;
	request->state = REQUEST_FREE;
	request->generation++;
	fs->free[fs->free_count++] = (uint16_t)(request - fs->requests);
}

static void request_push(struct fs *fs, struct fs_request *request, uint32_t written)
{
	queue_push(&fs->base.queues[request->queue], request->chain.head, written);
	fs->pushed[request->queue] = true;
}

/* Writes the header of the answer, of which size bytes of payload are in the chain already, and gives the chain back.
 * error is a positive errno value or 0. */
static void request_end(struct fs *fs, struct fs_request *request, int error, uint32_t size)
{
	struct fuse_out_header out = {
	    .len = (uint32_t)sizeof(out) + size, .error = -error, .unique = request->header.unique};

	/* A guest that left no room for an answer gets none. */
	if (request->chain.writable < out.len) {
		request_push(fs, request, 0);
		return;
	}
	chain_seek_write(&request->chain, 0);
	chain_write(&request->chain, &out, sizeof(out));
	request_push(fs, request, out.len);
}

static void request_fail(struct fs *fs, struct fs_request *request, int error)
{
	request_end(fs, request, error, 0);
}

static void end_server(struct fs *fs, const char *reason)
{
	if (fs->dead)
		return;
	fs->dead = true;
	log_line("fs: %s", reason);
	loop_remove(fs->base.loop, &fs->source);
	if (fs->ended)
		fs->ended(fs->owner);
}

static uint64_t request_tag(const struct fs *fs, const struct fs_request *request)
{
	return (uint64_t)request->generation << 32 | (uint64_t)(request - fs->requests);
}

/* The request that waits for this answer, or NULL: it was given up when the guest reset the device. */
static struct fs_request *request_find(struct fs *fs, uint64_t tag)
{
	uint32_t index = (uint32_t)tag;
	struct fs_request *request;

	if (index >= REQUESTS_MAX)
		return NULL;
	request = &fs->requests[index];
	return request->state == REQUEST_SENT && request->generation == tag >> 32 ? request : NULL;
}

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
	struct fs_message message = {.tag = request_tag(fs, request)};
	struct fuse_in_header header;
	_Alignas(8) uint8_t arguments[sizeof(request->arguments)];
	struct iovec iovecs[CHAIN_BUFFERS_MAX + 3];
	struct msghdr packet = {.msg_iov = iovecs};

	iovecs[0] = (struct iovec){&message, sizeof(message)};
	packet.msg_iovlen = 1 + request_message(request, &header, arguments, iovecs + 1, CHAIN_BUFFERS_MAX + 2);
	return sendmsg(fs->source.fd, &packet, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* Sends a request, or remembers to. */
static void request_send(struct fs *fs, struct fs_request *request)
{
	int result = request_transmit(fs, request);

	/* What else goes wrong on a vCPU's thread will go wrong on the loop's as well, where it can be dealt with. */
	if (result < 0 && (errno == EAGAIN || errno == EINTR || fs->direct)) {
		if (request->state != REQUEST_UNSENT)
			fs->unsent_count++;
		request->state = REQUEST_UNSENT;
		return;
	}
	if (result < 0 && (errno == ENOBUFS || errno == ENOMEM || errno == EMSGSIZE)) {
		request_fail(fs, request, errno == EMSGSIZE ? EIO : ENOMEM);
		request_free(fs, request);
		return;
	}
	if (request->state == REQUEST_UNSENT)
		fs->unsent_count--;
	request->state = REQUEST_SENT;
	if (result < 0) {
		end_server(fs, "the file server has closed its socket");
	} else if (!fs_has_answer(request->header.opcode)) {
		request_end(fs, request, 0, 0);
		request_free(fs, request);
	}
}

/* --- READ and WRITE done here ----------------------------------------------------------------------------------------
 */

/* Reads what is in memory already. Less than the size asked for: the file ends there. -1 with errno EAGAIN when not all
 * of it is; EOPNOTSUPP when that cannot be told. */
static ssize_t read_cached(struct chain *chain, int fd, size_t size, off_t offset)
{
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
	size_t done = 0;

	while (done < size) {
		unsigned count;
		ssize_t more;

		chain_seek_write(chain, (uint32_t)(sizeof(struct fuse_out_header) + done));
		count = chain_writable_iovecs(chain, size - done, iovecs, CHAIN_BUFFERS_MAX);
		more = preadv2(fd, iovecs, (int)count, offset + (off_t)done, RWF_NOWAIT);
		if (more <= 0)
			return more < 0 ? -1 : (ssize_t)done;
		done += (size_t)more;
	}
	return (ssize_t)done;
}

/* On a vCPU's thread: false when the read is to be postponed. */
static bool serve_read(struct fs *fs, struct fs_request *request, int fd)
{
	const struct fuse_read_in *in = &request->arguments.read;
	struct chain *chain = &request->chain;
	uint32_t room, wanted;
	ssize_t size;

	if (in->offset > INT64_MAX || chain->writable < sizeof(struct fuse_out_header)) {
		request_fail(fs, request, EINVAL);
		return true;
	}
	room = chain->writable - (uint32_t)sizeof(struct fuse_out_header);
	wanted = in->size < room ? in->size : room;
	if (fs->direct && (wanted > DIRECT_BYTES || (fs->descriptors[in->fh] & MAY_WAIT)))
		return false;
	chain_seek_write(chain, sizeof(struct fuse_out_header));
	do
		size = fs->direct ? read_cached(chain, fd, wanted, (off_t)in->offset)
				  : chain_write_from_fd(chain, fd, wanted, (off_t)in->offset);
	while (size < 0 && errno == EINTR);
	if (size < 0 && fs->direct) {
		if (errno == EOPNOTSUPP)
			fs->descriptors[in->fh] |= MAY_WAIT;
		return false;
	}
	if (size < 0) {
		request_fail(fs, request, errno);
		return true;
	}
	fs->work += (uint32_t)size / WORK_BYTES;
	request_end(fs, request, 0, (uint32_t)size);
	return true;
}

/* Whether a write goes to the end of the file is said with each: the descriptor's own flag is never set, since a
 * process of the guest can change its mind. */
static ssize_t write_chain(struct chain *chain, int fd, const struct fuse_write_in *in)
{
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
	unsigned count;

	if (!(in->flags & O_APPEND))
		return chain_read_to_fd(chain, fd, in->size, (off_t)in->offset);
	count = chain_readable_iovecs(chain, in->size, iovecs, CHAIN_BUFFERS_MAX);
	return pwritev2(fd, iovecs, (int)count, (off_t)in->offset, RWF_APPEND);
}

static void answer_written(struct fs *fs, struct fs_request *request, uint32_t size)
{
	struct fuse_write_out out = {.size = size};

	chain_seek_write(&request->chain, sizeof(struct fuse_out_header));
	chain_write(&request->chain, &out, sizeof(out));
	request_end(fs, request, 0, sizeof(out));
}

/* On a vCPU's thread: false when the write is to be postponed. */
static bool serve_write(struct fs *fs, struct fs_request *request, int fd)
{
	const struct fuse_write_in *in = &request->arguments.write;
	ssize_t size;

	if (in->offset > INT64_MAX) {
		request_fail(fs, request, EINVAL);
		return true;
	}
	if (fs->direct && in->size > DIRECT_BYTES)
		return false;
	do
		size = write_chain(&request->chain, fd, in);
	while (size < 0 && errno == EINTR);
	if (size < 0) {
		request_fail(fs, request, errno);
		return true;
	}
	fs->work += (uint32_t)size / WORK_BYTES;
	answer_written(fs, request, (uint32_t)size);
	return true;
}

/* --- from the ring to the file server --------------------------------------------------------------------------------
 */

/* Copies the arguments of the operations that are looked into here. False when they are not all there. */
static bool take_arguments(struct fs_request *request)
{
	uint32_t size = 0;

	if (request->header.opcode == FUSE_READ)
		size = sizeof(request->arguments.read);
	else if (request->header.opcode == FUSE_WRITE)
		size = sizeof(request->arguments.write);
	else if (request->header.opcode == FUSE_RELEASE)
		size = sizeof(request->arguments.release);
	request->argument_size = size;
	if (chain_read(&request->chain, &request->arguments, size) < size)
		return false;
	return request->header.opcode != FUSE_WRITE ||
	       request->arguments.write.size <= chain_readable_left(&request->chain);
}

static bool take_header(struct fs_request *request)
{
	struct chain *chain = &request->chain;

	memset(&request->header, 0, sizeof(request->header));
	return chain_read(chain, &request->header, sizeof(request->header)) == sizeof(request->header) &&
	       request->header.len == chain->readable;
}

static bool fits_message(const struct fs_request *request)
{
	return request->header.opcode == FUSE_WRITE ||
	       request->header.len <= FS_MESSAGE_MAX - sizeof(struct fs_message);
}

enum outcome {
	DONE, /* or refused */
	ASK,  /* the file server */
	POSTPONE,
};

static enum outcome serve_here(struct fs *fs, struct fs_request *request)
{
	int fd;

	switch (request->header.opcode) {
	case FUSE_READ:
		fd = descriptor_get(fs, request->arguments.read.fh, false);
		if (fd < 0)
			return ASK;
		return serve_read(fs, request, fd) ? DONE : POSTPONE;
	case FUSE_WRITE:
		/* For O_SYNC the guest's kernel lets an FSYNC follow. */
		fd = descriptor_get(fs, request->arguments.write.fh, true);
		if (fd < 0)
			return ASK;
		return serve_write(fs, request, fd) ? DONE : POSTPONE;
	case FUSE_RELEASE:
		descriptor_close(fs, request->arguments.release.fh);
		return ASK;
	case FUSE_INIT:
	case FUSE_DESTROY:
		fs->mounted = request->header.opcode == FUSE_INIT;
		/* The file server forgets all handles. */
		descriptor_close_all(fs);
		return ASK;
	default:
		if (fits_message(request))
			return ASK;
		request_fail(fs, request, E2BIG);
		return DONE;
	}
}

/* Does what there is to do about a request that is not in the list of free ones. */
static void serve_request(struct fs *fs, struct fs_request *request)
{
	switch (serve_here(fs, request)) {
	case DONE:
		request_free(fs, request);
		break;
	case ASK:
		request_send(fs, request);
		break;
	case POSTPONE:
		request->state = REQUEST_POSTPONED;
		fs->postponed = request;
		break;
	}
}

static bool serve_postponed(struct fs *fs)
{
	struct fs_request *request = fs->postponed;

	if (fs->direct)
		return false;
	fs->postponed = NULL;
	serve_request(fs, request);
	return true;
}

/* Takes a chain from a queue and does what there is to do. False when there is none, or none can be taken now. */
static bool serve_one(struct fs *fs, uint8_t queue)
{
	struct fs_request *request;
	int popped;

	if (fs->dead || !fs->base.active || fs->unsent_count > 0)
		return false;
	if (fs->postponed)
		return serve_postponed(fs);
	if (fs->free_count == 0)
		return false;
	request = &fs->requests[fs->free[fs->free_count - 1]];
	popped = queue_pop(&fs->base.queues[queue], &request->chain);
	if (popped < 0 && !fs->direct)
		virtio_device_failed(&fs->base, "fs: broken ring");
	if (popped <= 0)
		return false;
	request->queue = queue;
	request->done = 0;
	fs->free_count--;
	if (take_header(request) && take_arguments(request)) {
		serve_request(fs, request);
	} else {
		request_fail(fs, request, EINVAL);
		request_free(fs, request);
	}
	return true;
}

static void signal_guest(struct fs *fs)
{
	for (unsigned queue = 0; queue < QUEUE_COUNT; queue++) {
		if (fs->pushed[queue] && fs->base.active)
			virtio_device_signal(&fs->base, queue);
		fs->pushed[queue] = false;
	}
}

/* After each event: take what the rings hold, wake the guest once for all of it. */
static void serve(struct fs *fs)
{
	fs->work = 0;
	while (fs->work < BATCH_MAX && (serve_one(fs, QUEUE_HIGH_PRIORITY) || serve_one(fs, QUEUE_REQUESTS)))
		fs->work++;
	signal_guest(fs);
	if (fs->dead)
		return;
	if (fs->work >= BATCH_MAX)
		loop_timer_set(fs->base.loop, &fs->again, 1);
	loop_watch(fs->base.loop, &fs->source, fs->unsent_count > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* What the loop's thread has to see to: false. A broken ring is found broken there once more. */
static bool is_served(const struct fs *fs)
{
	if (fs->postponed || fs->unsent_count > 0 || fs->work >= DIRECT_MAX)
		return false;
	for (unsigned queue = 0; queue < QUEUE_COUNT; queue++)
		if (fs->base.queues[queue].broken)
			return false;
	return true;
}

static bool fs_notify_directly(struct virtio_device *device, unsigned queue)
{
	struct fs *fs = fs_of(device);

	(void)queue;
	fs->direct = true;
	fs->work = 0;
	while (fs->work < DIRECT_MAX && (serve_one(fs, QUEUE_HIGH_PRIORITY) || serve_one(fs, QUEUE_REQUESTS)))
		fs->work++;
	signal_guest(fs);
	fs->direct = false;
	return is_served(fs);
}

static void serve_again(struct loop_timer *timer)
{
	serve(timer->owner);
}

/* --- from the file server to the ring --------------------------------------------------------------------------------
 */

/* A READ or WRITE that the file server does in parts: size bytes of this part are done. */
static void continue_parts(struct fs *fs, struct fs_request *request, uint32_t size, uint32_t wanted)
{
	request->done += size;
	if (size == request->part && request->done < wanted) {
		request_send(fs, request);
		return;
	}
	if (request->header.opcode == FUSE_READ)
		request_end(fs, request, 0, request->done);
	else
		answer_written(fs, request, request->done);
	request_free(fs, request);
}

/* An error after some parts is left to the guest's next attempt. */
static void fail_part(struct fs *fs, struct fs_request *request, int error)
{
	if (request->done > 0)
		continue_parts(fs, request, 0, 0);
	else {
		request_fail(fs, request, error);
		request_free(fs, request);
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
		request_fail(fs, request, EIO);
	} else {
		chain_seek_write(chain, sizeof(struct fuse_out_header));
		chain_write(chain, payload, size);
		request_end(fs, request, error, (uint32_t)size);
	}
	request_free(fs, request);
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
		if (descriptor_entry(fs, message->handle))
			fs->descriptors[message->handle] |= READS_ONLY;
		return size == sizeof(*message) && fd < 0;
	}
	if (message->flags & FS_CLOSED) {
		descriptor_close(fs, message->handle);
		return size == sizeof(*message) && fd < 0;
	}
	if (size < sizeof(*message) + sizeof(*out) || out->len != size - sizeof(*message))
		return false;
	if (out->error > 0 || out->error <= -512 || (out->error != 0 && out->len != sizeof(*out)))
		return false;
	request = request_find(fs, message->tag);
	if (!request)
		return true;
	if (fd >= 0 && (!opens_file(request) || out->error != 0 || !(message->flags & FS_HAS_DESCRIPTOR)))
		return false;
	if (fd >= 0)
		descriptor_put(fs, message->handle, take_fd(&fd), message->flags & FS_READS_ONLY);
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

/* Receives one message. 1: done; 0: there is none now; -1: the file server has gone. */
static int receive(struct fs *fs)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr alignment;
	} control;
	struct iovec iov = {fs->answer, sizeof(fs->answer)};
	struct msghdr packet = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)};
	ssize_t size = recvmsg(fs->source.fd, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	bool truncated;
	int fd;

	if (size < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (size == 0) {
		end_server(fs, "the file server has ended");
		return -1;
	}
	/* A descriptor for which this process's table has no room (MSG_CTRUNC) is not missed: the file server does the
	 * work then. */
	truncated = packet.msg_flags & MSG_TRUNC;
	if (take_descriptor(&packet, &fd) < 0 || !handle_message(fs, (const void *)fs->answer, (size_t)size, fd) ||
	    truncated) {
		end_server(fs, "the file server broke the protocol");
		return -1;
	}
	return 1;
}

static void send_again(struct fs *fs)
{
	for (unsigned i = 0; i < REQUESTS_MAX && fs->unsent_count > 0; i++) {
		struct fs_request *request = &fs->requests[i];

		if (request->state != REQUEST_UNSENT)
			continue;
		request_send(fs, request);
		if (request->state == REQUEST_UNSENT)
			return;
	}
}

static bool has_sent(const struct fs *fs)
{
	return fs->free_count + fs->unsent_count < REQUESTS_MAX;
}

static void handle_socket(struct loop_source *source, uint32_t events)
{
	struct fs *fs = source->owner;
	int received = 0;

	/* Not once more than there can be answers: most often one request is under way. */
	for (unsigned i = 0; i < ANSWERS_MAX && (i == 0 || has_sent(fs)) && !fs->dead; i++) {
		received = receive(fs);
		if (received <= 0)
			break;
	}
	if (received < 0 || (received == 0 && (events & (EPOLLHUP | EPOLLERR))))
		end_server(fs, "the file server has ended");
	if (!fs->dead && (events & EPOLLOUT))
		send_again(fs);
	serve(fs);
}

/* --- the device ------------------------------------------------------------------------------------------------------
 */

static void fs_read_config(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	const struct fs *fs = fs_of(device);

	memset(data, 0, size);
	if (offset >= sizeof(fs->config))
		return;
	if (size > sizeof(fs->config) - offset)
		size = (uint32_t)sizeof(fs->config) - offset;
	memcpy(data, (const char *)&fs->config + offset, size);
}

static int fs_activate(struct virtio_device *device, struct error *err)
{
	(void)device;
	(void)err;
	return 0;
}

/* Answers that are still to come find that their tags mean nothing any more. The guest's next INIT lets the file server
 * forget what it holds. */
static void fs_reset(struct virtio_device *device)
{
	struct fs *fs = fs_of(device);

	for (unsigned i = 0; i < REQUESTS_MAX; i++)
		if (fs->requests[i].state != REQUEST_FREE)
			request_free(fs, &fs->requests[i]);
	fs->postponed = NULL;
	descriptor_close_all(fs);
	loop_timer_cancel(fs->base.loop, &fs->again);
	memset(fs->pushed, 0, sizeof(fs->pushed));
	fs->mounted = false;
}

/* A file server of the restored machine would know nothing of the files that this guest has open. */
static int fs_quiesce(struct virtio_device *device, struct error *err)
{
	struct fs *fs = fs_of(device);

	if (fs->mounted)
		return error_set(err, EBUSY, "the guest has mounted its file system");
	if (fs->free_count != REQUESTS_MAX)
		return error_set(err, EBUSY, "requests wait for the file server");
	signal_guest(fs);
	return 0;
}

static void fs_notify(struct virtio_device *device, unsigned queue)
{
	(void)queue;
	serve(fs_of(device));
}

static void fs_free(struct virtio_device *device)
{
	struct fs *fs = fs_of(device);

	loop_remove(fs->base.loop, &fs->source);
	loop_timer_cancel(fs->base.loop, &fs->again);
	descriptor_close_all(fs);
	munmap(fs->descriptors, DESCRIPTORS_SIZE);
	close(fs->source.fd);
	free(fs);
}

static const struct virtio_device_operations operations = {
    .name = "fs",
    .id = VIRTIO_ID_FS,
    .pci_class = 0x018000, /* mass storage, other */
    .queue_count = QUEUE_COUNT,
    .queue_size_max = QUEUE_SIZE,
    .read_config = fs_read_config,
    .activate = fs_activate,
    .reset = fs_reset,
    .notify = fs_notify,
    .notify_directly = fs_notify_directly,
    .free = fs_free,
    .quiesce = fs_quiesce,
};

/* Each file that is open in the guest is a descriptor here. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit = {FS_HANDLE_MAX, FS_HANDLE_MAX};

	if (setrlimit(RLIMIT_NOFILE, &limit) == 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int fs_init(struct fs *fs, int socket, const char *tag, struct error *err)
{
	int size = SOCKET_BUFFER;

	if (strlen(tag) == 0 || strlen(tag) > TAG_SIZE)
		return error_set(err, EINVAL, "fs: the tag `%s` has not 1 to %d bytes", tag, TAG_SIZE);
	memcpy(fs->config.tag, tag, strlen(tag));
	fs->config.request_queues = QUEUE_COUNT - QUEUE_REQUESTS;
	fs->descriptors =
	    mmap(NULL, DESCRIPTORS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (fs->descriptors == MAP_FAILED)
		return error_set_errno(err, "fs: reserve memory for descriptors");
	raise_descriptor_limit();
	setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	fs->source = (struct loop_source){.fd = socket, .events = EPOLLIN, .handle = handle_socket, .owner = fs};
	if (loop_add(fs->base.loop, &fs->source, err) < 0) {
		munmap(fs->descriptors, DESCRIPTORS_SIZE);
		return error_prefix(err, "fs");
	}
	return 0;
}

struct virtio_device *fs_new(int socket, const char *tag, struct loop *loop, struct error *err)
{
	struct fs *fs = calloc(1, sizeof(*fs));

	if (!fs) {
		error_set_errno(err, "fs: allocate memory");
		close(socket);
		return NULL;
	}
	fs->base.operations = &operations;
	fs->base.loop = loop;
	fs->again = (struct loop_timer){.handle = serve_again, .owner = fs};
	for (unsigned i = 0; i < REQUESTS_MAX; i++)
		fs->free[fs->free_count++] = (uint16_t)(REQUESTS_MAX - 1 - i);
	if (fs_init(fs, socket, tag, err) < 0) {
		close(socket);
		free(fs);
		return NULL;
	}
	return &fs->base;
}

void fs_on_end(struct virtio_device *device, void (*ended)(void *owner), void *owner)
{
	struct fs *fs = fs_of(device);

	fs->ended = ended;
	fs->owner = owner;
}
