/*
 * The table that lists the CPUs for a guest without ACPI (Intel MultiProcessor Specification 1.4, chapter 4). There is
 * no IOAPIC, so it holds no interrupt entries.
 */
#pragma once

#include "common/error.h"
#include "vmm/memory.h"

#define MPTABLE_VCPUS_MAX 64

/* Writes the pointer to BOOT_MP_POINTER and the table to BOOT_MP_TABLE. APIC ids are 0 to vcpu_count - 1. */
int mptable_write(struct guest_memory *memory, unsigned vcpu_count, struct error *err);
