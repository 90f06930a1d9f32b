/*
 * What linux.resources (OCI runtime specification, config-linux.md "Control groups") asks of the host: the limits of
 * the cgroup that hull-vmm and hull-fsd run in, as files of cgroup v2. The guest enforces the same on the container's
 * processes (guest-agent/); here the machine as a whole is held, with room for what it needs itself.
 *
 *   memory.limit          memory.max: the machine's memory (which was made from the limit) and MACHINE_OVERHEAD; the
 *                         limit itself is the guest's business, which can reclaim and kill inside the container
 *   memory.reservation    memory.low, with the overhead
 *   memory.swap           memory.swap.max: swap - limit
 *   cpu.*                 cpu.weight, cpu.max, cpu.max.burst, cpu.idle, cpuset.cpus, cpuset.mems
 *   blockIO.*             io.weight or io.bfq.weight, io.max
 *
 *   unified               cpu.*, cpuset.* and io.* as they are, after what the fields above say; the others, and the
 *                         default weights of io, are the guest's
 *
 * pids, hugepageLimits and rdma are about the container's processes, which are not processes of the host.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* What a machine uses beside the guest's memory: hull-vmm, hull-fsd, the host's page tables for the guest, and some
 * page cache without which the file server would starve. */
#define MACHINE_OVERHEAD(memory) ((64ull << 20) + (memory) / 128)

/* Numbers are 0 where config.json says nothing; sizes are -1 for "no limit". */
struct limits {
	int64_t memory, reservation, swap; /* bytes; swap counts memory and swap */
	uint64_t shares;
	int64_t quota; /* microseconds in each period; -1: none */
	uint64_t period, burst;
	bool has_idle;
	int64_t idle;
	const char *cpus, *mems; /* lists like 0-3,7; or NULL. They belong to the JSON */
	uint64_t weight;	 /* blockIO, 10 to 1000 */
	const json_t *block_io;	 /* linux.resources.blockIO, or NULL */
	const json_t *unified;	 /* linux.resources.unified, or NULL */
};

/* Reads and checks resources (NULL: nothing is asked). The result points into the JSON. Messages name the field. */
int limits_read(const json_t *resources, struct limits *limits, struct error *err);

/* How many CPUs a list like 0-3,7 names; 0 when it is no such list. */
unsigned limits_count_cpus(const char *list);

/* memory.max and memory.low for a machine with that much memory, in bytes; or CGROUP_UNLIMITED, or CGROUP_UNSET. */
int64_t limits_memory_max(const struct limits *limits, uint64_t machine_memory);
int64_t limits_memory_low(const struct limits *limits, uint64_t machine_memory);

/* How much more the cgroup holds at most when the container has used up its memory: what a process in it has to use
 * until the cgroup's limit is reached too (vmm/oom.h). 0: there is no limit, or it is out of reach. */
uint64_t limits_oom_reach(const struct limits *limits, uint64_t machine_memory);

/* A file of the cgroup and what is written into it. */
struct setting {
	const char *file;
	char *value;
	const char *field; /* below linux.resources: for messages */
};

struct settings {
	struct setting *list;
	size_t n;
	bool failed; /* an allocation failed */
};

void settings_release(struct settings *settings);
#define cleanup_settings __attribute__((cleanup(settings_release)))

/* In the order they are to be written. bfq: the host's cgroups have io.bfq.weight instead of io.weight. */
int limits_settings(const struct limits *limits, uint64_t machine_memory, bool bfq, struct settings *settings,
		    struct error *err);
