#include "guest-agent/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "guest-agent/places.h"
#include "guest-agent/vsock.h"

#define PATIENCE_SECONDS 2

void stdio_init(struct stdio *stdio, void *owner, void (*connected)(struct stdio *stdio, int code),
		void (*ended)(struct stdio *stdio))
{
	*stdio = (struct stdio){
	    .terminal = -1,
	    .slave = -1,
	    .patience = WATCH_NONE,
	    .connected = connected,
	    .ended = ended,
	    .owner = owner,
	};
}

static void close_terminal(struct stdio *stdio)
{
	if (stdio->terminal >= 0)
		close(stdio->terminal);
	if (stdio->slave >= 0)
		close(stdio->slave);
	stdio->terminal = stdio->slave = -1;
}

static void end_patience(struct stdio *stdio)
{
	int fd = stdio->patience.fd;

	loop_remove(&stdio->patience);
	if (fd >= 0)
		close(fd);
}

void stdio_close(struct stdio *stdio)
{
	end_patience(stdio);
	for (int i = 0; i < STDIO_COUNT; i++)
		relay_stop(&stdio->relays[i]);
	close_terminal(stdio);
}

bool stdio_is_draining(const struct stdio *stdio)
{
	return stdio->relays[STDIO_IN].active || stdio->relays[STDIO_OUT].active || stdio->relays[STDIO_ERR].active;
}

/* The last of the masters to be closed hangs the terminal up. */
static void hang_up(struct stdio *stdio)
{
	relay_stop(&stdio->relays[STDIO_IN]);
	relay_stop(&stdio->relays[STDIO_OUT]);
	close_terminal(stdio);
}

static void stream_ended(struct relay *relay)
{
	struct stdio *stdio = relay->owner;

	if (stdio->terminal >= 0 && (stdio->both_ways || relay == &stdio->relays[STDIO_OUT]))
		hang_up(stdio);
	if (!stdio_is_draining(stdio))
		end_patience(stdio);
	if (!stdio->quiet)
		stdio->ended(stdio);
}

