/*
 * A driver of a virtio network card from user space, and a bad one: for net_device.sh, inside a guest.
 *
 *   net_hostile ADDRESS SECONDS         ADDRESS as in /sys/bus/pci/devices
 *
 * Takes the card from the kernel and, time and again, sets it up, with what a driver should do and with what it should
 * not, and gives it frames with good, bad and odd headers and descriptors of any kind. Then the kernel gets it back.
 * Prints how often the card was set up, refused to work on, and how many chains it has given back.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define SIZE 256u
#define DATA_PAGES 64
#define BAR_SIZE 0x4000u
#define NOTIFY 0x1000u
#define COMMON(field) offsetof(struct virtio_pci_common_cfg, field)

/* Rings and data: pages of which the physical address is known. */
struct page {
	uint8_t *at;
	uint64_t address;
};

static struct ring {
	struct page descriptors, available, used;
	uint16_t next, seen;
} rings[2];

static struct page data[DATA_PAGES];
static volatile uint8_t *bar;
static unsigned long set_up, refused, given_back;
static uint64_t random_state = 88172645463325252ull;

static uint64_t any(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static bool chance(unsigned one_in)
{
	return any() % one_in == 0;
}

/* --- the machine -------------------------------------------------------------------------------------------------- */

static bool write_file(const char *address, const char *name, const char *text)
{
	char path[256];
	int fd;
	bool good;

	snprintf(path, sizeof(path), "/sys/bus/pci/%s%s", address, name);
	fd = open(path, O_WRONLY);
	good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return good;
}

static struct page new_page(void)
{
	static int pagemap = -1;
	struct page page = {.at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | MAP_LOCKED, -1, 0)};
	uint64_t entry = 0;

	if (pagemap < 0)
		pagemap = open("/proc/self/pagemap", O_RDONLY);
	if (page.at == MAP_FAILED || pread(pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)page.at / PAGE * 8)) != 8)
		err(1, "memory");
	page.address = (entry & ((1ull << 55) - 1)) * PAGE;
	if (page.address == 0)
		errx(1, "physical addresses are not to be seen");
	return page;
}

static void map_card(const char *address)
{
	char device[128], path[256];
	int fd;

	snprintf(device, sizeof(device), "devices/%s", address);
	write_file(device, "/driver/unbind", address);
	if (!write_file(device, "/enable", "1"))
		err(1, "enable the card");
	snprintf(path, sizeof(path), "/sys/bus/pci/%s/resource0", device);
	fd = open(path, O_RDWR | O_SYNC);
	bar = mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bar == MAP_FAILED)
		err(1, "map the card");
	close(fd);
}

static void set8(size_t offset, uint8_t value)
{
	*(volatile uint8_t *)(bar + offset) = value;
}

static void set16(size_t offset, uint16_t value)
{
	*(volatile uint16_t *)(bar + offset) = value;
}

static void set32(size_t offset, uint32_t value)
{
	*(volatile uint32_t *)(bar + offset) = value;
}

static uint32_t get32(size_t offset)
{
	return *(volatile uint32_t *)(bar + offset);
}

static uint8_t status(void)
{
	return *(volatile uint8_t *)(bar + COMMON(device_status));
}

/* --- setting it up ------------------------------------------------------------------------------------------------ */

static void set_queue(unsigned index)
{
	struct ring *ring = &rings[index];

	memset(ring->descriptors.at, 0, PAGE);
	memset(ring->available.at, 0, PAGE);
	memset(ring->used.at, 0, PAGE);
	ring->next = ring->seen = 0;
	set16(COMMON(queue_select), (uint16_t)index);
	set16(COMMON(queue_size), chance(20) ? (uint16_t)any() : SIZE);
	set32(COMMON(queue_desc_lo), (uint32_t)ring->descriptors.address);
	set32(COMMON(queue_desc_hi), (uint32_t)(ring->descriptors.address >> 32));
	set32(COMMON(queue_avail_lo), (uint32_t)ring->available.address);
	set32(COMMON(queue_avail_hi), (uint32_t)(ring->available.address >> 32));
	set32(COMMON(queue_used_lo), (uint32_t)ring->used.address + (chance(20) ? 1 + any() % 3 : 0));
	set32(COMMON(queue_used_hi), (uint32_t)(ring->used.address >> 32));
	set16(COMMON(queue_enable), 1);
}

