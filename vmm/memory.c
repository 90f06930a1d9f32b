#include "vmm/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE_SIZE 4096u
#define LARGE_PAGE_SIZE (2ull << 20)
#define LOW_MEMORY_MAX (3ull << 30)
#define HIGH_MEMORY_START (4ull << 30)
#define REGIONS_MAX 2
/* The kernel's boot leaves a few pages here and there at the start of memory; large pages would be zeroed for nothing.
 */
#define SPARSE_MEMORY (32ull << 20)
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

struct region {
	uint64_t address; /* guest-physical */
	uint64_t size;
	uint8_t *host;
};

struct guest_memory {
	uint64_t size;
	uint8_t *mapping; /* all of the regions, one after the other */
	unsigned region_count;
	struct region regions[REGIONS_MAX];
};

static void add_region(struct guest_memory *memory, uint64_t address, uint64_t size, uint8_t *host)
{
	memory->regions[memory->region_count++] = (struct region){.address = address, .size = size, .host = host};
}

/*
 * What the guest never touches costs nothing, so nothing is reserved for it either: an overcommitted host should not
 * refuse a machine that will stay small. Aligned to large pages, since KVM maps one into the guest as a whole only
 * where guest-physical and host addresses are in step; otherwise each 4 KiB of it cost an exit of their own.
 */
static uint8_t *map_aligned(uint64_t size)
{
	uint8_t *raw, *start, *end;

	raw = mmap(NULL, size + LARGE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (raw == MAP_FAILED)
		return NULL;
	start = raw + (-(uintptr_t)raw & (LARGE_PAGE_SIZE - 1));
	end = raw + size + LARGE_PAGE_SIZE;
	if (start > raw)
		munmap(raw, (size_t)(start - raw));
	if (end > start + size)
		munmap(start + size, (size_t)(end - (start + size)));
	return start;
}

struct guest_memory *guest_memory_new(uint64_t size, struct error *err)
{
	uint64_t low = size < LOW_MEMORY_MAX ? size : LOW_MEMORY_MAX;
	struct guest_memory *memory;

	if (size == 0 || size % PAGE_SIZE != 0 || size > PTRDIFF_MAX - LARGE_PAGE_SIZE) {
		error_set(err, EINVAL, "guest memory of %" PRIu64 " bytes is not a multiple of the page size", size);
		return NULL;
	}
	memory = calloc(1, sizeof(*memory));
	if (memory)
		memory->mapping = map_aligned(size);
	if (!memory || !memory->mapping) {
		error_set_errno(err, "map %" PRIu64 " bytes of guest memory", size);
		free(memory);
		return NULL;
	}
	madvise(memory->mapping, size < SPARSE_MEMORY ? size : SPARSE_MEMORY, MADV_NOHUGEPAGE);
	memory->size = size;
	add_region(memory, 0, low, memory->mapping);
	if (size > low)
		add_region(memory, HIGH_MEMORY_START, size - low, memory->mapping + low);
	return memory;
}

void guest_memory_free(struct guest_memory *memory)
{
	if (!memory)
		return;
	munmap(memory->mapping, memory->size);
	free(memory);
}

uint64_t guest_memory_size(const struct guest_memory *memory)
{
	return memory->size;
}

void *guest_range(const struct guest_memory *memory, uint64_t address, uint64_t size)
{
	for (unsigned i = 0; i < memory->region_count; i++) {
		const struct region *region = &memory->regions[i];
		uint64_t offset = address - region->address;

		/* Written so that no sum of guest values can wrap around. */
		if (address < region->address || offset >= region->size)
			continue;
		return size <= region->size - offset ? region->host + offset : NULL;
	}
	return NULL;
}

bool guest_read(const struct guest_memory *memory, uint64_t address, void *data, size_t size)
{
	const void *host = guest_range(memory, address, size);

	if (!host)
		return false;
	memcpy(data, host, size);
	return true;
}

bool guest_write(const struct guest_memory *memory, uint64_t address, const void *data, size_t size)
{
	void *host = guest_range(memory, address, size);

	if (!host)
		return false;
	memcpy(host, data, size);
	return true;
}

/* A page beyond the end of a mapped file would end the process with SIGBUS at the first touch. */
static int check_file_range(int fd, uint64_t offset, uint64_t size, struct error *err)
{
	struct stat status;
	uint64_t end;

	if (fstat(fd, &status) < 0)
		return error_set_errno(err, "stat");
	if (!S_ISREG(status.st_mode))
		return error_set(err, EINVAL, "not a regular file");
	end = ((uint64_t)status.st_size + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
	if (offset > end || size > end - offset)
		return error_set(err, EINVAL, "%" PRIu64 " bytes at offset %" PRIu64 " are beyond the end of the file",
				 size, offset);
	return 0;
}

int guest_memory_map_file(struct guest_memory *memory, uint64_t address, uint64_t size, int fd, uint64_t offset,
			  struct error *err)
{
	void *host = guest_range(memory, address, size);

	if (size == 0 || (address | size | offset) % PAGE_SIZE != 0)
		return error_set(err, EINVAL, "map a file into guest memory: not in whole pages");
	if (!host)
		return error_set(err, ENOMEM, "%" PRIu64 " bytes at 0x%" PRIx64 " do not fit into guest memory", size,
				 address);
	if (check_file_range(fd, offset, size, err) < 0)
		return -1;
	if (mmap(host, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, (off_t)offset) ==
	    MAP_FAILED)
		return error_set_errno(err, "map a file into guest memory");
	return 0;
}

void guest_memory_will_write(struct guest_memory *memory, uint64_t address, uint64_t size)
{
	uint64_t start = address / PAGE_SIZE * PAGE_SIZE;
	uint64_t length = (size + (address - start) + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
	void *host = guest_range(memory, start, length);

	/* A host that does not know it does without. */
	if (host)
		madvise(host, length, MADV_POPULATE_WRITE);
}

bool guest_memory_region(const struct guest_memory *memory, unsigned index, uint64_t *address, uint64_t *size,
			 void **host)
{
	if (index >= memory->region_count)
		return false;
	*address = memory->regions[index].address;
	*size = memory->regions[index].size;
	*host = memory->regions[index].host;
	return true;
}