static void stream_connected(struct relay *relay, int code)
{
	struct stdio *stdio = relay->owner;

	stdio->connecting--;
	if (code != 0)
		relay_stop(relay);
	stdio->connected(stdio, code);
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

static uint64_t moved(const struct stdio *stdio)
{
	return stdio->relays[STDIO_OUT].moved + stdio->relays[STDIO_ERR].moved;
}

static void give_up(struct stdio *stdio)
{
	relay_stop(&stdio->relays[STDIO_OUT]);
	relay_stop(&stdio->relays[STDIO_ERR]);
	end_patience(stdio);
}

/* When nothing has gone on since the last tick, what is left of the output has no reader any more. */
static void patience_ended(struct watch *watch, uint32_t events)
{
	struct stdio *stdio = (struct stdio *)((char *)watch - offsetof(struct stdio, patience));
	uint64_t ticks, now = moved(stdio);

	(void)events;
	if (read(watch->fd, &ticks, sizeof(ticks)) != sizeof(ticks))
		return;
	if (now != stdio->moved) {
		stdio->moved = now;
		return;
	}
	give_up(stdio);
	stdio->ended(stdio);
}

void stdio_lose_patience(struct stdio *stdio)
{
	const struct itimerspec each = {.it_interval.tv_sec = PATIENCE_SECONDS, .it_value.tv_sec = PATIENCE_SECONDS};
	int fd;

	if (stdio->patience.fd >= 0 || !stdio_is_draining(stdio))
		return;
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	stdio->moved = moved(stdio);
	stdio->patience.ready = patience_ended;
	if (fd < 0 || timerfd_settime(fd, 0, &each, NULL) < 0 || loop_add(&stdio->patience, fd, EPOLLIN) < 0) {
		if (fd >= 0)
			close(fd);
		give_up(stdio);
	}
}

void stdio_finish(struct stdio *stdio, bool killed)
{
	stdio->quiet = true;
	relay_stop(&stdio->relays[STDIO_IN]);
	relay_finish(&stdio->relays[STDIO_OUT]);
	relay_finish(&stdio->relays[STDIO_ERR]);
	stdio->quiet = false;
	if (!stdio_is_draining(stdio))
		close_terminal(stdio);
	if (killed)
		stdio_lose_patience(stdio);
}

/* --- pipes ------------------------------------------------------------------------------------------------------- */

/* Returns the process's end. */
static int open_pipe(struct stdio *stdio, int which, uint32_t port, uid_t user, struct error *err)
{
	struct relay *relay = &stdio->relays[which];
	bool input = which == STDIO_IN;
	int pipe_fds[2], socket, status;
	cleanup_close int theirs = -1;
	cleanup_close int ours = -1;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return error_set_errno(err, "pipe");
	theirs = pipe_fds[input ? 0 : 1];
	ours = pipe_fds[input ? 1 : 0];
	if (fchown(theirs, user, (gid_t)-1) < 0 || set_nonblocking(ours, true) < 0)
		return error_set_errno(err, "pipe");
	socket = vsock_connect_later(port, err);
	if (socket < 0)
		return -1;
	relay->owner = stdio;
	relay->connected = stream_connected;
	relay->ended = stream_ended;
	status = input ? relay_start(relay, socket, take_fd(&ours), true, err)
		       : relay_start(relay, take_fd(&ours), socket, false, err);
	if (status < 0)
		return -1;
	stdio->connecting++;
	return take_fd(&theirs);
}

int stdio_open(struct stdio *stdio, const uint32_t ports[STDIO_COUNT], uid_t user, int fds[STDIO_COUNT],
	       struct error *err)
{
	fds[STDIO_IN] = fds[STDIO_OUT] = fds[STDIO_ERR] = -1;
	for (int i = 0; i < STDIO_COUNT; i++) {
		if (ports[i] == 0)
			fds[i] = open(PLACE_NULL, O_RDWR | O_CLOEXEC);
		else if (i == STDIO_ERR && ports[i] == ports[STDIO_OUT])
			fds[i] = fcntl(fds[STDIO_OUT], F_DUPFD_CLOEXEC, 3);
		else
			fds[i] = open_pipe(stdio, i, ports[i], user, err);
		if (fds[i] < 0)
			return ports[i] == 0 ? error_set_errno(err, "open " PLACE_NULL) : -1;
	}
	return 0;
}

/* --- terminals --------------------------------------------------------------------------------------------------- */

/* It came from a process that may have been the container's puppet: nothing but a pseudo-terminal is harmless. */
static int check_master(int master, struct error *err)
{
	struct stat status;
	int unlocked = 0;

	if (fstat(master, &status) < 0 || !S_ISCHR(status.st_mode) || status.st_rdev != makedev(5, 2))
		return error_set(err, EBADF, "what came as the terminal is none");
	if (ioctl(master, TIOCSPTLCK, &unlocked) < 0 || set_nonblocking(master, true) < 0)
		return error_set_errno(err, "set up the terminal");
	return 0;
}

/* Each relay owns what it has: copies of the master, and of the socket where that serves both. */
static int start_terminal_relay(struct stdio *stdio, int which, int socket, int master, struct error *err)
{
	struct relay *relay = &stdio->relays[which];
	int copy = fcntl(master, F_DUPFD_CLOEXEC, 3);

	if (copy < 0) {
		error_set_errno(err, "dup");
		close(socket);
		return -1;
	}
	relay->owner = stdio;
	relay->connected = stream_connected;
	relay->ended = stream_ended;
	if (which == STDIO_IN ? relay_start(relay, socket, copy, true, err) < 0
			      : relay_start(relay, copy, socket, false, err) < 0)
		return -1;
	stdio->connecting++;
	return 0;
}

static int connect_terminal(struct stdio *stdio, int master, const uint32_t ports[STDIO_COUNT], struct error *err)
{
	cleanup_close int both = -1;

	for (int i = STDIO_IN; i <= STDIO_OUT; i++) {
		int socket;

		if (ports[i] == 0)
			continue;
		if (both >= 0)
			socket = fcntl(both, F_DUPFD_CLOEXEC, 3);
		else
			socket = vsock_connect_later(ports[i], err);
		if (socket < 0)
			return both >= 0 ? error_set_errno(err, "dup") : -1;
		if (i == STDIO_IN && ports[STDIO_OUT] == ports[i]) {
			both = fcntl(socket, F_DUPFD_CLOEXEC, 3);
			stdio->both_ways = true;
		}
		if (start_terminal_relay(stdio, i, socket, master, err) < 0)
			return -1;
	}
	return 0;
}

int stdio_open_terminal(struct stdio *stdio, int master, const uint32_t ports[STDIO_COUNT], struct error *err)
{
	cleanup_close int ours = master;

	if (check_master(ours, err) < 0)
		return -1;
	stdio->slave = ioctl(ours, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (stdio->slave < 0)
		return error_set_errno(err, "open the terminal");
	if (connect_terminal(stdio, ours, ports, err) < 0)
		return -1;
	stdio->terminal = take_fd(&ours);
	return 0;
}

int stdio_resize(struct stdio *stdio, unsigned columns, unsigned rows, struct error *err)
{
	struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};

	if (stdio->terminal < 0)
		return error_set(err, ENOTTY, "the process has no terminal");
	if (ioctl(stdio->terminal, TIOCSWINSZ, &size) < 0)
		return error_set_errno(err, "set the window size");
	return 0;
}
