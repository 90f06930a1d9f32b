/*
 * Block devices and image files of the host that a container gets: each becomes a disk of the virtual machine
 * (virtio-blk), known to the agent by its serial number.
 *
 *   root.path            a block device or an image file: the root file system is on it
 *   mounts[]             of a type that is a file system on a disk, with such a source
 *   linux.devices[]      type b: the host's device with these numbers, where it exists and holds something; the node in
 *                        the container has the guest's numbers
 *   annotations          hull.disk.NAME: "PATH" or "PATH,ro": the device /dev/NAME in the container
 *
 * Whoever writes an image or mounts a device holds it alone: an image file is locked (flock) for as long as its machine
 * lives, a device that is to be mounted is opened exclusively.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "runtime/spec.h"

#define DISKS_MAX 24 /* places on the machine's bus */
#define DISK_SERIAL_SIZE 12

enum disk_use { DISK_ROOTFS, DISK_MOUNT, DISK_DEVICE, DISK_NAMED };

struct disk {
	char serial[DISK_SERIAL_SIZE];
	int fd;
	bool read_only;
	enum disk_use use;
	size_t index;	  /* into spec.mounts or spec.linux.devices */
	const char *name; /* DISK_NAMED: belongs to the spec */
};

struct disks {
	struct disk list[DISKS_MAX];
	size_t n;
};

void disks_release(struct disks *disks);

/* Opens them all, relative paths below the bundle. Errors name the field. */
int disks_open(const struct spec *spec, int bundle, struct disks *disks, struct error *err);

/* Whether root.path, opened, is such an image or device rather than a directory. */
bool disk_is_image(int fd);
