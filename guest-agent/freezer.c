#include "guest-agent/freezer.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"

/* Reading also arms the next notice. */
static bool is_frozen(int events)
{
	char text[256];
	ssize_t n = pread(events, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "frozen 1") != NULL;
}

static void stop_watching(struct freezer *freezer)
{
	int fd = freezer->watch.fd;

	loop_remove(&freezer->watch);
	if (fd >= 0)
		close(fd);
}

static void changed(struct watch *watch, uint32_t events)
{
	struct freezer *freezer = (struct freezer *)((char *)watch - offsetof(struct freezer, watch));

	(void)events;
	if (is_frozen(watch->fd) != freezer->frozen)
		return;
	stop_watching(freezer);
	answer_ok(&freezer->answer, NULL);
}

static int write_freeze(int cgroup, bool frozen, struct error *err)
{
	cleanup_close int fd = openat(cgroup, "cgroup.freeze", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, frozen ? "1" : "0", 1) != 1)
		return error_set_errno(err, "write cgroup.freeze");
	return 0;
}

int freezer_set(struct freezer *freezer, int cgroup, bool frozen, struct answer *answer, struct error *err)
{
	cleanup_close int events = -1;

	if (freezer->answer.connection)
		return error_set(err, EBUSY, "the container is just being paused or resumed");
	if (freezer->frozen == frozen)
		return error_set(err, EINVAL, frozen ? "container not running" : "container not paused");
	/* An order that nobody waited for to its end may have left one. */
	stop_watching(freezer);
	events = openat(cgroup, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (events < 0)
		return error_set_errno(err, "open cgroup.events");
	if (write_freeze(cgroup, frozen, err) < 0)
		return -1;
	freezer->frozen = frozen;
	if (is_frozen(events) == frozen) {
		answer_ok(answer, NULL);
		return 0;
	}
	freezer->watch.ready = changed;
	if (loop_add(&freezer->watch, events, EPOLLPRI) < 0)
		return error_set_errno(err, "watch cgroup.events");
	take_fd(&events);
	answer_move(&freezer->answer, answer);
	return 0;
}

void freezer_release(struct freezer *freezer)
{
	struct error err;

	stop_watching(freezer);
	error_set(&err, ESRCH, "container not running");
	if (freezer->answer.connection)
		answer_error(&freezer->answer, &err);
}
