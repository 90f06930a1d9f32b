/*
 * The block device, on files, with io_uring and without, driven through a real ring.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/virtio_blk.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/ring.h"
#include "vmm/virtio/devices.h"

#define SECTOR 512u
#define DISK_SECTORS 2048u
#define ANY_STATUS 0xee /* what the guest writes there before the request */

static bool without_ring;

/* In the library's stead: a host that has no io_uring. */
int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	struct io_uring_params params = {.flags = flags};

	return without_ring ? -ENOSYS : io_uring_queue_init_params(entries, ring, &params);
}

struct disk {
	struct driver driver;
	int fd; /* a second descriptor of the file */
	uint64_t header, data, status;
};

static int new_file(void)
{
	char path[] = "/tmp/vmm_blk_XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, DISK_SECTORS * SECTOR + 100), 0);
	return fd;
}

static void init(struct disk *disk, bool readonly)
{
	memset(disk, 0, sizeof(*disk));
	disk->fd = new_file();
	driver_init(&disk->driver);
	driver_start(&disk->driver, blk_new(dup(disk->fd), readonly, "root", disk->driver.loop, NULL));
	disk->header = driver_alloc(&disk->driver, 64);
	disk->status = driver_alloc(&disk->driver, 64);
	disk->data = driver_alloc(&disk->driver, 4u << 20);
}

static void finish(struct disk *disk)
{
	driver_free(&disk->driver);
	close(disk->fd);
}

static int wait_status(struct disk *disk)
{
	uint16_t head;
	uint32_t length;
	uint8_t status;

	for (int i = 0; i < 2000; i++) {
		if (driver_used(&disk->driver, 0, &head, &length)) {
			guest_read(disk->driver.memory, disk->status, &status, 1);
			return status;
		}
		driver_run(&disk->driver, 1);
	}
	fail_msg("no answer");
	return -1;
}

static void put_header(struct disk *disk, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = {.type = type, .sector = sector};

	guest_write(disk->driver.memory, disk->header, &header, sizeof(header));
	guest_write(disk->driver.memory, disk->status, &(uint8_t){ANY_STATUS}, 1);
}

/* A whole request with its data at disk->data. Returns the status. */
static int request(struct disk *disk, uint32_t type, uint64_t sector, uint32_t size)
{
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct buffer buffers[] = {
	    {disk->header, sizeof(struct virtio_blk_outhdr), false}, {disk->data, size, in}, {disk->status, 1, true}};

	put_header(disk, type, sector);
	if (size == 0)
		buffers[1] = buffers[2];
	assert_true(driver_add(&disk->driver, 0, buffers, size ? 3 : 2) >= 0);
	driver_kick(&disk->driver, 0);
	return wait_status(disk);
}

static void put(struct disk *disk, const void *data, uint32_t size)
{
	guest_write(disk->driver.memory, disk->data, data, size);
}

static int request_range(struct disk *disk, uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = {.sector = sector, .num_sectors = sectors, .flags = flags};

	put(disk, &range, sizeof(range));
	return request(disk, type, 0, sizeof(range));
}

static void test_config(void **state)
{
	struct disk disk;
	struct virtio_blk_config config;
	uint64_t capacity;

	(void)state;
	init(&disk, false);
	for (uint32_t i = 0; i < sizeof(config); i++)
		disk.driver.device->operations->read_config(disk.driver.device, i, (char *)&config + i, 1);
	assert_int_equal(config.capacity, DISK_SECTORS);
	assert_in_range(config.seg_max, 1, 256);
	disk.driver.device->operations->read_config(disk.driver.device, sizeof(config) - 2, &capacity, 8);
	disk.driver.device->operations->read_config(disk.driver.device, UINT32_MAX, &capacity, 8);
	assert_int_equal(capacity, 0);
	finish(&disk);
}

static void test_read_write(void **state)
{
	struct disk disk;
	unsigned char *sent = malloc(1u << 20), *got = malloc(1u << 20);

	(void)state;
	init(&disk, false);
	for (size_t i = 0; i < 1u << 20; i++)
		sent[i] = (unsigned char)(i * 13 + i / 511);
	put(&disk, sent, 1u << 20);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_OUT, 0, 1u << 20), VIRTIO_BLK_S_OK);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(disk.fd, got, 1u << 20, 0), 1u << 20);
	assert_memory_equal(got, sent, 1u << 20);
	memset(got, 0, 1u << 20);
	put(&disk, got, 1u << 20);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, 3, 512), VIRTIO_BLK_S_OK);
	guest_read(disk.driver.memory, disk.data, got, 1024);
	assert_memory_equal(got, sent + 3 * SECTOR, 512);
	assert_int_equal(got[512], 0);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, 0, 1u << 20), VIRTIO_BLK_S_OK);
	guest_read(disk.driver.memory, disk.data, got, 1u << 20);
	assert_memory_equal(got, sent, 1u << 20);
	free(sent);
	free(got);
	finish(&disk);
}

