/*
 * MSI-X of one PCI function: table, pending bits and masks (PCI Local Bus 3.0, section 6.8.2). Interrupts are sent with
 * the address and data that the guest wrote into the table at the moment they are due, so programming a vector costs
 * nothing but the access itself.
 */
#pragma once

#include <stdint.h>

#include "vmm/pci.h"
#include "vmm/state.h"

#define MSIX_VECTORS_MAX 16
#define MSIX_ENTRY_SIZE 16u

struct msix_entry {
	uint64_t address;
	uint32_t data;
	uint32_t control; /* bit 0: masked */
};

struct msix {
	struct pci_function *function;
	unsigned count;	     /* vectors */
	unsigned capability; /* its offset in configuration space */
	struct msix_entry entries[MSIX_VECTORS_MAX];
	uint64_t pending;
};

/* Adds the capability to function; the table lies at table_offset and the pending bits at pending_offset of bar. */
void msix_init(struct msix *msix, struct pci_function *function, unsigned count, unsigned bar, uint32_t table_offset,
	       uint32_t pending_offset);

/* The guest's accesses, at offsets from the start of the table or of the pending bits; what lies outside reads as 0. */
void msix_table_read(const struct msix *msix, uint64_t offset, void *data, unsigned size);
void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned size);
void msix_pending_read(const struct msix *msix, uint64_t offset, void *data, unsigned size);
/* To be called from the function's config_written. */
void msix_config_written(struct msix *msix);

void msix_save(const struct msix *msix, struct state_writer *writer);
/* Sends nothing: what was pending stays so until a mask is taken off, and what was sent is in the local APIC. */
int msix_restore(struct msix *msix, struct state_reader *reader, struct error *err);

/* Interrupts the guest, or remembers to when a mask is on. Vectors that do not exist are ignored. */
void msix_signal(struct msix *msix, unsigned vector);
