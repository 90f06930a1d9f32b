/*
 * A driver of virtio devices for tests: guest memory, an event loop, and the guest's side of the split rings, so that a
 * device can be driven, well or badly, without a virtual machine. Include it once a program: it also stands in for the
 * transport (virtio_device_signal and its like), and counts what the device tells it.
 *
 * Each chain has a slot of SLOT_BUFFERS descriptors; the head is the slot's first. Buffers come from a simple allocator
 * that never frees: driver_mark and driver_release give back what a step took.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_ring.h>

#include "vmm/loop.h"
#include "vmm/memory.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"

#define DRIVER_MEMORY (16u << 20)
#define SLOT_BUFFERS 4

struct driver_ring {
	uint16_t size;
	uint16_t available; /* free-running */
	uint16_t used_seen;
	uint64_t descriptors_at, available_at, used_at; /* guest-physical */
	bool busy[QUEUE_SIZE_MAX / SLOT_BUFFERS];	/* slots */
};

struct driver {
	struct guest_memory *memory;
	struct loop *loop;
	struct virtio_device *device;
	struct driver_ring rings[VIRTIO_QUEUES_MAX];
	uint64_t next_address;
	struct loop_timer tick;
	unsigned signals[VIRTIO_QUEUES_MAX];
	bool failed; /* DEVICE_NEEDS_RESET */
	bool direct; /* the vCPU answers the doorbell first, where the device can do that */
	bool late;   /* and the loop's thread, where it is needed, only at the next doorbell */
};

struct buffer {
	uint64_t address;
	uint32_t size;
	bool writable;
};

static struct driver *driver_of_device; /* one device a test program at a time */

void virtio_device_signal(struct virtio_device *device, unsigned queue)
{
	if (queue_needs_interrupt(&device->queues[queue]))
		driver_of_device->signals[queue]++;
}

void virtio_device_config_changed(struct virtio_device *device)
{
	(void)device;
}

void virtio_device_failed(struct virtio_device *device, const char *reason)
{
	(void)reason;
	driver_of_device->failed = true;
	device->active = false;
}

static inline void driver_must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "driver: %s\n", what);
	abort();
}

static inline uint64_t driver_alloc(struct driver *driver, uint32_t size)
{
	uint64_t address = driver->next_address;

	driver->next_address += (size + 63u) & ~63u;
	driver_must(driver->next_address <= DRIVER_MEMORY, "guest memory is used up");
	return address;
}

static inline uint64_t driver_mark(const struct driver *driver)
{
	return driver->next_address;
}

static inline void driver_release(struct driver *driver, uint64_t mark)
{
	driver->next_address = mark;
}

/* Memory and loop; then make the device with driver->loop and give it to driver_start. */
static inline void driver_init(struct driver *driver)
{
	memset(driver, 0, sizeof(*driver));
	driver->memory = guest_memory_new(DRIVER_MEMORY, NULL);
	driver->loop = loop_new(NULL);
	driver_must(driver->memory && driver->loop, "set-up");
	driver->next_address = 4096;
	driver_of_device = driver;
}

static inline void driver_start_queue(struct driver *driver, unsigned index, uint16_t size)
{
	struct driver_ring *ring = &driver->rings[index];
	struct queue *queue = &driver->device->queues[index];

	memset(ring, 0, sizeof(*ring));
	ring->size = size;
	ring->descriptors_at = driver_alloc(driver, size * (uint32_t)sizeof(struct vring_desc));
	ring->available_at = driver_alloc(driver, 6u + 2u * size);
	ring->used_at = driver_alloc(driver, 6u + 8u * size);
	for (uint64_t at = ring->available_at; at < driver->next_address; at += 2)
		guest_write(driver->memory, at, &(uint16_t){0}, 2);
	queue_reset(queue);
	queue->size = size;
	queue->descriptors = ring->descriptors_at;
	queue->available = ring->available_at;
	queue->used = ring->used_at;
	driver_must(queue_start(queue, driver->memory) == 0, "queue_start");
}

/* DRIVER_OK, with all queues at their largest size. */
static inline void driver_start(struct driver *driver, struct virtio_device *device)
{
	driver->device = device;
	driver->failed = false;
	for (unsigned i = 0; i < device->operations->queue_count; i++)
		driver_start_queue(driver, i, device->operations->queue_size_max);
	device->active = true;
	driver_must(device->operations->activate(device, NULL) == 0, "activate");
}

