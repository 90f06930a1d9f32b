/*
 * How large the virtual machine of a container is. In this order: the annotations hull.memory and hull.vcpus; the
 * container's limits (linux.resources: the memory limit with what the guest's kernel needs beside it; as many CPUs as
 * the quota can use or the list of CPUs has); the configuration file; the defaults here.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"
#include "runtime/config.h"
#include "runtime/limits.h"
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

/* What the guest's kernel and agent use of the machine's memory, so that a container can reach its limit. */
#define VM_GUEST_OVERHEAD(limit) ((64ull << 20) + (limit) / 32)

struct vm_size {
	uint64_t memory; /* bytes, a multiple of 1 MiB */
	unsigned vcpus;
};

int vm_size_from_spec(const struct spec *spec, const struct limits *limits, const struct config *config,
		      struct vm_size *size, struct error *err);

/* The memory of a machine for a container with that limit (bytes) on a host with that much memory. */
uint64_t vm_size_for_limit(uint64_t limit, uint64_t host_memory);

/* The CPUs of a machine for a container with these limits on a host with that many; 0: the limits say nothing. */
unsigned vm_size_for_cpus(const struct limits *limits, unsigned host_cpus);

/* "1048576", "512M", "2G" and the like. Returns 0 or -1. */
int vm_size_parse_memory(const char *text, uint64_t *bytes);
