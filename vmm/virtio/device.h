/*
 * What a virtio device is to the transport (vmm/virtio/pci.c): an operations table and its queues. All operations run
 * on the loop's thread. (virtio 1.2, section 2.)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "vmm/loop.h"
#include "vmm/memory.h"
#include "vmm/state.h"
#include "vmm/virtio/queue.h"

#define VIRTIO_QUEUES_MAX 8

struct virtio_device;

struct virtio_device_operations {
	const char *name;   /* as in log lines: "blk" */
	uint16_t id;	    /* virtio 1.2, section 5 */
	uint32_t pci_class; /* class code, 24 bits */
	unsigned queue_count;
	uint16_t queue_size_max;

	/* Reads size (1 to 8) bytes of the device's configuration space; offset and size are guest input: what lies
	 * outside reads as 0. */
	void (*read_config)(struct virtio_device *device, uint32_t offset, void *data, uint32_t size);
	/* NULL where nothing is writable. */
	void (*write_config)(struct virtio_device *device, uint32_t offset, const void *data, uint32_t size);

	/* NULL, or whether the device can do with these features, of those that were offered. */
	bool (*accepts)(const struct virtio_device *device, uint64_t features);
	/* DRIVER_OK: queues are started, device->features holds what was negotiated. */
	int (*activate)(struct virtio_device *device, struct error *err);
	/* Forget everything the guest had set up: requests in flight are waited for or given up; no queue is touched
	 * afterwards. */
	void (*reset)(struct virtio_device *device);
	/* The doorbell of a queue: new chains may be there. */
	void (*notify)(struct virtio_device *device, unsigned queue);
	/* NULL, or the same on the thread of the vCPU that rings, with the loop's lock held: does what can be done
	 * without waiting for long. False when notify has to go on, on the loop's thread. Spares the way over that
	 * thread where the guest waits for the answer; must do with the system calls of a vCPU's thread (vmm/jail.c).
	 */
	bool (*notify_directly)(struct virtio_device *device, unsigned queue);
	void (*free)(struct virtio_device *device);

	/* The vCPUs stand still and the machine is to be saved: afterwards no chain is in flight and nothing is owed to
	 * the guest. Fails, with the reason, when that cannot be. NULL: that is always so. */
	int (*quiesce)(struct virtio_device *device, struct error *err);
	/* The device's own state, beyond features and queues; NULL: there is none. Restored values are checked like
	 * what a guest writes. */
	void (*save)(const struct virtio_device *device, struct state_writer *writer);
	int (*restore)(struct virtio_device *device, struct state_reader *reader, struct error *err);
};

/* Embedded as the first member in each device's own struct. */
struct virtio_device {
	const struct virtio_device_operations *operations;
	uint64_t offered;  /* feature bits offered, VIRTIO_F_VERSION_1 and RING_EVENT_IDX are added by the transport */
	uint64_t features; /* negotiated */
	struct queue queues[VIRTIO_QUEUES_MAX];
	struct loop *loop;
	bool active;	 /* between DRIVER_OK and reset, and not failed */
	void *transport; /* of vmm/virtio/pci.c */
};

/* Interrupts the guest for a queue if it wants that: call after pushing a batch. */
void virtio_device_signal(struct virtio_device *device, unsigned queue);
/* The configuration space has changed: raises the configuration interrupt. */
void virtio_device_config_changed(struct virtio_device *device);
/* The guest broke the rules: sets DEVICE_NEEDS_RESET and stops serving the device until the driver resets it. The VMM
 * lives on. */
void virtio_device_failed(struct virtio_device *device, const char *reason);
