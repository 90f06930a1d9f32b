/*
 * The block device.
 *
 * Requests go to io_uring in batches: a doorbell makes one system call for all requests that are in the ring. The ring
 * is made before the jail and then restricted for good to the five operations used here, on the one registered file, so
 * that it cannot serve to get around the filter of system calls. Where io_uring cannot be had, or refuses a single
 * request, the same is done by preadv, pwritev, fdatasync and fallocate on the loop's thread.
 *
 * Buffers lie in guest memory and are named by iovecs that were checked when the chain was taken from the ring; the
 * kernel alone touches them. A reset waits for what is in flight, since the memory belongs to the driver again when the
 * reset is over.
 *
 * System calls at run time: io_uring_enter; preadv, pwritev, fdatasync, fallocate; clock_gettime, epoll_ctl (loop).
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "vmm/virtio/devices.h"

#define SECTOR 512u
/* A Linux guest makes a request structure for each entry at boot. A request of so many segments fits the ring, with
 * header and status, also without indirect descriptors. */
#define QUEUE_SIZE 128
#define SEGMENTS_MAX (QUEUE_SIZE - 2)

#define REQUESTS_MAX 64	      /* in flight; more wait in the ring */
#define TURN_MAX 64	      /* requests in a row before the rest of the loop gets its turn */
#define ZEROES_MAX (8u << 20) /* bytes in one DISCARD or WRITE_ZEROES */
#define ZERO_BLOCK (64u << 10)
#define FIXED_FILE 0 /* index of the registered file */

struct request {
	struct chain chain;
	uint32_t type;	      /* VIRTIO_BLK_T_* */
	uint64_t offset;      /* bytes */
	uint32_t size;	      /* bytes to move, or to zero or discard */
	uint32_t done;	      /* bytes moved */
	int mode;	      /* of fallocate */
	struct request *next; /* free */
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
};

struct blk {
	struct virtio_device base;
	int fd;
	bool readonly;
	uint64_t capacity; /* sectors */
	char serial[BLK_SERIAL_MAX];
	struct virtio_blk_config config;
	struct request *requests; /* REQUESTS_MAX */
	unsigned fresh;		  /* the first that was never used: its memory is not there yet */
	struct request *free;	  /* those that were used before */
	unsigned in_flight;	  /* in io_uring */
	bool giving_up;		  /* completions only free their request */
	bool pushed;
	bool has_ring;
	struct io_uring ring;
	struct loop_source completion;
	struct loop_timer again;
};

