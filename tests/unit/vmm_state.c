/* The format of a saved machine, and guest memory as a file: what was written comes back, and nothing else is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/memory_image.h"
#include "vmm/state.h"

#define PAGE 4096u
#define LARGE_PAGE (2ull << 20)
#define MEMORY (8u << 20)

/* --- the frame -----------------------------------------------------------------------------------------------------
 */

static void make(struct state_writer *writer)
{
	state_begin(writer);
	state_section(writer, STATE_MACHINE, 0);
	state_put(writer, "machine", 7);
	state_section(writer, STATE_VCPU, 0);
	state_section(writer, STATE_VCPU, 1);
	state_put(writer, "01234567", 8);
	state_put(writer, "8", 1);
	assert_int_equal(state_finish(writer, NULL), 0);
}

static void test_round(void **unused)
{
	struct state_writer writer;
	struct state_reader reader;
	struct state state;
	char text[9];

	(void)unused;
	make(&writer);
	assert_int_equal(state_open(&state, writer.data, writer.size, NULL), 0);
	assert_int_equal(state_count(&state, STATE_VCPU), 2);
	assert_int_equal(state_count(&state, STATE_BUS), 0);
	assert_int_equal(state_find(&state, STATE_VCPU, 1, &reader, NULL), 0);
	assert_int_equal(state_take(&reader, text, 9, NULL), 0);
	assert_memory_equal(text, "012345678", 9);
	assert_int_equal(state_end(&reader, NULL), 0);
	assert_int_equal(state_take(&reader, text, 1, NULL), -1);
	assert_int_equal(state_find(&state, STATE_VCPU, 0, &reader, NULL), 0);
	assert_int_equal(state_end(&reader, NULL), 0);
	assert_int_equal(state_find(&state, STATE_MACHINE, 0, &reader, NULL), 0);
	assert_int_equal(state_take(&reader, text, 3, NULL), 0);
	assert_int_equal(state_end(&reader, NULL), -1);
	assert_int_equal(state_find(&state, STATE_VCPU, 2, &reader, NULL), -1);
	assert_int_equal(state_find(&state, STATE_BUS, 0, &reader, NULL), -1);
	state_writer_free(&writer);
}

static void expect_refused(const uint8_t *data, size_t size, const char *reason)
{
	struct state state;
	struct error err;

	assert_int_equal(state_open(&state, data, size, &err), -1);
	if (!strstr(err.message, reason))
		fail_msg("`%s` does not say `%s`", err.message, reason);
}

/* Every length but the right one, and every bit but as it was. In a copy of just that size, so that a byte read beyond
 * it is found. */
static void test_damage(void **unused)
{
	struct state_writer writer;
	struct state state;

	(void)unused;
	make(&writer);
	for (size_t size = 0; size < writer.size; size++) {
		uint8_t *copy = malloc(size);

		memcpy(copy, writer.data, size);
		expect_refused(copy, size, "truncated");
		free(copy);
	}
	for (size_t bit = 0; bit < 8 * writer.size; bit++) {
		writer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(state_open(&state, writer.data, writer.size, NULL), -1);
		writer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(state_open(&state, writer.data, writer.size, NULL), 0);
	state_put(&writer, "beyond", 6);
	expect_refused(writer.data, writer.size, "corrupt");
	writer.data[8]++;
	expect_refused(writer.data, writer.size, "version");
	writer.data[0] = 'x';
	expect_refused(writer.data, writer.size, "not the state");
	state_writer_free(&writer);
}

/* Whole and with the right checksum, but sections that cannot be. */
static void test_sections(void **unused)
{
	static const struct {
		enum state_kind first, second;
	} wrong[] = {{STATE_BUS, STATE_VCPU}, {STATE_BUS, STATE_BUS}, {STATE_BUS, STATE_KINDS}, {0, STATE_BUS}};
	struct state_writer writer;

	(void)unused;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		state_begin(&writer);
		state_section(&writer, wrong[i].first, 0);
		state_section(&writer, wrong[i].second, 0);
		assert_int_equal(state_finish(&writer, NULL), 0);
		expect_refused(writer.data, writer.size, "corrupt");
		state_writer_free(&writer);
	}
}

