#include "guest-agent/child.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"

void child_init(struct child *child, const struct child_events *events)
{
	child->events = events;
	child->pidfd = child->channel = -1;
	child->watch = (struct watch)WATCH_NONE;
}

static void close_channel(struct child *child)
{
	loop_remove(&child->watch);
	if (child->channel >= 0)
		close(child->channel);
	child->channel = -1;
}

void child_release(struct child *child)
{
	close_channel(child);
	stdio_close(&child->stdio);
	if (child->pidfd >= 0)
		close(child->pidfd);
	child->pidfd = -1;
}

int child_open_channel(struct child *child, struct error *err)
{
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return error_set_errno(err, "socketpair");
	child->channel = sockets[0];
	return sockets[1];
}

/* False when there is nothing to read. */
static bool read_channel(struct child *child)
{
	struct init_report report = {0};
	size_t n_fds = 1;
	int fd = -1;
	ssize_t n = receive_with_fds(child->channel, &report, sizeof(report), &fd, &n_fds, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n_fds == 1)
		child->events->terminal(child, fd);
	if (n != sizeof(report)) {
		close_channel(child);
		child->events->closed(child);
		return true;
	}
	report.message[sizeof(report.message) - 1] = '\0';
	child->events->reported(child, &report);
	return true;
}

static void channel_ready(struct watch *watch, uint32_t events)
{
	(void)events;
	read_channel((struct child *)((char *)watch - offsetof(struct child, watch)));
}

int child_watch(struct child *child, struct error *err)
{
	child->watch.ready = channel_ready;
	if (loop_add(&child->watch, child->channel, EPOLLIN) < 0)
		return error_set_errno(err, "watch the process");
	return 0;
}

void child_drain(struct child *child)
{
	while (child->channel >= 0 && read_channel(child))
		;
}

void child_take_terminal(struct child *child, const struct plan *plan, const struct plan_window *window, int master)
{
	struct error err;

	if (child->stdio.terminal >= 0 || !plan->process.terminal) {
		close(master);
		return;
	}
	if (stdio_open_terminal(&child->stdio, master, plan->stdio, &err) < 0 ||
	    (window->columns && stdio_resize(&child->stdio, window->columns, window->rows, &err) < 0))
		child_fail(child, &err);
}

void child_fail(struct child *child, const struct error *reason)
{
	if (child->failed)
		return;
	child->failed = true;
	child->failure = *reason;
	child_signal(child, SIGKILL);
}

void child_reported_error(const struct init_report *report, struct error *err)
{
	*err = (struct error){.code = report->code};
	memcpy(err->message, report->message, sizeof(err->message));
	err->message[sizeof(err->message) - 1] = '\0';
}

int child_signal(const struct child *child, int signal)
{
	return pidfd_send_signal(child->pidfd, signal, NULL, 0);
}

int child_exit_status(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