static inline void driver_reset_device(struct driver *driver)
{
	struct virtio_device *device = driver->device;

	device->active = false;
	device->operations->reset(device);
	for (unsigned i = 0; i < device->operations->queue_count; i++)
		queue_reset(&device->queues[i]);
}

static inline void driver_free(struct driver *driver)
{
	if (driver->device)
		driver->device->operations->free(driver->device);
	loop_free(driver->loop);
	guest_memory_free(driver->memory);
}

/* Writes one descriptor as it is. */
static inline void driver_descriptor(struct driver *driver, unsigned queue, uint16_t index,
				     struct vring_desc descriptor)
{
	guest_write(driver->memory, driver->rings[queue].descriptors_at + 16u * index, &descriptor, sizeof(descriptor));
}

/* Makes a head available as it is. */
static inline void driver_offer(struct driver *driver, unsigned queue, uint16_t head)
{
	struct driver_ring *ring = &driver->rings[queue];
	uint16_t slot = ring->available & (ring->size - 1);

	guest_write(driver->memory, ring->available_at + 4 + 2u * slot, &head, 2);
	ring->available++;
	guest_write(driver->memory, ring->available_at + 2, &ring->available, 2);
}

/* Makes a chain of up to SLOT_BUFFERS buffers available. Returns its head, or -1 when all slots are in use. */
static inline int driver_add(struct driver *driver, unsigned queue, const struct buffer *buffers, unsigned count)
{
	struct driver_ring *ring = &driver->rings[queue];
	unsigned slot = 0;
	uint16_t head;

	driver_must(count > 0 && count <= SLOT_BUFFERS, "buffers of a chain");
	while (slot < ring->size / SLOT_BUFFERS && ring->busy[slot])
		slot++;
	if (slot == ring->size / SLOT_BUFFERS)
		return -1;
	ring->busy[slot] = true;
	head = (uint16_t)(slot * SLOT_BUFFERS);
	for (unsigned i = 0; i < count; i++)
		driver_descriptor(driver, queue, (uint16_t)(head + i),
				  (struct vring_desc){
				      .addr = buffers[i].address,
				      .len = buffers[i].size,
				      .flags = (uint16_t)((buffers[i].writable ? VRING_DESC_F_WRITE : 0) |
							  (i + 1 < count ? VRING_DESC_F_NEXT : 0)),
				      .next = (uint16_t)(head + i + 1),
				  });
	driver_offer(driver, queue, head);
	return head;
}

static inline void driver_kick(struct driver *driver, unsigned queue)
{
	const struct virtio_device_operations *operations = driver->device->operations;

	if (!driver->device->active)
		return;
	if (driver->direct && operations->notify_directly &&
	    (operations->notify_directly(driver->device, queue) || driver->late))
		return;
	operations->notify(driver->device, queue);
}

/* The next used element; false when there is none. */
static inline bool driver_used(struct driver *driver, unsigned queue, uint16_t *head, uint32_t *length)
{
	struct driver_ring *ring = &driver->rings[queue];
	uint16_t index;
	uint32_t element[2];

	guest_read(driver->memory, ring->used_at + 2, &index, 2);
	if (index == ring->used_seen)
		return false;
	guest_read(driver->memory, ring->used_at + 4 + 8u * (ring->used_seen & (ring->size - 1)), element, 8);
	ring->used_seen++;
	/* A hostile driver may have had its own ring overwritten. */
	*head = (uint16_t)(element[0] & (ring->size - 1u));
	*length = element[1];
	ring->busy[*head / SLOT_BUFFERS] = false;
	return true;
}

static inline void driver_tick(struct loop_timer *timer)
{
	struct driver *driver = timer->owner;

	loop_stop(driver->loop, 0);
}

/* Lets the loop run for some milliseconds; 0: what is ready now. */
static inline void driver_run(struct driver *driver, unsigned milliseconds)
{
	driver->tick.handle = driver_tick;
	driver->tick.owner = driver;
	loop_timer_set(driver->loop, &driver->tick, milliseconds * 1000000ull);
	loop_run(driver->loop);
}