/* --- memory --------------------------------------------------------------------------------------------------------
 */

static int empty_file(void)
{
	int fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	return fd;
}

static void put_page(struct guest_memory *memory, uint64_t page, uint64_t value)
{
	assert_true(guest_write(memory, page * PAGE + 8 * (page % 512), &value, sizeof(value)));
}

static uint64_t get_page(const struct guest_memory *memory, uint64_t page)
{
	uint64_t value = 0;

	assert_true(guest_read(memory, page * PAGE + 8 * (page % 512), &value, sizeof(value)));
	return value;
}

static void expect_same(const struct guest_memory *a, const struct guest_memory *b)
{
	assert_memory_equal(guest_range(a, 0, MEMORY), guest_range(b, 0, MEMORY), MEMORY);
}

/* Writes memory and maps it again, twice, and sees that each has its own. */
static void check_memory(struct guest_memory *memory, uint64_t count, uint64_t size)
{
	struct guest_memory *first = guest_memory_new(MEMORY, NULL), *second = guest_memory_new(MEMORY, NULL);
	struct memory_image image;
	struct stat status;
	int fd = empty_file();

	assert_int_equal(memory_image_write(memory, fd, &image, NULL), 0);
	assert_int_equal(image.count, count);
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_size, size);
	assert_int_equal(fchmod(fd, 0400), 0);
	assert_int_equal(memory_image_map(first, &image, fd, NULL), 0);
	assert_int_equal(memory_image_map(second, &image, fd, NULL), 0);
	expect_same(memory, first);
	put_page(first, 7, 99);
	put_page(first, 2000, 99);
	expect_same(memory, second);
	close(fd);
	guest_memory_free(first);
	guest_memory_free(second);
}

static void test_memory(void **unused)
{
	struct guest_memory *memory = guest_memory_new(MEMORY, NULL);

	(void)unused;
	check_memory(memory, 0, PAGE);
	put_page(memory, 0, 1);
	check_memory(memory, 1, 2 * PAGE);
	/* A gap that is small enough to be written, and one that is not; up to the very end. */
	put_page(memory, 5, 2);
	put_page(memory, 100, 3);
	put_page(memory, MEMORY / PAGE - 1, 4);
	/* Each at an offset in step with its address, the last page at the end of 2 MiB. */
	check_memory(memory, 3, LARGE_PAGE + PAGE);
	assert_int_equal(get_page(memory, 100), 3);
	guest_memory_free(memory);
}

/* More runs than there can be pieces: gaps are taken along. */
static void test_many_runs(void **unused)
{
	struct guest_memory *memory = guest_memory_new(MEMORY, NULL), *restored = guest_memory_new(MEMORY, NULL);
	struct memory_image image;
	int fd = empty_file();

	(void)unused;
	for (uint64_t page = 3; page < MEMORY / PAGE; page += 11)
		put_page(memory, page, page);
	assert_int_equal(memory_image_write(memory, fd, &image, NULL), 0);
	assert_in_range(image.count, 1, MEMORY_EXTENTS_MAX);
	fchmod(fd, 0400);
	assert_int_equal(memory_image_map(restored, &image, fd, NULL), 0);
	expect_same(memory, restored);
	close(fd);
	guest_memory_free(memory);
	guest_memory_free(restored);
}

static void test_not_empty(void **unused)
{
	struct guest_memory *memory = guest_memory_new(MEMORY, NULL);
	struct memory_image image;
	int fd = empty_file(), pipes[2];

	(void)unused;
	assert_int_equal(ftruncate(fd, 1), 0);
	assert_int_equal(memory_image_write(memory, fd, &image, NULL), -1);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(memory_image_write(memory, pipes[1], &image, NULL), -1);
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
	guest_memory_free(memory);
}

