/*
 * One virtual CPU: its KVM object, its first state, and the thread that runs it.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "vmm/kvm.h"
#include "vmm/x86_64/boot.h"
#include "vmm/x86_64/cpuid.h"

/* What an exit from the guest means to the machine; all called on the vCPU's thread, without any lock. */
struct vcpu_operations {
	void (*port_read)(void *owner, uint16_t port, void *data, unsigned size);
	void (*port_write)(void *owner, uint16_t port, const void *data, unsigned size);
	void (*memory_read)(void *owner, uint64_t address, void *data, unsigned size);
	void (*memory_write)(void *owner, uint64_t address, const void *data, unsigned size);
	/* The guest has shut down or restarted itself. The vCPU runs no more. */
	void (*shutdown)(void *owner);
	/* KVM cannot go on. The vCPU runs no more. */
	void (*failed)(void *owner, const char *reason);
	/* Before the first guest instruction; when it fails the vCPU does not run. */
	int (*enter)(void *owner, struct error *err);
	/* The vCPU has left the guest because of vcpu_interrupt, and nothing of its last exit is left to be done.
	 * Returns when it may go on. */
	void (*interrupted)(void *owner);
};

struct vcpu {
	unsigned index;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	const struct vcpu_operations *operations;
	void *owner;
	pthread_t thread;
};

int vcpu_create(struct vcpu *vcpu, unsigned index, const struct kvm *kvm, struct error *err);

/* Sets its state for a boot: index 0 starts at image->entry, the others wait for it to wake them. cpuid is changed and
 * may be used for the next vCPU. */
int vcpu_boot(struct vcpu *vcpu, struct cpuid *cpuid, const struct boot_image *image, struct error *err);

/* Starts its thread, which calls enter and runs the guest. */
int vcpu_start(struct vcpu *vcpu, const struct vcpu_operations *operations, void *owner, struct error *err);

/* Lets vcpu_interrupt work; once, before any vCPU is started. */
int vcpu_allow_interrupts(struct error *err);
/* Has a started vCPU leave the guest as soon as possible, and call operations->interrupted; from any other thread. */
void vcpu_interrupt(struct vcpu *vcpu);
/* Takes that back, so that it does not leave the guest again. */
void vcpu_continue(struct vcpu *vcpu);
