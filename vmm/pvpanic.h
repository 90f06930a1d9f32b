/*
 * The pvpanic device (QEMU's docs/specs/pvpanic.rst): the guest kernel writes to it when it panics, which tells a panic
 * from a shutdown.
 */
#pragma once

#include "common/error.h"
#include "vmm/pci.h"

struct pvpanic {
	struct pci_function function;
	void (*panicked)(void *owner); /* on a vCPU's thread, with the loop's lock held */
	void *owner;
};

int pvpanic_add(struct pvpanic *pvpanic, struct pci_bus *bus, struct error *err);
void pvpanic_save(const struct pvpanic *pvpanic, struct state_writer *writer);
int pvpanic_restore(struct pvpanic *pvpanic, struct state_reader *reader, struct error *err);
