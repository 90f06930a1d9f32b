/*
 * Theory of operation. The guest reaches the registers from its vCPU threads, with the loop's lock held; what concerns
 * the device's own work (start, reset, doorbells) runs on the loop's thread: a change of status is handed over by
 * loop_call, a doorbell comes through an eventfd, which KVM signals without waking any code of ours on the vCPU. Except
 * where the device answers its doorbells directly (virtio-fs): then the write comes here, on the vCPU's thread, and the
 * eventfd is only used when the lock is taken or something is left for the loop's thread.
 */
#include "vmm/virtio/pci.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "vmm/msix.h"

#define VIRTIO_VENDOR 0x1af4
#define VIRTIO_DEVICE_BASE 0x1040
#define MSIX_TABLE_SIZE ((uint64_t)MSIX_VECTORS_MAX * MSIX_ENTRY_SIZE)
#define NOTIFY_SIZE ((uint64_t)VIRTIO_QUEUES_MAX * VIRTIO_PCI_NOTIFY_STEP)
#define NO_VECTOR 0xffff
#define STATUS_KNOWN                                                                                                   \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK |                            \
	 VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)
#define ISR_QUEUE 1
#define ISR_CONFIG 2

struct queue_registers {
	uint16_t size;
	uint16_t vector;
	uint16_t enabled;
	uint64_t descriptors, available, used;
};

/* All that the guest can see of the transport, but for configuration space and MSI-X. */
struct registers {
	uint32_t device_feature_select;
	uint32_t driver_feature_select;
	uint64_t driver_features;
	uint16_t config_vector;
	uint16_t queue_select;
	uint8_t status;
	uint8_t generation; /* of the device's configuration space */
	uint8_t isr;
	struct queue_registers queues[VIRTIO_QUEUES_MAX];
};

struct doorbell {
	struct virtio_pci *transport;
	unsigned queue;
	struct loop_source source; /* an eventfd */
};

struct virtio_pci {
	struct pci_function function;
	struct virtio_device *device; /* NULL: taken off the bus */
	const struct guest_memory *memory;
	struct loop *loop;
	struct registers registers;
	struct msix msix;
	bool activated;		   /* the device was started, and has to be reset before it starts again */
	unsigned config_access;	   /* offset of the capability for access through configuration space */
	uint64_t doorbell_address; /* where KVM watches, 0: nowhere */
	struct doorbell doorbells[VIRTIO_QUEUES_MAX];
};

static struct virtio_pci *of(struct pci_function *function)
{
	return (struct virtio_pci *)function; /* the first member */
}

static unsigned queue_count(const struct virtio_pci *transport)
{
	return transport->device->operations->queue_count;
}

static uint64_t offered(const struct virtio_device *device)
{
	return device->offered | 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX |
	       1ull << VIRTIO_RING_F_INDIRECT_DESC;
}

/* --- interrupts ------------------------------------------------------------------------------------------------------
 */

static void interrupt(struct virtio_pci *transport, uint16_t vector, uint8_t isr)
{
	transport->registers.isr |= isr;
	if (vector != NO_VECTOR)
		msix_signal(&transport->msix, vector);
}

void virtio_device_signal(struct virtio_device *device, unsigned queue)
{
	struct virtio_pci *transport = device->transport;

	if (transport && queue < queue_count(transport) && queue_needs_interrupt(&device->queues[queue]))
		interrupt(transport, transport->registers.queues[queue].vector, ISR_QUEUE);
}