/* Many requests under way at once, more than the device has places for: all share one status byte. */
static void test_many(void **state)
{
	struct disk disk;
	const uint16_t count = 120;
	unsigned done = 0;
	uint16_t head;
	uint32_t length;

	(void)state;
	init(&disk, false);
	driver_descriptor(&disk.driver, 0, count,
			  (struct vring_desc){.addr = disk.status, .len = 1, .flags = VRING_DESC_F_WRITE});
	for (unsigned round = 1; round <= 20; round++) {
		for (uint16_t i = 0; i < count; i++) {
			struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_FLUSH};
			struct vring_desc descriptor = {
			    .addr = disk.data + 64u * i, .len = 16, .flags = VRING_DESC_F_NEXT, .next = count};

			guest_write(disk.driver.memory, descriptor.addr, &header, sizeof(header));
			driver_descriptor(&disk.driver, 0, i, descriptor);
			driver_offer(&disk.driver, 0, i);
		}
		driver_kick(&disk.driver, 0);
		/* Each flush waits for the host's disk, which others may keep busy. */
		for (time_t end = time(NULL) + 120; done < round * count && time(NULL) < end;) {
			while (driver_used(&disk.driver, 0, &head, &length))
				done++;
			driver_run(&disk.driver, 1);
		}
		assert_int_equal(done, round * count);
	}
	finish(&disk);
}

static void test_ranges(void **state)
{
	struct disk disk;

	(void)state;
	init(&disk, false);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, DISK_SECTORS, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 1024), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, UINT64_MAX, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, UINT64_MAX / 512, 1024), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, 0, 511), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_OUT, 0, 513), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_SCSI_CMD, 0, 512), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(&disk, UINT32_MAX, 0, 512), VIRTIO_BLK_S_UNSUPP);
	assert_false(disk.driver.failed);
	finish(&disk);
}

static void test_zeroes_and_discard(void **state)
{
	struct disk disk;
	unsigned char data[4096], got[4096], zero[4096] = {0};
	const uint32_t unmap = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;

	(void)state;
	init(&disk, false);
	memset(data, 'a', sizeof(data));
	for (int i = 0; i < 3; i++)
		assert_int_equal(pwrite(disk.fd, data, sizeof(data), i * 4096), 4096);
	assert_int_equal(request_range(&disk, VIRTIO_BLK_T_WRITE_ZEROES, 1, 6, 0), VIRTIO_BLK_S_OK);
	pread(disk.fd, got, 4096, 0);
	assert_memory_equal(got, data, 512);
	assert_memory_equal(got + 512, zero, 6 * 512);
	assert_memory_equal(got + 7 * 512, data, 512);
	assert_int_equal(request_range(&disk, VIRTIO_BLK_T_WRITE_ZEROES, 8, 8, unmap), VIRTIO_BLK_S_OK);
	pread(disk.fd, got, 4096, 4096);
	assert_memory_equal(got, zero, 4096);
	assert_int_equal(request_range(&disk, VIRTIO_BLK_T_DISCARD, 16, 8, 0), VIRTIO_BLK_S_OK);
	/* Ranges and flags that are not ours. */
	assert_int_equal(request_range(&disk, VIRTIO_BLK_T_DISCARD, 16, 8, unmap), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request_range(&disk, VIRTIO_BLK_T_WRITE_ZEROES, 16, 8, 2), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request_range(&disk, VIRTIO_BLK_T_DISCARD, UINT64_MAX, 8, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request_range(&disk, VIRTIO_BLK_T_DISCARD, DISK_SECTORS, 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request_range(&disk, VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request_range(&disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_DISCARD, 0, 15), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_DISCARD, 0, 32), VIRTIO_BLK_S_UNSUPP);
	finish(&disk);
}

static void test_readonly(void **state)
{
	struct disk disk;
	unsigned char data[512];

	(void)state;
	init(&disk, true);
	assert_true(disk.driver.device->offered & 1ull << VIRTIO_BLK_F_RO);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	memset(data, 'x', sizeof(data));
	put(&disk, data, sizeof(data));
	assert_int_equal(request(&disk, VIRTIO_BLK_T_OUT, 0, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request_range(&disk, VIRTIO_BLK_T_DISCARD, 0, 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request_range(&disk, VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_FLUSH, 0, 0), VIRTIO_BLK_S_OK);
	pread(disk.fd, data, 512, 0);
	assert_int_equal(data[0], 0);
	finish(&disk);
}

static void test_serial(void **state)
{
	struct disk disk;
	char id[21] = {0};

	(void)state;
	init(&disk, false);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_GET_ID, 0, 20), VIRTIO_BLK_S_OK);
	guest_read(disk.driver.memory, disk.data, id, 20);
	assert_string_equal(id, "root");
	/* A buffer that is too small, and one that is larger. */
	assert_int_equal(request(&disk, VIRTIO_BLK_T_GET_ID, 0, 3), VIRTIO_BLK_S_OK);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_GET_ID, 0, 512), VIRTIO_BLK_S_OK);
	finish(&disk);
}

