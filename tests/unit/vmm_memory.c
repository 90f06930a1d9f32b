/* Guest memory: what is not RAM cannot be reached, whatever address and length say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "vmm/memory.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static int make_file(size_t size, char fill)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	char *data = malloc(size);

	assert_true(fd >= 0 && data);
	memset(data, fill, size);
	assert_int_equal(write(fd, data, size), size);
	free(data);
	return fd;
}

static void test_small(void **state)
{
	struct error err;
	struct guest_memory *memory = guest_memory_new(MIB, &err);
	uint64_t value = 0x1122334455667788, copy = 1, address, size;
	void *host;

	(void)state;
	assert_non_null(memory);
	assert_int_equal(guest_memory_size(memory), MIB);
	assert_true(guest_read(memory, MIB - 8, &copy, 8));
	assert_int_equal(copy, 0);
	assert_true(guest_write(memory, MIB - 8, &value, 8));
	assert_true(guest_read(memory, MIB - 8, &copy, 8));
	assert_int_equal(copy, value);
	assert_true(guest_memory_region(memory, 0, &address, &size, &host));
	assert_int_equal(address, 0);
	assert_int_equal(size, MIB);
	assert_false(guest_memory_region(memory, 1, &address, &size, &host));
	guest_memory_free(memory);
}

static void test_out_of_range(void **state)
{
	static const struct {
		uint64_t address, size;
	} cases[] = {
	    {MIB, 1},	     {MIB - 7, 8},	  {MIB, 0},
	    {0, MIB + 1},    {1, UINT64_MAX},	  {UINT64_MAX, 1},
	    {UINT64_MAX, 2}, {UINT64_MAX - 7, 8}, {UINT64_MAX, UINT64_MAX},
	    {4 * GIB, 1},    {0, UINT64_MAX},	  {MIB - 1, UINT64_MAX},
	    {3 * GIB, 4096},
	};
	struct error err;
	struct guest_memory *memory = guest_memory_new(MIB, &err);
	char data[8] = "abcdefg";

	(void)state;
	assert_non_null(memory);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_null(guest_range(memory, cases[i].address, cases[i].size));
	assert_false(guest_read(memory, MIB - 4, data, 8));
	assert_string_equal(data, "abcdefg");
	assert_false(guest_write(memory, MIB - 4, data, 8));
	assert_true(guest_read(memory, MIB - 4, data, 4));
	assert_memory_equal(data, "\0\0\0\0", 4);
	guest_memory_free(memory);
}

static void test_hole(void **state)
{
	struct error err;
	struct guest_memory *memory = guest_memory_new(3 * GIB + MIB, &err);
	uint64_t address, size;
	void *host;
	char byte = 1;

	(void)state;
	assert_non_null(memory);
	assert_true(guest_write(memory, 3 * GIB - 1, &byte, 1));
	assert_false(guest_write(memory, 3 * GIB, &byte, 1));
	assert_null(guest_range(memory, 3 * GIB - 1, 2));
	assert_null(guest_range(memory, 4 * GIB - 1, 2));
	assert_true(guest_write(memory, 4 * GIB, &byte, 1));
	assert_true(guest_write(memory, 4 * GIB + MIB - 1, &byte, 1));
	assert_false(guest_write(memory, 4 * GIB + MIB, &byte, 1));
	assert_true(guest_memory_region(memory, 1, &address, &size, &host));
	assert_int_equal(address, 4 * GIB);
	assert_int_equal(size, MIB);
	guest_memory_free(memory);
}

static void test_bad_sizes(void **state)
{
	struct error err;

	(void)state;
	assert_null(guest_memory_new(0, &err));
	assert_null(guest_memory_new(4097, &err));
	assert_null(guest_memory_new(UINT64_MAX - 4095, &err));
}

static void test_map_file(void **state)
{
	struct error err;
	struct guest_memory *memory = guest_memory_new(MIB, &err);
	cleanup_close int fd = make_file(10000, 'x');
	char data[3] = "";

	(void)state;
	assert_non_null(memory);
	assert_int_equal(guest_memory_map_file(memory, 8192, 8192, fd, 4096, &err), 0);
	assert_true(guest_read(memory, 8191, data, 2));
	assert_memory_equal(data, "\0x", 2);
	/* The last page of the file is filled up with zeros. */
	assert_true(guest_read(memory, 8192 + 10000 - 4096 - 1, data, 2));
	assert_memory_equal(data, "x\0", 2);
	/* What the guest writes stays the guest's. */
	assert_true(guest_write(memory, 8192, "y", 1));
	assert_int_equal(pread(fd, data, 1, 4096), 1);
	assert_int_equal(data[0], 'x');
	guest_memory_free(memory);
}

static void test_bad_maps(void **state)
{
	static const struct {
		uint64_t address, size, offset;
	} cases[] = {
	    {1, 4096, 0},
	    {0, 1, 0},
	    {0, 4096, 1},
	    {0, 0, 0},
	    {0, 16384, 0},
	    {0, 4096, 12288},
	    {MIB, 4096, 0},
	    {MIB - 4096, 8192, 0},
	    {0, 4096, UINT64_MAX - 4095},
	    {0, 12288, UINT64_MAX - 4095},
	};
	struct error err;
	struct guest_memory *memory = guest_memory_new(MIB, &err);
	cleanup_close int fd = make_file(10000, 'x');
	int pipe_fds[2];

	(void)state;
	assert_non_null(memory);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(
		    guest_memory_map_file(memory, cases[i].address, cases[i].size, fd, cases[i].offset, &err), -1);
	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(guest_memory_map_file(memory, 0, 4096, pipe_fds[0], 0, &err), -1);
	assert_int_equal(guest_memory_map_file(memory, 0, 4096, -1, 0, &err), -1);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	guest_memory_free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_small),     cmocka_unit_test(test_out_of_range), cmocka_unit_test(test_hole),
	    cmocka_unit_test(test_bad_sizes), cmocka_unit_test(test_map_file),	   cmocka_unit_test(test_bad_maps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
