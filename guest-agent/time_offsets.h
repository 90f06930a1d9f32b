/*
 * linux.timeOffsets (config-linux.md "Offset for Time Namespace"): what the clocks of a time namespace are ahead.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct time_offset {
	bool given;
	int64_t seconds;
	uint32_t nanoseconds;
};

struct time_offsets {
	struct time_offset monotonic, boottime;
};

/* Reads linux.timeOffsets (NULL: none). own: the container has a time namespace to itself, without which there can be
 * no offsets. Returns 0, or -1 with an error that names the field. */
int time_offsets_read(const json_t *json, bool own, struct time_offsets *offsets, struct error *err);

/* Makes a new time namespace for the caller's children, with these offsets. Returns a descriptor of the caller's own to
 * come back to (time_offsets_leave closes it), or -1. */
int time_offsets_enter(const struct time_offsets *offsets, struct error *err);
int time_offsets_leave(int own, struct error *err);
