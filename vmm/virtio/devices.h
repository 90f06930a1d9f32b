/*
 * Constructors of the devices that need no more than that; each is a file of its own name. The device belongs to the
 * caller, who frees it through operations->free.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "vmm/loop.h"
#include "vmm/virtio/device.h"

/* An entropy source (virtio 1.2, section 5.4), fed from the host kernel at a bounded rate. */
struct virtio_device *rng_new(struct loop *loop, struct error *err);

#define BLK_SERIAL_MAX 20 /* bytes of a serial number, virtio 1.2 section 5.2.6.1 */

/* A disk (virtio 1.2, section 5.2) on a regular file or block device; its size is taken now. fd is taken over when it
 * succeeds. serial may be NULL; longer than BLK_SERIAL_MAX is refused with EINVAL. */
struct virtio_device *blk_new(int fd, bool readonly, const char *serial, struct loop *loop, struct error *err);
