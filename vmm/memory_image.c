/*
 * System calls at run time (writing): fstat, madvise, pwrite64, getrandom; mmap, munmap, brk (a bit for each page).
 */
#include "vmm/memory_image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

#define PAGE_SIZE 4096u
#define LARGE_PAGE_SIZE (2ull << 20)
#define MEMORY_GAP 64 /* pages of zeroes that are written rather than end a piece: a mapping costs a start more */
#define POPULATE_SIZE (2ull << 20)
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

static const char magic[8] = "hullmem";

struct trailer {
	char magic[8];
	uint8_t id[MEMORY_IMAGE_ID_SIZE];
	uint8_t filling[PAGE_SIZE - sizeof(magic) - MEMORY_IMAGE_ID_SIZE];
};

/* --- writing -------------------------------------------------------------------------------------------------------
 */

/* One region of memory, and which of its pages hold something. */
struct used_pages {
	uint64_t address;
	const uint8_t *host;
	uint64_t count;
	uint64_t *bits;
};

static bool is_used(const struct used_pages *pages, uint64_t page)
{
	return pages->bits[page / 64] >> (page % 64) & 1;
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE_SIZE - 1) == 0;
}

/* A page that was never touched would cost an exception of its own to find that out. */
static void populate(const struct used_pages *pages, uint64_t page)
{
	uint64_t start = page * PAGE_SIZE, left = pages->count * PAGE_SIZE - start;

	if (start % POPULATE_SIZE == 0)
		madvise((void *)(pages->host + start), left < POPULATE_SIZE ? left : POPULATE_SIZE, MADV_POPULATE_READ);
}

static int find_used(struct used_pages *pages, struct error *err)
{
	pages->bits = calloc((pages->count + 63) / 64, sizeof(*pages->bits));
	if (!pages->bits)
		return error_set_errno(err, "look through guest memory");
	for (uint64_t page = 0; page < pages->count; page++) {
		populate(pages, page);
		if (!is_zero(pages->host + page * PAGE_SIZE))
			pages->bits[page / 64] |= 1ull << (page % 64);
	}
	return 0;
}

struct run {
	uint64_t first, end; /* pages */
};

static uint64_t next_page(const struct used_pages *pages, uint64_t page, bool used)
{
	while (page < pages->count && is_used(pages, page) != used)
		page++;
	return page;
}

/* The next run from run->end on, with gaps of up to `gap` pages taken along. */
static bool next_run(const struct used_pages *pages, uint64_t gap, struct run *run)
{
	run->first = next_page(pages, run->end, true);
	run->end = next_page(pages, run->first, false);
	for (;;) {
		uint64_t next = next_page(pages, run->end, true);

		if (next == pages->count || next - run->end > gap)
			return run->first < pages->count;
		run->end = next_page(pages, next, false);
	}
}

#define REGIONS_MAX 2

struct survey {
	struct used_pages regions[REGIONS_MAX];
	unsigned region_count;
};

/* The next place in the file from `offset` on that is in step with the address, so that a large page can hold both. */
static uint64_t place_of(uint64_t address, uint64_t offset)
{
	return offset + ((address - offset) & (LARGE_PAGE_SIZE - 1));
}

/* Fills in the extents; false when there are more than can be. */
static bool make_extents(const struct survey *survey, uint64_t gap, struct memory_image *image)
{
	uint64_t offset = 0;

	image->count = 0;
	for (unsigned i = 0; i < survey->region_count; i++) {
		const struct used_pages *pages = &survey->regions[i];
		struct run run = {0};

		while (next_run(pages, gap, &run)) {
			uint64_t size = (run.end - run.first) * PAGE_SIZE;
			uint64_t address = pages->address + run.first * PAGE_SIZE;

			if (image->count == MEMORY_EXTENTS_MAX)
				return false;
			offset = place_of(address, offset);
			image->extents[image->count++] =
			    (struct memory_extent){.address = address, .size = size, .offset = offset};
			offset += size;
		}
	}
	return true;
}

static void survey_free(struct survey *survey)
{
	for (unsigned i = 0; i < survey->region_count; i++)
		free(survey->regions[i].bits);
	survey->region_count = 0;
}

static int survey_memory(const struct guest_memory *memory, struct survey *survey, struct error *err)
{
	uint64_t address, size;
	void *host;

	*survey = (struct survey){0};
	while (survey->region_count < REGIONS_MAX &&
	       guest_memory_region(memory, survey->region_count, &address, &size, &host)) {
		struct used_pages *pages = &survey->regions[survey->region_count++];

		*pages = (struct used_pages){.address = address, .host = host, .count = size / PAGE_SIZE};
		if (find_used(pages, err) < 0) {
			survey_free(survey);
			return -1;
		}
	}
	return 0;
}

