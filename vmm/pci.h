/*
 * The PCI bus: one bus, one function a slot, configuration mechanism 1 (ports 0xcf8 and 0xcfc). Addresses are given to
 * the BARs when a function is added, as firmware would; the guest may move them. There are no interrupt pins: functions
 * send messages. (PCI Local Bus 3.0, sections 3.2.2.3, 6.)
 *
 * A function may be added to the bus of a running machine, and taken off it. The guest has to look for it by itself
 * (in Linux /sys/bus/pci/rescan), and gives its BARs their addresses; it should have let go of one before that is taken
 * (`remove` in sysfs), and finds nothing there afterwards.
 *
 * All functions are called with the loop's lock held.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "vmm/state.h"

#define PCI_SLOTS 32
#define PCI_BARS 6
#define PCI_CONFIG_SIZE 256
#define PCI_WINDOW_START 0xc0000000u
#define PCI_WINDOW_END 0xfec00000u

/* What the machine does for its bus. */
struct pci_host {
	/* A message-signalled interrupt: a write of data to address. */
	void (*send_msi)(void *owner, uint64_t address, uint32_t data);
	/* 16-bit writes to a guest-physical address shall add 1 to an eventfd. */
	int (*add_doorbell)(void *owner, uint64_t address, int eventfd, struct error *err);
	void (*remove_doorbell)(void *owner, uint64_t address, int eventfd);
	/* The same, but ring is called on the vCPU's thread with the loop's lock held; the eventfd gets its 1 when ring
	 * returns false, or the lock is taken. NULL: not offered. */
	int (*add_direct_doorbell)(void *owner, uint64_t address, int eventfd, bool (*ring)(void *), void *argument,
				   struct error *err);
	void (*remove_direct_doorbell)(void *owner, uint64_t address);
	void *owner;
};

struct pci_function;

/* Any of them may be NULL. data holds size bytes in the guest's (little-endian) order. */
struct pci_operations {
	/* An access to a BAR: all of it lies in the BAR, size is 1, 2, 4 or 8. data is all ones before a read. */
	void (*read)(struct pci_function *function, unsigned bar, uint64_t offset, void *data, unsigned size);
	void (*write)(struct pci_function *function, unsigned bar, uint64_t offset, const void *data, unsigned size);
	/* Configuration space is about to be read; has been written. */
	void (*config_read)(struct pci_function *function, unsigned offset, unsigned size);
	void (*config_written)(struct pci_function *function, unsigned offset, unsigned size);
	/* A BAR has been given an address (and memory decoding is on), or a new one. */
	void (*bar_moved)(struct pci_function *function, unsigned bar, uint64_t address);
	/* The function was taken off the bus and is not used any more, not even by an access that gave up the lock
	 * meanwhile (loop_call): its memory may be freed. On the loop's thread or that of a vCPU. */
	void (*released)(struct pci_function *function);
};

struct pci_bar {
	uint64_t size; /* bytes, a power of two; 0: none */
	bool is_64_bit;
	uint64_t known_address; /* what bar_moved was told last */
};

/* Embedded in its user's struct; config and writable are what the guest sees. */
struct pci_function {
	const struct pci_operations *operations;
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE]; /* a bit for each bit of config that the guest may change */
	struct pci_bar bars[PCI_BARS];
	unsigned capabilities_end; /* where the next capability goes */
	struct pci_bus *bus;	   /* NULL until pci_add */
	unsigned slot;
	unsigned accesses; /* of the guest that are under way; for vmm/pci.c only, like the next */
	bool removed;
};

struct pci_bus {
	struct pci_host host;
	uint32_t address; /* the register at 0xcf8 */
	uint64_t next_window;
	bool running; /* the guest has seen the bus: it alone knows which addresses are free */
	struct pci_function bridge;
	struct pci_function *slots[PCI_SLOTS];
};

struct pci_identity {
	uint16_t vendor, device;
	uint16_t subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t revision;
};

/* Makes the bus with its host bridge in slot 0. */
void pci_bus_init(struct pci_bus *bus, const struct pci_host *host);

/* In this order: init, add_bar and add_capability as needed, then pci_add, which takes the next free slot. */
void pci_function_init(struct pci_function *function, const struct pci_operations *operations,
		       const struct pci_identity *identity);
/* size: a power of two, at least 16. A 64-bit BAR takes index and index + 1. */
void pci_add_bar(struct pci_function *function, unsigned index, uint64_t size, bool is_64_bit);
/* Appends a capability with size bytes (the first two, id and next, included) and returns its offset; writable_mask
 * holds size bytes or is NULL. */
unsigned pci_add_capability(struct pci_function *function, const void *capability, const void *writable_mask,
			    unsigned size);
int pci_add(struct pci_bus *bus, struct pci_function *function, struct error *err);
/* Takes a function off the bus: no access reaches it any more. */
void pci_remove(struct pci_function *function);

/* The address that a BAR decodes, or 0 when memory decoding is off. */
uint64_t pci_bar_address(const struct pci_function *function, unsigned bar);

/* Accesses of the guest. True when an address belongs to the bus; reads of what is not there are all ones. */
bool pci_port_read(struct pci_bus *bus, uint16_t port, void *data, unsigned size);
bool pci_port_write(struct pci_bus *bus, uint16_t port, const void *data, unsigned size);
bool pci_memory_read(struct pci_bus *bus, uint64_t address, void *data, unsigned size);
bool pci_memory_write(struct pci_bus *bus, uint64_t address, const void *data, unsigned size);

/* The bus's own registers, and those of the host bridge. */
void pci_bus_save(const struct pci_bus *bus, struct state_writer *writer);
int pci_bus_restore(struct pci_bus *bus, struct state_reader *reader, struct error *err);
/* Configuration space, for the functions. What the guest cannot write has to be the same on both sides, or else the
 * function is another one; a BAR that lies elsewhere is moved. */
void pci_function_save(const struct pci_function *function, struct state_writer *writer);
int pci_function_restore(struct pci_function *function, struct state_reader *reader, struct error *err);

/* For the functions' own use: fields of configuration space. */
uint16_t pci_get16(const struct pci_function *function, unsigned offset);
uint32_t pci_get32(const struct pci_function *function, unsigned offset);
void pci_set16(struct pci_function *function, unsigned offset, uint16_t value);
void pci_set32(struct pci_function *function, unsigned offset, uint32_t value);
