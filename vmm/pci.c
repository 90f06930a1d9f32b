#include "vmm/pci.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#define ADDRESS_PORT 0xcf8
#define DATA_PORT 0xcfc
#define ADDRESS_ENABLE (1u << 31)

uint16_t pci_get16(const struct pci_function *function, unsigned offset)
{
	uint16_t value;

	memcpy(&value, function->config + offset, sizeof(value));
	return value;
}

uint32_t pci_get32(const struct pci_function *function, unsigned offset)
{
	uint32_t value;

	memcpy(&value, function->config + offset, sizeof(value));
	return value;
}

void pci_set16(struct pci_function *function, unsigned offset, uint16_t value)
{
	memcpy(function->config + offset, &value, sizeof(value));
}

void pci_set32(struct pci_function *function, unsigned offset, uint32_t value)
{
	memcpy(function->config + offset, &value, sizeof(value));
}

/* --- making functions ------------------------------------------------------------------------------------------------
 */

void pci_function_init(struct pci_function *function, const struct pci_operations *operations,
		       const struct pci_identity *identity)
{
	static const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE;

	memset(function, 0, sizeof(*function));
	function->operations = operations;
	function->capabilities_end = PCI_STD_HEADER_SIZEOF;
	pci_set16(function, PCI_VENDOR_ID, identity->vendor);
	pci_set16(function, PCI_DEVICE_ID, identity->device);
	pci_set32(function, PCI_CLASS_REVISION, identity->class_code << 8 | identity->revision);
	pci_set16(function, PCI_SUBSYSTEM_VENDOR_ID, identity->subsystem_vendor);
	pci_set16(function, PCI_SUBSYSTEM_ID, identity->subsystem);
	memcpy(function->writable + PCI_COMMAND, &command, sizeof(command));
	function->writable[PCI_INTERRUPT_LINE] = 0xff;
	function->writable[PCI_CACHE_LINE_SIZE] = 0xff;
}

static unsigned bar_offset(unsigned bar)
{
	return PCI_BASE_ADDRESS_0 + 4 * bar;
}

void pci_add_bar(struct pci_function *function, unsigned index, uint64_t size, bool is_64_bit)
{
	uint64_t mask = ~(size - 1);
	uint32_t type =
	    PCI_BASE_ADDRESS_SPACE_MEMORY | (is_64_bit ? PCI_BASE_ADDRESS_MEM_TYPE_64 : PCI_BASE_ADDRESS_MEM_TYPE_32);

	assert(size >= 16 && (size & (size - 1)) == 0 && index + (is_64_bit ? 1u : 0u) < PCI_BARS);
	function->bars[index] = (struct pci_bar){.size = size, .is_64_bit = is_64_bit};
	pci_set32(function, bar_offset(index), type);
	memcpy(function->writable + bar_offset(index), &mask, is_64_bit ? 8 : 4);
}

unsigned pci_add_capability(struct pci_function *function, const void *capability, const void *writable_mask,
			    unsigned size)
{
	unsigned offset = function->capabilities_end;
	unsigned link = PCI_CAPABILITY_LIST;

	assert(size >= 2 && offset + size <= PCI_CONFIG_SIZE);
	while (function->config[link])
		link = function->config[link] + PCI_CAP_LIST_NEXT;
	memcpy(function->config + offset, capability, size);
	if (writable_mask)
		memcpy(function->writable + offset, writable_mask, size);
	function->config[offset + PCI_CAP_LIST_NEXT] = 0;
	function->config[link] = (uint8_t)offset;
	pci_set16(function, PCI_STATUS, PCI_STATUS_CAP_LIST);
	function->capabilities_end = (offset + size + 3) / 4 * 4;
	return offset;
}

static uint64_t raw_bar(const struct pci_function *function, unsigned bar)
{
	uint64_t address = pci_get32(function, bar_offset(bar)) & ~0xfu;

	if (function->bars[bar].is_64_bit)
		address |= (uint64_t)pci_get32(function, bar_offset(bar + 1)) << 32;
	return address;
}

