#include "runtime/proxy.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "runtime/agent.h"
#include "runtime/report.h"
#include "runtime/signals.h"
#include "runtime/terminal.h"
#include "runtime/watch.h"

/* Seconds that the guest may take to pass a signal on; meanwhile further ones wait. */
#define SIGNAL_TIMEOUT 10

/* The reader of a process that was killed is not waited for longer than this. */
#define KILLED_DRAIN_SECONDS 5

#define STATUS_KILLED (128 + SIGKILL)

void proxy_signals(const struct proxy *proxy, sigset_t *set)
{
	signals_forwarded(set);
	if (proxy->terminal >= 0)
		sigaddset(set, SIGWINCH);
}

static void pass_signal(const struct proxy *proxy, int agent, struct watch *watch, int signal)
{
	struct error err;

	report_debug("passing signal %s on", signal_name(signal));
	if (agent_kill(agent, watch, proxy->id, proxy->exec, signal, false, &err) == 0)
		return;
	/* That the process is just ending is no news. */
	if (err.code != ESRCH && err.code != ENOENT && watch->event == WATCH_NOTHING)
		report_warning("signal %s: %s", signal_name(signal), err.message);
}

static void pass_size(const struct proxy *proxy, int agent, struct watch *watch)
{
	struct window window = terminal_window(proxy->terminal);
	struct error err;

	if (window.columns && window.rows &&
	    agent_resize(agent, watch, proxy->id, proxy->exec, window.columns, window.rows, &err) < 0)
		report_debug("window size: %s", err.message);
}

/* Over a connection of its own: that of the process waits for its end. */
static void handle_signal(const struct proxy *proxy, int signals)
{
	struct watch watch = WATCH_NONE;
	cleanup_close int agent = -1;
	struct signalfd_siginfo info;
	struct error err;

	if (read(signals, &info, sizeof(info)) != sizeof(info))
		return;
	watch_set_timeout(&watch, SIGNAL_TIMEOUT);
	agent = agent_connect(proxy->control, &watch, &err);
	if (agent < 0)
		report_debug("signal %s: %s", signal_name((int)info.ssi_signo), err.message);
	else if (info.ssi_signo == SIGWINCH)
		pass_size(proxy, agent, &watch);
	else
		pass_signal(proxy, agent, &watch, (int)info.ssi_signo);
}

/* Returns 0 when the answer is there, or the connection has ended. */
static int wait_for_answer(const struct proxy *proxy, int signals, struct error *err)
{
	struct pollfd polled[] = {
	    {.fd = proxy->agent, .events = POLLIN},
	    {.fd = signals, .events = POLLIN},
	};

	for (;;) {
		if (poll(polled, 2, -1) < 0 && errno != EINTR)
			return error_set_errno(err, "wait for the process");
		if (polled[0].revents)
			return 0;
		if (polled[1].revents)
			handle_signal(proxy, signals);
	}
}

/* A signal that comes now finds no process any more: it ends the wait for readers. */
static void drain(const struct proxy *proxy, int signals, int status)
{
	struct watch watch = WATCH_NONE;
	struct error err;

	watch.signals = signals;
	if (status > 128)
		watch_set_timeout(&watch, KILLED_DRAIN_SECONDS);
	for (size_t i = 0; i < proxy->n_outputs; i++)
		if (vmm_control_drain(proxy->control, proxy->outputs[i], &err) < 0 ||
		    vmm_control_drained(proxy->control, &watch, &err) < 0)
			return;
}

static int receive_status(const struct proxy *proxy, struct error *err)
{
	struct watch watch = WATCH_NONE;
	json_t *answer = NULL;
	json_int_t status;

	watch_set_timeout(&watch, SIGNAL_TIMEOUT);
	if (agent_receive(proxy->agent, &watch, &answer, err) < 0)
		return watch.event == WATCH_NOTHING ? -1 : STATUS_KILLED;
	status = json_integer_value(json_object_get(answer, "exitStatus"));
	json_decref(answer);
	if (status < 0 || status > 255)
		return error_set(err, EPROTO, "the agent in the guest sent an exit status that is none");
	return (int)status;
}

static int order_wait(const struct proxy *proxy, struct error *err)
{
	struct watch watch = WATCH_NONE;
	cleanup_free char *order = NULL;
	const char *exec = proxy->exec;

	if (asprintf(&order, "{\"order\":\"wait\",\"id\":\"%s\"%s%s%s}", proxy->id, exec ? ",\"exec\":\"" : "",
		     exec ? exec : "", exec ? "\"" : "") < 0)
		return error_set(err, ENOMEM, "make an order");
	watch_set_timeout(&watch, SIGNAL_TIMEOUT);
	return agent_send(proxy->agent, &watch, order, strlen(order), err);
}

int proxy_wait(const struct proxy *proxy, struct error *err)
{
	cleanup_close int signals = -1;
	sigset_t set;
	int status;

	proxy_signals(proxy, &set);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		return error_set_errno(err, "make a signal descriptor");
	/* That it cannot be sent shows in the answer. */
	if (order_wait(proxy, err) < 0)
		report_debug("%s", err->message);
	if (wait_for_answer(proxy, signals, err) < 0)
		return -1;
	status = receive_status(proxy, err);
	if (status >= 0)
		drain(proxy, signals, status);
	return status;
}

static void pass(struct arguments *arguments, struct descriptors *descriptors, const char *name, int fd)
{
	if (fd < 0)
		return;
	arguments_add(arguments, "--%s=%d", name, fd);
	descriptors_add(descriptors, fd);
}

int proxy_spawn(const struct proxy *proxy, int cgroup, struct child *child, struct error *err)
{
	cleanup_descriptors struct descriptors descriptors = {0};
	cleanup_arguments struct arguments arguments = {0};
	sigset_t blocked;
	struct spawn spawning = {
	    .program = "/proc/self/exe",
	    .arguments = &arguments,
	    .keep = &descriptors,
	    .lifeline = proxy->lifeline,
	    .blocked = &blocked,
	    .network = proxy->network,
	    .own_network = proxy->own_network,
	    .cgroup = cgroup,
	};

	proxy_signals(proxy, &blocked);
	arguments_add(&arguments, "hull-proxy");
	arguments_add(&arguments, "proxy");
	pass(&arguments, &descriptors, "control", proxy->control);
	pass(&arguments, &descriptors, "agent", proxy->agent);
	pass(&arguments, &descriptors, "terminal", proxy->terminal);
	for (size_t i = 0; i < proxy->n_outputs; i++)
		arguments_add(&arguments, "--output=%u", proxy->outputs[i]);
	arguments_add(&arguments, "%s", proxy->id);
	if (proxy->exec)
		arguments_add(&arguments, "%s", proxy->exec);
	return spawn(&spawning, child, err);
}
