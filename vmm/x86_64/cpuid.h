/*
 * What the guest's CPUs say that they are: KVM_GET_SUPPORTED_CPUID, asked once, with topology, identity and the state
 * components of XSAVE put right.
 */
#pragma once

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "vmm/kvm.h"

#define CPUID_ENTRIES_MAX 256

/* A struct kvm_cpuid2 with room for its entries. */
struct cpuid {
	uint32_t count, padding;
	struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
};

/* Fits what KVM supports to a machine of vcpu_count CPUs. */
void cpuid_fit(struct cpuid *cpuid, unsigned vcpu_count);
/* Asks KVM and fits the answer. */
int cpuid_get(struct cpuid *cpuid, const struct kvm *kvm, unsigned vcpu_count, struct error *err);
/* Puts in what differs from CPU to CPU: the APIC id. */
void cpuid_set_apic_id(struct cpuid *cpuid, unsigned id);
/* Whether a guest that was shown one sees no difference in the other. */
bool cpuid_equal(const struct cpuid *a, const struct cpuid *b);
/* The state components that XCR0 may turn on; 0 where there is no XSAVE. */
uint64_t cpuid_xsave_components(const struct cpuid *cpuid);
