/*
 * The virtio-pci transport (virtio 1.2, section 4.1), modern only: makes a virtio device a function on the PCI bus.
 *
 * What the driver configures is kept in registers of the transport and copied into the device's queues at DRIVER_OK;
 * from then on, until a reset, nothing that the driver writes changes them.
 */
#pragma once

#include "common/error.h"
#include "vmm/loop.h"
#include "vmm/memory.h"
#include "vmm/pci.h"
#include "vmm/state.h"
#include "vmm/virtio/device.h"

/* Layout of BAR 0. */
#define VIRTIO_PCI_BAR_SIZE 0x4000u
#define VIRTIO_PCI_COMMON_OFFSET 0x0000u
#define VIRTIO_PCI_ISR_OFFSET 0x0400u
#define VIRTIO_PCI_DEVICE_OFFSET 0x0800u
#define VIRTIO_PCI_DEVICE_SIZE 0x0800u
#define VIRTIO_PCI_NOTIFY_OFFSET 0x1000u
#define VIRTIO_PCI_NOTIFY_STEP 4u /* bytes from one queue's doorbell to the next one's */
#define VIRTIO_PCI_MSIX_TABLE_OFFSET 0x2000u
#define VIRTIO_PCI_MSIX_PENDING_OFFSET 0x3000u

struct virtio_pci;

/* Puts device on the bus. bus and memory must live as long as the machine, device until virtio_pci_remove; it stays the
 * caller's. Returns NULL on failure. */
struct virtio_pci *virtio_pci_add(struct pci_bus *bus, struct virtio_device *device, const struct guest_memory *memory,
				  struct loop *loop, struct error *err);
/* The slot of the bus that it is in. */
unsigned virtio_pci_slot(const struct virtio_pci *transport);
/* Resets the device and takes it off the bus, whatever the guest is doing with it; frees the transport, possibly later.
 * The device is the caller's alone then. On the loop's thread. Not for a device with notify_directly: a vCPU may be
 * about to write to its eventfd without holding the lock. */
void virtio_pci_remove(struct virtio_pci *transport);

/* The device's and the transport's part of a machine that is saved and restored, all with the loop's lock held and no
 * vCPU running. Quiesce comes before save. Restore is for a device that was just added; it rings the doorbell of each
 * queue in which something waits. */
int virtio_pci_quiesce(struct virtio_pci *transport, struct error *err);
void virtio_pci_save(const struct virtio_pci *transport, struct state_writer *writer);
int virtio_pci_restore(struct virtio_pci *transport, struct state_reader *reader, struct error *err);

/* After the loop has ended. */
void virtio_pci_free(struct virtio_pci *transport);
