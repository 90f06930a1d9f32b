/*
 * Capabilities as sets of bits, bit n for capability n (linux/capability.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct capabilities {
	uint64_t bounding;
	uint64_t effective;
	uint64_t inheritable;
	uint64_t permitted;
	uint64_t ambient;
};

/* The number of a capability ("CAP_CHOWN"), or -1 for a name that the agent does not know. */
int capability_number(const char *name);
const char *capability_name(int number);

/* The capabilities that the kernel has: all from 0 to its last one. */
uint64_t capabilities_of_kernel(void);

/* Drops every capability outside keep from the bounding set. */
int capabilities_bound(uint64_t keep, struct error *err);

/* Sets effective, permitted and inheritable, then raises what of the ambient set can be raised: only a capability that
 * is both permitted and inheritable can. */
int capabilities_apply(const struct capabilities *wanted, struct error *err);
