#include "vmm/elf.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_SIZE 4096u
#define PROGRAM_HEADERS_MAX 32

struct elf_file {
	int fd;
	uint64_t size;
	Elf64_Ehdr header;
	Elf64_Phdr segments[PROGRAM_HEADERS_MAX];
};

static int bad(struct error *err, const char *what)
{
	return error_set(err, ENOEXEC, "not a usable kernel: %s", what);
}

static int read_at(int fd, void *data, size_t size, uint64_t offset, struct error *err)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(fd, (char *)data + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, "read");
		if (n == 0)
			return bad(err, "the file is truncated");
		done += (size_t)n;
	}
	return 0;
}

static int check_header(const Elf64_Ehdr *header, struct error *err)
{
	if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
		return bad(err, "no ELF file (a compressed bzImage cannot be used, the uncompressed vmlinux can)");
	if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
	    header->e_machine != EM_X86_64)
		return bad(err, "the ELF file is not for x86-64");
	if (header->e_ident[EI_VERSION] != EV_CURRENT || header->e_version != EV_CURRENT)
		return bad(err, "unknown ELF version");
	if (header->e_type != ET_EXEC)
		return bad(err, "the ELF file is not an executable");
	if (header->e_phentsize != sizeof(Elf64_Phdr))
		return bad(err, "the ELF program headers have a wrong size");
	if (header->e_phnum == 0 || header->e_phnum > PROGRAM_HEADERS_MAX)
		return error_set(err, ENOEXEC, "not a usable kernel: %u ELF program headers", header->e_phnum);
	return 0;
}

static int read_headers(struct elf_file *file, int fd, struct error *err)
{
	struct stat status;

	file->fd = fd;
	if (fstat(fd, &status) < 0)
		return error_set_errno(err, "stat");
	if (!S_ISREG(status.st_mode))
		return bad(err, "not a regular file");
	file->size = (uint64_t)status.st_size;
	if (read_at(fd, &file->header, sizeof(file->header), 0, err) < 0)
		return -1;
	if (check_header(&file->header, err) < 0)
		return -1;
	if (file->header.e_phoff > file->size)
		return bad(err, "the ELF program headers lie beyond the end of the file");
	return read_at(fd, file->segments, file->header.e_phnum * sizeof(Elf64_Phdr), file->header.e_phoff, err);
}

static int check_segment(const struct elf_file *file, unsigned index, uint64_t min, uint64_t max, struct error *err)
{
	const Elf64_Phdr *segment = &file->segments[index];

	if (segment->p_filesz > segment->p_memsz)
		return error_set(err, ENOEXEC, "not a usable kernel: segment %u holds more than its size", index);
	if (segment->p_offset > file->size || segment->p_filesz > file->size - segment->p_offset)
		return error_set(err, ENOEXEC,
				 "not a usable kernel: the file is truncated: segment %u needs %" PRIu64
				 " bytes at offset %" PRIu64 ", the file has %" PRIu64,
				 index, segment->p_filesz, segment->p_offset, file->size);
	if (segment->p_paddr < min || segment->p_paddr > max || segment->p_memsz > max - segment->p_paddr)
		return error_set(err, ENOMEM,
				 "the kernel does not fit into memory: segment %u needs 0x%" PRIx64
				 " bytes at 0x%" PRIx64 ", and there is room from 0x%" PRIx64 " to 0x%" PRIx64,
				 index, segment->p_memsz, segment->p_paddr, min, max);
	return 0;
}

static bool is_loaded(const Elf64_Phdr *segment)
{
	return segment->p_type == PT_LOAD && segment->p_memsz > 0;
}

