/*
 * What a clock of clock_gettime(2) shows, as one number. Deadlines and intervals are of CLOCK_MONOTONIC, which nobody
 * sets: now_ns and now_ms.
 */
#pragma once

#include <stdint.h>
#include <time.h>

#define NS_PER_MS 1000000ll
#define NS_PER_SECOND 1000000000ll

static inline int64_t clock_ns(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * NS_PER_SECOND + time.tv_nsec;
}

static inline int64_t clock_ms(clockid_t clock)
{
	return clock_ns(clock) / NS_PER_MS;
}

static inline int64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static inline int64_t now_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}
