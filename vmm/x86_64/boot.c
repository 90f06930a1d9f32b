#include "vmm/x86_64/boot.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "vmm/elf.h"
#include "vmm/x86_64/mptable.h"

#define PAGE_SIZE 4096u
#define LARGE_PAGE_SIZE (2ull << 20)
#define IDENTITY_MAPPED (1ull << 30) /* bytes: what one page directory covers */
#define SEED_SIZE 64

#define E820_RAM 1
#define E820_RESERVED 2

#define PAGE_PRESENT 1u
#define PAGE_WRITABLE 2u
#define PAGE_LARGE 0x80u

static int write_at(struct guest_memory *memory, uint64_t address, const void *data, size_t size, struct error *err)
{
	if (!guest_write(memory, address, data, size))
		return error_set(err, ENOMEM, "guest memory is too small");
	return 0;
}

/* The first GiB at its own addresses; the kernel makes its own tables soon after its entry. */
static int write_page_tables(struct guest_memory *memory, struct error *err)
{
	uint64_t tables[3][512] = {{0}};

	tables[0][0] = (BOOT_PAGE_TABLES + PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITABLE;
	tables[1][0] = (BOOT_PAGE_TABLES + 2 * PAGE_SIZE) | PAGE_PRESENT | PAGE_WRITABLE;
	for (unsigned i = 0; i < 512; i++)
		tables[2][i] = i * LARGE_PAGE_SIZE | PAGE_PRESENT | PAGE_WRITABLE | PAGE_LARGE;
	return write_at(memory, BOOT_PAGE_TABLES, tables, sizeof(tables), err);
}

/* What the registers of vmm/x86_64/vcpu.c refer to: flat code and data, and a task that is never switched to. */
static int write_gdt(struct guest_memory *memory, struct error *err)
{
	static const uint64_t gdt[BOOT_GDT_ENTRIES] = {
	    [BOOT_CODE_SELECTOR / 8] = 0x00af9b000000ffff,
	    [BOOT_DATA_SELECTOR / 8] = 0x00cf93000000ffff,
	    [BOOT_TASK_SELECTOR / 8] = 0x00008b0000000067,
	};

	return write_at(memory, BOOT_GDT, gdt, sizeof(gdt), err);
}

static void add_e820(struct boot_params *params, uint64_t start, uint64_t end, uint32_t type)
{
	if (end > start)
		params->e820_table[params->e820_entries++] =
		    (struct boot_e820_entry){.addr = start, .size = end - start, .type = type};
}

static void fill_memory_map(struct boot_params *params, const struct guest_memory *memory)
{
	uint64_t address, size;
	void *host;

	add_e820(params, 0, BOOT_MP_TABLE, E820_RAM);
	add_e820(params, BOOT_MP_TABLE, BOOT_HIGH_MEMORY, E820_RESERVED);
	for (unsigned i = 0; guest_memory_region(memory, i, &address, &size, &host); i++)
		add_e820(params, address < BOOT_HIGH_MEMORY ? BOOT_HIGH_MEMORY : address, address + size, E820_RAM);
}

/* Random bytes for the kernel's generator, so that it is ready at once, also where the CPU has none to offer. */
static int write_seed(struct guest_memory *memory, struct boot_params *params, struct error *err)
{
	struct setup_data header = {.type = SETUP_RNG_SEED, .len = SEED_SIZE};
	uint8_t seed[SEED_SIZE];

	if (getrandom(seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
		return 0; /* the host itself has none yet: the guest has virtio-rng still */
	params->hdr.setup_data = BOOT_SETUP_DATA;
	if (write_at(memory, BOOT_SETUP_DATA, &header, sizeof(header), err) < 0)
		return -1;
	return write_at(memory, BOOT_SETUP_DATA + sizeof(header), seed, sizeof(seed), err);
}

static uint64_t low_memory_end(const struct guest_memory *memory)
{
	uint64_t address, size;
	void *host;

	return guest_memory_region(memory, 0, &address, &size, &host) ? size : 0;
}

static uint64_t whole_pages(uint64_t size)
{
	return (size + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
}

/* The initramfs is mapped to the end of low memory, as far as possible from where the kernel unpacks it to. */
static int load_initramfs(struct guest_memory *memory, int fd, uint64_t kernel_end, struct boot_params *params,
			  struct error *err)
{
	uint64_t end = low_memory_end(memory), size;
	struct stat status;

	if (fstat(fd, &status) < 0)
		return error_set_errno(err, "initramfs");
	size = S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0;
	if (size == 0)
		return error_set(err, EINVAL, "initramfs: empty, or not a regular file");
	if (size > UINT32_MAX || whole_pages(size) > end || end - whole_pages(size) < whole_pages(kernel_end))
		return error_set(err, ENOMEM, "initramfs: %" PRIu64 " bytes do not fit into the guest's memory", size);
	if (guest_memory_map_file(memory, end - whole_pages(size), whole_pages(size), fd, 0, err) < 0)
		return error_prefix(err, "initramfs");
	params->hdr.ramdisk_image = (uint32_t)(end - whole_pages(size));
	params->hdr.ramdisk_size = (uint32_t)size;
	return 0;
}

static int write_command_line(struct guest_memory *memory, const char *line, struct boot_params *params,
			      struct error *err)
{
	size_t length = strlen(line);

	if (length > COMMAND_LINE_MAX)
		return error_set(err, E2BIG, "kernel command line: %zu characters, at most %d are possible", length,
				 COMMAND_LINE_MAX);
	params->hdr.cmd_line_ptr = BOOT_COMMAND_LINE;
	params->hdr.cmdline_size = COMMAND_LINE_MAX;
	return write_at(memory, BOOT_COMMAND_LINE, line, length + 1, err);
}

static void fill_header(struct boot_params *params)
{
	params->hdr.boot_flag = 0xaa55;
	params->hdr.header = 0x53726448; /* "HdrS" */
	params->hdr.version = 0x020f;
	params->hdr.type_of_loader = 0xff; /* none that has a number */
	params->hdr.loadflags = LOADED_HIGH;
	params->hdr.kernel_alignment = 0x1000000;
}

int boot_load(struct guest_memory *memory, const struct boot_options *options, struct boot_image *image,
	      struct error *err)
{
	struct boot_params params = {0};
	uint64_t room = low_memory_end(memory);
	struct elf_image kernel;

	if (room > IDENTITY_MAPPED)
		room = IDENTITY_MAPPED;
	if (elf_load(memory, options->kernel_fd, BOOT_HIGH_MEMORY, room, &kernel, err) < 0)
		return error_prefix(err, "kernel");
	fill_header(&params);
	fill_memory_map(&params, memory);
	if (load_initramfs(memory, options->initramfs_fd, kernel.end, &params, err) < 0 ||
	    write_command_line(memory, options->command_line, &params, err) < 0 ||
	    write_seed(memory, &params, err) < 0 || mptable_write(memory, options->vcpu_count, err) < 0 ||
	    write_page_tables(memory, err) < 0 || write_gdt(memory, err) < 0)
		return -1;
	image->entry = kernel.entry;
	return write_at(memory, BOOT_PARAMS, &params, sizeof(params), err);
}
