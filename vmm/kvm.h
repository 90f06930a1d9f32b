/*
 * The virtual machine as KVM sees it: one struct kvm per process, made from an open /dev/kvm. (Linux kernel,
 * Documentation/virt/kvm/api.rst)
 *
 * The order of set-up matters, since each change of memory slots, interrupt routes or bus registrations may have to
 * wait for an RCU grace period, and a running vCPU makes that wait longer: memory first, then the interrupt controller,
 * the vCPUs and the doorbells.
 */
#pragma once

#include <linux/kvm.h>
#include <stdint.h>

#include "common/error.h"
#include "vmm/memory.h"

struct kvm {
	int kvm;	 /* /dev/kvm */
	int vm;		 /* the machine */
	size_t run_size; /* bytes of each vCPU's struct kvm_run */
};

/* Checks the API and its extensions and creates the machine: memory slots and split interrupt controller (the local
 * APICs are the kernel's; there is no PIC, IOAPIC or PIT). Takes over kvm_fd. */
int kvm_open(struct kvm *kvm, int kvm_fd, const struct guest_memory *memory, struct error *err);

/* Sends a message-signalled interrupt. address and data may be anything the guest has written: the kernel ignores what
 * no APIC answers to. */
void kvm_send_msi(struct kvm *kvm, uint64_t address, uint32_t data);

/* Makes 16-bit guest writes to address add 1 to an eventfd instead of leaving the guest; remove undoes it. */
int kvm_add_doorbell(struct kvm *kvm, uint64_t address, int eventfd, struct error *err);
void kvm_remove_doorbell(struct kvm *kvm, uint64_t address, int eventfd);
