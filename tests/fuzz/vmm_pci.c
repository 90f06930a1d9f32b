/*
 * The bus as a hostile guest works it: each eight bytes of the input are one access, to the configuration ports or to
 * the BARs of a virtio device and of pvpanic.
 */
#include <stdint.h>
#include <string.h>

#include "vmm/pvpanic.h"
#include "vmm/virtio/pci.h"

#define MEMORY 0x10000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_config(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	(void)device, (void)offset;
	memset(data, 0x55, size);
}

static void notify(struct virtio_device *device, unsigned queue)
{
	static struct chain chain;

	while (queue_pop(&device->queues[queue], &chain) == 1)
		queue_push(&device->queues[queue], chain.head, 0);
	if (device->queues[queue].broken)
		virtio_device_failed(device, "broken ring");
	virtio_device_signal(device, queue);
}

static void send_msi(void *owner, uint64_t address, uint32_t data)
{
	(void)owner, (void)address, (void)data;
}

static int add_doorbell(void *owner, uint64_t address, int eventfd, struct error *err)
{
	(void)owner, (void)address, (void)eventfd, (void)err;
	return 0;
}

static void remove_doorbell(void *owner, uint64_t address, int eventfd)
{
	(void)owner, (void)address, (void)eventfd;
}

static void panicked(void *owner)
{
	(void)owner;
}

static const struct virtio_device_operations operations = {
    .name = "fuzz", .id = 4, .queue_count = 2, .queue_size_max = 64, .read_config = read_config, .notify = notify};

static void stop(struct loop_timer *timer)
{
	loop_stop(timer->owner, 0);
}

static void access(struct pci_bus *bus, const uint8_t *data)
{
	/* What was placed by the bus: the virtio device first, behind it pvpanic. */
	uint64_t address = PCI_WINDOW_START + (data[1] | data[2] << 8) % 0x5010u, value = 0;
	unsigned size = 1 + (data[0] >> 2 & 7);

	memcpy(&value, data + 3, 5);
	switch (data[0] & 3) {
	case 0:
		pci_memory_write(bus, address, &value, size);
		break;
	case 1:
		pci_memory_read(bus, address, &value, size);
		break;
	case 2:
		pci_port_write(bus, (uint16_t)(0xcf8 + data[1] % 8), &value, size >= 4 ? 4 : size == 3 ? 2 : size);
		break;
	case 3:
		pci_port_read(bus, (uint16_t)(0xcf8 + data[1] % 8), &value, size >= 4 ? 4 : size == 3 ? 2 : size);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct pci_host host = {
	    .send_msi = send_msi, .add_doorbell = add_doorbell, .remove_doorbell = remove_doorbell};
	struct guest_memory *memory = guest_memory_new(MEMORY, NULL);
	struct loop *loop = loop_new(NULL);
	struct virtio_device device = {.operations = &operations};
	struct pvpanic pvpanic = {.panicked = panicked};
	struct loop_timer timer = {.handle = stop, .owner = loop};
	struct virtio_pci *transport;
	struct pci_bus bus;
	uint32_t select = 0x80000804, command = 2;

	pci_bus_init(&bus, &host);
	transport = virtio_pci_add(&bus, &device, memory, loop, NULL);
	pvpanic_add(&pvpanic, &bus, NULL);
	pci_port_write(&bus, 0xcf8, &select, 4);
	pci_port_write(&bus, 0xcfc, &command, 4);
	for (; size >= 8; data += 8, size -= 8) {
		/* Taken off the bus of the running machine, and put there again. */
		if (data[0] == 0xff) {
			virtio_pci_remove(transport);
			bus.running = true;
			transport = virtio_pci_add(&bus, &device, memory, loop, NULL);
			continue;
		}
		access(&bus, data);
	}
	loop_timer_set(loop, &timer, 0);
	loop_run(loop);
	virtio_pci_free(transport);
	loop_free(loop);
	guest_memory_free(memory);
	return 0;
}
