#include "guest-agent/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
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
	for (size_t i = 0; i < stdio->n_preserved; i++) {
		relay_stop(&stdio->preserved[i].in);
		relay_stop(&stdio->preserved[i].out);
	}
	free(stdio->preserved);
	stdio->preserved = NULL;
	stdio->n_preserved = 0;
	close_terminal(stdio);
}

bool stdio_is_draining(const struct stdio *stdio)
{
	for (size_t i = 0; i < stdio->n_preserved; i++)
		if (stdio->preserved[i].in.active || stdio->preserved[i].out.active)
			return true;
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
	uint64_t bytes = stdio->relays[STDIO_OUT].moved + stdio->relays[STDIO_ERR].moved;

	for (size_t i = 0; i < stdio->n_preserved; i++)
		bytes += stdio->preserved[i].out.moved;
	return bytes;
}

static void give_up(struct stdio *stdio)
{
	relay_stop(&stdio->relays[STDIO_OUT]);
	relay_stop(&stdio->relays[STDIO_ERR]);
	for (size_t i = 0; i < stdio->n_preserved; i++)
		relay_stop(&stdio->preserved[i].out);
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
	for (size_t i = 0; i < stdio->n_preserved; i++) {
		relay_stop(&stdio->preserved[i].in);
		relay_finish(&stdio->preserved[i].out);
	}
	stdio->quiet = false;
	if (!stdio_is_draining(stdio))
		close_terminal(stdio);
	if (killed)
		stdio_lose_patience(stdio);
}

/* --- pipes ------------------------------------------------------------------------------------------------------- */

static int start_relay(struct stdio *stdio, struct relay *relay, int source, int destination, bool input,
		       struct error *err)
{
	relay->owner = stdio;
	relay->connected = stream_connected;
	relay->ended = stream_ended;
	if (relay_start(relay, source, destination, input, err) < 0)
		return -1;
	stdio->connecting++;
	return 0;
}

/* Returns the process's end. */
static int open_pipe(struct stdio *stdio, struct relay *relay, bool input, uint32_t port, uid_t user, struct error *err)
{
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
	status = input ? start_relay(stdio, relay, socket, take_fd(&ours), true, err)
		       : start_relay(stdio, relay, take_fd(&ours), socket, false, err);
	return status < 0 ? -1 : take_fd(&theirs);
}

/* The same for both directions; each owns both its descriptors. */
static int open_socket(struct stdio *stdio, struct stdio_both *both, uint32_t port, struct error *err)
{
	int ends[2];
	cleanup_close int theirs = -1, ours = -1, ours_again = -1, stream = -1, stream_again = -1;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set_errno(err, "socketpair");
	theirs = ends[0];
	ours = ends[1];
	stream = vsock_connect_later(port, err);
	if (stream < 0)
		return -1;
	ours_again = fcntl(ours, F_DUPFD_CLOEXEC, 3);
	stream_again = fcntl(stream, F_DUPFD_CLOEXEC, 3);
	if (ours_again < 0 || stream_again < 0 || set_nonblocking(ours, true) < 0)
		return error_set_errno(err, "set up a socket");
	both->in.two_way = both->out.two_way = true;
	if (start_relay(stdio, &both->out, take_fd(&ours), take_fd(&stream), false, err) < 0 ||
	    start_relay(stdio, &both->in, take_fd(&stream_again), take_fd(&ours_again), true, err) < 0)
		return -1;
	return take_fd(&theirs);
}

static int open_null(struct error *err)
{
	int fd = open(PLACE_NULL, O_RDWR | O_CLOEXEC);

	return fd < 0 ? error_set_errno(err, "open " PLACE_NULL) : fd;
}

static int open_preserved(struct stdio *stdio, struct stdio_both *both, const struct plan_preserved *wanted, uid_t user,
			  struct error *err)
{
	if (wanted->port == 0)
		return open_null(err);
	if (wanted->in && wanted->out)
		return open_socket(stdio, both, wanted->port, err);
	return open_pipe(stdio, wanted->in ? &both->in : &both->out, wanted->in, wanted->port, user, err);
}

static int open_all_preserved(struct stdio *stdio, const struct plan *plan, uid_t user, struct stdio_fds *fds,
			      struct error *err)
{
	if (plan->n_preserved == 0)
		return 0;
	stdio->preserved = calloc(plan->n_preserved, sizeof(*stdio->preserved));
	if (!stdio->preserved)
		return error_set(err, ENOMEM, "out of memory");
	stdio->n_preserved = plan->n_preserved;
	for (size_t i = 0; i < plan->n_preserved; i++) {
		int fd = open_preserved(stdio, &stdio->preserved[i], &plan->preserved[i], user, err);

		if (fd < 0)
			return -1;
		fds->list[fds->n++] = fd;
	}
	return 0;
}

static int open_one(struct stdio *stdio, int which, const uint32_t ports[STDIO_COUNT], uid_t user,
		    const struct stdio_fds *fds, struct error *err)
{
	int fd;

	if (ports[which] == 0)
		return open_null(err);
	if (which != STDIO_ERR || ports[which] != ports[STDIO_OUT])
		return open_pipe(stdio, &stdio->relays[which], which == STDIO_IN, ports[which], user, err);
	fd = fcntl(fds->list[STDIO_OUT], F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? error_set_errno(err, "dup") : fd;
}

int stdio_open(struct stdio *stdio, const struct plan *plan, uid_t user, struct stdio_fds *fds, struct error *err)
{
	static const uint32_t no_streams[STDIO_COUNT];
	const uint32_t *ports = plan->process.terminal ? no_streams : plan->stdio;

	fds->n = 0;
	for (int i = 0; i < STDIO_COUNT; i++) {
		int fd = open_one(stdio, i, ports, user, fds, err);

		if (fd < 0)
			return -1;
		fds->list[fds->n++] = fd;
	}
	return open_all_preserved(stdio, plan, user, fds, err);
}

void stdio_close_fds(struct stdio_fds *fds)
{
	while (fds->n > 0)
		close(fds->list[--fds->n]);
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
	return which == STDIO_IN ? start_relay(stdio, relay, socket, copy, true, err)
				 : start_relay(stdio, relay, copy, socket, false, err);
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
