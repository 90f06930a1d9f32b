/* The PCI bus and MSI-X as a guest reaches them: ports, BARs, capabilities, masks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <linux/pci_regs.h>
#include <stdint.h>
#include <string.h>

#include "vmm/msix.h"
#include "vmm/pci.h"
#include "vmm/pvpanic.h"

struct fixture {
	struct pci_bus bus;
	struct pci_function function;
	struct msix msix;
	unsigned messages;
	uint64_t last_address;
	uint32_t last_data;
	unsigned moves;
	uint64_t moved_to;
	unsigned panics;
	bool remove_in_write;
	unsigned released;
};

static struct fixture fixture;

static void send_msi(void *owner, uint64_t address, uint32_t data)
{
	struct fixture *f = owner;

	f->messages++;
	f->last_address = address;
	f->last_data = data;
}

static void bar_read(struct pci_function *function, unsigned bar, uint64_t offset, void *data, unsigned size)
{
	(void)function;
	if (bar == 2)
		msix_table_read(&fixture.msix, offset, data, size);
	else
		memset(data, (int)(offset + bar), size);
}

static void bar_write(struct pci_function *function, unsigned bar, uint64_t offset, const void *data, unsigned size)
{
	if (fixture.remove_in_write) {
		pci_remove(function);
		assert_int_equal(fixture.released, 0);
	}
	if (bar == 2)
		msix_table_write(&fixture.msix, offset, data, size);
}

static void released(struct pci_function *function)
{
	(void)function;
	fixture.released++;
}

static void bar_moved(struct pci_function *function, unsigned bar, uint64_t address)
{
	(void)function;
	if (bar == 0) {
		fixture.moves++;
		fixture.moved_to = address;
	}
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
	(void)function, (void)offset, (void)size;
	msix_config_written(&fixture.msix);
}

static const struct pci_operations operations = {
    .read = bar_read,
    .write = bar_write,
    .bar_moved = bar_moved,
    .config_written = config_written,
    .released = released,
};

static int setup(void **state)
{
	static const struct pci_identity identity = {.vendor = 0x1234, .device = 0x5678, .class_code = 0x010203};
	const struct pci_host host = {.send_msi = send_msi, .owner = &fixture};
	struct error err;

	(void)state;
	memset(&fixture, 0, sizeof(fixture));
	pci_bus_init(&fixture.bus, &host);
	pci_function_init(&fixture.function, &operations, &identity);
	pci_add_bar(&fixture.function, 0, 0x4000, true);
	pci_add_bar(&fixture.function, 2, 0x1000, false);
	msix_init(&fixture.msix, &fixture.function, 3, 2, 0, 0x800);
	assert_int_equal(pci_add(&fixture.bus, &fixture.function, &err), 0);
	return 0;
}

static void select_register(unsigned slot, unsigned offset)
{
	uint32_t address = 0x80000000 | slot << 11 | (offset & ~3u);

	assert_true(pci_port_write(&fixture.bus, 0xcf8, &address, 4));
}

static uint32_t config_get(unsigned slot, unsigned offset, unsigned size)
{
	uint32_t value = 0;

	select_register(slot, offset);
	assert_true(pci_port_read(&fixture.bus, (uint16_t)(0xcfc + offset % 4), &value, size));
	return value;
}

static void config_set(unsigned slot, unsigned offset, uint32_t value, unsigned size)
{
	select_register(slot, offset);
	assert_true(pci_port_write(&fixture.bus, (uint16_t)(0xcfc + offset % 4), &value, size));
}

static void test_identity(void **state)
{
	(void)state;
	assert_int_equal(config_get(0, PCI_CLASS_REVISION, 4), 0x06000000);
	assert_int_equal(config_get(1, PCI_VENDOR_ID, 4), 0x56781234);
	assert_int_equal(config_get(1, PCI_DEVICE_ID, 2), 0x5678);
	assert_int_equal(config_get(1, PCI_CLASS_REVISION + 3, 1), 0x01);
	assert_int_equal(config_get(2, PCI_VENDOR_ID, 4), 0xffffffff);
	assert_int_equal(config_get(31, PCI_VENDOR_ID, 2), 0xffff);
	config_set(1, PCI_VENDOR_ID, 0, 4);
	assert_int_equal(config_get(1, PCI_VENDOR_ID, 4), 0x56781234);
}

static void test_odd_accesses(void **state)
{
	uint32_t value = 0x80000800, address = 0;

	(void)state;
	/* Another bus, another function, not enabled: nothing there. */
	for (unsigned i = 0; i < 3; i++) {
		static const uint32_t addresses[] = {0x80010800, 0x80000900, 0x00000800};

		address = addresses[i];
		pci_port_write(&fixture.bus, 0xcf8, &address, 4);
		pci_port_read(&fixture.bus, 0xcfc, &value, 4);
		assert_int_equal(value, 0xffffffff);
		pci_port_write(&fixture.bus, 0xcfc, &value, 4);
	}
	pci_port_read(&fixture.bus, 0xcf8, &value, 4);
	assert_int_equal(value, 0x00000800);
	/* Narrow accesses to the address register, and wide ones that leave the data register. */
	assert_false(pci_port_write(&fixture.bus, 0xcf8, &value, 1));
	assert_false(pci_port_write(&fixture.bus, 0xcfe, &value, 4));
	assert_false(pci_port_read(&fixture.bus, 0xcff, &value, 4));
	assert_int_equal(value, 0xffffffff);
	assert_false(pci_port_read(&fixture.bus, 0x3f8, &value, 1));
	address = 0x800008ff; /* the low bits do not count */
	pci_port_write(&fixture.bus, 0xcf8, &address, 4);
	pci_port_read(&fixture.bus, 0xcff, &value, 1);
}

