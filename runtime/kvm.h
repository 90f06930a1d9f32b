/*
 * The host's KVM.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"

#define KVM_DEVICE "/dev/kvm"

/* Opens /dev/kvm and checks its API version. The message of a failure says what to do about it. */
int kvm_open(struct error *err);

/* What hull-vmm needs of KVM, beyond its basic interface. */
struct kvm_requirement {
	int capability; /* KVM_CAP_* */
	const char *name;
	const char *purpose;
};

/* Ended by an entry without name. */
extern const struct kvm_requirement kvm_requirements[];

bool kvm_has(int kvm, int capability);
