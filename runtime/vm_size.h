/*
 * How large the virtual machine of a container is: the annotations hull.memory and hull.vcpus, or defaults.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"
#include "runtime/spec.h"

#define VM_MEMORY_ANNOTATION "hull.memory" /* bytes, or with a suffix K, M, G, T (powers of 1024) */
#define VM_VCPUS_ANNOTATION "hull.vcpus"

/* The host backs only what the guest touches, so the default is what ordinary programs need rather than what a
 * container must have at least. A second CPU would cost boot time in every container. */
#define VM_MEMORY_DEFAULT (512ull << 20)
#define VM_MEMORY_MIN (64ull << 20)
#define VM_MEMORY_MAX (1ull << 40)
#define VM_VCPUS_DEFAULT 1
#define VM_VCPUS_MAX 64

struct vm_size {
	uint64_t memory; /* bytes, a multiple of 1 MiB */
	unsigned vcpus;
};

int vm_size_from_spec(const struct spec *spec, struct vm_size *size, struct error *err);

/* "1048576", "512M", "2G" and the like. Returns 0 or -1. */
int vm_size_parse_memory(const char *text, uint64_t *bytes);
