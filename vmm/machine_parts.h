/*
 * What a machine consists of: for vmm/machine.c, which builds and runs it, and vmm/snapshot.c, which saves and restores
 * it.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/clock.h"
#include "vmm/console.h"
#include "vmm/control.h"
#include "vmm/kvm.h"
#include "vmm/loop.h"
#include "vmm/machine.h"
#include "vmm/memory.h"
#include "vmm/pci.h"
#include "vmm/pvpanic.h"
#include "vmm/snapshot.h"
#include "vmm/virtio/device.h"
#include "vmm/window.h"
#include "vmm/x86_64/cpuid.h"
#include "vmm/x86_64/mptable.h"
#include "vmm/x86_64/vcpu.h"

#define DIRECT_DOORBELLS_MAX 8

/* A doorbell that the vCPU answers which rings it. Changed with the loop's lock held; read without. */
struct direct_doorbell {
	uint64_t address; /* 0: none */
	int eventfd;
	bool (*ring)(void *argument);
	void *argument;
};

struct machine {
	const struct machine_options *options;
	struct machine_result *result;
	struct loop *loop;
	struct guest_memory *memory;
	struct kvm kvm;
	struct pci_bus bus;
	struct direct_doorbell doorbells[DIRECT_DOORBELLS_MAX];
	struct pvpanic pvpanic;
	struct console console;
	struct virtio_device *vsock;
	struct virtio_device *devices[PCI_SLOTS]; /* in the order of the bus */
	unsigned device_count;
	unsigned built_disks;			  /* of options->disks, those among them */
	struct virtio_device *plugged[PCI_SLOTS]; /* added to the running machine, by slot */
	struct control *control;
	struct window window;
	struct clock_watch clock;
	struct cpuid cpuid;
	struct vcpu vcpus[MPTABLE_VCPUS_MAX];
	struct snapshot snapshot;
	pthread_barrier_t filtered; /* every thread has its system call filter */
	atomic_bool filter_failed;
	char why[256]; /* the guest's own word for its end */
};

/* Ends the machine, unless it has come to an end already. With the loop's lock held. */
void machine_end(struct machine *machine, enum machine_end how, unsigned status, const char *text);