static struct blk *blk_of(struct virtio_device *device)
{
	return (struct blk *)device;
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static struct request *request_take(struct blk *blk)
{
	struct request *request = blk->free;

	if (request)
		blk->free = request->next;
	else if (blk->fresh < REQUESTS_MAX)
		request = &blk->requests[blk->fresh++];
	return request;
}

static void request_free(struct blk *blk, struct request *request)
{
	request->next = blk->free;
	blk->free = request;
}

/* The status is the last byte that the device may write (5.2.6). */
static void request_finish(struct blk *blk, struct request *request, uint8_t status)
{
	struct chain *chain = &request->chain;

	if (!blk->giving_up) {
		chain_seek_write(chain, chain->writable - 1);
		chain_write(chain, &status, sizeof(status));
		queue_push(&blk->base.queues[0], chain->head, chain->written_at);
		blk->pushed = true;
	}
	request_free(blk, request);
}

static void request_fail(struct blk *blk, struct request *request, int error)
{
	log_guest("blk: request of type %u at %llu failed: %s", request->type, (unsigned long long)request->offset,
		  strerrordesc_np(error));
	request_finish(blk, request, VIRTIO_BLK_S_IOERR);
}

static bool is_transfer(const struct request *request)
{
	return request->type == VIRTIO_BLK_T_IN || request->type == VIRTIO_BLK_T_OUT;
}

/* --- without io_uring --------------------------------------------------------------------------------------------- */

static ssize_t transfer_once(struct blk *blk, struct request *request)
{
	uint32_t left = request->size - request->done;
	off_t offset = (off_t)(request->offset + request->done);

	return request->type == VIRTIO_BLK_T_IN ? chain_write_from_fd(&request->chain, blk->fd, left, offset)
						: chain_read_to_fd(&request->chain, blk->fd, left, offset);
}

/* Returns 0 or a positive errno value. */
static int transfer(struct blk *blk, struct request *request)
{
	while (request->done < request->size) {
		ssize_t moved = transfer_once(blk, request);

		if (moved > 0)
			request->done += (uint32_t)moved;
		else if (moved == 0)
			return EIO; /* the file has become shorter */
		else if (errno != EINTR)
			return errno;
	}
	return 0;
}

/* For file systems that cannot zero a range by themselves. At most ZEROES_MAX bytes. */
static int write_zeroes(struct blk *blk, struct request *request)
{
	static const char zeroes[ZERO_BLOCK];
	struct iovec iovecs[ZEROES_MAX / ZERO_BLOCK];

	while (request->done < request->size) {
		uint32_t left = request->size - request->done;
		int count = 0;
		ssize_t moved;

		for (uint32_t at = 0; at < left; at += ZERO_BLOCK)
			iovecs[count++] =
			    (struct iovec){(char *)zeroes, left - at < ZERO_BLOCK ? left - at : ZERO_BLOCK};
		moved = pwritev(blk->fd, iovecs, count, (off_t)(request->offset + request->done));
		if (moved > 0)
			request->done += (uint32_t)moved;
		else if (moved == 0 || errno != EINTR)
			return moved == 0 ? EIO : errno;
	}
	return 0;
}

static void finish_by(struct blk *blk, struct request *request, int error)
{
	if (error == EOPNOTSUPP && request->type == VIRTIO_BLK_T_WRITE_ZEROES)
		error = write_zeroes(blk, request);
	if (error == EOPNOTSUPP && request->type == VIRTIO_BLK_T_DISCARD)
		request_finish(blk, request, VIRTIO_BLK_S_UNSUPP);
	else if (error)
		request_fail(blk, request, error);
	else
		request_finish(blk, request, VIRTIO_BLK_S_OK);
}

static void run_now(struct blk *blk, struct request *request)
{
	int failed;

	if (is_transfer(request)) {
		finish_by(blk, request, transfer(blk, request));
		return;
	}
	failed = request->type == VIRTIO_BLK_T_FLUSH
		     ? fdatasync(blk->fd)
		     : fallocate(blk->fd, request->mode, (off_t)request->offset, (off_t)request->size);
	finish_by(blk, request, failed ? errno : 0);
}

/* --- io_uring ----------------------------------------------------------------------------------------------------- */

/* Puts the request, or what is left of it, into the submission queue, which has room for all requests. */
static void enqueue(struct blk *blk, struct request *request)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&blk->ring);
	uint32_t left = request->size - request->done;
	uint64_t offset = request->offset + request->done;
	unsigned count;

	if (!sqe) {
		run_now(blk, request);
		return;
	}
	switch (request->type) {
	case VIRTIO_BLK_T_IN:
		count = chain_writable_iovecs(&request->chain, left, request->iovecs, CHAIN_BUFFERS_MAX);
		io_uring_prep_readv(sqe, FIXED_FILE, request->iovecs, count, offset);
		break;
	case VIRTIO_BLK_T_OUT:
		count = chain_readable_iovecs(&request->chain, left, request->iovecs, CHAIN_BUFFERS_MAX);
		io_uring_prep_writev(sqe, FIXED_FILE, request->iovecs, count, offset);
		break;
	case VIRTIO_BLK_T_FLUSH:
		io_uring_prep_fsync(sqe, FIXED_FILE, IORING_FSYNC_DATASYNC);
		break;
	default:
		io_uring_prep_fallocate(sqe, FIXED_FILE, request->mode, (off_t)offset, (off_t)left);
	}
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, request);
	blk->in_flight++;
}

static void advance(struct request *request, uint32_t moved)
{
	request->done += moved;
	if (request->type == VIRTIO_BLK_T_IN)
		chain_seek_write(&request->chain, request->done);
	else
		chain_skip(&request->chain, moved);
}

static void complete(struct blk *blk, struct request *request, int result)
{
	if (blk->giving_up) {
		request_free(blk, request);
	} else if (result == -ECANCELED || result == -EAGAIN || result == -EINTR) {
		/* The kernel had no worker thread for it, or no memory for one. */
		run_now(blk, request);
	} else if (result < 0 || !is_transfer(request)) {
		finish_by(blk, request, -result);
	} else if (result == 0) {
		request_fail(blk, request, EIO); /* the file has become shorter */
	} else if ((uint32_t)result < request->size - request->done) {
		advance(request, (uint32_t)result);
		enqueue(blk, request);
	} else {
		request_finish(blk, request, VIRTIO_BLK_S_OK);
	}
}

static void reap(struct blk *blk)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&blk->ring, &cqe) == 0) {
		struct request *request = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&blk->ring, cqe);
		blk->in_flight--;
		complete(blk, request, result);
	}
}

