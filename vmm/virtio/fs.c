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
 * sleep meanwhile. What may wait (a READ of what is not in memory, large READs and WRITEs) and what is not the usual
 * case (errors) are the loop's thread's. A request that turns out to be of that kind is postponed, and nothing behind
 * it is taken before it.
 *
 * The answer to a request about a name or an attribute, when no other is under way, is waited for by the vCPU as well:
 * the task that asked has nothing else to do, and an interrupt and three changes of thread are spared. It waits, with
 * the loop's lock held, for a few milliseconds at most; a file server that once needs longer is not waited for again
 * for a while. All other answers are the loop's thread's.
 *
 * System calls at run time: preadv, preadv2, pwritev, pwritev2, sendmsg, recvmsg, epoll_ctl (loop), close.
 */
#include "vmm/virtio/fs.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/log.h"
#include "vmm/virtio/fs_parts.h"

static struct fs *fs_of(struct virtio_device *device)
{
	return (struct fs *)device;
}

/* --- from the ring ---------------------------------------------------------------------------------------------------
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
		fd = fs_descriptor_get(fs, request->arguments.read.fh, false);
		if (fd < 0)
			return ASK;
		return fs_serve_read(fs, request, fd) ? DONE : POSTPONE;
	case FUSE_WRITE:
		/* For O_SYNC the guest's kernel lets an FSYNC follow. */
		fd = fs_descriptor_get(fs, request->arguments.write.fh, true);
		if (fd < 0)
			return ASK;
		return fs_serve_write(fs, request, fd) ? DONE : POSTPONE;
	case FUSE_RELEASE:
		fs_descriptor_close(fs, request->arguments.release.fh);
		return ASK;
	case FUSE_INIT:
	case FUSE_DESTROY:
		fs->mounted = request->header.opcode == FUSE_INIT;
		/* The file server forgets all handles. */
		fs_descriptor_close_all(fs);
		return ASK;
	default:
		if (fits_message(request))
			return ASK;
		fs_request_fail(fs, request, E2BIG);
		return DONE;
	}
}

/* Does what there is to do about a request that is not in the list of free ones. */
static void serve_request(struct fs *fs, struct fs_request *request)
{
	switch (serve_here(fs, request)) {
	case DONE:
		fs_request_free(fs, request);
		break;
	case ASK:
		fs_request_send(fs, request);
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
		fs_request_fail(fs, request, EINVAL);
		fs_request_free(fs, request);
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
	if (fs->failure)
		fs_end_server(fs, fs->failure);
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
	if (fs->postponed || fs->failure || fs->unsent_count > 0 || fs->work >= DIRECT_MAX)
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
	while (fs->work < DIRECT_MAX && (serve_one(fs, QUEUE_HIGH_PRIORITY) || serve_one(fs, QUEUE_REQUESTS))) {
		fs_wait_for_answer(fs);
		fs->work++;
	}
	signal_guest(fs);
	fs->direct = false;
	return is_served(fs);
}

/* --- on the loop's thread --------------------------------------------------------------------------------------------
 */

static void serve_again(struct loop_timer *timer)
{
	serve(timer->owner);
}

static void handle_socket(struct loop_source *source, uint32_t events)
{
	struct fs *fs = source->owner;
	int received = 0;

	/* Not once more than there can be answers: most often one request is under way. */
	for (unsigned i = 0; i < ANSWERS_MAX && (i == 0 || fs_has_sent(fs)) && !fs->dead; i++) {
		received = fs_receive(fs, MSG_DONTWAIT);
		if (received <= 0)
			break;
	}
	if (received < 0 || (received == 0 && (events & (EPOLLHUP | EPOLLERR))))
		fs_end_server(fs, "the file server has ended");
	if (!fs->dead && (events & EPOLLOUT))
		fs_send_again(fs);
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
			fs_request_free(fs, &fs->requests[i]);
	fs->postponed = NULL;
	fs_descriptor_close_all(fs);
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
	fs_descriptor_close_all(fs);
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
	const struct timeval wait = {.tv_usec = WAIT_MICROSECONDS};
	int size = SOCKET_BUFFER;

	if (strlen(tag) == 0 || strlen(tag) > TAG_SIZE)
		return error_set(err, EINVAL, "fs: the tag `%s` has not 1 to %d bytes", tag, TAG_SIZE);
	memcpy(fs->config.tag, tag, strlen(tag));
	fs->config.request_queues = QUEUE_COUNT - QUEUE_REQUESTS;
	if (setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0)
		return error_set_errno(err, "fs: limit the time that an answer is waited for");
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