static void test_bars(void **state)
{
	uint64_t first;
	uint32_t value = 0;

	(void)state;
	first = config_get(1, PCI_BASE_ADDRESS_0, 4) & ~0xfu;
	assert_int_equal(first, PCI_WINDOW_START);
	assert_int_equal(config_get(1, PCI_BASE_ADDRESS_0, 4) & 0xf, 4);
	assert_int_equal(config_get(1, PCI_BASE_ADDRESS_2, 4), PCI_WINDOW_START + 0x4000);
	assert_int_equal(fixture.moves, 1);
	/* Nothing answers until decoding is on. */
	assert_false(pci_memory_read(&fixture.bus, first + 5, &value, 1));
	assert_int_equal(value, 0xff);
	config_set(1, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_true(pci_memory_read(&fixture.bus, first + 5, &value, 1));
	assert_int_equal(value, 5);
	assert_int_equal(fixture.moves, 1);
	/* Accesses that leave the BAR. */
	assert_false(pci_memory_read(&fixture.bus, first + 0x3fff, &value, 2));
	assert_false(pci_memory_read(&fixture.bus, first - 1, &value, 2));
	assert_false(pci_memory_write(&fixture.bus, UINT64_MAX, &value, 4));
}

static void test_bar_measured_and_moved(void **state)
{
	uint32_t value;

	(void)state;
	config_set(1, PCI_BASE_ADDRESS_0, 0xffffffff, 4);
	config_set(1, PCI_BASE_ADDRESS_1, 0xffffffff, 4);
	assert_int_equal(config_get(1, PCI_BASE_ADDRESS_0, 4), 0xffffc004);
	assert_int_equal(config_get(1, PCI_BASE_ADDRESS_1, 4), 0xffffffff);
	assert_int_equal(fixture.moves, 1);
	config_set(1, PCI_BASE_ADDRESS_2, 0xffffffff, 4);
	assert_int_equal(config_get(1, PCI_BASE_ADDRESS_2, 4), 0xfffff000);
	assert_int_equal(config_get(1, PCI_BASE_ADDRESS_4, 4), 0);
	config_set(1, PCI_BASE_ADDRESS_0, 0x10000, 4);
	config_set(1, PCI_BASE_ADDRESS_1, 0x7, 4);
	config_set(1, PCI_COMMAND, 0xffff, 2);
	assert_int_equal(config_get(1, PCI_COMMAND, 2),
			 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(fixture.moves, 2);
	assert_int_equal(fixture.moved_to, 0x700010000);
	assert_true(pci_memory_read(&fixture.bus, 0x700010000, &value, 4));
	/* At the very top no address overflows. */
	config_set(1, PCI_BASE_ADDRESS_0, 0xffffffff, 4);
	config_set(1, PCI_BASE_ADDRESS_1, 0xffffffff, 4);
	assert_true(pci_memory_read(&fixture.bus, UINT64_MAX - 3, &value, 4));
	assert_false(pci_memory_read(&fixture.bus, UINT64_MAX - 2, &value, 4));
}

static void test_full_bus(void **state)
{
	static struct pci_function functions[PCI_SLOTS];
	static const struct pci_identity identity = {.vendor = 1, .device = 2};
	struct error err;

	(void)state;
	for (unsigned i = 2; i < PCI_SLOTS; i++) {
		pci_function_init(&functions[i], &operations, &identity);
		assert_int_equal(pci_add(&fixture.bus, &functions[i], &err), 0);
	}
	pci_function_init(&functions[0], &operations, &identity);
	assert_int_equal(pci_add(&fixture.bus, &functions[0], &err), -1);
}

static void test_window_full(void **state)
{
	static struct pci_function function;
	static const struct pci_identity identity = {.vendor = 1, .device = 2};
	struct error err;

	(void)state;
	pci_function_init(&function, &operations, &identity);
	pci_add_bar(&function, 0, 1ull << 30, true);
	assert_int_equal(pci_add(&fixture.bus, &function, &err), -1);
}

/* --- coming and going ------------------------------------------------------------------------------------------------
 */

static void test_removed(void **state)
{
	uint64_t base = config_get(1, PCI_BASE_ADDRESS_0, 4) & ~0xfu;
	uint32_t value = 0;

	(void)state;
	config_set(1, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	pci_remove(&fixture.function);
	assert_int_equal(fixture.released, 1);
	assert_int_equal(config_get(1, PCI_VENDOR_ID, 4), 0xffffffff);
	config_set(1, PCI_COMMAND, 0, 2);
	assert_false(pci_memory_read(&fixture.bus, base, &value, 4));
	assert_int_equal(value, 0xffffffff);
	assert_false(pci_memory_write(&fixture.bus, base, &value, 4));
}

/* An access that gave up the lock finds its function still there when it goes on. */
static void test_removed_during_access(void **state)
{
	uint64_t base = config_get(1, PCI_BASE_ADDRESS_0, 4) & ~0xfu;
	uint32_t value = 0;

	(void)state;
	config_set(1, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	fixture.remove_in_write = true;
	assert_true(pci_memory_write(&fixture.bus, base, &value, 4));
	assert_int_equal(fixture.released, 1);
	assert_false(pci_memory_write(&fixture.bus, base, &value, 4));
}

/* Added to a running machine: the lowest free slot, and no address before the guest gives one. */
static void test_added_later(void **state)
{
	static struct pci_function functions[2];
	static const struct pci_identity identity = {.vendor = 1, .device = 2};
	struct error err;
	uint32_t value;

	(void)state;
	fixture.bus.running = true;
	for (unsigned i = 0; i < 2; i++) {
		pci_function_init(&functions[i], &operations, &identity);
		pci_add_bar(&functions[i], 0, 0x4000, true);
		assert_int_equal(pci_add(&fixture.bus, &functions[i], &err), 0);
		assert_int_equal(functions[i].slot, 2 + i);
	}
	assert_int_equal(config_get(3, PCI_BASE_ADDRESS_0, 4), 4);
	config_set(3, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_false(pci_memory_read(&fixture.bus, 0, &value, 4));
	assert_int_equal(fixture.moves, 1);
	config_set(3, PCI_COMMAND, 0, 2);
	config_set(3, PCI_BASE_ADDRESS_0, 0x20000000, 4);
	config_set(3, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	assert_int_equal(fixture.moved_to, 0x20000000);
	assert_true(pci_memory_read(&fixture.bus, 0x20000000, &value, 4));
	/* The first one that is free again is the first one taken. */
	pci_remove(&functions[0]);
	pci_function_init(&functions[0], &operations, &identity);
	assert_int_equal(pci_add(&fixture.bus, &functions[0], &err), 0);
	assert_int_equal(functions[0].slot, 2);
	assert_int_equal(config_get(2, PCI_VENDOR_ID, 2), 1);
}

/* --- MSI-X -----------------------------------------------------------------------------------------------------------
 */

static unsigned capability(uint8_t id)
{
	unsigned offset = config_get(1, PCI_CAPABILITY_LIST, 1);

	for (unsigned i = 0; offset != 0 && i < 48; i++) {
		if (config_get(1, offset, 1) == id)
			return offset;
		offset = config_get(1, offset + 1, 1);
	}
	fail_msg("no capability %d", id);
	return 0;
}

static void table_write(uint64_t offset, uint64_t value, unsigned size)
{
	uint64_t base = config_get(1, PCI_BASE_ADDRESS_2, 4) & ~0xfu;

	pci_memory_write(&fixture.bus, base + offset, &value, size);
}

static void enable(uint16_t flags)
{
	config_set(1, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	config_set(1, capability(PCI_CAP_ID_MSIX) + PCI_MSIX_FLAGS, flags, 2);
}

static void test_msix_masks(void **state)
{
	(void)state;
	msix_signal(&fixture.msix, 0); /* not enabled: lost, as it has to be */
	enable(PCI_MSIX_FLAGS_ENABLE);
	table_write(0, 0xfee01000, 4);
	table_write(4, 0x1, 4);
	table_write(8, 0x4042, 4);
	assert_int_equal(fixture.messages, 0);
	msix_signal(&fixture.msix, 0);
	assert_int_equal(fixture.messages, 0);
	assert_int_equal(fixture.msix.pending, 1);
	table_write(12, 0, 4);
	assert_int_equal(fixture.messages, 1);
	assert_int_equal(fixture.last_address, 0x1fee01000);
	assert_int_equal(fixture.last_data, 0x4042);
	assert_int_equal(fixture.msix.pending, 0);
	enable(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	msix_signal(&fixture.msix, 0);
	msix_signal(&fixture.msix, 0);
	assert_int_equal(fixture.messages, 1);
	enable(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fixture.messages, 2);
	msix_signal(&fixture.msix, 3);
	msix_signal(&fixture.msix, 1000);
	assert_int_equal(fixture.messages, 2);
}

static void test_msix_table_accesses(void **state)
{
	uint64_t value = 7;
	uint8_t before[sizeof(fixture.msix.entries)];

	(void)state;
	enable(PCI_MSIX_FLAGS_ENABLE);
	memcpy(before, fixture.msix.entries, sizeof(before));
	table_write(1, UINT64_MAX, 4);
	table_write(0, UINT64_MAX, 1);
	table_write(2, UINT64_MAX, 2);
	table_write(4, UINT64_MAX, 8);
	table_write(3 * 16, UINT64_MAX, 8);
	table_write(0x7f8, UINT64_MAX, 8);
	assert_memory_equal(before, fixture.msix.entries, sizeof(before));
	table_write(16, 0x1122334455667788, 8);
	msix_table_read(&fixture.msix, 16, &value, 8);
	assert_int_equal(value, 0x1122334455667788);
	msix_table_read(&fixture.msix, 3 * 16 - 4, &value, 8);
	assert_int_equal(value, 0);
	msix_table_read(&fixture.msix, UINT64_MAX - 3, &value, 8);
	assert_int_equal(value, 0);
	msix_pending_read(&fixture.msix, 4, &value, 8);
	assert_int_equal(value, 0);
	msix_pending_read(&fixture.msix, UINT64_MAX, &value, 8);
	assert_int_equal(value, 0);
}

static void panicked(void *owner)
{
	(*(unsigned *)owner)++;
}

static void test_pvpanic(void **state)
{
	static struct pvpanic pvpanic;
	struct error err;
	uint64_t base, value = 0;

	(void)state;
	pvpanic.panicked = panicked;
	pvpanic.owner = &fixture.panics;
	assert_int_equal(pvpanic_add(&pvpanic, &fixture.bus, &err), 0);
	assert_int_equal(config_get(2, 0, 4), 0x00111b36);
	config_set(2, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	base = config_get(2, PCI_BASE_ADDRESS_0, 4) & ~0xfu;
	assert_true(pci_memory_read(&fixture.bus, base, &value, 1));
	assert_int_equal(value, 1);
	value = 2;
	pci_memory_write(&fixture.bus, base, &value, 1);
	value = 1;
	pci_memory_write(&fixture.bus, base + 1, &value, 1);
	assert_int_equal(fixture.panics, 0);
	pci_memory_write(&fixture.bus, base, &value, 1);
	assert_int_equal(fixture.panics, 1);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_identity),
	    TEST(test_odd_accesses),
	    TEST(test_bars),
	    TEST(test_bar_measured_and_moved),
	    TEST(test_full_bus),
	    TEST(test_window_full),
	    TEST(test_msix_masks),
	    TEST(test_msix_table_accesses),
	    TEST(test_pvpanic),
	    TEST(test_removed),
	    TEST(test_removed_during_access),
	    TEST(test_added_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
