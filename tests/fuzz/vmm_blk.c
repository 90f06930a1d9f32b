/*
 * The block device under a hostile guest. A write must never land beyond the disk's last sector, and a read-only disk
 * never changes.
 */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/guest.h"
#include "vmm/virtio/devices.h"

#define DISK_SIZE (64u << 10)

static uint64_t number(struct input *input)
{
	static const uint64_t interesting[] = {
	    0, 1, 8, 16, 127, 128, 129, 512, 4096, UINT32_MAX, UINT64_MAX, UINT64_MAX / 512, 1ull << 55, 65536};
	uint8_t choice = byte(input);
	uint64_t value = 0;

	if (choice < sizeof(interesting) / sizeof(interesting[0]))
		return interesting[choice];
	for (int i = 0; i < choice % 8; i++)
		value = value << 8 | byte(input);
	return value;
}

static void step_request(struct driver *driver, struct input *input, uint64_t memory)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_IN,      VIRTIO_BLK_T_OUT,     VIRTIO_BLK_T_FLUSH,
					 VIRTIO_BLK_T_GET_ID,  VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
					 VIRTIO_BLK_T_SCSI_CMD};
	uint32_t type = types[byte(input) % 7];
	struct virtio_blk_outhdr header = {.type = type, .sector = number(input)};
	struct virtio_blk_discard_write_zeroes range = {
	    .sector = number(input), .num_sectors = (uint32_t)number(input), .flags = byte(input) % 3};
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct buffer buffers[] = {{memory, sizeof(header), false},
				   {memory + 64, (uint32_t)number(input) % (1u << 20), in},
				   {memory + 32, 1, true}};
	uint8_t odd = byte(input);

	if (type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES)
		buffers[1].size = odd & 1 ? buffers[1].size : sizeof(range);
	guest_write(driver->memory, memory, &header, sizeof(header));
	guest_write(driver->memory, memory + 64, &range, sizeof(range));
	if (odd & 2)
		buffers[byte(input) % 3].size = byte(input);
	driver_add(driver, 0, buffers + (odd & 4 ? 1 : 0), odd & 8 ? 2 : odd & 4 ? 2 : 3);
	if (odd & 16)
		driver_kick(driver, 0);
}

static void step(struct driver *driver, struct input *input, uint64_t memory, uint64_t rings)
{
	switch (byte(input) % 8) {
	case 0:
		driver_run(driver, 0);
		return;
	case 1:
		take_used(driver, 1);
		return;
	case 2:
		offer_raw_descriptor(driver, input, 0, number);
		return;
	case 3:
		driver_reset_device(driver);
		driver_release(driver, rings);
		driver_start(driver, driver->device);
		return;
	default:
		step_request(driver, input, memory);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct driver driver;
	bool readonly = byte(&input) & 1;
	int fd = memfd_create("disk", 0);
	uint64_t memory, rings;
	struct stat st;
	struct virtio_device *device;

	driver_must(fd >= 0 && ftruncate(fd, DISK_SIZE) == 0, "disk");
	driver_init(&driver);
	memory = driver_alloc(&driver, 2u << 20);
	rings = driver_mark(&driver);
	device = blk_new(dup(fd), readonly, "serial", driver.loop, NULL);
	driver_start(&driver, device);
	while (input.size)
		step(&driver, &input, memory, rings);
	driver_kick(&driver, 0);
	driver_free(&driver);
	fstat(fd, &st);
	if (st.st_size != DISK_SIZE || (readonly && st.st_blocks))
		abort();
	close(fd);
	return 0;
}