static int place_bar(struct pci_bus *bus, struct pci_function *function, unsigned index, struct error *err)
{
	struct pci_bar *bar = &function->bars[index];
	uint64_t address = (bus->next_window + bar->size - 1) & ~(bar->size - 1);

	if (bar->size == 0)
		return 0;
	if (address > PCI_WINDOW_END || bar->size > PCI_WINDOW_END - address)
		return error_set(err, ENOSPC, "no addresses left for another PCI device");
	bus->next_window = address + bar->size;
	pci_set32(function, bar_offset(index), (uint32_t)address | pci_get32(function, bar_offset(index)));
	bar->known_address = address;
	if (function->operations->bar_moved)
		function->operations->bar_moved(function, index, address);
	return 0;
}

static void release_if_unused(struct pci_function *function)
{
	if (function->removed && function->accesses == 0 && function->operations->released)
		function->operations->released(function);
}

/* Around every call of a function's operations by an access of the guest. */
static void begin_access(struct pci_function *function)
{
	function->accesses++;
}

static void end_access(struct pci_function *function)
{
	function->accesses--;
	release_if_unused(function);
}

int pci_add(struct pci_bus *bus, struct pci_function *function, struct error *err)
{
	unsigned slot = 0;

	while (slot < PCI_SLOTS && bus->slots[slot])
		slot++;
	if (slot == PCI_SLOTS)
		return error_set(err, ENOSPC, "no slot left for another PCI device");
	function->bus = bus;
	function->slot = slot;
	for (unsigned bar = 0; bar < PCI_BARS && !bus->running; bar++)
		if (place_bar(bus, function, bar, err) < 0)
			return -1;
	bus->slots[slot] = function;
	return 0;
}

void pci_remove(struct pci_function *function)
{
	function->bus->slots[function->slot] = NULL;
	function->removed = true;
	release_if_unused(function);
}

void pci_bus_init(struct pci_bus *bus, const struct pci_host *host)
{
	/* The guest takes a bus for real when it finds a host bridge on it. Any identity does; the class counts. */
	static const struct pci_identity bridge = {.vendor = 0x1b36, .device = 0x0008, .class_code = 0x060000};
	static const struct pci_operations none;

	memset(bus, 0, sizeof(*bus));
	bus->host = *host;
	bus->next_window = PCI_WINDOW_START;
	pci_function_init(&bus->bridge, &none, &bridge);
	bus->bridge.bus = bus;
	bus->slots[0] = &bus->bridge;
}

/* --- configuration space ---------------------------------------------------------------------------------------------
 */

uint64_t pci_bar_address(const struct pci_function *function, unsigned bar)
{
	if (!(pci_get16(function, PCI_COMMAND) & PCI_COMMAND_MEMORY) || function->bars[bar].size == 0)
		return 0;
	return raw_bar(function, bar);
}

/* While the guest measures a BAR it holds nonsense, but then decoding is off. */
static void report_moved_bars(struct pci_function *function)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint64_t address = pci_bar_address(function, i);

		if (address == 0 || address == function->bars[i].known_address)
			continue;
		function->bars[i].known_address = address;
		if (function->operations->bar_moved)
			function->operations->bar_moved(function, i, address);
	}
}

static struct pci_function *addressed(const struct pci_bus *bus)
{
	unsigned number = bus->address >> 16 & 0xff, slot = bus->address >> 11 & 0x1f, sub = bus->address >> 8 & 7;

	if (!(bus->address & ADDRESS_ENABLE) || number != 0 || sub != 0)
		return NULL;
	return bus->slots[slot];
}

static void config_read(struct pci_bus *bus, unsigned offset, void *data, unsigned size)
{
	struct pci_function *function = addressed(bus);

	if (!function || offset + size > PCI_CONFIG_SIZE)
		return;
	begin_access(function);
	if (function->operations->config_read)
		function->operations->config_read(function, offset, size);
	memcpy(data, function->config + offset, size);
	end_access(function);
}

static void config_write(struct pci_bus *bus, unsigned offset, const void *data, unsigned size)
{
	struct pci_function *function = addressed(bus);
	const uint8_t *bytes = data;

	if (!function || offset + size > PCI_CONFIG_SIZE)
		return;
	for (unsigned i = offset; i < offset + size; i++) {
		uint8_t mask = function->writable[i];

		function->config[i] = (uint8_t)((function->config[i] & ~mask) | (bytes[i - offset] & mask));
	}
	begin_access(function);
	report_moved_bars(function);
	if (function->operations->config_written)
		function->operations->config_written(function, offset, size);
	end_access(function);
}

