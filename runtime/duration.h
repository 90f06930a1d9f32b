/*
 * Durations as people write them to runc: "5s", "1m30s", "500ms", "1.5h".
 */
#pragma once

#include <stdint.h>

/* Returns 0, or -1 when it is none or does not fit. Negative ones are none. */
int duration_parse(const char *text, int64_t *nanoseconds);