/* Segments that lie over each other would make the order of loading decide what the guest sees. */
static int check_overlap(const struct elf_file *file, unsigned index, struct error *err)
{
	const Elf64_Phdr *segment = &file->segments[index];

	for (unsigned i = 0; i < index; i++) {
		const Elf64_Phdr *other = &file->segments[i];

		if (is_loaded(other) && segment->p_paddr < other->p_paddr + other->p_memsz &&
		    other->p_paddr < segment->p_paddr + segment->p_memsz)
			return error_set(err, ENOEXEC, "not a usable kernel: segments %u and %u overlap", i, index);
	}
	return 0;
}

static int check_segments(const struct elf_file *file, uint64_t min, uint64_t max, struct elf_image *image,
			  struct error *err)
{
	bool entry_found = false;

	*image = (struct elf_image){.entry = file->header.e_entry, .start = UINT64_MAX};
	for (unsigned i = 0; i < file->header.e_phnum; i++) {
		const Elf64_Phdr *segment = &file->segments[i];

		if (!is_loaded(segment))
			continue;
		if (check_segment(file, i, min, max, err) < 0 || check_overlap(file, i, err) < 0)
			return -1;
		if (segment->p_paddr < image->start)
			image->start = segment->p_paddr;
		if (segment->p_paddr + segment->p_memsz > image->end)
			image->end = segment->p_paddr + segment->p_memsz;
		if (image->entry >= segment->p_paddr && image->entry - segment->p_paddr < segment->p_filesz)
			entry_found = true;
	}
	if (image->end == 0)
		return bad(err, "the ELF file has nothing to load");
	if (!entry_found)
		return bad(err, "its entry point lies in no segment");
	return 0;
}

/* Copies file content that does not fill whole pages. */
static int copy_range(struct guest_memory *memory, const struct elf_file *file, uint64_t address, uint64_t offset,
		      uint64_t size, struct error *err)
{
	uint8_t page[PAGE_SIZE];

	while (size > 0) {
		size_t part = size < sizeof(page) ? (size_t)size : sizeof(page);

		if (read_at(file->fd, page, part, offset, err) < 0)
			return -1;
		if (!guest_write(memory, address, page, part))
			return error_set(err, ENOMEM, "the kernel does not fit into memory");
		address += part;
		offset += part;
		size -= part;
	}
	return 0;
}

/* The whole pages of a segment are mapped; the parts of pages at its ends, which it may share with its neighbours, are
 * copied, and so is everything when the file is not laid out in the same steps as memory. */
static int load_segment(struct guest_memory *memory, const struct elf_file *file, const Elf64_Phdr *segment,
			struct error *err)
{
	uint64_t start = segment->p_paddr, end = start + segment->p_filesz;
	uint64_t first_page = (start + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
	uint64_t last_page = end / PAGE_SIZE * PAGE_SIZE;

	if ((start - segment->p_offset) % PAGE_SIZE != 0 || first_page >= last_page)
		return copy_range(memory, file, start, segment->p_offset, segment->p_filesz, err);
	if (guest_memory_map_file(memory, first_page, last_page - first_page, file->fd,
				  segment->p_offset + (first_page - start), err) < 0)
		return -1;
	if (copy_range(memory, file, start, segment->p_offset, first_page - start, err) < 0)
		return -1;
	return copy_range(memory, file, last_page, segment->p_offset + (last_page - start), end - last_page, err);
}

int elf_load(struct guest_memory *memory, int fd, uint64_t min, uint64_t max, struct elf_image *image,
	     struct error *err)
{
	struct elf_file file = {0};

	if (read_headers(&file, fd, err) < 0 || check_segments(&file, min, max, image, err) < 0)
		return -1;
	for (unsigned i = 0; i < file.header.e_phnum; i++) {
		const Elf64_Phdr *segment = &file.segments[i];

		if (!is_loaded(segment))
			continue;
		if (load_segment(memory, &file, segment, err) < 0)
			return error_prefix(err, "load the kernel");
		if (segment->p_flags & PF_W)
			guest_memory_will_write(memory, segment->p_paddr, segment->p_memsz);
	}
	return 0;
}
