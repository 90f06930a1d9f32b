#include "guest-agent/discipline.h"

#define SECOND 1000000000ll
#define MILLISECOND 1000000ll

/* What is slewed takes at most 40 s, less than the time to the next check. */
#define STEP_ABOVE (20 * MILLISECOND)
#define GOOD (1 * MILLISECOND)
/* The longer ago the last check, the less the uncertainty of both counts. */
#define FREQUENCY_NOISE_PPB 20000
/* What grows faster is no clock that runs wrong, but one that was set. */
#define FREQUENCY_PLAUSIBLE_PPB 5000000

static int64_t magnitude(int64_t number)
{
	return number < 0 ? -number : number;
}

static int64_t clamp_frequency(int64_t frequency)
{
	if (frequency > DISCIPLINE_FREQUENCY_MAX_PPB)
		return DISCIPLINE_FREQUENCY_MAX_PPB;
	return frequency < -DISCIPLINE_FREQUENCY_MAX_PPB ? -DISCIPLINE_FREQUENCY_MAX_PPB : frequency;
}

/* The difference has grown since the last check, which left none. */
static void learn_frequency(struct discipline *discipline, int64_t offset, int64_t uncertainty, int64_t now)
{
	int64_t elapsed = (now - discipline->checked) / SECOND;

	if (discipline->checked == 0 || elapsed <= 0 || uncertainty / elapsed > FREQUENCY_NOISE_PPB)
		return;
	if (magnitude(offset / elapsed) > FREQUENCY_PLAUSIBLE_PPB)
		return;
	discipline->frequency = clamp_frequency(discipline->frequency + offset / elapsed / 2);
}

static unsigned next_interval(unsigned interval, int64_t offset)
{
	if (magnitude(offset) >= GOOD || interval < DISCIPLINE_MIN_S)
		return DISCIPLINE_MIN_S;
	return interval < DISCIPLINE_MAX_S / 2 ? interval * 2 : DISCIPLINE_MAX_S;
}

struct correction discipline_check(struct discipline *discipline, int64_t offset, int64_t uncertainty, int64_t now,
				   bool host_was_set)
{
	struct correction correction = {.offset = magnitude(offset) > uncertainty ? offset : 0};

	correction.step = magnitude(correction.offset) > STEP_ABOVE || (host_was_set && correction.offset != 0);
	if (!host_was_set)
		learn_frequency(discipline, correction.offset, uncertainty, now);
	discipline->checked = now;
	discipline->interval = correction.step ? DISCIPLINE_FIRST_S : next_interval(discipline->interval, offset);
	correction.frequency = discipline->frequency;
	correction.next = discipline->interval;
	return correction;
}
