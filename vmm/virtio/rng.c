/*
 * The entropy source. What it hands out comes from getrandom, which never blocks on a booted host; a token bucket
 * keeps a guest from using the host's processors as its random generator.
 *
 * System calls at run time: getrandom; clock_gettime (loop).
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/error.h"
#include "vmm/virtio/devices.h"

#define QUEUE_SIZE 8
#define REQUEST_MAX 256u /* bytes; up to this many come from getrandom in one piece */

/* Enough at once for a guest's boot, then a trickle: a Linux guest reseeds with some dozens of bytes a minute. */
#define BUCKET_SIZE 16384u   /* bytes */
#define NS_PER_BYTE 61035ull /* 16 KiB a second */
#define REQUEST_COST_MIN 16u /* bytes; asking for nothing costs the host something too */

struct rng {
	struct virtio_device base;
	struct chain chain;
	uint32_t tokens;	/* bytes */
	uint64_t counted_until; /* CLOCK_MONOTONIC nanoseconds: the tokens of the time before are in the bucket */
	struct loop_timer retry;
};

static struct rng *rng_of(struct virtio_device *device)
{
	return (struct rng *)device;
}

static void count_tokens(struct rng *rng)
{
	uint64_t now = (uint64_t)now_ns(), earned;

	earned = (now - rng->counted_until) / NS_PER_BYTE;
	if (earned < BUCKET_SIZE - rng->tokens) {
		rng->tokens += (uint32_t)earned;
		rng->counted_until += earned * NS_PER_BYTE;
	} else {
		rng->tokens = BUCKET_SIZE;
		rng->counted_until = now;
	}
}

/* Fills one buffer and pays for it. */
static void fill(struct rng *rng, struct chain *chain)
{
	unsigned char data[REQUEST_MAX];
	size_t size = chain_writable_left(chain);
	ssize_t got;

	if (size > REQUEST_MAX)
		size = REQUEST_MAX;
	got = getrandom(data, size, 0);
	if (got > 0)
		chain_write(chain, data, (size_t)got);
	rng->tokens -= size > REQUEST_COST_MIN ? (uint32_t)size : REQUEST_COST_MIN;
	explicit_bzero(data, sizeof(data));
}

static void serve(struct rng *rng)
{
	struct queue *queue = &rng->base.queues[0];
	int popped = 0;

	count_tokens(rng);
	while (rng->tokens >= REQUEST_MAX && (popped = queue_pop(queue, &rng->chain)) > 0) {
		fill(rng, &rng->chain);
		queue_push(queue, rng->chain.head, rng->chain.written_at);
	}
	if (popped < 0) {
		virtio_device_failed(&rng->base, "ring");
		return;
	}
	virtio_device_signal(&rng->base, 0);
	if (rng->tokens < REQUEST_MAX)
		loop_timer_set(rng->base.loop, &rng->retry, REQUEST_MAX * NS_PER_BYTE);
}

static void retry(struct loop_timer *timer)
{
	struct rng *rng = timer->owner;

	if (rng->base.active)
		serve(rng);
}

static void rng_read_config(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	(void)device;
	(void)offset;
	memset(data, 0, size);
}

static int rng_activate(struct virtio_device *device, struct error *err)
{
	(void)device;
	(void)err;
	return 0;
}

static void rng_reset(struct virtio_device *device)
{
	(void)device;
}

static void rng_notify(struct virtio_device *device, unsigned queue)
{
	(void)queue;
	if (device->active)
		serve(rng_of(device));
}

static void rng_free(struct virtio_device *device)
{
	loop_timer_cancel(device->loop, &rng_of(device)->retry);
	free(device);
}

static const struct virtio_device_operations rng_operations = {
    .name = "rng",
    .id = VIRTIO_ID_RNG,
    .pci_class = 0x100000, /* encryption controller, as entropy sources present themselves */
    .queue_count = 1,
    .queue_size_max = QUEUE_SIZE,
    .read_config = rng_read_config,
    .activate = rng_activate,
    .reset = rng_reset,
    .notify = rng_notify,
    .free = rng_free,
};

struct virtio_device *rng_new(struct loop *loop, struct error *err)
{
	struct rng *rng = calloc(1, sizeof(*rng));

	if (!rng) {
		error_set_errno(err, "rng");
		return NULL;
	}
	rng->base.operations = &rng_operations;
	rng->base.loop = loop;
	rng->tokens = BUCKET_SIZE;
	rng->retry = (struct loop_timer){.handle = retry, .owner = rng};
	return &rng->base;
}
