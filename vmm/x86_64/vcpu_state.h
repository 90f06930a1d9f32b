/*
 * Saving and restoring a vCPU that does not run, and the machine's clock. (Linux kernel, Documentation/virt/kvm/api.rst
 * and devices/vcpu.rst.)
 *
 * Time stands still for a machine that is saved: its time-stamp counters and its clock go on from where they were, and
 * CLOCK_MONOTONIC in the guest with them. What the time of day is has to be told to the guest.
 */
#pragma once

#include "common/error.h"
#include "vmm/kvm.h"
#include "vmm/state.h"
#include "vmm/x86_64/vcpu.h"

#define MSRS_MAX 512

/* Which model-specific registers belong to the state of a vCPU. */
struct msr_list {
	uint32_t count;
	uint32_t indices[MSRS_MAX];
};

/* Asks KVM, while kvm->kvm is open. */
int msr_list_get(struct msr_list *list, const struct kvm *kvm, struct error *err);

/* The vCPU must not run, and what its last exit asked for must have been completed (KVM_RUN with immediate_exit). */
int vcpu_save(const struct vcpu *vcpu, const struct msr_list *msrs, struct state_writer *writer, struct error *err);

/* Sets a vCPU that was just created, all but its time-stamp counter. cpuid is changed and may be used for the next
 * vCPU. */
int vcpu_restore(const struct vcpu *vcpu, struct cpuid *cpuid, struct state_reader *reader, struct error *err);

int clock_save(const struct kvm *kvm, const struct vcpu *vcpus, unsigned count, struct state_writer *writer,
	       struct error *err);
/* After all vCPUs: sets the clock and the time-stamp counters of all of them, from which on time passes. */
int clock_restore(const struct kvm *kvm, const struct vcpu *vcpus, unsigned count, struct state_reader *reader,
		  struct error *err);

/* The vCPU has stood still: a guest that measures how long it was busy is to know that it was not. */
void vcpu_stood_still(const struct vcpu *vcpu);
