/* The kernel loader: good files land where they should, every kind of bad file is one error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/elf.h"
#include "vmm/x86_64/boot.h"

#define MIB (1ull << 20)
#define MIN MIB
#define MAX (8 * MIB)
#define FILE_SIZE 40000

/* A file with two segments: one in step with memory and one that is not, as they are to be told apart. */
struct image {
	struct {
		Elf64_Ehdr header;
		Elf64_Phdr segments[3];
	} head;
	int fd;
	struct guest_memory *memory;
};

static void write_head(struct image *image)
{
	assert_int_equal(pwrite(image->fd, &image->head, sizeof(image->head), 0), sizeof(image->head));
}

static int setup(void **state)
{
	static struct image image;
	uint8_t data[FILE_SIZE];
	struct error err;

	memset(&image, 0, sizeof(image));
	memcpy(image.head.header.e_ident, ELFMAG, SELFMAG);
	image.head.header.e_ident[EI_CLASS] = ELFCLASS64;
	image.head.header.e_ident[EI_DATA] = ELFDATA2LSB;
	image.head.header.e_ident[EI_VERSION] = EV_CURRENT;
	image.head.header.e_type = ET_EXEC;
	image.head.header.e_machine = EM_X86_64;
	image.head.header.e_version = EV_CURRENT;
	image.head.header.e_entry = MIB + 0x10;
	image.head.header.e_phoff = sizeof(Elf64_Ehdr);
	image.head.header.e_phentsize = sizeof(Elf64_Phdr);
	image.head.header.e_phnum = 3;
	image.head.segments[0] =
	    (Elf64_Phdr){.p_type = PT_LOAD, .p_offset = 4096, .p_paddr = MIB, .p_filesz = 10000, .p_memsz = 20000};
	image.head.segments[1] = (Elf64_Phdr){
	    .p_type = PT_LOAD, .p_offset = 20001, .p_paddr = 2 * MIB + 5, .p_filesz = 9000, .p_memsz = 9000};
	/* Not loaded, whatever it says. */
	image.head.segments[2] = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = UINT64_MAX, .p_filesz = 7};
	image.fd = memfd_create("kernel", MFD_CLOEXEC);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i % 251 + 1);
	assert_int_equal(write(image.fd, data, sizeof(data)), sizeof(data));
	write_head(&image);
	image.memory = guest_memory_new(MAX, &err);
	assert_non_null(image.memory);
	*state = &image;
	return 0;
}

static int teardown(void **state)
{
	struct image *image = *state;

	close(image->fd);
	guest_memory_free(image->memory);
	return 0;
}

static uint8_t byte_at(struct image *image, uint64_t address)
{
	uint8_t byte;

	assert_true(guest_read(image->memory, address, &byte, 1));
	return byte;
}

static void test_good(void **state)
{
	struct image *image = *state;
	struct elf_image loaded;
	struct error err;

	assert_int_equal(elf_load(image->memory, image->fd, MIN, MAX, &loaded, &err), 0);
	assert_int_equal(loaded.entry, MIB + 0x10);
	assert_int_equal(loaded.start, MIB);
	assert_int_equal(loaded.end, 2 * MIB + 5 + 9000);
	assert_int_equal(byte_at(image, MIB - 1), 0);
	for (unsigned i = 0; i < 10000; i++)
		assert_int_equal(byte_at(image, MIB + i), (4096 + i) % 251 + 1);
	for (unsigned i = 10000; i < 20000; i++)
		assert_int_equal(byte_at(image, MIB + i), 0);
	assert_int_equal(byte_at(image, 2 * MIB + 4), 0);
	for (unsigned i = 0; i < 9000; i++)
		assert_int_equal(byte_at(image, 2 * MIB + 5 + i), (20001 + i) % 251 + 1);
	assert_int_equal(byte_at(image, 2 * MIB + 5 + 9000), 0);
}

/* Segments that share a page, each in step with the file. */
static void test_shared_page(void **state)
{
	struct image *image = *state;
	struct elf_image loaded;
	struct error err;

	image->head.segments[0].p_memsz = 10000;
	image->head.segments[1].p_paddr = MIB + 10000;
	image->head.segments[1].p_offset = 20480 + (10000 % 4096);
	write_head(image);
	assert_int_equal(elf_load(image->memory, image->fd, MIN, MAX, &loaded, &err), 0);
	assert_int_equal(byte_at(image, MIB + 9999), (4096 + 9999) % 251 + 1);
	for (unsigned i = 0; i < 9000; i++)
		assert_int_equal(byte_at(image, MIB + 10000 + i), (20480 + 10000 % 4096 + i) % 251 + 1);
	assert_int_equal(byte_at(image, MIB + 19000), 0);
}

static void expect_refused(struct image *image, const char *reason)
{
	struct elf_image loaded;
	struct error err = {0};

	write_head(image);
	assert_int_equal(elf_load(image->memory, image->fd, MIN, MAX, &loaded, &err), -1);
	if (!strstr(err.message, reason))
		fail_msg("`%s` does not say `%s`", err.message, reason);
}

#define REFUSED(name, change, reason)                                                                                  \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		struct image *image = *state;                                                                          \
		Elf64_Ehdr *header = &image->head.header;                                                              \
		Elf64_Phdr *segments = image->head.segments;                                                           \
                                                                                                                       \
		(void)header, (void)segments;                                                                          \
		change;                                                                                                \
		expect_refused(image, reason);                                                                         \
	}

