/*
 * Guest memory, and the only way to it.
 *
 * Device code never holds a pointer into guest memory: it asks these functions, which check every address and length,
 * or it uses a chain of vmm/virtio/queue.h, which was checked when it was taken from the ring. The guest may change its
 * memory at any time, so a value that decides something is copied out once and used from the copy.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/error.h"

struct guest_memory;

/* Makes size bytes (a multiple of 4096) of zeroed guest memory. Up to 3 GiB lie at guest-physical 0; what is beyond
 * lies from 4 GiB on, leaving the hole below 4 GiB to devices. Returns NULL on failure. */
struct guest_memory *guest_memory_new(uint64_t size, struct error *err);
void guest_memory_free(struct guest_memory *memory);
uint64_t guest_memory_size(const struct guest_memory *memory);

/* Copy between guest-physical memory and the host's. False, and nothing copied, unless all of [address, address + size)
 * is RAM. */
bool guest_read(const struct guest_memory *memory, uint64_t address, void *data, size_t size);
bool guest_write(const struct guest_memory *memory, uint64_t address, const void *data, size_t size);

/* For the ring code only (vmm/virtio/queue.c): the host address of a range that lies wholly in one region of RAM, or
 * NULL. */
void *guest_range(const struct guest_memory *memory, uint64_t address, uint64_t size);

/* Maps [offset, offset + size) of file privately over guest memory at address, all page-aligned: the kernel and the
 * initramfs get there without being copied. */
int guest_memory_map_file(struct guest_memory *memory, uint64_t address, uint64_t size, int fd, uint64_t offset,
			  struct error *err);

/* A hint: the guest will write all of this soon. Gives it its pages at once: one call costs less than an exit for the
 * first read of each page and another for its first write. */
void guest_memory_will_write(struct guest_memory *memory, uint64_t address, uint64_t size);

/* The regions for KVM's memslots: fills guest address, size and host address of region index; false when there is none.
 */
bool guest_memory_region(const struct guest_memory *memory, unsigned index, uint64_t *address, uint64_t *size,
			 void **host);