bool pci_port_read(struct pci_bus *bus, uint16_t port, void *data, unsigned size)
{
	memset(data, 0xff, size);
	if (port >= DATA_PORT && port + size <= DATA_PORT + 4) {
		config_read(bus, (bus->address & 0xfc) + (port - DATA_PORT), data, size);
		return true;
	}
	if (port == ADDRESS_PORT && size == sizeof(bus->address))
		memcpy(data, &bus->address, sizeof(bus->address));
	return port >= ADDRESS_PORT && port < DATA_PORT;
}

bool pci_port_write(struct pci_bus *bus, uint16_t port, const void *data, unsigned size)
{
	if (port >= DATA_PORT && port + size <= DATA_PORT + 4) {
		config_write(bus, (bus->address & 0xfc) + (port - DATA_PORT), data, size);
		return true;
	}
	if (port != ADDRESS_PORT || size != sizeof(bus->address))
		return false;
	memcpy(&bus->address, data, sizeof(bus->address));
	return true;
}

/* --- memory ----------------------------------------------------------------------------------------------------------
 */

struct place {
	struct pci_function *function;
	unsigned bar;
	uint64_t offset;
};

/* KVM splits an access that crosses a page into parts of any size; functions are to see whole registers only. */
static bool is_register_size(unsigned size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

static bool find(const struct pci_bus *bus, uint64_t address, unsigned size, struct place *place)
{
	if (!is_register_size(size))
		return false;
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		struct pci_function *function = bus->slots[slot];

		for (unsigned bar = 0; function && bar < PCI_BARS; bar++) {
			uint64_t start = pci_bar_address(function, bar), length = function->bars[bar].size;

			if (start == 0 || address < start || address - start >= length ||
			    size > length - (address - start))
				continue;
			*place = (struct place){.function = function, .bar = bar, .offset = address - start};
			return true;
		}
	}
	return false;
}

bool pci_memory_read(struct pci_bus *bus, uint64_t address, void *data, unsigned size)
{
	struct place place;

	memset(data, 0xff, size);
	if (!find(bus, address, size, &place))
		return false;
	begin_access(place.function);
	if (place.function->operations->read)
		place.function->operations->read(place.function, place.bar, place.offset, data, size);
	end_access(place.function);
	return true;
}

bool pci_memory_write(struct pci_bus *bus, uint64_t address, const void *data, unsigned size)
{
	struct place place;

	if (!find(bus, address, size, &place))
		return false;
	begin_access(place.function);
	if (place.function->operations->write)
		place.function->operations->write(place.function, place.bar, place.offset, data, size);
	end_access(place.function);
	return true;
}

/* --- save and restore ------------------------------------------------------------------------------------------------
 */

void pci_function_save(const struct pci_function *function, struct state_writer *writer)
{
	state_put(writer, function->config, sizeof(function->config));
}

int pci_function_restore(struct pci_function *function, struct state_reader *reader, struct error *err)
{
	uint8_t config[PCI_CONFIG_SIZE];

	if (state_take(reader, config, sizeof(config), err) < 0)
		return -1;
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
		if ((config[i] ^ function->config[i]) & (uint8_t)~function->writable[i])
			return error_set(err, EINVAL, "it is another device: byte %u of its configuration differs", i);
	memcpy(function->config, config, sizeof(config));
	report_moved_bars(function);
	return 0;
}

void pci_bus_save(const struct pci_bus *bus, struct state_writer *writer)
{
	uint64_t address = bus->address;

	state_put(writer, &address, sizeof(address));
	pci_function_save(&bus->bridge, writer);
}

int pci_bus_restore(struct pci_bus *bus, struct state_reader *reader, struct error *err)
{
	uint64_t address;

	if (state_take(reader, &address, sizeof(address), err) < 0 ||
	    pci_function_restore(&bus->bridge, reader, err) < 0)
		return -1;
	bus->address = (uint32_t)address;
	return state_end(reader, err);
}
