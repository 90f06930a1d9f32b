/*
 * hull run: create and start; in the foreground, hull stays, passes signals on, and ends with the container's exit
 * status after it has deleted the container.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "runtime/agent.h"
#include "runtime/command.h"
#include "runtime/failure.h"
#include "runtime/launch_flags.h"
#include "runtime/notify.h"
#include "runtime/report.h"
#include "runtime/signals.h"
#include "runtime/streams.h"

/* Seconds that the guest may take to pass a signal on; meanwhile further signals wait. */
#define SIGNAL_TIMEOUT 10
#define DELETE_TIMEOUT_MS 10000

struct run_options {
	struct launch_flags launch;
	bool detach, keep;
};

static const struct run_options defaults = {.launch = LAUNCH_FLAGS_DEFAULT};

static const struct flag flags[] = {
    LAUNCH_FLAGS(struct run_options, launch),
    {"detach", 'd', FLAG_SWITCH, offsetof(struct run_options, detach), NULL, "do not wait for the container to end"},
    {"keep", 0, FLAG_SWITCH, offsetof(struct run_options, keep), NULL,
     "do not delete the container after it has ended"},
    {0},
};

static void pass_size(struct launch *launch)
{
	struct window window = terminal_window(launch->terminal);
	struct error err;

	watch_set_timeout(&launch->watch, SIGNAL_TIMEOUT);
	if (window.columns && window.rows &&
	    agent_resize(launch->agent, &launch->watch, launch->container.id, NULL, window.columns, window.rows, &err) <
		0)
		report_debug("window size: %s", err.message);
}

