/*
 * The state of a saved machine as it must never be: the input is a file, once as it is, and once as the content of
 * sections in a sound frame, from which every part that does without KVM restores itself; the device is used
 * afterwards.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/console.h"
#include "vmm/memory_image.h"
#include "vmm/pvpanic.h"
#include "vmm/state.h"
#include "vmm/virtio/devices.h"
#include "vmm/virtio/pci.h"
#include "vmm/virtio/vsock.h"

#define MEMORY 0x10000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

static void stop(struct loop_timer *timer)
{
	loop_stop(timer->owner, 0);
}

/* A file that is whatever it is. */
static void open_as_it_is(const uint8_t *data, size_t size)
{
	struct state_reader reader;
	struct state state;
	uint8_t byte;

	if (state_open(&state, data, size, NULL) < 0)
		return;
	for (int kind = 0; kind < STATE_KINDS; kind++)
		for (uint32_t i = 0; i < state_count(&state, kind); i++)
			if (state_find(&state, kind, i, &reader, NULL) == 0)
				while (state_take(&reader, &byte, 1, NULL) == 0)
					;
}

/* A machine without CPUs. */
struct world {
	struct guest_memory *memory;
	struct loop *loop;
	struct pci_bus bus;
	struct pvpanic pvpanic;
	struct console console;
	struct virtio_device *devices[2];
	struct virtio_pci *transports[2];
};

static void world_init(struct world *world)
{
	const struct pci_host host = {
	    .send_msi = send_msi, .add_doorbell = add_doorbell, .remove_doorbell = remove_doorbell};

	memset(world, 0, sizeof(*world));
	world->memory = guest_memory_new(MEMORY, NULL);
	world->loop = loop_new(NULL);
	pci_bus_init(&world->bus, &host);
	world->pvpanic.panicked = panicked;
	pvpanic_add(&world->pvpanic, &world->bus, NULL);
	console_init(&world->console, -1);
	world->devices[0] = vsock_new(3, world->loop, NULL);
	world->devices[1] = rng_new(world->loop, NULL);
	for (int i = 0; i < 2; i++)
		world->transports[i] = virtio_pci_add(&world->bus, world->devices[i], world->memory, world->loop, NULL);
}

static void world_free(struct world *world)
{
	for (int i = 0; i < 2; i++) {
		virtio_pci_free(world->transports[i]);
		world->devices[i]->operations->free(world->devices[i]);
	}
	loop_free(world->loop);
	guest_memory_free(world->memory);
}

/* What the device would have saved, changed at the places that the input names, so that the input need not invent all
 * of it: three bytes each, offset and the bits to be turned. */
static struct state_writer changed(void (*save)(struct world *world, struct state_writer *writer), struct world *world,
				   const uint8_t **data, size_t *size)
{
	struct state_writer writer = {0};
	size_t changes = *size ? (*data)[0] % 16 : 0;

	save(world, &writer);
	for (size_t i = 0; i<changes && * size> 3 && writer.size; i++, *data += 3, *size -= 3)
		writer.data[((*data)[1] | (*data)[2] << 8) % writer.size] ^= (*data)[3];
	return writer;
}

static void save_bus(struct world *world, struct state_writer *writer)
{
	pci_bus_save(&world->bus, writer);
}

static void save_pvpanic(struct world *world, struct state_writer *writer)
{
	pvpanic_save(&world->pvpanic, writer);
}

static void save_console(struct world *world, struct state_writer *writer)
{
	console_save(&world->console, writer);
}

static void save_rng(struct world *world, struct state_writer *writer)
{
	virtio_pci_save(world->transports[1], writer);
}

/* The device has no report connection to save: zeroes stand for it, to be changed by the input. */
static void save_vsock(struct world *world, struct state_writer *writer)
{
	static const struct virtio_device_operations *operations;
	static struct virtio_device_operations without;
	static const uint64_t cid = 3, rest[4];

	operations = world->devices[0]->operations;
	without = *operations;
	without.save = NULL;
	world->devices[0]->operations = &without;
	virtio_pci_save(world->transports[0], writer);
	world->devices[0]->operations = operations;
	state_put(writer, &cid, sizeof(cid));
	state_put(writer, rest, sizeof(rest));
}

static void restore_parts(struct world *world, const uint8_t *data, size_t size)
{
	struct state_writer writers[] = {
	    changed(save_bus, world, &data, &size),	changed(save_pvpanic, world, &data, &size),
	    changed(save_console, world, &data, &size), changed(save_rng, world, &data, &size),
	    changed(save_vsock, world, &data, &size),
	};
	struct state_reader readers[5];

	for (int i = 0; i < 5; i++)
		readers[i] = (struct state_reader){writers[i].data, writers[i].size};
	pci_bus_restore(&world->bus, &readers[0], NULL);
	pvpanic_restore(&world->pvpanic, &readers[1], NULL);
	console_restore(&world->console, &readers[2], NULL);
	virtio_pci_restore(world->transports[1], &readers[3], NULL);
	virtio_pci_restore(world->transports[0], &readers[4], NULL);
	for (int i = 0; i < 5; i++)
		state_writer_free(&writers[i]);
}

static void check_image(const struct world *world, const uint8_t *data, size_t size)
{
	struct memory_image image = {0};

	memcpy(&image, data, size < sizeof(image) ? size : sizeof(image));
	memory_image_check(&image, world->memory, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world world;
	struct loop_timer timer = {.handle = stop};

	open_as_it_is(data, size);
	world_init(&world);
	for (size_t i = 0; i < size && i < MEMORY; i++)
		guest_write(world.memory, i, data + i, 1);
	restore_parts(&world, data, size);
	check_image(&world, data, size);
	timer.owner = world.loop;
	loop_timer_set(world.loop, &timer, 0);
	loop_run(world.loop);
	for (int i = 0; i < 2; i++)
		virtio_pci_quiesce(world.transports[i], NULL);
	world_free(&world);
	return 0;
}
