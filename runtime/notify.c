#include "runtime/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "runtime/agent.h"
#include "runtime/report.h"

#define BARRIER_MS 5000

static const char *host_socket(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	return path && *path ? path : NULL;
}

bool notify_wanted(void)
{
	return host_socket() != NULL;
}

int notify_ask(int agent, const char *id, struct watch *watch, struct error *err)
{
	cleanup_free char *order = NULL;

	if (asprintf(&order, "{\"order\":\"notify\",\"id\":\"%s\"}", id) < 0)
		return error_set(err, ENOMEM, "out of memory");
	return agent_send(agent, watch, order, strlen(order), err);
}

/* --- the host's socket ------------------------------------------------------------------------------------------- */

/* "@name" is an abstract one. */
static int connect_to_host(struct error *err)
{
	const char *path = host_socket();
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(path);
	cleanup_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if ((*path != '/' && *path != '@') || length >= sizeof(address.sun_path))
		return error_set(err, EINVAL, "NOTIFY_SOCKET: `%s` is no address of a socket", path);
	memcpy(address.sun_path, path, length + 1);
	if (*path == '@')
		address.sun_path[0] = '\0';
	if (fd < 0 ||
	    connect(fd, (struct sockaddr *)&address,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (*path == '@' ? 0 : 1))) < 0)
		return error_set_errno(err, "NOTIFY_SOCKET: connect to `%s`", path);
	return take_fd(&fd);
}

/* sd_notify_barrier(3): systemd looks up what a sender belongs to when it reads, so the sender should still be there.
 * It closes the descriptor when it has come so far; others do at the latest when they read. */
static void wait_until_read(int fd)
{
	cleanup_close int ours = -1, theirs = -1;
	char text[] = "BARRIER=1";
	struct iovec part = {.iov_base = text, .iov_len = sizeof(text) - 1};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct msghdr message = {
	    .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	struct pollfd polled;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	ours = ends[0];
	theirs = ends[1];
	*header =
	    (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(header), &theirs, sizeof(int));
	if (sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return;
	cleanup_close_fd(&theirs);
	theirs = -1;
	polled = (struct pollfd){.fd = ours};
	poll(&polled, 1, BARRIER_MS);
}

static int tell_host(pid_t main_pid, struct error *err)
{
	cleanup_close int fd = connect_to_host(err);
	char text[64];

	if (fd < 0)
		return -1;
	if (send(fd, "READY=1\n", 8, MSG_NOSIGNAL) < 0)
		return error_set_errno(err, "NOTIFY_SOCKET: send");
	snprintf(text, sizeof(text), "MAINPID=%d\n", (int)main_pid);
	if (main_pid > 0 && send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		return error_set_errno(err, "NOTIFY_SOCKET: send");
	wait_until_read(fd);
	return 0;
}

int notify_pass_on(int agent, pid_t main_pid, struct watch *watch, struct error *err)
{
	if (agent_receive(agent, watch, NULL, err) == 0)
		return tell_host(main_pid, err);
	report_debug("no notification: %s", err->message);
	return 0;
}
