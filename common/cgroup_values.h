/*
 * linux.resources (config-linux.md "Control groups") speaks of the files of cgroup version 1; what it means for those
 * of version 2, in the guest's cgroup of the container and in the host's of the virtual machine alike. The words of
 * errors are runc's.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"

#define CGROUP_CPU_PERIOD                                                                                              \
	100000 /* microseconds, where cpu.period says nothing (Documentation/admin-guide/cgroup-v2.rst) */

#define CGROUP_UNLIMITED (-1) /* "max" in a file */
#define CGROUP_UNSET (-2)     /* nothing is asked for */

/* cpu.weight (1 to 10000) for cpu.shares (2 to 262144; what lies outside counts as the nearest of them). */
uint64_t cgroup_cpu_weight(uint64_t shares);

/* memory.swap counts memory and swap together; -1 is no limit, 0 is as good as absent. Returns 0, or -1 with err when
 * it does not go with the limit of the memory. */
int cgroup_check_swap(int64_t limit, int64_t swap, struct error *err);

/* memory.swap.max, which is swap alone, of values that have been checked. */
int64_t cgroup_swap_max(int64_t limit, int64_t swap);
