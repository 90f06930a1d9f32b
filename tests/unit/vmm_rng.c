/*
 * The entropy source: buffers are filled, and no faster than the bucket allows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ring.h"
#include "vmm/virtio/devices.h"

static void start(struct driver *driver)
{
	driver_init(driver);
	driver_start(driver, rng_new(driver->loop, NULL));
}

static uint32_t request(struct driver *driver, uint64_t address, uint32_t size)
{
	struct buffer buffer = {address, size, true};
	uint16_t head;
	uint32_t length;

	assert_true(driver_add(driver, 0, &buffer, 1) >= 0);
	driver_kick(driver, 0);
	for (int i = 0; i < 1000; i++) {
		if (driver_used(driver, 0, &head, &length))
			return length;
		driver_run(driver, 1);
	}
	fail_msg("no answer");
	return 0;
}

static void test_fill(void **state)
{
	struct driver driver;
	unsigned char data[300], zero[300] = {0};
	uint64_t address;

	(void)state;
	start(&driver);
	address = driver_alloc(&driver, 4096);
	assert_int_equal(request(&driver, address, 64), 64);
	guest_read(driver.memory, address, data, 300);
	assert_memory_not_equal(data, zero, 64);
	assert_memory_equal(data + 64, zero, 236);
	/* A large request is answered in part: the driver asks again. */
	assert_int_equal(request(&driver, address, 4096), 256);
	driver_free(&driver);
}

/* A guest that never stops asking gets the bucket and then a trickle. */
static void test_rate(void **state)
{
	struct driver driver;
	struct buffer buffer = {0, 256, true};
	uint64_t total = 0;
	uint16_t head;
	uint32_t length;

	(void)state;
	start(&driver);
	buffer.address = driver_alloc(&driver, 4096);
	for (int i = 0; i < 250; i++) {
		driver_add(&driver, 0, &buffer, 1);
		driver_kick(&driver, 0);
		driver_run(&driver, 1);
		while (driver_used(&driver, 0, &head, &length))
			total += length;
	}
	assert_in_range(total, 16384, 16384 + 32768);
	assert_false(driver.failed);
	driver_free(&driver);
}

static void test_hostile(void **state)
{
	struct driver driver;
	struct buffer readable = {4096, 256, false};
	uint16_t head;
	uint32_t length;

	(void)state;
	start(&driver);
	/* Nothing to write into. */
	driver_add(&driver, 0, &readable, 1);
	driver_kick(&driver, 0);
	assert_true(driver_used(&driver, 0, &head, &length));
	assert_int_equal(length, 0);
	driver_offer(&driver, 0, 999);
	driver_kick(&driver, 0);
	assert_true(driver.failed);
	driver_free(&driver);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fill),
	    cmocka_unit_test(test_rate),
	    cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
