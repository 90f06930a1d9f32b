#include "runtime/watch.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "runtime/process.h"
#include "runtime/signals.h"

/* A guest that boots or answers uses the CPU. One that has used next to nothing for this long waits for something that
 * will not come (a halted CPU, a lost interrupt). */
#define IDLE_SECONDS 10
#define IDLE_CPU_NS 10000000

void watch_set_timeout(struct watch *watch, unsigned seconds)
{
	watch->timeout = seconds;
	watch->deadline = now_ns() + seconds * NS_PER_SECOND;
}

int watch_start_timeout(unsigned *seconds, struct error *err)
{
	const char *text = getenv("HULL_START_TIMEOUT");
	uint64_t number;

	if (!text || !*text)
		return 0;
	if (parse_u64(text, 1, 86400, &number) < 0)
		return error_set(err, EINVAL, "HULL_START_TIMEOUT: \"%s\" is not a number of seconds", text);
	*seconds = (unsigned)number;
	return 0;
}

static int fail(struct watch *watch, enum watch_event event, struct error *err)
{
	struct signalfd_siginfo info = {0};

	watch->event = event;
	switch (event) {
	case WATCH_VMM_ENDED:
		return error_set(err, ECONNRESET, "the virtual machine ended");
	case WATCH_FSD_ENDED:
		return error_set(err, ECONNRESET, "the file server ended");
	case WATCH_SIGNAL:
		if (read(watch->signals, &info, sizeof(info)) < 0)
			info.ssi_signo = SIGTERM;
		watch->signal = (int)info.ssi_signo;
		return error_set(err, EINTR, "interrupted by signal %s", signal_name(watch->signal));
	case WATCH_TIMEOUT:
		return error_set(err, ETIMEDOUT, "the guest did not answer within %u s", watch->timeout);
	default:
		return error_set_errno(err, "wait for the guest");
	}
}

struct idleness {
	int64_t since, demand;
};

/* CPU time that the process has used or was ready to use. */
static int64_t demand(pid_t pid)
{
	int64_t used = process_cpu_time(pid);

	return used < 0 ? used : used + process_starved(pid);
}

/* Milliseconds to wait at most, 0 when the time is over. */
static int time_left(const struct watch *watch, const struct idleness *idle, int64_t now)
{
	int64_t until = watch->deadline;

	if (watch->idle_process > 0 && (until == 0 || idle->since + IDLE_SECONDS * NS_PER_SECOND < until))
		until = idle->since + IDLE_SECONDS * NS_PER_SECOND;
	if (until == 0)
		return -1;
	return until <= now ? 0 : (int)((until - now) / NS_PER_MS + 1);
}

static int64_t starved(int pidfd)
{
	pid_t pid = pidfd < 0 ? 0 : process_of(pidfd);

	return pid > 0 ? process_starved(pid) : 0;
}

/* Puts the deadline off by what the machine has waited for a CPU since it was last put off. A machine that is older
 * than the deadline has waited before as well: hence not by more than the whole time at once. */
static bool put_off(struct watch *watch)
{
	int64_t total = starved(watch->vmm) + starved(watch->fsd);
	int64_t more = total - watch->starved;

	if (more < NS_PER_SECOND)
		return false;
	if (more > watch->timeout * NS_PER_SECOND)
		more = watch->timeout * NS_PER_SECOND;
	watch->starved = total;
	watch->deadline += more;
	return true;
}

static int check_time(struct watch *watch, struct idleness *idle, struct error *err)
{
	int64_t now = now_ns(), needed;

	if (watch->deadline != 0 && now >= watch->deadline && !put_off(watch))
		return fail(watch, WATCH_TIMEOUT, err);
	if (watch->idle_process <= 0 || now < idle->since + IDLE_SECONDS * NS_PER_SECOND)
		return 0;
	needed = demand(watch->idle_process);
	if (needed >= 0 && needed - idle->demand < IDLE_CPU_NS) {
		watch->event = WATCH_TIMEOUT;
		return error_set(err, ETIMEDOUT, "the guest did not answer within %d s and is not doing anything",
				 IDLE_SECONDS);
	}
	*idle = (struct idleness){.since = now, .demand = needed};
	return 0;
}

int watch_wait(struct watch *watch, int fd, short events, struct error *err)
{
	struct pollfd polled[] = {
	    {.fd = fd, .events = events},
	    {.fd = watch->signals, .events = POLLIN},
	    {.fd = watch->vmm, .events = POLLIN},
	    {.fd = watch->fsd, .events = POLLIN},
	};
	static const enum watch_event meaning[] = {WATCH_NOTHING, WATCH_SIGNAL, WATCH_VMM_ENDED, WATCH_FSD_ENDED};
	struct idleness idle = {.since = now_ns()};

	if (watch->idle_process > 0)
		idle.demand = process_cpu_time(watch->idle_process); /* a lower bound, without reading /proc */
	for (;;) {
		int n = poll(polled, sizeof(polled) / sizeof(polled[0]), time_left(watch, &idle, now_ns()));

		if (n < 0 && errno != EINTR)
			return fail(watch, WATCH_FAILURE, err);
		if (n > 0 && polled[0].revents)
			return 0;
		for (size_t i = 1; n > 0 && i < sizeof(polled) / sizeof(polled[0]); i++)
			if (polled[i].revents)
				return fail(watch, meaning[i], err);
		if (check_time(watch, &idle, err) < 0)
			return -1;
	}
}
