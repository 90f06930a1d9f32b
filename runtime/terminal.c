#include "runtime/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "runtime/handover.h"

int terminal_find(struct error *err)
{
	int fd;

	for (int i = STDERR_FILENO; i >= STDIN_FILENO; i--) {
		if (!isatty(i))
			continue;
		fd = fcntl(i, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
		return fd < 0 ? error_set_errno(err, "duplicate descriptor %d", i) : fd;
	}
	/* All are redirected, but there may be a controlling terminal. */
	fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? error_set_errno(err, "open /dev/tty") : fd;
}

int raw_terminal_begin(struct raw_terminal *terminal, int fd, struct error *err)
{
	struct termios raw;

	*terminal = (struct raw_terminal){.fd = fd};
	if (tcgetattr(fd, &terminal->before) < 0)
		return error_set_errno(err, "read the terminal's mode");
	raw = terminal->before;
	cfmakeraw(&raw);
	/* Output that is on its way is shown first, in the mode that it was meant for. */
	if (tcsetattr(fd, TCSADRAIN, &raw) < 0)
		return error_set_errno(err, "set the terminal's mode");
	terminal->raw = true;
	return 0;
}

void raw_terminal_end(struct raw_terminal *terminal)
{
	if (terminal->raw)
		tcsetattr(terminal->fd, TCSADRAIN, &terminal->before);
	terminal->raw = false;
}

struct window terminal_window(int fd)
{
	struct winsize size;

	if (ioctl(fd, TIOCGWINSZ, &size) < 0)
		return (struct window){0};
	return (struct window){.columns = size.ws_col, .rows = size.ws_row};
}

int terminal_take_stdio(int terminal, struct stdio *stdio, struct error *err)
{
	if (stdio_take(stdio, err) < 0)
		return -1;
	cleanup_close_fd(&stdio->fds[STDIO_ERR]);
	stdio->fds[STDIO_ERR] = -1;
	stdio->merged = false;
	stdio->window = terminal_window(terminal);
	return 0;
}

/* --- pseudo-terminals -------------------------------------------------------------------------------------------- */

/* Bytes pass unchanged in both directions; with O_NONBLOCK, because nobody else has this open file. */
static int open_slave(int master, struct error *err)
{
	cleanup_close int slave = -1;
	struct termios mode;
	int unlocked = 0;

	if (ioctl(master, TIOCSPTLCK, &unlocked) < 0)
		return error_set_errno(err, "unlock a terminal");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (slave < 0)
		return error_set_errno(err, "open a terminal");
	if (tcgetattr(slave, &mode) < 0)
		return error_set_errno(err, "read a terminal's mode");
	cfmakeraw(&mode);
	if (tcsetattr(slave, TCSANOW, &mode) < 0)
		return error_set_errno(err, "set a terminal's mode");
	return take_fd(&slave);
}

int terminal_hand_over(const char *path, struct stdio *stdio, struct error *err)
{
	static const char name[] = "/dev/ptmx";
	cleanup_close int socket = handover_connect(path, "console socket", err);
	cleanup_close int master = -1;
	int slave;

	*stdio = STDIO_NONE;
	if (socket < 0)
		return -1;
	master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0)
		return error_set_errno(err, "open /dev/ptmx");
	slave = open_slave(master, err);
	if (slave < 0)
		return -1;
	stdio->fds[STDIO_IN] = slave;
	stdio->both_ways = true;
	if (handover_send(socket, name, master, err) < 0) {
		error_prefix(err, "console socket `%s`", path);
		stdio_release(stdio);
		return -1;
	}
	return 0;
}
