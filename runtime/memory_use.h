/*
 * How much of the host's memory the processes of a container's machine use.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "runtime/state.h"

struct memory_use {
	uint64_t private_bytes; /* theirs alone: what would be free without them */
	uint64_t shared_bytes;	/* of files: a template, programs; also where nobody else has them mapped just now */
};

/* Of the container's own processes: of one that has joined a sandbox, what stands for it. Those that have ended, or
 * whose /proc entry may not be read, count as nothing. */
struct memory_use memory_use_of(const struct state *state);