static int write_at(int fd, const uint8_t *data, uint64_t size, uint64_t offset, struct error *err)
{
	while (size > 0) {
		ssize_t put = pwrite(fd, data, size < INT32_MAX ? size : 1u << 30, (off_t)offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return error_set_errno(err, "write the memory file");
		data += put;
		offset += (uint64_t)put;
		size -= (uint64_t)put;
	}
	return 0;
}

static uint64_t image_size(const struct memory_image *image)
{
	const struct memory_extent *last;

	if (image->count == 0)
		return 0;
	last = &image->extents[image->count - 1];
	return last->offset + last->size;
}

static int write_trailer(const struct memory_image *image, int fd, struct error *err)
{
	struct trailer trailer = {0};

	memcpy(trailer.magic, magic, sizeof(magic));
	memcpy(trailer.id, image->id, sizeof(trailer.id));
	return write_at(fd, (const uint8_t *)&trailer, sizeof(trailer), image_size(image), err);
}

static int check_target(int fd, struct error *err)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return error_set_errno(err, "memory file");
	if (!S_ISREG(status.st_mode) || status.st_size != 0)
		return error_set(err, EINVAL, "memory file: not an empty regular file");
	return 0;
}

int memory_image_write(const struct guest_memory *memory, int fd, struct memory_image *image, struct error *err)
{
	__attribute__((cleanup(survey_free))) struct survey survey = {0};
	uint64_t gap = MEMORY_GAP;

	memset(image, 0, sizeof(*image));
	if (check_target(fd, err) < 0)
		return -1;
	if (getrandom(image->id, sizeof(image->id), GRND_NONBLOCK) != (ssize_t)sizeof(image->id))
		return error_set_errno(err, "memory file: random bytes");
	if (survey_memory(memory, &survey, err) < 0)
		return -1;
	while (!make_extents(&survey, gap, image))
		gap *= 2;
	for (uint64_t i = 0; i < image->count; i++) {
		const struct memory_extent *extent = &image->extents[i];

		if (write_at(fd, guest_range(memory, extent->address, extent->size), extent->size, extent->offset,
			     err) < 0)
			return -1;
	}
	return write_trailer(image, fd, err);
}

/* --- mapping -------------------------------------------------------------------------------------------------------
 */

int memory_image_check(const struct memory_image *image, const struct guest_memory *memory, struct error *err)
{
	uint64_t address = 0, offset = 0;

	if (image->count > MEMORY_EXTENTS_MAX)
		return error_set(err, EINVAL, "more than %d pieces of memory", MEMORY_EXTENTS_MAX);
	for (uint64_t i = 0; i < image->count; i++) {
		const struct memory_extent *extent = &image->extents[i];

		/* In order, so that none overlaps another. */
		if (extent->size == 0 || (extent->address | extent->size) % PAGE_SIZE != 0 ||
		    extent->address < address || extent->offset != place_of(extent->address, offset) ||
		    !guest_range(memory, extent->address, extent->size))
			return error_set(err, EINVAL, "piece %" PRIu64 " of memory cannot be at 0x%" PRIx64, i,
					 extent->address);
		address = extent->address + extent->size;
		offset = extent->offset + extent->size;
	}
	return 0;
}

/* See the head of memory_image.h. */
static int check_constant(int fd, const struct stat *status, struct error *err)
{
	const int needed = F_SEAL_SHRINK | F_SEAL_WRITE;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals >= 0 && (seals & needed) == needed)
		return 0;
	if (status->st_uid != geteuid())
		return error_set(err, EPERM, "belongs to user %u, not to %u", status->st_uid, geteuid());
	if (status->st_mode & 0222)
		return error_set(err, EPERM, "could still be changed: neither sealed nor of mode 0400");
	return 0;
}

static int check_file(const struct memory_image *image, int fd, struct error *err)
{
	struct trailer trailer;
	struct stat status;

	if (fstat(fd, &status) < 0)
		return error_set_errno(err, "stat");
	if (!S_ISREG(status.st_mode))
		return error_set(err, EINVAL, "not a regular file");
	if (check_constant(fd, &status, err) < 0)
		return -1;
	if ((uint64_t)status.st_size != image_size(image) + sizeof(trailer))
		return error_set(err, EINVAL, "has %lld bytes, not %" PRIu64, (long long)status.st_size,
				 image_size(image) + sizeof(trailer));
	if (pread(fd, &trailer, sizeof(trailer), (off_t)image_size(image)) != (ssize_t)sizeof(trailer))
		return error_set_errno(err, "read");
	if (memcmp(trailer.magic, magic, sizeof(magic)) != 0 || memcmp(trailer.id, image->id, sizeof(trailer.id)) != 0)
		return error_set(err, EINVAL, "belongs to another state");
	return 0;
}

int memory_image_map(struct guest_memory *memory, const struct memory_image *image, int fd, struct error *err)
{
	if (memory_image_check(image, memory, err) < 0)
		return -1;
	if (check_file(image, fd, err) < 0)
		return error_prefix(err, "memory file");
	for (uint64_t i = 0; i < image->count; i++) {
		const struct memory_extent *extent = &image->extents[i];

		if (guest_memory_map_file(memory, extent->address, extent->size, fd, extent->offset, err) < 0)
			return error_prefix(err, "memory file");
	}
	return 0;
}
