/*
 * The guest's wall clock follows the host's: set when the first container is made, then compared with the host's now
 * and then, seldom once it runs as fast, and at once when the host says that its own was set (or that it has slept).
 *
 * One comparison is a few questions over the report connection (AGENT_REPORT_TIME, AGENT_NOTICE_TIME): the answer that
 * took the shortest time counts, and says the host's time within half of that time.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"

/* Sets the clock to the host's CLOCK_REALTIME, in nanoseconds, and begins to watch over it. Once. */
int clock_begin(int64_t now, struct error *err);

/* The answer: the host's CLOCK_REALTIME in nanoseconds. One that was not asked for is left alone. */
void clock_told(int64_t host);

/* The host's clock was set. */
void clock_host_was_set(void);
