/*
 * Guest memory as a file: written when a machine is saved, mapped copy-on-write when one is restored, so that all
 * machines restored from it share the pages that they do not write.
 *
 * Pages that hold nothing but zeroes are left out. What remains is joined to at most MEMORY_EXTENTS_MAX pieces, each of
 * which costs a restore one mapping (small gaps of zeroes between them are written as well). The pieces lie in the file
 * one after the other, each at the next offset that is in step with its address modulo 2 MiB, so that whoever keeps the
 * file may have large pages under it. Nothing is mapped of the holes between them: memory outside of the pieces is
 * anonymous in a restored machine, since a hole of a file on tmpfs that is only read, or written privately, would be
 * filled for good in the file.
 *
 * One page behind the pieces says which state the file belongs to.
 *
 * What whoever makes and keeps the file has to see to: from the moment that it is complete it must neither become
 * shorter nor change. A page that is missing would end each machine that maps it, with SIGBUS, a changed one spoil it.
 * So memory_image_map takes a file only when it is sealed against both (memfd), or belongs to the user who started
 * this program and cannot be written by anyone (mode 0400): then nobody else can do it.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"
#include "vmm/memory.h"

#define MEMORY_EXTENTS_MAX 64
#define MEMORY_IMAGE_ID_SIZE 16

struct memory_extent {
	uint64_t address; /* guest-physical */
	uint64_t size;	  /* bytes */
	uint64_t offset;  /* in the file */
};

struct memory_image {
	uint8_t id[MEMORY_IMAGE_ID_SIZE]; /* random: file and state belong together */
	uint64_t count;
	struct memory_extent extents[MEMORY_EXTENTS_MAX];
};

/* Writes memory, which must not change meanwhile, into fd, an empty regular file, and describes it in image. */
int memory_image_write(const struct guest_memory *memory, int fd, struct memory_image *image, struct error *err);

/* Whether image can be a description of this memory. Pure. */
int memory_image_check(const struct memory_image *image, const struct guest_memory *memory, struct error *err);

/* Checks both and maps the file privately into memory, which must be new. fd stays the caller's. */
int memory_image_map(struct guest_memory *memory, const struct memory_image *image, int fd, struct error *err);