static void forward(struct launch *launch, int signals)
{
	struct signalfd_siginfo info;
	struct error err;

	if (read(signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH) {
		pass_size(launch);
		return;
	}
	report_debug("passing signal %s on", signal_name((int)info.ssi_signo));
	watch_set_timeout(&launch->watch, SIGNAL_TIMEOUT);
	if (agent_kill(launch->agent, &launch->watch, launch->container.id, NULL, (int)info.ssi_signo, false, &err) ==
	    0)
		return;
	/* That the container is just ending is no news. */
	if (launch->watch.event != WATCH_VMM_ENDED && err.code != ESRCH)
		report_warning("signal %s: %s", signal_name((int)info.ssi_signo), err.message);
}

/* A connection to the agent on which the word comes that the container is ready, or -1. */
static int ask_for_readiness(struct launch *launch)
{
	cleanup_close int agent = -1;
	struct error err;

	if (!notify_wanted())
		return -1;
	launch->watch.deadline = 0;
	/* The connection of one that has joined a sandbox is its proxy's. */
	if (launch->control < 0)
		launch->control = vmm_control_connect(launch->container.folder, CONTAINER_CONTROL_SOCKET, &err);
	if (launch->control >= 0)
		agent = agent_connect(launch->control, &launch->watch, &err);
	if (agent >= 0 && notify_ask(agent, launch->container.id, &launch->watch, &err) == 0)
		return take_fd(&agent);
	report_debug("no notification: %s", err.message);
	return -1;
}

static void pass_readiness_on(struct launch *launch, int agent, pid_t main_pid)
{
	struct error err;

	launch->watch.deadline = 0;
	if (notify_pass_on(agent, main_pid, &launch->watch, &err) < 0)
		report_warning("%s", err.message);
}

/* Passes signals on until hull-vmm has ended; returns its exit status, 128 + the signal that killed it. */
static int wait_for_end(struct launch *launch, int signals)
{
	cleanup_close int readiness = ask_for_readiness(launch);
	struct pollfd polled[] = {
	    {.fd = launch->machine.vmm.pidfd, .events = POLLIN},
	    {.fd = signals, .events = POLLIN},
	    {.fd = readiness, .events = POLLIN},
	};

	for (;;) {
		if (poll(polled, 3, -1) < 0 && errno != EINTR)
			break;
		/* It may have said so and ended. */
		if (polled[2].revents) {
			pass_readiness_on(launch, readiness, 0);
			polled[2].fd = -1;
		}
		if (polled[0].revents)
			break;
		if (polled[1].revents)
			forward(launch, signals);
	}
	return child_wait(&launch->machine.vmm);
}

/* As `hull start` does. */
static void wait_until_ready(struct launch *launch)
{
	cleanup_close int readiness = -1;

	flock(launch->container.folder, LOCK_UN);
	readiness = ask_for_readiness(launch);
	if (readiness >= 0)
		pass_readiness_on(launch, readiness, launch->machine.vmm.pid);
}

static void clean_up(struct launch *launch, bool keep)
{
	struct container *container = &launch->container;
	struct error err;

	machine_end(&launch->machine);
	if (keep)
		return;
	/* Somebody else may have deleted it meanwhile. */
	if (container_lock(container, DELETE_TIMEOUT_MS, &err) < 0
		? err.code != ENOENT
		: container_end_processes(container, &err) < 0 || container_remove(container, &err) < 0)
		report_warning("%s", err.message);
}

static int final_status(struct launch *launch, int vmm_status)
{
	struct result result;
	struct error err;

	/* A proxy ends as the process does for which it stands, and as if that were killed when the machine ends. */
	if (launch->container.state.sandbox) {
		if (vmm_status != 128 + SIGKILL || !failure_explain_sandbox(&launch->container, &err))
			return vmm_status;
		report_error("%s", err.message);
		return MACHINE_FAILURE_STATUS;
	}
	result_read(launch->result, &result);
	if (result.kind == RESULT_EXITED)
		return result.status;
	failure_explain(launch->result, launch->log, vmm_status, &err);
	report_error("%s", err.message);
	return result.kind == RESULT_NONE && vmm_status > 128 ? vmm_status : MACHINE_FAILURE_STATUS;
}

static int stay(struct launch *launch, bool keep, struct error *err)
{
	cleanup_close int signals = -1;
	sigset_t forwarded;
	int vmm_status, status;

	signals_forwarded(&forwarded);
	if (launch->terminal >= 0)
		sigaddset(&forwarded, SIGWINCH);
	signals = signalfd(-1, &forwarded, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		return error_set_errno(err, "make a signal descriptor");
	if (stdio_let_go(err) < 0)
		report_warning("%s", err->message);
	/* Other hull processes may work on the container now. */
	flock(launch->container.folder, LOCK_UN);
	vmm_status = wait_for_end(launch, signals);
	raw_terminal_end(&launch->raw);
	status = final_status(launch, vmm_status);
	clean_up(launch, keep);
	return status;
}

static int run(const struct invocation *invocation, struct error *err)
{
	const struct run_options *options = invocation->options;
	struct launch_options launching = launch_options_of(&options->launch);
	struct launch made;
	sigset_t forwarded;

	launching.global = invocation->global;
	launching.id = invocation->argv[0];
	launching.detached = options->detach;
	launching.start = true;
	/* Blocked from the start, so that a signal that comes while the guest boots is passed on later. Those that
	 * interrupt a launch are watched for by it. */
	signals_forwarded(&forwarded);
	sigaddset(&forwarded, SIGWINCH);
	if (!options->detach && sigprocmask(SIG_BLOCK, &forwarded, NULL) < 0)
		return error_set_errno(err, "block signals");
	if (launch(&launching, &made, err) < 0)
		return -1;
	if (!options->detach)
		return stay(&made, options->keep, err);
	wait_until_ready(&made);
	return 0;
}

const struct command command_run = {
    .name = "run",
    .summary = "create and run a container",
    .arguments = "[flags] ID",
    .description = "Creates a container from a bundle, starts it, waits for it, deletes it, and ends with its exit\n"
		   "status; with 125 when the virtual machine failed under it.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
