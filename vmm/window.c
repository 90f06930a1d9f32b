/*
 * System calls at run time: read (signalfd), ioctl(TIOCGWINSZ).
 */
#include "vmm/window.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "vmm/virtio/vsock.h"

static void tell(struct window *window)
{
	struct winsize size;
	uint32_t value;

	if (ioctl(window->terminal, TIOCGWINSZ, &size) < 0)
		return;
	value = (uint32_t)size.ws_row << 16 | size.ws_col;
	if (size.ws_row == 0 || size.ws_col == 0 || value == window->told)
		return;
	window->told = value;
	vsock_notify_agent(window->vsock, AGENT_NOTICE_WINDOW, window->port, value);
}

static void window_event(struct loop_source *source, uint32_t events)
{
	struct signalfd_siginfo info;

	(void)events;
	if (read(source->fd, &info, sizeof(info)) > 0)
		tell(source->owner);
}

int window_watch(struct window *window, int terminal, uint32_t port, struct virtio_device *vsock, struct loop *loop,
		 struct error *err)
{
	static const int of_terminal[] = {SIGHUP, SIGINT, SIGQUIT, SIGTSTP};
	sigset_t changed;
	int fd;

	/* That the terminal hangs up shows in the stream; keys are the guest's. */
	for (size_t i = 0; i < sizeof(of_terminal) / sizeof(of_terminal[0]); i++)
		signal(of_terminal[i], SIG_IGN);
	sigemptyset(&changed);
	sigaddset(&changed, SIGWINCH);
	sigprocmask(SIG_BLOCK, &changed, NULL);
	fd = signalfd(-1, &changed, SFD_CLOEXEC | SFD_NONBLOCK);
	window->terminal = fcntl(terminal, F_DUPFD_CLOEXEC, 0);
	if (fd < 0 || window->terminal < 0)
		return error_set_errno(err, "watch the terminal's window");
	window->port = port;
	window->vsock = vsock;
	window->source = (struct loop_source){.fd = fd, .events = EPOLLIN, .handle = window_event, .owner = window};
	if (loop_add(loop, &window->source, err) < 0)
		return -1;
	/* The engine may have set it already. */
	tell(window);
	return 0;
}
