/* The virtio-pci transport as a driver, good or hostile, sees it: everything goes through the bus. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/virtio/pci.h"

#define MEMORY (1u << 20)
#define DESCRIPTORS 0x1000u
#define AVAILABLE 0x2000u
#define USED 0x3000u
#define QUEUES 2
#define SIZE 16

#define COMMON(field) (VIRTIO_PCI_COMMON_OFFSET + offsetof(struct virtio_pci_common_cfg, field))

struct fake {
	struct virtio_device device;
	unsigned activations, resets, notifications, config_writes;
	unsigned last_queue;
	int activate_result;
	uint64_t refused; /* features */
	bool remove_in_write;
	uint8_t config[16];
};

struct fixture {
	struct guest_memory *memory;
	struct loop *loop;
	struct pci_bus bus;
	struct virtio_pci *transport;
	struct fake fake;
	uint64_t base;
	unsigned messages;
	uint32_t last_data;
	unsigned doorbells; /* watched by the host now */
	uint64_t first_doorbell;
	int doorbell_fd;
	struct loop_timer timer;
};

static struct fixture fixture;

static void read_config(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	struct fake *fake = (struct fake *)device;

	memset(data, 0, size);
	if (offset < sizeof(fake->config) && size <= sizeof(fake->config) - offset)
		memcpy(data, fake->config + offset, size);
}

static void write_config(struct virtio_device *device, uint32_t offset, const void *data, uint32_t size)
{
	struct fake *fake = (struct fake *)device;

	(void)offset, (void)data, (void)size;
	fake->config_writes++;
	if (fake->remove_in_write)
		virtio_pci_remove(device->transport);
}

static bool accepts(const struct virtio_device *device, uint64_t features)
{
	return !(features & ((const struct fake *)device)->refused);
}

static int activate(struct virtio_device *device, struct error *err)
{
	struct fake *fake = (struct fake *)device;

	fake->activations++;
	assert_true(device->active);
	return fake->activate_result < 0 ? error_set(err, 0, "no") : 0;
}

static void reset(struct virtio_device *device)
{
	((struct fake *)device)->resets++;
	assert_false(device->active);
}

static void notify(struct virtio_device *device, unsigned queue)
{
	struct fake *fake = (struct fake *)device;

	fake->notifications++;
	fake->last_queue = queue;
}

static const struct virtio_device_operations operations = {
    .name = "fake",
    .id = 4,
    .pci_class = 0x010203,
    .queue_count = QUEUES,
    .queue_size_max = SIZE,
    .read_config = read_config,
    .write_config = write_config,
    .accepts = accepts,
    .activate = activate,
    .reset = reset,
    .notify = notify,
};

static void send_msi(void *owner, uint64_t address, uint32_t data)
{
	(void)owner, (void)address;
	fixture.messages++;
	fixture.last_data = data;
}

static int add_doorbell(void *owner, uint64_t address, int eventfd, struct error *err)
{
	(void)owner, (void)err;
	if (fixture.doorbells++ == 0) {
		fixture.first_doorbell = address;
		fixture.doorbell_fd = eventfd;
	}
	return 0;
}

static void remove_doorbell(void *owner, uint64_t address, int eventfd)
{
	(void)owner, (void)address, (void)eventfd;
	fixture.doorbells--;
}

static uint64_t get(unsigned offset, unsigned size)
{
	uint64_t value = 0;

	assert_true(pci_memory_read(&fixture.bus, fixture.base + offset, &value, size));
	return value;
}

static void set(unsigned offset, uint64_t value, unsigned size)
{
	assert_true(pci_memory_write(&fixture.bus, fixture.base + offset, &value, size));
}

static void config_set(unsigned offset, uint32_t value, unsigned size)
{
	uint32_t address = 0x80000800 | (offset & ~3u);

	pci_port_write(&fixture.bus, 0xcf8, &address, 4);
	pci_port_write(&fixture.bus, (uint16_t)(0xcfc + offset % 4), &value, size);
}

