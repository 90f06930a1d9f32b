#include "guest-agent/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "guest-agent/boot.h"
#include "guest-agent/discipline.h"
#include "guest-agent/loop.h"

#define QUESTIONS 4
#define ANSWER_SECONDS 8 /* without an answer by then, a question is given up */

static struct {
	struct watch timer;
	struct discipline discipline;
	unsigned asked; /* questions of this comparison; 0: none is going on */
	int64_t asked_at;
	int64_t offset, round_trip; /* of the best answer */
	bool host_was_set;
} state = {.timer = WATCH_NONE};

static void wake_in(unsigned seconds)
{
	const struct itimerspec when = {.it_value = {.tv_sec = seconds}};

	timerfd_settime(state.timer.fd, 0, &when, NULL);
}

/* A report connection that is broken is the machine's end, which others see to. */
static void ask(void)
{
	struct error err;

	state.asked++;
	state.asked_at = clock_ns(CLOCK_REALTIME);
	wake_in(ANSWER_SECONDS);
	boot_report(AGENT_REPORT_TIME, 0, &err);
}

static void step_by(int64_t offset)
{
	struct timex change = {.modes = ADJ_SETOFFSET | ADJ_NANO};

	change.time.tv_sec = offset / NS_PER_SECOND;
	change.time.tv_usec = offset % NS_PER_SECOND;
	if (change.time.tv_usec < 0) {
		change.time.tv_sec--;
		change.time.tv_usec += NS_PER_SECOND;
	}
	adjtimex(&change);
}

static void slew_by(int64_t offset)
{
	struct timex change = {.modes = ADJ_OFFSET_SINGLESHOT, .offset = offset / 1000};

	adjtimex(&change);
}

static void set_frequency(int64_t parts_per_billion)
{
	/* In parts per million, shifted by 16 bits. */
	struct timex change = {.modes = ADJ_FREQUENCY, .freq = parts_per_billion * 65536 / 1000};

	adjtimex(&change);
}

static void correct(void)
{
	struct correction correction =
	    discipline_check(&state.discipline, state.offset, state.round_trip / 2, now_ns(), state.host_was_set);

	/* What is left of an earlier slew ends in either case. */
	slew_by(correction.step ? 0 : correction.offset);
	if (correction.step)
		step_by(correction.offset);
	set_frequency(correction.frequency);
	state.asked = 0;
	state.host_was_set = false;
	wake_in(correction.next);
}

void clock_told(int64_t host)
{
	int64_t now = clock_ns(CLOCK_REALTIME), round_trip = now - state.asked_at;

	if (state.asked == 0)
		return;
	/* Somebody has set the guest's clock meanwhile: begin again. */
	if (round_trip < 0) {
		state.asked = 0;
		ask();
		return;
	}
	if (state.asked == 1 || round_trip < state.round_trip) {
		state.round_trip = round_trip;
		state.offset = host - (state.asked_at + round_trip / 2);
	}
	if (state.asked < QUESTIONS)
		ask();
	else
		correct();
}

static void compare(void)
{
	state.asked = 0;
	ask();
}

void clock_host_was_set(void)
{
	if (state.timer.fd < 0)
		return;
	state.host_was_set = true;
	compare();
}

static void timer_ready(struct watch *watch, uint32_t events)
{
	uint64_t times;

	(void)events;
	if (read(watch->fd, &times, sizeof(times)) > 0)
		compare();
}

static int set(int64_t now, struct error *err)
{
	const struct timespec time = {.tv_sec = now / NS_PER_SECOND, .tv_nsec = now % NS_PER_SECOND};

	return clock_settime(CLOCK_REALTIME, &time) < 0 ? error_set_errno(err, "set the clock") : 0;
}

int clock_begin(int64_t now, struct error *err)
{
	int fd;

	if (set(now, err) < 0)
		return -1;
	if (state.timer.fd >= 0)
		return 0;
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	state.timer.ready = timer_ready;
	if (fd < 0 || loop_add(&state.timer, fd, EPOLLIN) < 0)
		return error_set_errno(err, "watch the clock");
	wake_in(DISCIPLINE_FIRST_S);
	return 0;
}