void virtio_device_config_changed(struct virtio_device *device)
{
	struct virtio_pci *transport = device->transport;

	if (!transport)
		return;
	transport->registers.generation++;
	if (transport->registers.status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(transport, transport->registers.config_vector, ISR_CONFIG);
}

void virtio_device_failed(struct virtio_device *device, const char *reason)
{
	struct virtio_pci *transport = device->transport;

	log_guest("%s: %s: the device waits for a reset", device->operations->name, reason);
	device->active = false;
	if (!transport || (transport->registers.status & VIRTIO_CONFIG_S_NEEDS_RESET))
		return;
	transport->registers.status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (transport->registers.status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(transport, transport->registers.config_vector, ISR_CONFIG);
}

/* --- status: on the loop's thread ------------------------------------------------------------------------------------
 */

static void clear_registers(struct virtio_pci *transport)
{
	uint8_t generation = transport->registers.generation;

	transport->registers = (struct registers){.config_vector = NO_VECTOR, .generation = generation};
	for (unsigned i = 0; i < queue_count(transport); i++) {
		transport->registers.queues[i].size = transport->device->operations->queue_size_max;
		transport->registers.queues[i].vector = NO_VECTOR;
	}
}

static void reset(struct virtio_pci *transport)
{
	struct virtio_device *device = transport->device;

	device->active = false;
	if (transport->activated && device->operations->reset)
		device->operations->reset(device);
	transport->activated = false;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		queue_reset(&device->queues[i]);
	device->features = 0;
	clear_registers(transport);
}

static bool start_queue(struct virtio_pci *transport, unsigned index)
{
	const struct queue_registers *registers = &transport->registers.queues[index];
	struct queue *queue = &transport->device->queues[index];

	queue_reset(queue);
	if (!registers->enabled)
		return true;
	queue->size = registers->size;
	queue->descriptors = registers->descriptors;
	queue->available = registers->available;
	queue->used = registers->used;
	queue->event_index = transport->device->features & 1ull << VIRTIO_RING_F_EVENT_IDX;
	queue->indirect = transport->device->features & 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	return queue->size <= transport->device->operations->queue_size_max &&
	       queue_start(queue, transport->memory) == 0;
}

static void activate(struct virtio_pci *transport)
{
	struct virtio_device *device = transport->device;
	struct error err;

	for (unsigned i = 0; i < queue_count(transport); i++) {
		if (start_queue(transport, i))
			continue;
		virtio_device_failed(device, "a queue of impossible size or address");
		return;
	}
	device->active = true;
	transport->activated = true;
	if (device->operations->activate && device->operations->activate(device, &err) < 0)
		virtio_device_failed(device, err.message);
}

/* The driver may have accepted only what was offered, and has to know the version (6.1). When it has not, FEATURES_OK
 * stays off, which tells it so. */
static bool accept_features(struct virtio_pci *transport)
{
	struct virtio_device *device = transport->device;
	uint64_t features = transport->registers.driver_features;

	if ((features & ~offered(device)) || !(features & 1ull << VIRTIO_F_VERSION_1))
		return false;
	if (device->operations->accepts && !device->operations->accepts(device, features))
		return false;
	device->features = features;
	return true;
}

struct status_change {
	struct virtio_pci *transport;
	uint8_t status;
};

/* Bits are only ever added, until a 0 resets the device (2.1). */
static void change_status(void *argument)
{
	const struct status_change *change = argument;
	struct virtio_pci *transport = change->transport;
	uint8_t old = transport->registers.status, added = change->status & (uint8_t)~old & STATUS_KNOWN;

	if (!transport->device)
		return;
	if (change->status == 0) {
		reset(transport);
		return;
	}
	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && !accept_features(transport))
		added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!((old | added) & VIRTIO_CONFIG_S_FEATURES_OK) || (old & VIRTIO_CONFIG_S_NEEDS_RESET))
		added &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	transport->registers.status |= added;
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		activate(transport);
}

/* --- common configuration (4.1.4.3) ----------------------------------------------------------------------------------
 */

/* One register: where it lies in struct virtio_pci_common_cfg and how wide it is. Accesses of another width or place
 * are ignored, but that a 64-bit address may be reached as one or as two halves. */
enum reg {
	DEVICE_FEATURE_SELECT,
	DEVICE_FEATURE,
	DRIVER_FEATURE_SELECT,
	DRIVER_FEATURE,
	CONFIG_VECTOR,
	QUEUE_COUNT,
	STATUS,
	GENERATION,
	QUEUE_SELECT,
	QUEUE_SIZE,
	QUEUE_VECTOR,
	QUEUE_ENABLE,
	QUEUE_NOTIFY_OFFSET,
	QUEUE_DESCRIPTORS,
	QUEUE_AVAILABLE = QUEUE_DESCRIPTORS + 2,
	QUEUE_USED = QUEUE_AVAILABLE + 2,
	REGISTERS = QUEUE_USED + 2,
};

#define PLACE(field, width)                                                                                            \
	{                                                                                                              \
		offsetof(struct virtio_pci_common_cfg, field), width                                                   \
	}

