/*
 * What to do about a clock that differs from the host's: arithmetic only, so that it can be tried without a clock.
 *
 * The guest's kernel takes its time from the same counter as the host's, so the two run apart by what the host's own
 * discipline (NTP) corrects in the host: some parts in a million, and whatever the host's clock is set by. A small
 * difference is slewed, a large one is a step; how fast the difference grows is learnt and becomes a correction of the
 * frequency, after which there is little left to do: the checks become rare.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DISCIPLINE_FIRST_S 16u	 /* from the clock's being set to the first check */
#define DISCIPLINE_MIN_S 64u	 /* between checks, while differences are found */
#define DISCIPLINE_MAX_S 1024u	 /* and when there are none */
#define DISCIPLINE_SLEW_PPM 500u /* of the kernel, adjtimex(2) */
#define DISCIPLINE_FREQUENCY_MAX_PPB 500000

struct discipline {
	int64_t checked; /* CLOCK_MONOTONIC nanoseconds of the last check; 0: none that frequency can be learnt from */
	int64_t frequency; /* correction in force, parts per 10^9 */
	unsigned interval; /* seconds from the last check to this one */
};

struct correction {
	bool step;	   /* by offset, at once */
	int64_t offset;	   /* nanoseconds to be added to the clock; 0: none */
	int64_t frequency; /* parts per 10^9, in all */
	unsigned next;	   /* seconds to the next check */
};

/* offset: how far the host is ahead, in nanoseconds; uncertainty: by how much that may be wrong, not negative; now:
 * CLOCK_MONOTONIC. host_was_set: somebody has set the host's clock, so this says nothing of frequencies. */
struct correction discipline_check(struct discipline *discipline, int64_t offset, int64_t uncertainty, int64_t now,
				   bool host_was_set);
