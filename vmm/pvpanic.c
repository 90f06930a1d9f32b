#include "vmm/pvpanic.h"

#include <string.h>

#define PVPANIC_PANICKED (1u << 0)
#define PVPANIC_SIZE 4096u /* the register is one byte; a page is what the guest maps anyhow */

/* Reading tells which events are understood. */
static void pvpanic_read(struct pci_function *function, unsigned bar, uint64_t offset, void *data, unsigned size)
{
	uint8_t events = PVPANIC_PANICKED;

	(void)function, (void)bar;
	memset(data, 0, size);
	if (offset == 0)
		memcpy(data, &events, sizeof(events));
}

static void pvpanic_write(struct pci_function *function, unsigned bar, uint64_t offset, const void *data, unsigned size)
{
	struct pvpanic *pvpanic = (struct pvpanic *)function; /* the first member */
	uint8_t events;

	(void)bar, (void)size;
	memcpy(&events, data, sizeof(events));
	if (offset == 0 && (events & PVPANIC_PANICKED))
		pvpanic->panicked(pvpanic->owner);
}

int pvpanic_add(struct pvpanic *pvpanic, struct pci_bus *bus, struct error *err)
{
	static const struct pci_operations operations = {.read = pvpanic_read, .write = pvpanic_write};
	static const struct pci_identity identity = {.vendor = 0x1b36,
						     .device = 0x0011,
						     .subsystem_vendor = 0x1af4,
						     .subsystem = 0x1100,
						     .class_code = 0x088000, /* system peripheral, other */
						     .revision = 1};

	pci_function_init(&pvpanic->function, &operations, &identity);
	pci_add_bar(&pvpanic->function, 0, PVPANIC_SIZE, false);
	return pci_add(bus, &pvpanic->function, err);
}

void pvpanic_save(const struct pvpanic *pvpanic, struct state_writer *writer)
{
	pci_function_save(&pvpanic->function, writer);
}

int pvpanic_restore(struct pvpanic *pvpanic, struct state_reader *reader, struct error *err)
{
	if (pci_function_restore(&pvpanic->function, reader, err) < 0)
		return -1;
	return state_end(reader, err);
}