/* Submits what was enqueued and takes what has completed at once, until neither leaves anything to do. */
static void submit_and_reap(struct blk *blk)
{
	if (!blk->has_ring)
		return;
	do {
		/* EAGAIN, EBUSY: the entries stay in the queue; completions that are due make room for them. */
		if (io_uring_sq_ready(&blk->ring) && io_uring_submit(&blk->ring) < 0) {
			loop_timer_set(blk->base.loop, &blk->again, 1000000);
			reap(blk);
			return;
		}
		reap(blk);
	} while (io_uring_sq_ready(&blk->ring));
}

/* --- from the guest ----------------------------------------------------------------------------------------------- */

/* Sets offset and size; false unless all of it lies on the disk. Both numbers are the guest's. */
static bool set_range(const struct blk *blk, struct request *request, uint64_t sector, uint64_t sectors)
{
	if (sectors == 0 || sector > blk->capacity || sectors > blk->capacity - sector || sectors > UINT32_MAX / SECTOR)
		return false;
	request->offset = sector * SECTOR;
	request->size = (uint32_t)(sectors * SECTOR);
	return true;
}

/* The parsers return VIRTIO_BLK_S_OK when the request is to be run. */
static uint8_t parse_transfer(struct blk *blk, struct request *request, uint64_t sector)
{
	bool in = request->type == VIRTIO_BLK_T_IN;
	size_t size = in ? chain_writable_left(&request->chain) - 1 : chain_readable_left(&request->chain);

	if ((!in && blk->readonly) || size % SECTOR || !set_range(blk, request, sector, size / SECTOR))
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

/* DISCARD and WRITE_ZEROES: one range a request, as max_discard_seg says. */
static uint8_t parse_range(struct blk *blk, struct request *request)
{
	struct virtio_blk_discard_write_zeroes range;
	bool zeroes = request->type == VIRTIO_BLK_T_WRITE_ZEROES;
	uint32_t flags;

	if (chain_readable_left(&request->chain) != sizeof(range))
		return VIRTIO_BLK_S_UNSUPP;
	chain_read(&request->chain, &range, sizeof(range));
	flags = le32toh(range.flags);
	if (flags & ~(zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
		return VIRTIO_BLK_S_UNSUPP;
	if (blk->readonly || le32toh(range.num_sectors) > ZEROES_MAX / SECTOR ||
	    !set_range(blk, request, le64toh(range.sector), le32toh(range.num_sectors)))
		return VIRTIO_BLK_S_IOERR;
	request->mode =
	    FALLOC_FL_KEEP_SIZE |
	    (zeroes && !(flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
	return VIRTIO_BLK_S_OK;
}

static void give_id(struct blk *blk, struct request *request)
{
	size_t room = chain_writable_left(&request->chain) - 1;

	chain_write(&request->chain, blk->serial, room < sizeof(blk->serial) ? room : sizeof(blk->serial));
	request_finish(blk, request, VIRTIO_BLK_S_OK);
}

static void run(struct blk *blk, struct request *request)
{
	if (blk->has_ring)
		enqueue(blk, request);
	else
		run_now(blk, request);
}

static void request_start(struct blk *blk, struct request *request, uint64_t sector)
{
	uint8_t status;

	switch (request->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		status = parse_transfer(blk, request, sector);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		status = parse_range(blk, request);
		break;
	case VIRTIO_BLK_T_FLUSH:
		status = VIRTIO_BLK_S_OK;
		break;
	case VIRTIO_BLK_T_GET_ID:
		give_id(blk, request);
		return;
	default:
		status = VIRTIO_BLK_S_UNSUPP;
	}
	if (status == VIRTIO_BLK_S_OK)
		run(blk, request);
	else
		request_finish(blk, request, status);
}

static void take(struct blk *blk, struct request *request)
{
	struct virtio_blk_outhdr header;

	request->offset = request->size = request->done = 0;
	if (chain_read(&request->chain, &header, sizeof(header)) != sizeof(header) || request->chain.writable == 0) {
		log_guest("blk: request without header or status");
		queue_push(&blk->base.queues[0], request->chain.head, 0);
		blk->pushed = true;
		request_free(blk, request);
		return;
	}
	request->type = le32toh(header.type);
	request_start(blk, request, le64toh(header.sector));
}

static bool has_room(const struct blk *blk)
{
	return blk->free || blk->fresh < REQUESTS_MAX;
}

/* Takes one request from the ring. 0 when there is none, or none can be taken now; -1 when the ring is broken. */
static int take_next(struct blk *blk)
{
	struct request *request = request_take(blk);
	int popped;

	if (!request)
		return 0;
	popped = queue_pop(&blk->base.queues[0], &request->chain);
	if (popped > 0)
		take(blk, request);
	else
		request_free(blk, request);
	return popped;
}

static void serve(struct blk *blk)
{
	int taken = 1;
	bool full;

	for (unsigned turn = 0; turn < TURN_MAX && taken > 0; turn++)
		taken = take_next(blk);
	if (taken < 0)
		virtio_device_failed(&blk->base, "ring");
	full = !has_room(blk);
	submit_and_reap(blk);
	if (blk->pushed && blk->base.active)
		virtio_device_signal(&blk->base, 0);
	blk->pushed = false;
	/* What had to wait for room waits for no completion when all of them have been taken just now. */
	if ((taken > 0 || (full && has_room(blk))) && !blk->again.deadline)
		loop_timer_set(blk->base.loop, &blk->again, 0);
}

static void completion_event(struct loop_source *source, uint32_t events)
{
	struct blk *blk = source->owner;

	(void)events;
	reap(blk);
	if (blk->base.active)
		serve(blk);
	blk->pushed = false;
}

static void again(struct loop_timer *timer)
{
	struct blk *blk = timer->owner;

	if (blk->base.active)
		serve(blk);
}

/* --- the device --------------------------------------------------------------------------------------------------- */

static void blk_read_config(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	const struct virtio_blk_config *config = &blk_of(device)->config;

	memset(data, 0, size);
	if (offset >= sizeof(*config))
		return;
	memcpy(data, (const char *)config + offset, size < sizeof(*config) - offset ? size : sizeof(*config) - offset);
}

static int blk_activate(struct virtio_device *device, struct error *err)
{
	(void)device;
	(void)err;
	return 0;
}

static void blk_reset(struct virtio_device *device)
{
	struct blk *blk = blk_of(device);

	blk->giving_up = true;
	while (blk->in_flight) {
		struct io_uring_cqe *cqe;

		io_uring_submit(&blk->ring);
		if (io_uring_wait_cqe(&blk->ring, &cqe) == 0)
			reap(blk);
	}
	blk->giving_up = false;
	blk->pushed = false;
	loop_timer_cancel(device->loop, &blk->again);
}

/* What was taken from the ring is brought to its end. */
static int blk_quiesce(struct virtio_device *device, struct error *err)
{
	struct blk *blk = blk_of(device);

	(void)err;
	while (blk->in_flight) {
		struct io_uring_cqe *cqe;

		io_uring_submit(&blk->ring);
		if (io_uring_wait_cqe(&blk->ring, &cqe) == 0)
			reap(blk);
	}
	if (blk->pushed)
		virtio_device_signal(device, 0);
	blk->pushed = false;
	return 0;
}

/* What the guest believes of its disk: the same has to be there again. */
struct saved_blk {
	uint64_t capacity;
	uint64_t readonly;
	char serial[BLK_SERIAL_MAX];
	uint32_t filling;
};

static void describe(const struct blk *blk, struct saved_blk *saved)
{
	*saved = (struct saved_blk){.capacity = blk->capacity, .readonly = blk->readonly};
	memcpy(saved->serial, blk->serial, sizeof(saved->serial));
}

static void blk_save(const struct virtio_device *device, struct state_writer *writer)
{
	struct saved_blk saved;

	describe((const struct blk *)device, &saved);
	state_put(writer, &saved, sizeof(saved));
}

static int blk_restore(struct virtio_device *device, struct state_reader *reader, struct error *err)
{
	struct saved_blk saved, own;

	describe(blk_of(device), &own);
	if (state_take(reader, &saved, sizeof(saved), err) < 0)
		return -1;
	if (memcmp(&saved, &own, sizeof(own)) != 0)
		return error_set(err, EINVAL, "the disk has another size, serial number or mode of access");
	return 0;
}

static void blk_notify(struct virtio_device *device, unsigned queue)
{
	(void)queue;
	if (device->active)
		serve(blk_of(device));
}

static void blk_free(struct virtio_device *device)
{
	struct blk *blk = blk_of(device);

	blk_reset(device);
	if (blk->has_ring) {
		loop_remove(device->loop, &blk->completion);
		io_uring_queue_exit(&blk->ring);
	}
	close(blk->fd);
	free(blk->requests);
	free(blk);
}

static const struct virtio_device_operations blk_operations = {
    .name = "blk",
    .id = VIRTIO_ID_BLOCK,
    .pci_class = 0x018000, /* other mass storage controller */
    .queue_count = 1,
    .queue_size_max = QUEUE_SIZE,
    .read_config = blk_read_config,
    .activate = blk_activate,
    .reset = blk_reset,
    .notify = blk_notify,
    .free = blk_free,
    .quiesce = blk_quiesce,
    .save = blk_save,
    .restore = blk_restore,
};

/* --- construction ------------------------------------------------------------------------------------------------- */

/* Debian's shared liburing does not export its wrappers of these operations. */
static int ring_register(struct io_uring *ring, unsigned operation, void *argument, unsigned count)
{
	return (int)syscall(SYS_io_uring_register, ring->ring_fd, operation, argument, count);
}

static int restrict_ring(struct io_uring *ring, int fd)
{
	struct io_uring_restriction restrictions[] = {
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV},
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
	    {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FALLOCATE},
	    {.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
	};

	if (io_uring_register_files(ring, &fd, 1) < 0)
		return -1;
	if (ring_register(ring, IORING_REGISTER_RESTRICTIONS, restrictions,
			  sizeof(restrictions) / sizeof(restrictions[0])) < 0)
		return -1;
	return ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

/* io_uring may be missing, forbidden or too old: then the device works without it. */
static void make_ring(struct blk *blk)
{
	if (io_uring_queue_init(REQUESTS_MAX, &blk->ring, IORING_SETUP_R_DISABLED) < 0)
		return;
	blk->completion =
	    (struct loop_source){.fd = blk->ring.ring_fd, .events = EPOLLIN, .handle = completion_event, .owner = blk};
	if (restrict_ring(&blk->ring, blk->fd) < 0 || loop_add(blk->base.loop, &blk->completion, NULL) < 0) {
		io_uring_queue_exit(&blk->ring);
		return;
	}
	blk->has_ring = true;
}

/* Bytes that the file or device holds. */
static int disk_size(int fd, uint64_t *size, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set_errno(err, "disk");
	if (S_ISREG(st.st_mode)) {
		*size = (uint64_t)st.st_size;
		return 0;
	}
	if (!S_ISBLK(st.st_mode))
		return error_set(err, ENOTBLK, "disk is neither a regular file nor a block device");
	if (ioctl(fd, BLKGETSIZE64, size) < 0)
		return error_set_errno(err, "disk: size of the block device");
	return 0;
}

static int check_access(int fd, bool readonly, struct error *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return error_set_errno(err, "disk");
	if (flags & O_PATH || (flags & O_ACCMODE) == O_WRONLY)
		return error_set(err, EBADF, "disk is not open for reading");
	if (!readonly && (flags & O_ACCMODE) != O_RDWR)
		return error_set(err, EBADF, "disk is not open for writing");
	return 0;
}

static void fill_config(struct blk *blk)
{
	blk->base.offered = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_FLUSH;
	blk->config.capacity = htole64(blk->capacity);
	blk->config.seg_max = htole32(SEGMENTS_MAX);
	if (blk->readonly) {
		blk->base.offered |= 1ull << VIRTIO_BLK_F_RO;
		return;
	}
	blk->base.offered |= 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	blk->config.max_discard_sectors = htole32(ZEROES_MAX / SECTOR);
	blk->config.max_discard_seg = htole32(1);
	blk->config.discard_sector_alignment = htole32(1);
	blk->config.max_write_zeroes_sectors = htole32(ZEROES_MAX / SECTOR);
	blk->config.max_write_zeroes_seg = htole32(1);
	blk->config.write_zeroes_may_unmap = 1;
}

struct virtio_device *blk_new(int fd, bool readonly, const char *serial, struct loop *loop, struct error *err)
{
	struct request *requests;
	struct blk *blk;
	uint64_t size = 0;

	if (serial && strlen(serial) > BLK_SERIAL_MAX) {
		error_set(err, EINVAL, "disk serial number \"%s\" is longer than %d bytes", serial, BLK_SERIAL_MAX);
		return NULL;
	}
	if (check_access(fd, readonly, err) < 0 || disk_size(fd, &size, err) < 0)
		return NULL;
	blk = calloc(1, sizeof(*blk));
	requests = calloc(REQUESTS_MAX, sizeof(*requests));
	if (!blk || !requests) {
		error_set_errno(err, "disk");
		free(requests);
		free(blk);
		return NULL;
	}
	blk->base.operations = &blk_operations;
	blk->base.loop = loop;
	blk->requests = requests;
	blk->fd = fd;
	blk->readonly = readonly;
	blk->capacity = size / SECTOR;
	if (serial)
		memcpy(blk->serial, serial, strlen(serial));
	blk->again = (struct loop_timer){.handle = again, .owner = blk};
	fill_config(blk);
	make_ring(blk);
	return &blk->base;
}
