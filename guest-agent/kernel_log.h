/*
 * The messages of the guest's kernel.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "common/error.h"

/* Those from sequence number `from` on, as far as the kernel still has them and one answer holds them: {"text": LINES,
 * "next": N}, N being the number to go on from. Returns a new reference, or NULL with err. */
json_t *kernel_log_read(uint64_t from, struct error *err);