static const struct {
	uint8_t offset, width;
} places[REGISTERS] = {
    [DEVICE_FEATURE_SELECT] = PLACE(device_feature_select, 4),
    [DEVICE_FEATURE] = PLACE(device_feature, 4),
    [DRIVER_FEATURE_SELECT] = PLACE(guest_feature_select, 4),
    [DRIVER_FEATURE] = PLACE(guest_feature, 4),
    [CONFIG_VECTOR] = PLACE(msix_config, 2),
    [QUEUE_COUNT] = PLACE(num_queues, 2),
    [STATUS] = PLACE(device_status, 1),
    [GENERATION] = PLACE(config_generation, 1),
    [QUEUE_SELECT] = PLACE(queue_select, 2),
    [QUEUE_SIZE] = PLACE(queue_size, 2),
    [QUEUE_VECTOR] = PLACE(queue_msix_vector, 2),
    [QUEUE_ENABLE] = PLACE(queue_enable, 2),
    [QUEUE_NOTIFY_OFFSET] = PLACE(queue_notify_off, 2),
    [QUEUE_DESCRIPTORS] = PLACE(queue_desc_lo, 4),
    [QUEUE_DESCRIPTORS + 1] = PLACE(queue_desc_hi, 4),
    [QUEUE_AVAILABLE] = PLACE(queue_avail_lo, 4),
    [QUEUE_AVAILABLE + 1] = PLACE(queue_avail_hi, 4),
    [QUEUE_USED] = PLACE(queue_used_lo, 4),
    [QUEUE_USED + 1] = PLACE(queue_used_hi, 4),
};

static int find_register(uint64_t offset, unsigned size)
{
	for (unsigned i = 0; i < REGISTERS; i++)
		if (places[i].offset == offset && places[i].width == size)
			return (int)i;
	return -1;
}

/* NULL when the driver has selected a queue that does not exist. */
static struct queue_registers *selected(struct virtio_pci *transport)
{
	unsigned index = transport->registers.queue_select;

	return index < queue_count(transport) ? &transport->registers.queues[index] : NULL;
}

static uint32_t half(uint64_t value, unsigned which)
{
	return which == 0 ? (uint32_t)value : which == 1 ? (uint32_t)(value >> 32) : 0;
}

static uint32_t read_queue_register(struct virtio_pci *transport, int reg)
{
	const struct queue_registers *queue = selected(transport);

	if (!queue)
		return 0;
	switch (reg) {
	case QUEUE_SIZE:
		return queue->size;
	case QUEUE_VECTOR:
		return queue->vector;
	case QUEUE_ENABLE:
		return queue->enabled;
	case QUEUE_NOTIFY_OFFSET:
		return transport->registers.queue_select;
	case QUEUE_DESCRIPTORS:
	case QUEUE_DESCRIPTORS + 1:
		return half(queue->descriptors, (unsigned)reg - QUEUE_DESCRIPTORS);
	case QUEUE_AVAILABLE:
	case QUEUE_AVAILABLE + 1:
		return half(queue->available, (unsigned)reg - QUEUE_AVAILABLE);
	case QUEUE_USED:
	case QUEUE_USED + 1:
		return half(queue->used, (unsigned)reg - QUEUE_USED);
	}
	return 0;
}

static uint32_t read_register(struct virtio_pci *transport, int reg)
{
	const struct registers *registers = &transport->registers;

	switch (reg) {
	case DEVICE_FEATURE_SELECT:
		return registers->device_feature_select;
	case DEVICE_FEATURE:
		return half(offered(transport->device), registers->device_feature_select);
	case DRIVER_FEATURE_SELECT:
		return registers->driver_feature_select;
	case DRIVER_FEATURE:
		return half(registers->driver_features, registers->driver_feature_select);
	case CONFIG_VECTOR:
		return registers->config_vector;
	case QUEUE_COUNT:
		return queue_count(transport);
	case STATUS:
		return registers->status;
	case GENERATION:
		return registers->generation;
	case QUEUE_SELECT:
		return registers->queue_select;
	}
	return read_queue_register(transport, reg);
}

static void set_half(uint64_t *value, unsigned which, uint32_t to)
{
	if (which == 0)
		*value = (*value & ~0xffffffffull) | to;
	else if (which == 1)
		*value = (*value & 0xffffffffull) | (uint64_t)to << 32;
}

/* A vector that does not exist cannot be set, and the driver sees that by reading it back (4.1.5.1.2.1). */
static uint16_t checked_vector(const struct virtio_pci *transport, uint32_t vector)
{
	return vector < transport->msix.count ? (uint16_t)vector : NO_VECTOR;
}

