#include "guest-agent/oom.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "guest-agent/boot.h"
#include "guest-agent/figures.h"

static void answer_all(struct oom_watch *oom, bool ended)
{
	for (size_t i = 0; i < OOM_WAITERS; i++)
		if (oom->answers[i].connection)
			answer_ok(&oom->answers[i],
				  json_pack("{s:I, s:b}", "oomKills", (json_int_t)oom->seen, "ended", ended));
}

/* A report connection that is broken is the machine's end, which others see to. */
static void report_kill(struct oom_watch *oom)
{
	struct error err;

	if (oom->reports && oom->seen > 0)
		boot_report(AGENT_REPORT_OOM, 0, &err);
	oom->reports = oom->reports && oom->seen == 0;
}

static void events_changed(struct watch *watch, uint32_t events)
{
	struct oom_watch *oom = (struct oom_watch *)((char *)watch - offsetof(struct oom_watch, watch));
	uint64_t kills = figures_oom_kills(oom->cgroup);
	char text[256];

	(void)events;
	/* Reading the file is what arms its next notification. */
	if (pread(watch->fd, text, sizeof(text), 0) < 0)
		return;
	if (kills <= oom->seen)
		return;
	oom->seen = kills;
	report_kill(oom);
	answer_all(oom, false);
}

static int begin(struct oom_watch *oom, int cgroup, struct error *err)
{
	char text[256];
	int fd;

	if (oom->watch.fd >= 0)
		return 0;
	fd = openat(cgroup, "memory.events", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, "open memory.events");
	*oom = (struct oom_watch){.watch = {.ready = events_changed}, .cgroup = cgroup};
	if (pread(fd, text, sizeof(text), 0) < 0 || loop_add(&oom->watch, fd, EPOLLPRI) < 0) {
		error_set_errno(err, "watch memory.events");
		close(fd);
		oom->watch.fd = -1;
		return -1;
	}
	return 0;
}

int oom_report(struct oom_watch *oom, int cgroup, struct error *err)
{
	if (begin(oom, cgroup, err) < 0)
		return -1;
	oom->reports = true;
	return 0;
}

int oom_wait(struct oom_watch *oom, int cgroup, uint64_t known, struct answer *answer, struct error *err)
{
	if (begin(oom, cgroup, err) < 0)
		return -1;
	oom->seen = figures_oom_kills(cgroup);
	if (oom->seen > known) {
		answer_ok(answer, json_pack("{s:I, s:b}", "oomKills", (json_int_t)oom->seen, "ended", 0));
		return 0;
	}
	for (size_t i = 0; i < OOM_WAITERS; i++) {
		if (oom->answers[i].connection)
			continue;
		answer_move(&oom->answers[i], answer);
		return 0;
	}
	return error_set(err, EBUSY, "too many wait for events of this container");
}

void oom_container_ended(struct oom_watch *oom)
{
	if (oom->watch.fd < 0)
		return;
	oom->seen = figures_oom_kills(oom->cgroup);
	report_kill(oom);
	answer_all(oom, true);
}

void oom_release(struct oom_watch *oom)
{
	int fd = oom->watch.fd;

	if (fd < 0)
		return;
	answer_all(oom, true);
	loop_remove(&oom->watch);
	close(fd);
	oom->watch.fd = -1;
}
