/*
 * Loads an uncompressed kernel (vmlinux, a 64-bit little-endian ELF executable) into guest memory, by mapping its pages
 * instead of copying them. The file may hold anything: everything in it is checked before it is used, and what is wrong
 * with it is one error.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"
#include "vmm/memory.h"

struct elf_image {
	uint64_t entry; /* guest-physical addresses */
	uint64_t start;
	uint64_t end; /* behind the last byte of any segment */
};

/* Places the LOAD segments of fd at their physical addresses, all of which have to lie in [min, max) of RAM. What a
 * segment holds beyond its file content is left as it is: guest memory is zero at first. fd stays the caller's; the
 * file must not change while the guest lives. */
int elf_load(struct guest_memory *memory, int fd, uint64_t min, uint64_t max, struct elf_image *image,
	     struct error *err);