static uint32_t config_get(unsigned offset, unsigned size)
{
	uint32_t address = 0x80000800 | (offset & ~3u), value = 0;

	pci_port_write(&fixture.bus, 0xcf8, &address, 4);
	pci_port_read(&fixture.bus, (uint16_t)(0xcfc + offset % 4), &value, size);
	return value;
}

static void stop(struct loop_timer *timer)
{
	(void)timer;
	loop_stop(fixture.loop, 0);
}

/* Lets the loop do what there is to do. */
static void run_loop(void)
{
	fixture.timer = (struct loop_timer){.handle = stop};
	loop_timer_set(fixture.loop, &fixture.timer, 2000000);
	loop_run(fixture.loop);
}

static void make_machine(struct guest_memory *memory)
{
	const struct pci_host host = {
	    .send_msi = send_msi, .add_doorbell = add_doorbell, .remove_doorbell = remove_doorbell};
	struct error err;

	memset(&fixture, 0, sizeof(fixture));
	fixture.memory = memory;
	fixture.loop = loop_new(&err);
	pci_bus_init(&fixture.bus, &host);
	fixture.fake.device.operations = &operations;
	fixture.fake.device.offered = 1ull << 5 | 1ull << 40;
	fixture.transport = virtio_pci_add(&fixture.bus, &fixture.fake.device, fixture.memory, fixture.loop, &err);
	assert_non_null(fixture.transport);
	config_set(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	fixture.base = config_get(PCI_BASE_ADDRESS_0, 4) & ~0xfu;
}

static int setup(void **state)
{
	(void)state;
	make_machine(guest_memory_new(MEMORY, NULL));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (fixture.fake.device.transport)
		virtio_pci_free(fixture.transport);
	loop_free(fixture.loop);
	guest_memory_free(fixture.memory);
	return 0;
}

static uint64_t offered_features(void)
{
	uint64_t features;

	set(COMMON(device_feature_select), 0, 4);
	features = get(COMMON(device_feature), 4);
	set(COMMON(device_feature_select), 1, 4);
	return features | get(COMMON(device_feature), 4) << 32;
}

static void accept_features(uint64_t features)
{
	set(COMMON(guest_feature_select), 0, 4);
	set(COMMON(guest_feature), (uint32_t)features, 4);
	set(COMMON(guest_feature_select), 1, 4);
	set(COMMON(guest_feature), features >> 32, 4);
}

static void set_status(uint8_t status)
{
	set(COMMON(device_status), status, 1);
}

static uint8_t status(void)
{
	return (uint8_t)get(COMMON(device_status), 1);
}

#define DRIVER (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define FEATURES (DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define RUNNING (FEATURES | VIRTIO_CONFIG_S_DRIVER_OK)

static void negotiate(void)
{
	set_status(0);
	set_status(DRIVER);
	accept_features(offered_features());
	set_status(FEATURES);
	assert_int_equal(status(), FEATURES);
}

static void set_queue(unsigned queue, uint16_t size, uint64_t descriptors)
{
	set(COMMON(queue_select), queue, 2);
	set(COMMON(queue_size), size, 2);
	set(COMMON(queue_msix_vector), queue + 1, 2);
	set(COMMON(queue_desc_lo), (uint32_t)descriptors, 4);
	set(COMMON(queue_desc_hi), descriptors >> 32, 4);
	set(COMMON(queue_avail_lo), AVAILABLE, 4);
	set(COMMON(queue_used_lo), USED, 8); /* both halves at once */
	set(COMMON(queue_enable), 1, 2);
}

static void enable_vectors(void)
{
	unsigned capability = config_get(PCI_CAPABILITY_LIST, 1);

	while (config_get(capability, 1) != PCI_CAP_ID_MSIX)
		capability = config_get(capability + 1, 1);
	config_set(capability + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
	for (unsigned i = 0; i <= QUEUES; i++) {
		set(VIRTIO_PCI_MSIX_TABLE_OFFSET + 16 * i, 0xfee00000, 4);
		set(VIRTIO_PCI_MSIX_TABLE_OFFSET + 16 * i + 8, 100 + i, 4);
		set(VIRTIO_PCI_MSIX_TABLE_OFFSET + 16 * i + 12, 0, 4);
	}
	set(COMMON(msix_config), 0, 2);
}

static void start(void)
{
	negotiate();
	enable_vectors();
	set_queue(0, 8, DESCRIPTORS);
	set_status(RUNNING);
}

static void test_start(void **state)
{
	(void)state;
	assert_int_equal(config_get(0, 4), 0x10441af4);
	assert_int_equal(get(COMMON(num_queues), 2), QUEUES);
	assert_int_equal(get(COMMON(queue_size), 2), SIZE);
	start();
	assert_int_equal(status(), RUNNING);
	assert_int_equal(fixture.fake.activations, 1);
	assert_true(fixture.fake.device.active);
	assert_true(fixture.fake.device.queues[0].ready);
	assert_false(fixture.fake.device.queues[1].ready);
	assert_int_equal(fixture.fake.device.queues[0].size, 8);
	assert_int_equal(fixture.fake.device.features, offered_features());
	assert_true(fixture.fake.device.queues[0].event_index && fixture.fake.device.queues[0].indirect);
	set_status(0);
	assert_int_equal(fixture.fake.resets, 1);
	assert_int_equal(status(), 0);
	assert_false(fixture.fake.device.queues[0].ready);
	set_status(0);
	assert_int_equal(fixture.fake.resets, 1);
	start();
	assert_int_equal(fixture.fake.activations, 2);
}

static void test_features(void **state)
{
	uint64_t offered;

	(void)state;
	offered = offered_features();
	assert_int_equal(offered, fixture.fake.device.offered | 1ull << VIRTIO_F_VERSION_1 |
				      1ull << VIRTIO_RING_F_EVENT_IDX | 1ull << VIRTIO_RING_F_INDIRECT_DESC);
	set(COMMON(device_feature_select), 2, 4);
	assert_int_equal(get(COMMON(device_feature), 4), 0);
	/* More than offered. */
	set_status(DRIVER);
	accept_features(offered | 1);
	set_status(FEATURES);
	assert_int_equal(status(), DRIVER);
	/* Without the version. */
	accept_features(offered & ~(1ull << VIRTIO_F_VERSION_1));
	set_status(FEATURES);
	assert_int_equal(status(), DRIVER);
	/* Running without features is not to be had. */
	set_status(RUNNING);
	assert_int_equal(status(), DRIVER);
	assert_int_equal(fixture.fake.activations, 0);
	accept_features(1ull << VIRTIO_F_VERSION_1);
	set_status(FEATURES);
	assert_int_equal(status(), FEATURES);
	/* Too late to change one's mind. */
	accept_features(offered);
	set_queue(0, 8, DESCRIPTORS);
	set_status(RUNNING);
	assert_int_equal(fixture.fake.device.features, 1ull << VIRTIO_F_VERSION_1);
	assert_false(fixture.fake.device.queues[0].event_index || fixture.fake.device.queues[0].indirect);
}

static void test_frozen(void **state)
{
	(void)state;
	start();
	set(COMMON(queue_select), 0, 2);
	set(COMMON(queue_size), 16, 2);
	set(COMMON(queue_desc_lo), 0x8000, 4);
	set(COMMON(queue_avail_lo), 0x8000, 4);
	set(COMMON(queue_used_hi), 1, 4);
	set(COMMON(queue_enable), 0, 2);
	set(COMMON(queue_select), 1, 2);
	set(COMMON(queue_enable), 1, 2);
	set_status(RUNNING);
	assert_int_equal(fixture.fake.activations, 1);
	assert_int_equal(fixture.fake.device.queues[0].size, 8);
	assert_int_equal(fixture.fake.device.queues[0].descriptors, DESCRIPTORS);
	assert_int_equal(fixture.fake.device.queues[0].available, AVAILABLE);
	assert_int_equal(fixture.fake.device.queues[0].used, USED);
	assert_false(fixture.fake.device.queues[1].ready);
	/* Bits of the status do not go away one by one. */
	set_status(VIRTIO_CONFIG_S_ACKNOWLEDGE);
	assert_int_equal(status(), RUNNING);
}

static void expect_failed_start(uint16_t size, uint64_t descriptors)
{
	negotiate();
	set_queue(0, size, descriptors);
	set_status(RUNNING);
	assert_int_equal(status(), RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_false(fixture.fake.device.active);
	assert_int_equal(fixture.fake.activations, 0);
}

static void test_bad_queues(void **state)
{
	(void)state;
	expect_failed_start(0, DESCRIPTORS);
	expect_failed_start(7, DESCRIPTORS);
	expect_failed_start(SIZE * 2, DESCRIPTORS);
	expect_failed_start(0x8000, DESCRIPTORS);
	expect_failed_start(8, DESCRIPTORS + 1);
	expect_failed_start(8, MEMORY);
	expect_failed_start(8, UINT64_MAX - 15);
	/* A device that needs a reset does not start without one. */
	set_status(RUNNING);
	assert_int_equal(fixture.fake.activations, 0);
	start();
	assert_int_equal(fixture.fake.activations, 1);
}

static void test_activation_fails(void **state)
{
	(void)state;
	fixture.fake.activate_result = -1;
	start();
	assert_true(status() & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(fixture.messages, 1);
	assert_int_equal(fixture.last_data, 100);
	assert_int_equal(get(VIRTIO_PCI_ISR_OFFSET, 1), 2);
	set_status(0);
	assert_int_equal(fixture.fake.resets, 1);
}

static void test_device_fails(void **state)
{
	(void)state;
	start();
	virtio_device_failed(&fixture.fake.device, "a test");
	virtio_device_failed(&fixture.fake.device, "a test");
	assert_int_equal(status(), RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(fixture.messages, 1);
	/* Its doorbells are not heard any more. */
	set(VIRTIO_PCI_NOTIFY_OFFSET, 0, 2);
	run_loop();
	assert_int_equal(fixture.fake.notifications, 0);
	start();
	assert_true(fixture.fake.device.active);
}

static void test_absent_queue(void **state)
{
	(void)state;
	negotiate();
	set_queue(QUEUES, 8, DESCRIPTORS);
	assert_int_equal(get(COMMON(queue_size), 2), 0);
	assert_int_equal(get(COMMON(queue_enable), 2), 0);
	set_queue(0xffff, 8, DESCRIPTORS);
	assert_int_equal(get(COMMON(queue_desc_lo), 4), 0);
	set_status(RUNNING);
	assert_int_equal(fixture.fake.activations, 1);
}

static void test_vectors(void **state)
{
	(void)state;
	set(COMMON(msix_config), 2, 2);
	assert_int_equal(get(COMMON(msix_config), 2), 2);
	set(COMMON(msix_config), QUEUES + 1, 2);
	assert_int_equal(get(COMMON(msix_config), 2), 0xffff);
	set(COMMON(queue_select), 0, 2);
	assert_int_equal(get(COMMON(queue_msix_vector), 2), 0xffff);
	set(COMMON(queue_msix_vector), 1, 2);
	assert_int_equal(get(COMMON(queue_msix_vector), 2), 1);
	set(COMMON(queue_msix_vector), 0x7fff, 2);
	assert_int_equal(get(COMMON(queue_msix_vector), 2), 0xffff);
}

static void test_doorbells(void **state)
{
	uint64_t one = 1;

	(void)state;
	assert_int_equal(fixture.doorbells, QUEUES);
	assert_int_equal(fixture.first_doorbell, fixture.base + VIRTIO_PCI_NOTIFY_OFFSET);
	start();
	run_loop();
	assert_int_equal(fixture.fake.notifications, 0);
	assert_int_equal(write(fixture.doorbell_fd, &one, 8), 8);
	run_loop();
	assert_int_equal(fixture.fake.notifications, 1);
	assert_int_equal(fixture.fake.last_queue, 0);
	/* Written so that KVM does not catch it; and to queues that are not set up or not there. */
	set(VIRTIO_PCI_NOTIFY_OFFSET, 0, 4);
	set(VIRTIO_PCI_NOTIFY_OFFSET + VIRTIO_PCI_NOTIFY_STEP, 1, 2);
	set(VIRTIO_PCI_NOTIFY_OFFSET + 2 * VIRTIO_PCI_NOTIFY_STEP, 2, 2);
	run_loop();
	assert_int_equal(fixture.fake.notifications, 2);
	/* The BAR moves, and the doorbells with it. */
	config_set(PCI_COMMAND, 0, 2);
	config_set(PCI_BASE_ADDRESS_0, 0xd0000000, 4);
	assert_int_equal(fixture.first_doorbell, fixture.base + VIRTIO_PCI_NOTIFY_OFFSET);
	fixture.doorbells = QUEUES;
	config_set(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_int_equal(fixture.doorbells, QUEUES);
	assert_int_equal(fixture.first_doorbell, 0xd0000000 + VIRTIO_PCI_NOTIFY_OFFSET);
}

static void test_interrupts(void **state)
{
	struct vring_desc descriptor = {.addr = 0x8000, .len = 1};
	uint16_t one = 1;
	struct chain chain;

	(void)state;
	start();
	virtio_device_signal(&fixture.fake.device, 0);
	assert_int_equal(fixture.messages, 1); /* the first time is never left out */
	virtio_device_signal(&fixture.fake.device, 0);
	virtio_device_signal(&fixture.fake.device, 1);
	virtio_device_signal(&fixture.fake.device, 77);
	assert_int_equal(fixture.messages, 1);
	guest_write(fixture.memory, DESCRIPTORS, &descriptor, sizeof(descriptor));
	guest_write(fixture.memory, AVAILABLE + 2, &one, 2);
	assert_int_equal(queue_pop(&fixture.fake.device.queues[0], &chain), 1);
	queue_push(&fixture.fake.device.queues[0], chain.head, 0);
	virtio_device_signal(&fixture.fake.device, 0);
	assert_int_equal(fixture.messages, 2);
	assert_int_equal(fixture.last_data, 101);
	assert_int_equal(get(VIRTIO_PCI_ISR_OFFSET, 1), 1);
	assert_int_equal(get(VIRTIO_PCI_ISR_OFFSET, 1), 0);
}

static void test_device_config(void **state)
{
	uint8_t generation;

	(void)state;
	memcpy(fixture.fake.config, "0123456789abcdef", 16);
	assert_int_equal(get(VIRTIO_PCI_DEVICE_OFFSET + 8, 1), '8');
	assert_int_equal(get(VIRTIO_PCI_DEVICE_OFFSET + 8, 8), 0x6665646362613938);
	assert_int_equal(get(VIRTIO_PCI_DEVICE_OFFSET + 15, 2), 0);
	assert_int_equal(get(VIRTIO_PCI_DEVICE_OFFSET + VIRTIO_PCI_DEVICE_SIZE - 1, 1), 0);
	set(VIRTIO_PCI_DEVICE_OFFSET, 1, 4);
	assert_int_equal(fixture.fake.config_writes, 1);
	set(VIRTIO_PCI_DEVICE_OFFSET + VIRTIO_PCI_DEVICE_SIZE - 1, 1, 4);
	assert_int_equal(fixture.fake.config_writes, 1);
	start();
	generation = (uint8_t)get(COMMON(config_generation), 1);
	virtio_device_config_changed(&fixture.fake.device);
	assert_int_not_equal(get(COMMON(config_generation), 1), generation);
	assert_int_equal(fixture.last_data, 100);
}

static void test_odd_accesses(void **state)
{
	uint8_t data[8] = {0};

	(void)state;
	/* Parts of accesses that cross a page have any size; no register is touched by them. */
	for (unsigned size = 3; size <= 7; size += size == 3 ? 2 : 1) {
		assert_false(pci_memory_read(&fixture.bus, fixture.base, data, size));
		assert_int_equal(data[0], 0xff);
		assert_false(pci_memory_write(&fixture.bus, fixture.base, data, size));
	}
	assert_int_equal(get(COMMON(device_feature_select), 4), 0);
	/* All offsets and widths: nothing but answers. */
	for (unsigned offset = 0; offset + 8 <= VIRTIO_PCI_BAR_SIZE; offset++)
		for (unsigned size = 1; size <= 8; size *= 2)
			get(offset, size);
	for (unsigned offset = 0; offset + 8 <= VIRTIO_PCI_BAR_SIZE; offset++)
		for (unsigned size = 1; size <= 8; size *= 2)
			set(offset, UINT64_MAX, size);
	run_loop();
	start();
	assert_int_equal(status(), RUNNING);
}

/* The window through configuration space. */
static void test_config_access(void **state)
{
	unsigned capability = config_get(PCI_CAPABILITY_LIST, 1);

	(void)state;
	while (config_get(capability, 1) != PCI_CAP_ID_VNDR || config_get(capability + 3, 1) != VIRTIO_PCI_CAP_PCI_CFG)
		capability = config_get(capability + 1, 1);
	config_set(capability + 8, COMMON(num_queues), 4);
	config_set(capability + 12, 2, 4);
	assert_int_equal(config_get(capability + 16, 2), QUEUES);
	config_set(capability + 8, COMMON(device_status), 4);
	config_set(capability + 12, 1, 4);
	config_set(capability + 16, DRIVER, 1);
	assert_int_equal(status(), DRIVER);
	config_set(capability + 12, 3, 4);
	config_set(capability + 16, FEATURES, 4);
	config_set(capability + 12, 0xffffffff, 4);
	config_set(capability + 8, 0xfffffffc, 4);
	config_set(capability + 16, FEATURES, 4);
	config_get(capability + 16, 4);
	config_set(capability + 12, 4, 4);
	config_set(capability + 16, FEATURES, 4);
	config_get(capability + 16, 4);
	config_set(capability + 4, 1, 1); /* a BAR that is not there */
	config_set(capability + 8, COMMON(device_status), 4);
	config_set(capability + 12, 1, 4);
	config_set(capability + 16, 0, 1);
	assert_int_equal(status(), DRIVER);
}

/* --- save and restore ----------------------------------------------------------------------------------------------
 */

/* One chain of one buffer at `slot`, taken and given back when it is to be. */
static void use_queue(uint16_t slot, bool take)
{
	struct vring_desc descriptor = {.addr = 0x8000, .len = 16, .flags = VRING_DESC_F_WRITE};
	struct queue *queue = &fixture.fake.device.queues[0];
	uint16_t index = (uint16_t)(slot + 1), head = slot % 8;
	static struct chain chain;

	assert_true(guest_write(fixture.memory, DESCRIPTORS + 16u * head, &descriptor, sizeof(descriptor)));
	assert_true(guest_write(fixture.memory, AVAILABLE + 4 + 2u * head, &head, 2));
	assert_true(guest_write(fixture.memory, AVAILABLE + 2, &index, 2));
	if (!take)
		return;
	assert_int_equal(queue_pop(queue, &chain), 1);
	queue_push(queue, chain.head, 16);
	virtio_device_signal(&fixture.fake.device, 0);
}

/* A new machine with the memory of the one before. */
static void replace_machine(void)
{
	struct guest_memory *memory = fixture.memory;

	virtio_pci_free(fixture.transport);
	loop_free(fixture.loop);
	make_machine(memory);
}

static struct state_writer saved_machine(void)
{
	struct state_writer writer = {0};

	start();
	for (uint16_t i = 0; i < 11; i++)
		use_queue(i, true);
	use_queue(11, false);
	assert_int_equal(virtio_pci_quiesce(fixture.transport, NULL), 0);
	virtio_pci_save(fixture.transport, &writer);
	assert_int_equal(writer.failed, 0);
	return writer;
}

static int restore(const uint8_t *data, size_t size, struct error *err)
{
	struct state_reader reader = {data, size};

	return virtio_pci_restore(fixture.transport, &reader, err);
}

static void test_restore(void **state)
{
	struct state_writer writer = saved_machine();
	struct queue *queue = &fixture.fake.device.queues[0];

	(void)state;
	replace_machine();
	assert_int_equal(restore(writer.data, writer.size, NULL), 0);
	state_writer_free(&writer);
	assert_int_equal(status(), RUNNING);
	assert_true(fixture.fake.device.active);
	assert_int_equal(fixture.fake.device.features, offered_features());
	assert_int_equal(queue->next_available, 11);
	assert_int_equal(queue->next_used, 11);
	assert_true(queue->ready && queue->event_index);
	assert_false(fixture.fake.device.queues[1].ready);
	/* What had not been taken rings; interrupts go to where the guest wants them. */
	run_loop();
	assert_int_equal(fixture.fake.notifications, 1);
	fixture.messages = 0;
	assert_true(guest_write(fixture.memory, AVAILABLE + 4 + 2 * 8, &(uint16_t){11}, 2)); /* the driver's wish */
	use_queue(11, true);
	assert_int_equal(fixture.messages, 1);
	assert_int_equal(fixture.last_data, 101);
	set_status(0);
	assert_int_equal(fixture.fake.resets, 1);
	start();
	assert_int_equal(fixture.fake.activations, 1);
}

/* Shorter, longer, and with each bit another one: refused, or a device that works with what the guest has. */
static void test_restore_damaged(void **state)
{
	struct state_writer writer = saved_machine();
	size_t size = writer.size;

	(void)state;
	for (size_t length = 0; length < size; length++) {
		uint8_t *copy = malloc(length);

		memcpy(copy, writer.data, length);
		replace_machine();
		assert_int_equal(restore(copy, length, NULL), -1);
		free(copy);
	}
	state_put(&writer, "beyond", 6);
	replace_machine();
	assert_int_equal(restore(writer.data, writer.size, NULL), -1);
	for (size_t bit = 0; bit < 8 * size; bit += 3) {
		writer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
		replace_machine();
		restore(writer.data, size, NULL);
		writer.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	state_writer_free(&writer);
}

static void test_restore_other_ring(void **state)
{
	struct state_writer writer = saved_machine();
	uint16_t index = 12;
	struct error err;

	(void)state;
	replace_machine();
	assert_true(guest_write(fixture.memory, USED + 2, &index, 2));
	assert_int_equal(restore(writer.data, writer.size, &err), -1);
	assert_non_null(strstr(err.message, "fake: a queue stands at 11"));
	state_writer_free(&writer);
}

/* Offered, and yet not to be had alone. */
static void test_device_refuses(void **state)
{
	uint64_t offered;

	(void)state;
	offered = offered_features();
	fixture.fake.refused = 1ull << 5;
	set_status(DRIVER);
	accept_features(offered);
	set_status(FEATURES);
	assert_int_equal(status(), DRIVER);
	accept_features(offered & ~fixture.fake.refused);
	set_status(FEATURES);
	assert_int_equal(status(), FEATURES);
}

static void expect_gone(void)
{
	uint32_t value = 0;

	assert_int_equal(config_get(PCI_VENDOR_ID, 4), 0xffffffff);
	assert_false(pci_memory_read(&fixture.bus, fixture.base, &value, 4));
	assert_null(fixture.fake.device.transport);
	assert_false(fixture.fake.device.active);
	assert_int_equal(fixture.doorbells, 0);
	/* What is still on its way there ends here. */
	virtio_device_signal(&fixture.fake.device, 0);
	virtio_device_config_changed(&fixture.fake.device);
	run_loop();
}

/* Taken off the bus while the driver uses it, and put there again. */
static void test_removed(void **state)
{
	struct error err;

	(void)state;
	start();
	set(VIRTIO_PCI_NOTIFY_OFFSET, 0, 4); /* has not been heard yet */
	virtio_pci_remove(fixture.transport);
	assert_int_equal(fixture.fake.resets, 1);
	expect_gone();
	assert_int_equal(fixture.fake.notifications, 0);
	fixture.bus.running = true;
	fixture.transport = virtio_pci_add(&fixture.bus, &fixture.fake.device, fixture.memory, fixture.loop, &err);
	assert_int_equal(virtio_pci_slot(fixture.transport), 1);
	/* KVM watches no doorbell before the guest has said where they are. */
	assert_int_equal(fixture.doorbells, 0);
	config_set(PCI_BASE_ADDRESS_0, 0x20000000, 4);
	assert_int_equal(fixture.doorbells, 0);
	config_set(PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_int_equal(fixture.doorbells, QUEUES);
	assert_int_equal(fixture.first_doorbell, 0x20000000 + VIRTIO_PCI_NOTIFY_OFFSET);
	fixture.base = 0x20000000;
	start();
	assert_true(fixture.fake.device.active);
	virtio_pci_remove(fixture.transport);
	expect_gone();
}

static void test_removed_before_it_is_placed(void **state)
{
	struct error err;

	(void)state;
	virtio_pci_remove(fixture.transport);
	fixture.bus.running = true;
	fixture.transport = virtio_pci_add(&fixture.bus, &fixture.fake.device, fixture.memory, fixture.loop, &err);
	virtio_pci_remove(fixture.transport);
	expect_gone();
	assert_int_equal(fixture.fake.resets, 0);
}

/* By the loop's thread, while a vCPU is in a register of it. */
static void test_removed_during_access(void **state)
{
	(void)state;
	start();
	fixture.fake.remove_in_write = true;
	set(VIRTIO_PCI_DEVICE_OFFSET, 1, 4);
	expect_gone();
}

static void test_removed_during_config_access(void **state)
{
	unsigned capability = config_get(PCI_CAPABILITY_LIST, 1);

	(void)state;
	while (config_get(capability, 1) != PCI_CAP_ID_VNDR || config_get(capability + 3, 1) != VIRTIO_PCI_CAP_PCI_CFG)
		capability = config_get(capability + 1, 1);
	config_set(capability + offsetof(struct virtio_pci_cap, offset), VIRTIO_PCI_DEVICE_OFFSET, 4);
	config_set(capability + offsetof(struct virtio_pci_cap, length), 4, 4);
	fixture.fake.remove_in_write = true;
	config_set(capability + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data), 1, 4);
	expect_gone();
	assert_int_equal(fixture.fake.config_writes, 1);
}

static void test_put_back(void **state)
{
	static struct chain chain;
	struct queue *queue;

	(void)state;
	start();
	queue = &fixture.fake.device.queues[0];
	for (uint16_t i = 0; i < 3; i++)
		use_queue(i, i == 0);
	assert_int_equal(queue_pop(queue, &chain), 1);
	assert_int_equal(queue_pop(queue, &chain), 1);
	assert_int_equal(virtio_pci_quiesce(fixture.transport, NULL), -1);
	assert_false(queue_has_more(queue));
	queue_put_back(queue, 2);
	assert_int_equal(virtio_pci_quiesce(fixture.transport, NULL), 0);
	assert_int_equal(queue->next_available, 1);
	assert_true(queue_has_more(queue));
	assert_int_equal(queue_pop(queue, &chain), 1);
	assert_int_equal(chain.head, 1);
	/* More than were taken. */
	queue_put_back(queue, 2);
	assert_true(queue->broken);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_start),
	    TEST(test_features),
	    TEST(test_frozen),
	    TEST(test_bad_queues),
	    TEST(test_activation_fails),
	    TEST(test_device_fails),
	    TEST(test_absent_queue),
	    TEST(test_vectors),
	    TEST(test_doorbells),
	    TEST(test_interrupts),
	    TEST(test_device_config),
	    TEST(test_odd_accesses),
	    TEST(test_config_access),
	    TEST(test_restore),
	    TEST(test_restore_damaged),
	    TEST(test_put_back),
	    TEST(test_device_refuses),
	    TEST(test_removed),
	    TEST(test_removed_before_it_is_placed),
	    TEST(test_removed_during_access),
	    TEST(test_removed_during_config_access),
	    TEST(test_restore_other_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