/* Queues are frozen from DRIVER_OK on, and one that is enabled from then on, but for its vector. */
static void write_queue_register(struct virtio_pci *transport, int reg, uint32_t value)
{
	struct queue_registers *queue = selected(transport);

	if (queue && reg == QUEUE_VECTOR)
		queue->vector = checked_vector(transport, value);
	if (!queue || queue->enabled || (transport->registers.status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	switch (reg) {
	case QUEUE_SIZE:
		queue->size = (uint16_t)value; /* checked by queue_start */
		break;
	case QUEUE_ENABLE:
		queue->enabled = value == 1;
		break;
	case QUEUE_DESCRIPTORS:
	case QUEUE_DESCRIPTORS + 1:
		set_half(&queue->descriptors, (unsigned)reg - QUEUE_DESCRIPTORS, value);
		break;
	case QUEUE_AVAILABLE:
	case QUEUE_AVAILABLE + 1:
		set_half(&queue->available, (unsigned)reg - QUEUE_AVAILABLE, value);
		break;
	case QUEUE_USED:
	case QUEUE_USED + 1:
		set_half(&queue->used, (unsigned)reg - QUEUE_USED, value);
		break;
	}
}

static void write_register(struct virtio_pci *transport, int reg, uint32_t value)
{
	struct registers *registers = &transport->registers;
	struct status_change change = {.transport = transport, .status = (uint8_t)value};

	switch (reg) {
	case DEVICE_FEATURE_SELECT:
		registers->device_feature_select = value;
		return;
	case DRIVER_FEATURE_SELECT:
		registers->driver_feature_select = value;
		return;
	case DRIVER_FEATURE:
		if (!(registers->status & VIRTIO_CONFIG_S_FEATURES_OK))
			set_half(&registers->driver_features, registers->driver_feature_select, value);
		return;
	case CONFIG_VECTOR:
		registers->config_vector = checked_vector(transport, value);
		return;
	case STATUS:
		loop_call(transport->loop, change_status, &change);
		return;
	case QUEUE_SELECT:
		registers->queue_select = (uint16_t)value;
		return;
	}
	write_queue_register(transport, reg, value);
}

static void common_read(struct virtio_pci *transport, uint64_t offset, void *data, unsigned size)
{
	int reg = find_register(offset, size);
	uint32_t value = reg < 0 ? 0 : read_register(transport, reg);

	if (size == 8) { /* both halves of an address */
		common_read(transport, offset, data, 4);
		common_read(transport, offset + 4, (uint8_t *)data + 4, 4);
		return;
	}
	memcpy(data, &value, size);
}

static void common_write(struct virtio_pci *transport, uint64_t offset, const void *data, unsigned size)
{
	int reg = find_register(offset, size);
	uint32_t value = 0;

	if (size == 8) {
		common_write(transport, offset, data, 4);
		common_write(transport, offset + 4, (const uint8_t *)data + 4, 4);
		return;
	}
	memcpy(&value, data, size);
	if (reg >= 0)
		write_register(transport, reg, value);
}

/* --- doorbells -------------------------------------------------------------------------------------------------------
 */

static void doorbell_rings(struct loop_source *source, uint32_t events)
{
	struct doorbell *doorbell = source->owner;
	struct virtio_device *device = doorbell->transport->device;
	uint64_t count;

	(void)events;
	if (read(source->fd, &count, sizeof(count)) < 0)
		return;
	if (device->active && device->queues[doorbell->queue].ready)
		device->operations->notify(device, doorbell->queue);
}

/* A doorbell that KVM did not catch: one written with an unusual width, or through configuration space. */
static void ring(struct virtio_pci *transport, uint64_t offset)
{
	uint64_t queue = offset / VIRTIO_PCI_NOTIFY_STEP, one = 1;

	if (queue >= queue_count(transport))
		return;
	if (write(transport->doorbells[queue].source.fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it rings already */
}

static uint64_t doorbell_address(const struct virtio_pci *transport, unsigned queue)
{
	return transport->doorbell_address + VIRTIO_PCI_NOTIFY_OFFSET + (uint64_t)queue * VIRTIO_PCI_NOTIFY_STEP;
}

static bool rings_directly(void *argument)
{
	struct doorbell *doorbell = argument;
	struct virtio_device *device = doorbell->transport->device;

	if (!device->active || !device->queues[doorbell->queue].ready)
		return true;
	return device->operations->notify_directly(device, doorbell->queue);
}

static bool is_direct(const struct virtio_pci *transport)
{
	return transport->device->operations->notify_directly && transport->function.bus->host.add_direct_doorbell;
}

static void remove_doorbell(struct virtio_pci *transport, unsigned queue)
{
	const struct pci_host *host = &transport->function.bus->host;
	uint64_t address = doorbell_address(transport, queue);

	if (is_direct(transport))
		host->remove_direct_doorbell(host->owner, address);
	else
		host->remove_doorbell(host->owner, address, transport->doorbells[queue].source.fd);
}

static int add_doorbell(struct virtio_pci *transport, unsigned queue, struct error *err)
{
	const struct pci_host *host = &transport->function.bus->host;
	struct doorbell *doorbell = &transport->doorbells[queue];
	uint64_t address = doorbell_address(transport, queue);

	if (is_direct(transport))
		return host->add_direct_doorbell(host->owner, address, doorbell->source.fd, rings_directly, doorbell,
						 err);
	return host->add_doorbell(host->owner, address, doorbell->source.fd, err);
}

static void bar_moved(struct pci_function *function, unsigned bar, uint64_t address)
{
	struct virtio_pci *transport = of(function);
	struct error err;

	if (bar != 0)
		return;
	for (unsigned i = 0; transport->doorbell_address != 0 && i < queue_count(transport); i++)
		remove_doorbell(transport, i);
	transport->doorbell_address = address;
	for (unsigned i = 0; i < queue_count(transport); i++)
		if (add_doorbell(transport, i, &err) < 0)
			log_guest("%s: %s", transport->device->operations->name, err.message);
}

static int add_doorbells(struct virtio_pci *transport, struct error *err)
{
	for (unsigned i = 0; i < queue_count(transport); i++) {
		struct doorbell *doorbell = &transport->doorbells[i];
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

		if (fd < 0)
			return error_set_errno(err, "make a doorbell");
		*doorbell = (struct doorbell){
		    .transport = transport,
		    .queue = i,
		    .source = {.fd = fd, .events = EPOLLIN, .handle = doorbell_rings, .owner = doorbell}};
		if (loop_add(transport->loop, &doorbell->source, err) < 0)
			return -1;
	}
	return 0;
}

/* --- the BAR ---------------------------------------------------------------------------------------------------------
 */

static bool is_in(uint64_t offset, unsigned size, uint64_t start, uint64_t length)
{
	return offset >= start && offset - start < length && size <= length - (offset - start);
}

/* Device configuration of any width is at most 8 bytes here: what pci.c lets through. */
static void bar_read(struct pci_function *function, unsigned bar, uint64_t offset, void *data, unsigned size)
{
	struct virtio_pci *transport = of(function);
	struct virtio_device *device = transport->device;

	(void)bar;
	memset(data, 0, size);
	if (is_in(offset, size, VIRTIO_PCI_COMMON_OFFSET, sizeof(struct virtio_pci_common_cfg)))
		common_read(transport, offset - VIRTIO_PCI_COMMON_OFFSET, data, size);
	else if (offset == VIRTIO_PCI_ISR_OFFSET) {
		memcpy(data, &transport->registers.isr, 1);
		transport->registers.isr = 0;
	} else if (is_in(offset, size, VIRTIO_PCI_DEVICE_OFFSET, VIRTIO_PCI_DEVICE_SIZE)) {
		if (device->operations->read_config)
			device->operations->read_config(device, (uint32_t)(offset - VIRTIO_PCI_DEVICE_OFFSET), data,
							size);
	} else if (is_in(offset, size, VIRTIO_PCI_MSIX_TABLE_OFFSET, MSIX_TABLE_SIZE))
		msix_table_read(&transport->msix, offset - VIRTIO_PCI_MSIX_TABLE_OFFSET, data, size);
	else if (is_in(offset, size, VIRTIO_PCI_MSIX_PENDING_OFFSET, sizeof(uint64_t)))
		msix_pending_read(&transport->msix, offset - VIRTIO_PCI_MSIX_PENDING_OFFSET, data, size);
}

static void bar_write(struct pci_function *function, unsigned bar, uint64_t offset, const void *data, unsigned size)
{
	struct virtio_pci *transport = of(function);
	struct virtio_device *device = transport->device;

	(void)bar;
	if (is_in(offset, size, VIRTIO_PCI_COMMON_OFFSET, sizeof(struct virtio_pci_common_cfg)))
		common_write(transport, offset - VIRTIO_PCI_COMMON_OFFSET, data, size);
	else if (is_in(offset, size, VIRTIO_PCI_NOTIFY_OFFSET, NOTIFY_SIZE))
		ring(transport, offset - VIRTIO_PCI_NOTIFY_OFFSET);
	else if (is_in(offset, size, VIRTIO_PCI_DEVICE_OFFSET, VIRTIO_PCI_DEVICE_SIZE)) {
		if (device->operations->write_config)
			device->operations->write_config(device, (uint32_t)(offset - VIRTIO_PCI_DEVICE_OFFSET), data,
							 size);
	} else if (is_in(offset, size, VIRTIO_PCI_MSIX_TABLE_OFFSET, MSIX_TABLE_SIZE))
		msix_table_write(&transport->msix, offset - VIRTIO_PCI_MSIX_TABLE_OFFSET, data, size);
}

/* --- access through configuration space (4.1.4.9) --------------------------------------------------------------------
 */

struct window {
	uint32_t offset, length;
};

/* The driver writes bar, offset and length into the capability; an access to its data field then is one to the BAR. */
static bool config_window(struct virtio_pci *transport, unsigned offset, unsigned size, struct window *window)
{
	const struct pci_function *function = &transport->function;
	unsigned base = transport->config_access, data = base + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);

	window->offset = pci_get32(function, base + offsetof(struct virtio_pci_cap, offset));
	window->length = pci_get32(function, base + offsetof(struct virtio_pci_cap, length));
	if (offset < data || offset + size > data + 4 || function->config[base + offsetof(struct virtio_pci_cap, bar)])
		return false;
	if (window->length != 1 && window->length != 2 && window->length != 4)
		return false;
	return window->offset % window->length == 0 && window->offset < VIRTIO_PCI_BAR_SIZE;
}

static void config_read(struct pci_function *function, unsigned offset, unsigned size)
{
	struct virtio_pci *transport = of(function);
	struct window window;

	if (config_window(transport, offset, size, &window))
		bar_read(function, 0, window.offset,
			 function->config + transport->config_access +
			     offsetof(struct virtio_pci_cfg_cap, pci_cfg_data),
			 window.length);
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
	struct virtio_pci *transport = of(function);
	struct window window;

	if (offset + size > transport->msix.capability && offset < transport->msix.capability + PCI_CAP_MSIX_SIZEOF)
		msix_config_written(&transport->msix);
	if (config_window(transport, offset, size, &window))
		bar_write(function, 0, window.offset,
			  function->config + transport->config_access +
			      offsetof(struct virtio_pci_cfg_cap, pci_cfg_data),
			  window.length);
}

/* --- save and restore ------------------------------------------------------------------------------------------------
 */

int virtio_pci_quiesce(struct virtio_pci *transport, struct error *err)
{
	struct virtio_device *device = transport->device;

	if (transport->registers.status & VIRTIO_CONFIG_S_NEEDS_RESET)
		return error_set(err, EIO, "%s: the guest has broken the device", device->operations->name);
	if (device->operations->quiesce && device->operations->quiesce(device, err) < 0)
		return error_prefix(err, "%s", device->operations->name);
	for (unsigned i = 0; i < queue_count(transport); i++)
		if (device->queues[i].broken || device->queues[i].in_flight_count > 0)
			return error_set(err, EBUSY, "%s: queue %u is at work", device->operations->name, i);
	return 0;
}

struct saved_queue_registers {
	uint64_t descriptors, available, used;
	uint16_t size, vector, enabled, filling;
};

struct saved_transport {
	uint64_t driver_features;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t config_vector, queue_select;
	uint8_t status, generation, isr, filling;
};

static void save_queue(const struct virtio_pci *transport, unsigned index, struct state_writer *writer)
{
	const struct queue_registers *registers = &transport->registers.queues[index];
	struct saved_queue_registers saved = {.descriptors = registers->descriptors,
					      .available = registers->available,
					      .used = registers->used,
					      .size = registers->size,
					      .vector = registers->vector,
					      .enabled = registers->enabled};

	state_put(writer, &saved, sizeof(saved));
	queue_save(&transport->device->queues[index], writer);
}

void virtio_pci_save(const struct virtio_pci *transport, struct state_writer *writer)
{
	const struct registers *registers = &transport->registers;
	const struct virtio_device *device = transport->device;
	struct saved_transport saved = {.driver_features = registers->driver_features,
					.device_feature_select = registers->device_feature_select,
					.driver_feature_select = registers->driver_feature_select,
					.config_vector = registers->config_vector,
					.queue_select = registers->queue_select,
					.status = registers->status,
					.generation = registers->generation,
					.isr = registers->isr};

	pci_function_save(&transport->function, writer);
	msix_save(&transport->msix, writer);
	state_put(writer, &saved, sizeof(saved));
	for (unsigned i = 0; i < queue_count(transport); i++)
		save_queue(transport, i, writer);
	if (device->operations->save)
		device->operations->save(device, writer);
}

/* As the driver would have brought it there: what it may not set, it does not get. */
static int restore_registers(struct virtio_pci *transport, const struct saved_transport *saved, struct error *err)
{
	struct registers *registers = &transport->registers;

	if (saved->status & ~STATUS_KNOWN)
		return error_set(err, EINVAL, "impossible device status 0x%x", saved->status);
	registers->driver_features = saved->driver_features;
	registers->device_feature_select = saved->device_feature_select;
	registers->driver_feature_select = saved->driver_feature_select;
	registers->config_vector = checked_vector(transport, saved->config_vector);
	registers->queue_select = saved->queue_select;
	registers->generation = saved->generation;
	registers->isr = saved->isr;
	registers->status = saved->status;
	if ((saved->status & VIRTIO_CONFIG_S_FEATURES_OK) && !accept_features(transport))
		return error_set(err, EINVAL, "features 0x%llx, which are not offered here",
				 (unsigned long long)saved->driver_features);
	if ((saved->status & VIRTIO_CONFIG_S_DRIVER_OK) && !(saved->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return error_set(err, EINVAL, "impossible device status 0x%x", saved->status);
	return 0;
}

static int restore_queue(struct virtio_pci *transport, unsigned index, struct state_reader *reader, struct error *err)
{
	struct queue_registers *registers = &transport->registers.queues[index];
	struct queue *queue = &transport->device->queues[index];
	struct saved_queue_registers saved;

	if (state_take(reader, &saved, sizeof(saved), err) < 0)
		return -1;
	*registers = (struct queue_registers){.size = saved.size,
					      .vector = checked_vector(transport, saved.vector),
					      .enabled = saved.enabled == 1,
					      .descriptors = saved.descriptors,
					      .available = saved.available,
					      .used = saved.used};
	if ((transport->registers.status & VIRTIO_CONFIG_S_DRIVER_OK) && !start_queue(transport, index))
		return error_set(err, EINVAL, "queue %u of impossible size or address", index);
	return queue_restore(queue, reader, err);
}

static int restore(struct virtio_pci *transport, struct state_reader *reader, struct error *err)
{
	struct virtio_device *device = transport->device;
	struct saved_transport saved;

	if (pci_function_restore(&transport->function, reader, err) < 0 ||
	    msix_restore(&transport->msix, reader, err) < 0 || state_take(reader, &saved, sizeof(saved), err) < 0 ||
	    restore_registers(transport, &saved, err) < 0)
		return -1;
	for (unsigned i = 0; i < queue_count(transport); i++)
		if (restore_queue(transport, i, reader, err) < 0)
			return -1;
	device->active = transport->activated = saved.status & VIRTIO_CONFIG_S_DRIVER_OK;
	if (device->operations->restore && device->operations->restore(device, reader, err) < 0)
		return -1;
	return state_end(reader, err);
}

int virtio_pci_restore(struct virtio_pci *transport, struct state_reader *reader, struct error *err)
{
	const struct virtio_device *device = transport->device;

	if (restore(transport, reader, err) < 0)
		return error_prefix(err, "%s", device->operations->name);
	for (unsigned i = 0; i < queue_count(transport); i++)
		if (queue_has_more(&device->queues[i]))
			ring(transport, (uint64_t)i * VIRTIO_PCI_NOTIFY_STEP);
	return 0;
}

/* --- making it -------------------------------------------------------------------------------------------------------
 */

static void released(struct pci_function *function)
{
	free(of(function));
}

static const struct pci_operations operations = {
    .released = released,
    .read = bar_read,
    .write = bar_write,
    .config_read = config_read,
    .config_written = config_written,
    .bar_moved = bar_moved,
};

static struct virtio_pci_cap capability(uint8_t type, uint8_t size, uint32_t offset, uint32_t length)
{
	return (struct virtio_pci_cap){
	    .cap_vndr = PCI_CAP_ID_VNDR, .cap_len = size, .cfg_type = type, .offset = offset, .length = length};
}

static void add_capabilities(struct virtio_pci *transport)
{
	struct virtio_pci_cap common = capability(VIRTIO_PCI_CAP_COMMON_CFG, sizeof(common), VIRTIO_PCI_COMMON_OFFSET,
						  sizeof(struct virtio_pci_common_cfg));
	struct virtio_pci_cap isr = capability(VIRTIO_PCI_CAP_ISR_CFG, sizeof(isr), VIRTIO_PCI_ISR_OFFSET, 1);
	struct virtio_pci_cap device =
	    capability(VIRTIO_PCI_CAP_DEVICE_CFG, sizeof(device), VIRTIO_PCI_DEVICE_OFFSET, VIRTIO_PCI_DEVICE_SIZE);
	struct virtio_pci_notify_cap notify = {
	    .cap = capability(VIRTIO_PCI_CAP_NOTIFY_CFG, sizeof(notify), VIRTIO_PCI_NOTIFY_OFFSET, NOTIFY_SIZE),
	    .notify_off_multiplier = VIRTIO_PCI_NOTIFY_STEP};
	struct virtio_pci_cfg_cap access = {.cap = capability(VIRTIO_PCI_CAP_PCI_CFG, sizeof(access), 0, 0)};
	struct virtio_pci_cfg_cap access_writable = {.cap = {.bar = 0xff, .offset = 0xffffffff, .length = 0xffffffff},
						     .pci_cfg_data = {0xff, 0xff, 0xff, 0xff}};

	pci_add_capability(&transport->function, &common, NULL, sizeof(common));
	pci_add_capability(&transport->function, &notify, NULL, sizeof(notify));
	pci_add_capability(&transport->function, &isr, NULL, sizeof(isr));
	pci_add_capability(&transport->function, &device, NULL, sizeof(device));
	transport->config_access = pci_add_capability(&transport->function, &access, &access_writable, sizeof(access));
	/* One vector for each queue and one for changes of the configuration. */
	msix_init(&transport->msix, &transport->function, queue_count(transport) + 1, 0, VIRTIO_PCI_MSIX_TABLE_OFFSET,
		  VIRTIO_PCI_MSIX_PENDING_OFFSET);
}

struct virtio_pci *virtio_pci_add(struct pci_bus *bus, struct virtio_device *device, const struct guest_memory *memory,
				  struct loop *loop, struct error *err)
{
	struct virtio_pci *transport = calloc(1, sizeof(*transport));
	struct pci_identity identity = {.vendor = VIRTIO_VENDOR,
					.device = (uint16_t)(VIRTIO_DEVICE_BASE + device->operations->id),
					.subsystem_vendor = VIRTIO_VENDOR,
					.subsystem = 0x1100, /* modern: at least 0x40 */
					.class_code = device->operations->pci_class,
					.revision = 1};

	if (!transport) {
		error_set_errno(err, "allocate a PCI device");
		return NULL;
	}
	transport->device = device;
	transport->memory = memory;
	transport->loop = loop;
	device->loop = loop;
	device->transport = transport;
	clear_registers(transport);
	pci_function_init(&transport->function, &operations, &identity);
	pci_add_bar(&transport->function, 0, VIRTIO_PCI_BAR_SIZE, true);
	add_capabilities(transport);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		transport->doorbells[i].source.fd = -1;
	if (add_doorbells(transport, err) < 0 || pci_add(bus, &transport->function, err) < 0) {
		error_prefix(err, "%s", device->operations->name);
		virtio_pci_free(transport);
		return NULL;
	}
	return transport;
}

static void close_doorbells(struct virtio_pci *transport)
{
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		loop_remove(transport->loop, &transport->doorbells[i].source);
		cleanup_close_fd(&transport->doorbells[i].source.fd);
	}
}

unsigned virtio_pci_slot(const struct virtio_pci *transport)
{
	return transport->function.slot;
}

void virtio_pci_remove(struct virtio_pci *transport)
{
	assert(!is_direct(transport));
	reset(transport);
	for (unsigned i = 0; transport->doorbell_address != 0 && i < queue_count(transport); i++)
		remove_doorbell(transport, i);
	close_doorbells(transport);
	transport->device->transport = NULL;
	transport->device = NULL;
	pci_remove(&transport->function);
}

void virtio_pci_free(struct virtio_pci *transport)
{
	if (!transport)
		return;
	transport->device->transport = NULL;
	close_doorbells(transport);
	free(transport);
}