/* The file becomes shorter than the disk that the guest was shown. */
static void test_truncated_file(void **state)
{
	struct disk disk;

	(void)state;
	init(&disk, false);
	assert_int_equal(ftruncate(disk.fd, 10 * SECTOR + 100), 0);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, 8, 4096), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, 20, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, 0, 512), VIRTIO_BLK_S_OK);
	finish(&disk);
}

static void test_no_space(void **state)
{
	struct disk disk = {0};
	int fd = open("/dev/full", O_RDWR);
	struct rlimit old, limit;

	(void)state;
	/* A device node that is no disk. */
	driver_init(&disk.driver);
	assert_null(blk_new(fd, false, NULL, disk.driver.loop, NULL));
	close(fd);
	driver_free(&disk.driver);
	/* The host refuses to let the file grow: the guest sees an error, this process no signal. */
	init(&disk, false);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){4096, old.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	assert_int_equal(request(&disk, VIRTIO_BLK_T_OUT, 1024, 4096), VIRTIO_BLK_S_IOERR);
	setrlimit(RLIMIT_FSIZE, &old);
	finish(&disk);
}

static void test_bad_chains(void **state)
{
	struct disk disk;
	struct buffer only_header = {0, 16, false}, only_status = {0, 1, true};
	struct buffer short_header[] = {{0, 15, false}, {0, 1, true}};
	uint16_t head;
	uint32_t length;

	(void)state;
	init(&disk, false);
	only_header.address = short_header[0].address = disk.header;
	only_status.address = short_header[1].address = disk.status;
	driver_add(&disk.driver, 0, &only_header, 1);
	driver_add(&disk.driver, 0, &only_status, 1);
	driver_add(&disk.driver, 0, short_header, 2);
	driver_kick(&disk.driver, 0);
	for (int i = 0; i < 3; i++)
		assert_true(driver_used(&disk.driver, 0, &head, &length));
	assert_false(disk.driver.failed);
	driver_offer(&disk.driver, 0, 40000);
	driver_kick(&disk.driver, 0);
	assert_true(disk.driver.failed);
	finish(&disk);
}

/* A reset in the middle waits for the host and touches no queue afterwards. */
static void test_reset_in_flight(void **state)
{
	struct disk disk;

	(void)state;
	init(&disk, false);
	for (int round = 0; round < 10; round++) {
		for (unsigned i = 0; i < 32; i++) {
			struct buffer buffers[] = {
			    {disk.header, 16, false}, {disk.data, 1u << 16, false}, {disk.status, 1, true}};

			put_header(&disk, i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_FLUSH, 0);
			driver_add(&disk.driver, 0, buffers, 3);
			driver_kick(&disk.driver, 0);
		}
		driver_reset_device(&disk.driver);
		driver_run(&disk.driver, 1);
		driver_start(&disk.driver, disk.driver.device);
		assert_int_equal(request(&disk, VIRTIO_BLK_T_IN, 0, 4096), VIRTIO_BLK_S_OK);
	}
	finish(&disk);
}

static void test_refused(void **state)
{
	struct driver driver;
	struct error err;
	int fd = new_file(), readable, pipes[2];
	char path[64];

	(void)state;
	driver_init(&driver);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	readable = open(path, O_RDONLY);
	assert_null(blk_new(readable, false, NULL, driver.loop, &err));
	assert_int_equal(err.code, EBADF);
	assert_null(blk_new(fd, false, "a serial number of 21", driver.loop, &err));
	assert_int_equal(pipe(pipes), 0);
	assert_null(blk_new(pipes[0], true, NULL, driver.loop, &err));
	assert_null(blk_new(9999, true, NULL, driver.loop, &err));
	close(fd);
	close(readable);
	close(pipes[0]);
	close(pipes[1]);
	driver_free(&driver);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_config),
	    cmocka_unit_test(test_read_write),
	    cmocka_unit_test(test_many),
	    cmocka_unit_test(test_ranges),
	    cmocka_unit_test(test_zeroes_and_discard),
	    cmocka_unit_test(test_readonly),
	    cmocka_unit_test(test_serial),
	    cmocka_unit_test(test_truncated_file),
	    cmocka_unit_test(test_no_space),
	    cmocka_unit_test(test_bad_chains),
	    cmocka_unit_test(test_reset_in_flight),
	    cmocka_unit_test(test_refused),
	};
	int failed = cmocka_run_group_tests_name("with io_uring", tests, NULL, NULL);

	without_ring = true;
	return failed + cmocka_run_group_tests_name("without io_uring", tests, NULL, NULL);
}