REFUSED(test_magic, header->e_ident[0] = 0, "no ELF file")
REFUSED(test_class, header->e_ident[EI_CLASS] = ELFCLASS32, "not for x86-64")
REFUSED(test_byte_order, header->e_ident[EI_DATA] = ELFDATA2MSB, "not for x86-64")
REFUSED(test_processor, header->e_machine = EM_AARCH64, "not for x86-64")
REFUSED(test_version, header->e_version = 7, "unknown ELF version")
REFUSED(test_type, header->e_type = ET_DYN, "not an executable")
REFUSED(test_header_size, header->e_phentsize = 57, "wrong size")
REFUSED(test_no_headers, header->e_phnum = 0, "0 ELF program headers")
REFUSED(test_many_headers, header->e_phnum = 0xffff, "65535 ELF program headers")
REFUSED(test_headers_far, header->e_phoff = UINT64_MAX - 1, "beyond the end")
REFUSED(test_headers_at_end, header->e_phoff = FILE_SIZE - 8, "truncated")
REFUSED(test_headers_huge, header->e_phoff = 1ull << 63, "beyond the end")
REFUSED(test_file_larger_than_memory, segments[0].p_filesz = 20001, "holds more")
REFUSED(test_beyond_file, segments[1].p_filesz = segments[1].p_memsz = FILE_SIZE, "truncated")
REFUSED(test_offset_wraps, segments[1].p_offset = UINT64_MAX - 5, "truncated")
REFUSED(test_below_memory, segments[0].p_paddr = MIB - 4096, "does not fit")
REFUSED(test_above_memory, segments[0].p_paddr = MAX - 19999, "does not fit")
REFUSED(test_address_wraps, segments[0].p_paddr = UINT64_MAX - 4095, "does not fit")
REFUSED(test_size_wraps, segments[0].p_memsz = UINT64_MAX, "does not fit")
REFUSED(test_overlap, segments[1].p_paddr = MIB + 19999, "overlap")
REFUSED(test_same, segments[1] = segments[0], "overlap")
REFUSED(test_entry_outside, header->e_entry = MIB + 10000, "entry point")
REFUSED(test_entry_wraps, header->e_entry = UINT64_MAX, "entry point")
REFUSED(test_nothing, segments[0].p_type = segments[1].p_type = PT_NULL, "nothing to load")

static void test_truncations(void **state)
{
	struct image *image = *state;
	struct elf_image loaded;
	struct error err;

	for (off_t size = 29000; size >= 0; size -= size > 300 ? 250 : 1) {
		assert_int_equal(ftruncate(image->fd, size), 0);
		assert_int_equal(elf_load(image->memory, image->fd, MIN, MAX, &loaded, &err), -1);
	}
}

static void test_no_file(void **state)
{
	struct image *image = *state;
	struct elf_image loaded;
	struct error err;
	int fds[2];

	assert_int_equal(elf_load(image->memory, -1, MIN, MAX, &loaded, &err), -1);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(elf_load(image->memory, fds[0], MIN, MAX, &loaded, &err), -1);
	close(fds[0]);
	close(fds[1]);
}

/* The rest of what is put into memory before the start. */
static void test_boot(void **state)
{
	struct image *image = *state;
	struct boot_options options = {
	    .kernel_fd = image->fd, .initramfs_fd = image->fd, .command_line = "quiet", .vcpu_count = 64};
	char line[COMMAND_LINE_MAX + 2], pointer[4];
	struct boot_image boot;
	struct error err;

	assert_int_equal(boot_load(image->memory, &options, &boot, &err), 0);
	assert_int_equal(boot.entry, MIB + 0x10);
	assert_true(guest_read(image->memory, BOOT_COMMAND_LINE, line, 6));
	assert_string_equal(line, "quiet");
	assert_true(guest_read(image->memory, BOOT_MP_POINTER, pointer, 4));
	assert_memory_equal(pointer, "_MP_", 4);
	assert_int_equal(byte_at(image, MAX - 40960 + 5000), 5000 % 251 + 1);

	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	options.command_line = line;
	assert_int_equal(boot_load(image->memory, &options, &boot, &err), -1);
	options.command_line = "";
	options.vcpu_count = 65;
	assert_int_equal(boot_load(image->memory, &options, &boot, &err), -1);
	options.vcpu_count = 1;
	options.initramfs_fd = memfd_create("empty", MFD_CLOEXEC);
	assert_int_equal(boot_load(image->memory, &options, &boot, &err), -1);
	assert_int_equal(ftruncate(options.initramfs_fd, 6 * MIB), 0);
	assert_int_equal(boot_load(image->memory, &options, &boot, &err), -1);
	assert_non_null(strstr(err.message, "initramfs"));
	close(options.initramfs_fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_good),	       TEST(test_shared_page),	 TEST(test_magic),
	    TEST(test_class),	       TEST(test_byte_order),	 TEST(test_processor),
	    TEST(test_version),	       TEST(test_type),		 TEST(test_header_size),
	    TEST(test_no_headers),     TEST(test_many_headers),	 TEST(test_headers_far),
	    TEST(test_headers_at_end), TEST(test_headers_huge),	 TEST(test_file_larger_than_memory),
	    TEST(test_beyond_file),    TEST(test_offset_wraps),	 TEST(test_below_memory),
	    TEST(test_above_memory),   TEST(test_address_wraps), TEST(test_size_wraps),
	    TEST(test_overlap),	       TEST(test_same),		 TEST(test_entry_outside),
	    TEST(test_entry_wraps),    TEST(test_nothing),	 TEST(test_truncations),
	    TEST(test_no_file),	       TEST(test_boot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
