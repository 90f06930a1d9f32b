/*
 * Keeping a clock: simulated ones that run wrong are compared with the host's as the agent does it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "guest-agent/discipline.h"

#define SECOND 1000000000ll
#define MICROSECOND 1000ll

/* How far the host is ahead of a clock that is `drift` parts per 10^9 too slow. */
struct simulation {
	struct discipline discipline;
	int64_t now, offset, drift, to_slew;
	unsigned steps, checks;
	int64_t worst; /* offset seen by the last check */
	unsigned next;
};

static int64_t smaller(int64_t wanted, int64_t limit)
{
	if (wanted > limit)
		return limit;
	return wanted < -limit ? -limit : wanted;
}

static void advance(struct simulation *simulation, unsigned seconds)
{
	int64_t slewed = smaller(simulation->to_slew, seconds * DISCIPLINE_SLEW_PPM * MICROSECOND);

	simulation->now += seconds * SECOND;
	simulation->offset += (simulation->drift - simulation->discipline.frequency) * seconds - slewed;
	simulation->to_slew -= slewed;
}

static void check(struct simulation *simulation, int64_t error, int64_t uncertainty, bool host_was_set)
{
	struct correction correction = discipline_check(&simulation->discipline, simulation->offset + error,
							uncertainty, simulation->now, host_was_set);

	simulation->checks++;
	simulation->worst = simulation->offset;
	simulation->to_slew = correction.step ? 0 : correction.offset;
	if (correction.step) {
		simulation->steps++;
		simulation->offset -= correction.offset;
	}
	assert_int_equal(correction.frequency, simulation->discipline.frequency);
	assert_true(correction.next >= DISCIPLINE_FIRST_S && correction.next <= DISCIPLINE_MAX_S);
	simulation->next = correction.next;
}

/* Checks for so long, each with an error of up to the uncertainty, as pseudo-random as tests should be. */
static void run(struct simulation *simulation, unsigned seconds, int64_t uncertainty)
{
	int64_t end = simulation->now + seconds * SECOND;
	uint32_t random = 12345;

	while (simulation->now < end) {
		advance(simulation, simulation->next);
		random = random * 1664525u + 1013904223u;
		check(simulation, uncertainty ? (int64_t)(random % (2 * uncertainty)) - uncertainty : 0, uncertainty,
		      false);
	}
}

static void test_drift(void **state)
{
	static const int64_t drifts[] = {0, 20000, -20000, 100000, -300000, 450000};

	(void)state;
	for (size_t i = 0; i < sizeof(drifts) / sizeof(drifts[0]); i++) {
		struct simulation simulation = {.drift = drifts[i], .now = SECOND, .next = DISCIPLINE_FIRST_S};

		run(&simulation, 6 * 3600, 100 * MICROSECOND);
		/* Before the frequency is known, the fastest is too far off to be slewed. */
		assert_int_equal(simulation.steps, llabs(drifts[i]) > 400000);
		if (llabs(simulation.worst) > 1000 * MICROSECOND)
			fail_msg("drift %lld: %lld ns", (long long)drifts[i], (long long)simulation.worst);
		assert_true(llabs(simulation.drift - simulation.discipline.frequency) < 2000);
		/* Seldom, in the end. */
		assert_int_equal(simulation.next, DISCIPLINE_MAX_S);
		assert_true(simulation.checks < 60);
	}
}

/* A clock that runs so wrong that the kernel cannot correct it is at least never far off. */
static void test_beyond_correction(void **state)
{
	struct simulation simulation = {.drift = 2000000, .now = SECOND, .next = DISCIPLINE_FIRST_S};

	(void)state;
	run(&simulation, 3600, 100 * MICROSECOND);
	assert_true(simulation.steps > 10);
	assert_int_equal(simulation.discipline.frequency, DISCIPLINE_FREQUENCY_MAX_PPB);
	assert_true(llabs(simulation.worst) < 128 * 1000 * MICROSECOND);
}

/* Answers that take long say little: no correction is made of noise. */
static void test_noise(void **state)
{
	struct simulation simulation = {.now = SECOND, .next = DISCIPLINE_FIRST_S};

	(void)state;
	run(&simulation, 3600, 10 * 1000 * MICROSECOND);
	assert_int_equal(simulation.steps, 0);
	assert_int_equal(simulation.offset, 0);
	assert_int_equal(simulation.discipline.frequency, 0);
}

static void test_steps(void **state)
{
	struct simulation simulation = {.drift = 50000, .now = SECOND, .next = DISCIPLINE_FIRST_S};
	int64_t frequency;

	(void)state;
	run(&simulation, 3600, 0);
	frequency = simulation.discipline.frequency;
	/* The host's clock is set by an hour, then by 5 ms. */
	simulation.offset += 3600 * SECOND;
	check(&simulation, 0, 0, true);
	assert_int_equal(simulation.steps, 1);
	assert_int_equal(simulation.offset, 0);
	simulation.offset -= 5000 * MICROSECOND;
	check(&simulation, 0, 0, true);
	assert_int_equal(simulation.steps, 2);
	/* And jumps without anybody's saying so. */
	simulation.offset -= 60 * SECOND;
	check(&simulation, 0, 0, false);
	assert_int_equal(simulation.steps, 3);
	assert_int_equal(simulation.offset, 0);
	assert_int_equal(simulation.discipline.frequency, frequency);
	assert_int_equal(simulation.next, DISCIPLINE_FIRST_S);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_drift),
	    cmocka_unit_test(test_beyond_correction),
	    cmocka_unit_test(test_noise),
	    cmocka_unit_test(test_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