/* False when the card will not have it so. */
static bool start(void)
{
	uint32_t low, high;

	set8(COMMON(device_status), 0);
	set8(COMMON(device_status), VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	set32(COMMON(device_feature_select), 0);
	low = get32(COMMON(device_feature));
	set32(COMMON(device_feature_select), 1);
	high = get32(COMMON(device_feature));
	if (chance(4))
		low &= (uint32_t)any() | 0x783; /* what comes in has to be accepted */
	if (chance(8))
		low = (uint32_t)any();
	set32(COMMON(guest_feature_select), 0);
	set32(COMMON(guest_feature), low);
	set32(COMMON(guest_feature_select), 1);
	set32(COMMON(guest_feature), high);
	set8(COMMON(device_status), VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
	set_queue(0);
	set_queue(1);
	set8(COMMON(device_status), VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |
					VIRTIO_CONFIG_S_DRIVER_OK);
	set_up++;
	if ((status() & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)) == VIRTIO_CONFIG_S_DRIVER_OK)
		return true;
	refused++;
	return false;
}

/* --- what it is given --------------------------------------------------------------------------------------------- */

static uint16_t odd(uint16_t usual)
{
	static const uint16_t values[] = {0, 1, 7, 8, 13, 14, 34, 54, 100, 1448, 0x7fff, 0xfffe, 0xffff};

	return chance(3) ? chance(2) ? (uint16_t)any() : values[any() % (sizeof(values) / sizeof(values[0]))] : usual;
}

static void put_descriptor(struct ring *ring, unsigned index, struct vring_desc descriptor)
{
	memcpy(ring->descriptors.at + index % SIZE * sizeof(descriptor), &descriptor, sizeof(descriptor));
}

static void offer(struct ring *ring, uint16_t head)
{
	uint16_t *available = (uint16_t *)ring->available.at;

	available[2 + ring->next++ % SIZE] = head;
	__atomic_store_n(&available[1], ring->next, __ATOMIC_RELEASE);
}

/* A TCP segment to whoever is there, of up to 60 KiB, behind a header with much that is true of it. */
static void offer_frame(struct ring *ring)
{
	static const uint8_t types[] = {VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6,
					VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN};
	static const uint8_t frame[54] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,  0, 0,	 0,  0, 1, 8,  0,
					  0x45, 0,    0,    0,	  0,	1,    64, 0, 64, 6,  0, 0, 10, 9,
					  0,	2,    10,   9,	  0,	1,    4,  0, 0,	 80, 0, 0, 0,  1,
					  0,	0,    0,    0,	  0x50, 0x10, 16, 0, 0,	 0,  0, 0};
	struct virtio_net_hdr_v1 header = {.flags = chance(4) ? (uint8_t)any() : 1,
					   .gso_type = chance(8) ? (uint8_t)any() : types[any() % sizeof(types)],
					   .hdr_len = odd(54),
					   .gso_size = odd(1448),
					   .csum_start = odd(34),
					   .csum_offset = odd(16),
					   .num_buffers = odd(0)};
	unsigned pages = 1 + (unsigned)(any() % 15), first = (unsigned)(any() % (SIZE - 16)), n = 0;
	uint32_t length = pages * (PAGE - 64);

	memcpy(data[0].at, &header, sizeof(header));
	memcpy(data[0].at + sizeof(header), frame, sizeof(frame));
	data[0].at[12 + 16] = (uint8_t)((length - 26) >> 8);
	data[0].at[12 + 17] = (uint8_t)(length - 26);
	for (; n < pages; n++)
		put_descriptor(ring, first + n,
			       (struct vring_desc){.addr = data[n].address,
						   .len = PAGE - 64,
						   .flags = n + 1 < pages ? VRING_DESC_F_NEXT : 0,
						   .next = (uint16_t)(first + n + 1)});
	offer(ring, (uint16_t)first);
}

/* But nothing by which the card would write over memory of this guest that is not ours. */
static void offer_anything(struct ring *ring)
{
	bool to_write = ring == &rings[0], elsewhere = chance(3);
	unsigned index = (unsigned)(any() % SIZE);
	struct vring_desc descriptor = {.addr = elsewhere ? any() | (uint64_t)to_write << 63
							  : data[any() % DATA_PAGES].address,
					.len = !to_write && chance(3) ? (uint32_t)any() : (uint32_t)(any() % PAGE),
					.flags = (uint16_t)(any() % 8),
					.next = (uint16_t)(any() % (SIZE + 2))};

	put_descriptor(ring, index, descriptor);
	offer(ring, chance(100) ? (uint16_t)any() : (uint16_t)index);
}

static void offer_room(struct ring *ring)
{
	unsigned index = (unsigned)(any() % SIZE);

	put_descriptor(ring, index,
		       (struct vring_desc){.addr = data[any() % DATA_PAGES].address,
					   .len = 1 + (uint32_t)(any() % PAGE),
					   .flags = VRING_DESC_F_WRITE});
	offer(ring, (uint16_t)index);
}

static void count_used(struct ring *ring)
{
	uint16_t used = __atomic_load_n((uint16_t *)ring->used.at + 1, __ATOMIC_ACQUIRE);

	given_back += (uint16_t)(used - ring->seen);
	ring->seen = used;
}

static void flood(unsigned queue)
{
	for (unsigned i = 0; i < 200; i++) {
		offer_frame(&rings[1]);
		set16(NOTIFY + 4 * queue, 0);
	}
}

static void misuse(void)
{
	switch (any() % 12) {
	case 0:
		offer_anything(&rings[any() % 2]);
		break;
	case 1:
	case 2:
		offer_room(&rings[0]);
		break;
	case 3:
		/* Any register, of any width; not the status alone. */
		set32(any() % 0x1000 / 4 * 4, (uint32_t)any());
		break;
	case 4:
		if (chance(10))
			flood((unsigned)(any() % 2));
		break;
	default:
		offer_frame(&rings[1]);
	}
	set16(NOTIFY + 4 * (any() % 3), 0);
	for (unsigned i = 0; i < 2; i++)
		count_used(&rings[i]);
}

int main(int argc, char **argv)
{
	struct timespec now, end;

	if (argc != 3)
		errx(2, "usage: net_hostile ADDRESS SECONDS");
	map_card(argv[1]);
	for (unsigned i = 0; i < 2; i++)
		rings[i] = (struct ring){.descriptors = new_page(), .available = new_page(), .used = new_page()};
	for (unsigned i = 0; i < DATA_PAGES; i++)
		data[i] = new_page();
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += atoi(argv[2]);
	do {
		if (start())
			for (unsigned i = 0; i < 300 && !(status() & VIRTIO_CONFIG_S_NEEDS_RESET); i++)
				misuse();
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec);
	set8(COMMON(device_status), 0);
	if (status() != 0)
		errx(1, "the card does not answer any more");
	printf("set up %lu times, refused %lu times, %lu chains came back\n", set_up, refused, given_back);
	return write_file("drivers/virtio-pci/bind", "", argv[1]) ? 0 : 1;
}
