/*
 * hull-agent: PID 1 of the guest. Carries out the orders of the host (common/agent_protocol.h) and reports how the
 * machine's container ended.
 *
 * One thread and one event loop. What may block for the length of a file operation (making a container) is done by a
 * forked child, which becomes the container's first process. The host trusts nothing that comes from here; the agent,
 * in turn, trusts the host's orders but nothing that a container can touch: its file tree, its processes, its streams.
 */
#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "guest-agent/boot.h"
#include "guest-agent/clock.h"
#include "guest-agent/connection.h"
#include "guest-agent/container.h"
#include "guest-agent/disks.h"
#include "guest-agent/kernel_log.h"
#include "guest-agent/loop.h"
#include "guest-agent/order.h"

/* It is the machine's: any container stands for it. */
static int kernel_log(struct order *order, struct answer *answer, struct error *err)
{
	json_t *log = kernel_log_read(order->known, err);

	if (!log)
		return -1;
	answer_ok(answer, log);
	return 0;
}

static int (*const carry_out[])(struct order *order, struct answer *answer, struct error *err) = {
    [ORDER_CREATE] = container_create,	 [ORDER_START] = container_start,   [ORDER_KILL] = container_kill,
    [ORDER_STATE] = container_state,	 [ORDER_DELETE] = container_delete, [ORDER_EXEC] = container_exec,
    [ORDER_WAIT] = container_wait,	 [ORDER_RESIZE] = container_resize, [ORDER_PAUSE] = container_pause,
    [ORDER_RESUME] = container_resume,	 [ORDER_PS] = container_ps,	    [ORDER_UPDATE] = container_update,
    [ORDER_STATS] = container_stats,	 [ORDER_EVENTS] = container_events, [ORDER_KERNEL_LOG] = kernel_log,
    [ORDER_SOCKETS] = container_sockets, [ORDER_NOTIFY] = container_notify, [ORDER_NETWORK] = container_network,
};

static void handle_order(json_t *json, struct answer *answer)
{
	struct order order = {0};
	struct error err = {0};

	if (disks_resolve(json, &err) < 0 || order_parse(json, &order, &err) < 0 ||
	    carry_out[order.kind](&order, answer, &err) < 0)
		answer_error(answer, &err);
	order_clear(&order);
}

static void child_signal(struct watch *watch, uint32_t events)
{
	struct signalfd_siginfo info;
	pid_t pid;
	int status;

	(void)events;
	/* Signals of one kind are not counted: one may stand for many children. */
	if (read(watch->fd, &info, sizeof(info)) < 0)
		return;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		container_reaped(pid, status);
}

/* Nothing interrupts the agent: SIGCHLD comes through the loop, and the others have no meaning for it (a broken stream
 * is an errno). */
static int take_signals(struct watch *watch, struct error *err)
{
	sigset_t all;
	int fd;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigemptyset(&all);
	sigaddset(&all, SIGCHLD);
	fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	watch->ready = child_signal;
	if (fd < 0 || loop_add(watch, fd, EPOLLIN) < 0)
		return error_set_errno(err, "signalfd");
	return 0;
}

/* Whole ones at a time: the VMM sends each in one packet. */
static void notice_ready(struct watch *watch, uint32_t events)
{
	struct agent_notice notice;
	ssize_t n = recv(watch->fd, &notice, sizeof(notice), MSG_DONTWAIT);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(notice))
		loop_remove(watch);
	else if (le32toh(notice.kind) == AGENT_NOTICE_WINDOW)
		container_window(le32toh(notice.port), le32toh(notice.value) & 0xffff, le32toh(notice.value) >> 16);
	else if (le32toh(notice.kind) == AGENT_NOTICE_TIME)
		clock_told((int64_t)((uint64_t)le32toh(notice.value) << 32 | le32toh(notice.port)));
	else if (le32toh(notice.kind) == AGENT_NOTICE_CLOCK_SET)
		clock_host_was_set();
}

/* jansson would look for randomness in /dev/urandom, which is not there. */
static void seed_hashes(void)
{
	size_t seed;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed) || seed == 0)
		seed = 1;
	json_object_seed(seed);
}

static int run(struct error *err)
{
	static struct watch signals = WATCH_NONE;
	static struct watch notices = {.fd = -1, .ready = notice_ready};
	int listener = boot_announce(err);

	if (listener < 0 || boot_finish(err) < 0 || loop_init(err) < 0 || take_signals(&signals, err) < 0)
		return -1;
	seed_hashes();
	if (connection_listen(listener, handle_order, err) < 0)
		return -1;
	if (loop_add(&notices, boot_notices(), EPOLLIN) < 0)
		return error_set_errno(err, "watch the report connection");
	return loop_run(err);
}

int main(void)
{
	struct error err = {0};

	if (getpid() != 1) {
		fputs("hull-agent: this is the first process of a hull guest; it does nothing elsewhere\n", stderr);
		return 1;
	}
	run(&err);
	boot_fail(&err);
}
