/*
 * hull kill: a signal to the container's process. SIGKILL ends the container whatever its guest does: when the agent
 * does not answer, or the process does not end, hull-vmm is killed.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/vmm_control.h"
#include "runtime/agent.h"
#include "runtime/attach.h"
#include "runtime/command.h"
#include "runtime/container.h"
#include "runtime/matching.h"
#include "runtime/report.h"
#include "runtime/signals.h"

#define TIMEOUT_SECONDS 10
#define KILL_TIMEOUT_SECONDS 2
#define POLL_MS 20
#define END_TIMEOUT_MS 10000
#define CREATION_TIMEOUT_MS 10000

struct kill_options {
	bool all, regex;
};

static const struct kill_options defaults = {0};

static const struct flag flags[] = {
    {"all", 'a', FLAG_SWITCH, offsetof(struct kill_options, all), NULL, "send it to all processes of the container"},
    {"regex", 'r', FLAG_SWITCH, offsetof(struct kill_options, regex), NULL,
     "ID is a regular expression: all containers that it matches"},
    {0},
};

static int deliver(const struct container *container, int signal, bool all, struct error *err)
{
	cleanup_attachment struct attachment attachment = ATTACHMENT_NONE;
	int result;

	if (attach(container, TIMEOUT_SECONDS, &attachment, err) < 0)
		return -1;
	result = attach_agent(&attachment, err);
	if (result == 0)
		result = agent_kill(attachment.agent, &attachment.watch, container->id, NULL, signal, all, err);
	if (result < 0 && (err->code == ESRCH || attachment.watch.event == WATCH_VMM_ENDED))
		return error_set(err, ESRCH, "os: process already finished");
	return result;
}

/* Whether the container's process is known to have ended: output may still be on its way to a slow reader. */
static bool is_exiting(struct attachment *attachment)
{
	uint32_t status;

	return vmm_control_status(attachment->control, &attachment->watch, &status, NULL) == 0 &&
	       (status & VMM_STATUS_EXITING);
}

/* Returns 0 when the guest has seen to it that the container's process is gone. */
static int kill_in_guest(const struct container *container, bool all, struct error *err)
{
	cleanup_attachment struct attachment attachment = ATTACHMENT_NONE;
	cleanup_close int process = process_open(&container->state.vmm);
	struct pollfd ended = {.fd = process, .events = POLLIN};

	if (process < 0)
		return errno == ESRCH ? 0 : error_set_errno(err, "open process %d", (int)container->state.vmm.pid);
	if (attach(container, KILL_TIMEOUT_SECONDS, &attachment, err) < 0)
		return -1;
	/* The process is gone, and what waits is its output: a second SIGKILL gives that up. */
	if (is_exiting(&attachment))
		return error_set(err, ESRCH, "the process has ended already");
	if (attach_agent(&attachment, err) < 0 ||
	    agent_kill(attachment.agent, &attachment.watch, container->id, NULL, SIGKILL, all, err) < 0)
		return -1;
	for (int waited = 0; waited < KILL_TIMEOUT_SECONDS * 1000; waited += POLL_MS)
		if (poll(&ended, 1, POLL_MS) == 1 || is_exiting(&attachment))
			return 0;
	return error_set(err, ETIMEDOUT, "the process is still there");
}

static int kill_container(const struct container *container, bool all, struct error *err)
{
	if (kill_in_guest(container, all, err) == 0)
		return 0;
	report_debug("killing process %d: %s", (int)container->state.vmm.pid, err->message);
	return process_end(&container->state.vmm, END_TIMEOUT_MS, err);
}

static int signal_one(const char *id, void *context, struct error *err)
{
	const struct invocation *invocation = context;
	const struct kill_options *options = invocation->options;
	cleanup_container struct container container = CONTAINER_NONE;
	enum container_status status;
	int signal;

	if (container_open(invocation->global->root, id, &container, err) < 0)
		return -1;
	signal = signal_parse(invocation->argc > 1 ? invocation->argv[1] : "TERM", err);
	if (signal < 0)
		return -1;
	status = container_settled_status(&container, CREATION_TIMEOUT_MS);
	if (status == CONTAINER_STOPPED && options->all)
		return 0;
	if (status != CONTAINER_CREATED && status != CONTAINER_RUNNING && status != CONTAINER_PAUSED)
		return error_set(err, ESRCH, "container not running");
	if (signal == 0)
		return 0;
	return signal == SIGKILL ? kill_container(&container, options->all, err)
				 : deliver(&container, signal, options->all, err);
}

static int run(const struct invocation *invocation, struct error *err)
{
	const struct kill_options *options = invocation->options;

	if (options->regex)
		return matching_each(invocation->global->root, invocation->argv[0], signal_one, (void *)invocation,
				     err);
	return signal_one(invocation->argv[0], (void *)invocation, err);
}

const struct command command_kill = {
    .name = "kill",
    .summary = "send a signal (default: SIGTERM) to a container's process",
    .arguments = "[flags] ID [SIGNAL]",
    .description = "Sends SIGNAL, a name with or without SIG or a number, to the container's process.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 2,
    .run = run,
};