static void test_image_check(void **unused)
{
	struct guest_memory *memory = guest_memory_new(MEMORY, NULL);
	static const struct memory_image good = {.count = 2, .extents = {{0, PAGE, 0}, {3 * PAGE, 2 * PAGE, 3 * PAGE}}};
	static const struct memory_extent bad[] = {
	    {0, PAGE, LARGE_PAGE},				  /* over the first */
	    {3 * PAGE, 2 * PAGE, 4 * PAGE},			  /* not in step with the address */
	    {3 * PAGE, 2 * PAGE, 3 * PAGE + LARGE_PAGE},	  /* further behind than need be */
	    {3 * PAGE, 2 * PAGE, 0},				  /* the same bytes again */
	    {3 * PAGE + 1, PAGE, 3 * PAGE + 1},			  /* not whole pages */
	    {3 * PAGE, PAGE + 1, 3 * PAGE},			  /* the same */
	    {3 * PAGE, 0, 3 * PAGE},				  /* nothing */
	    {MEMORY, PAGE, LARGE_PAGE},				  /* not RAM */
	    {MEMORY - PAGE, 2 * PAGE, LARGE_PAGE - PAGE},	  /* half of it */
	    {3 * PAGE, UINT64_MAX - PAGE + 1, 3 * PAGE},	  /* around the end of numbers */
	    {UINT64_MAX - PAGE + 1, 2 * PAGE, LARGE_PAGE - PAGE}, /* the same */
	};

	(void)unused;
	assert_int_equal(memory_image_check(&good, memory, NULL), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct memory_image image = good;

		image.extents[1] = bad[i];
		assert_int_equal(memory_image_check(&image, memory, NULL), -1);
	}
	assert_int_equal(memory_image_check(&(struct memory_image){.count = MEMORY_EXTENTS_MAX + 1}, memory, NULL), -1);
	guest_memory_free(memory);
}

static void expect_not_mapped(const struct memory_image *image, int fd, const char *reason)
{
	struct guest_memory *memory = guest_memory_new(MEMORY, NULL);
	struct error err;

	assert_int_equal(memory_image_map(memory, image, fd, &err), -1);
	if (!strstr(err.message, reason))
		fail_msg("`%s` does not say `%s`", err.message, reason);
	guest_memory_free(memory);
}

/* A file that could change, is too short or too long, or of another machine. */
static void test_file_check(void **unused)
{
	struct guest_memory *memory = guest_memory_new(MEMORY, NULL);
	struct memory_image image, other;
	int fd = empty_file(), other_fd = empty_file(), seals = F_SEAL_SHRINK | F_SEAL_WRITE;

	(void)unused;
	put_page(memory, 1, 1);
	assert_int_equal(memory_image_write(memory, fd, &image, NULL), 0);
	assert_int_equal(memory_image_write(memory, other_fd, &other, NULL), 0);
	expect_not_mapped(&image, fd, "could still be changed");
	assert_int_equal(fcntl(other_fd, F_ADD_SEALS, seals), 0);
	expect_not_mapped(&image, other_fd, "another state");
	assert_int_equal(fchmod(fd, 0400), 0);
	assert_int_equal(ftruncate(fd, 3 * PAGE - 1), 0);
	expect_not_mapped(&image, fd, "bytes, not");
	assert_int_equal(ftruncate(fd, 3 * PAGE + 1), 0);
	expect_not_mapped(&image, fd, "bytes, not");
	assert_int_equal(ftruncate(fd, 0), 0);
	expect_not_mapped(&image, fd, "bytes, not");
	assert_int_equal(ftruncate(fd, 3 * PAGE), 0);
	expect_not_mapped(&image, fd, "another state");
	assert_int_equal(memory_image_map(memory, &other, other_fd, NULL), 0);
	close(fd);
	close(other_fd);
	guest_memory_free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round),	cmocka_unit_test(test_damage),	   cmocka_unit_test(test_sections),
	    cmocka_unit_test(test_memory),	cmocka_unit_test(test_many_runs),  cmocka_unit_test(test_not_empty),
	    cmocka_unit_test(test_image_check), cmocka_unit_test(test_file_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
