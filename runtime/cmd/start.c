/*
 * hull start: lets the process of a created container run.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "common/cleanup.h"
#include "runtime/agent.h"
#include "runtime/attach.h"
#include "runtime/command.h"
#include "runtime/config.h"
#include "runtime/container.h"
#include "runtime/machine.h"
#include "runtime/network.h"
#include "runtime/notify.h"
#include "runtime/report.h"

#define LOCK_TIMEOUT_MS 10000

static int check_status(const struct container *container, struct error *err)
{
	switch (container_status(container)) {
	case CONTAINER_CREATED:
		return 0;
	case CONTAINER_PAUSED:
		return error_set(err, EINVAL, "cannot start a container in the paused state");
	case CONTAINER_RUNNING:
		return error_set(err, EINVAL, "cannot start an already running container");
	case CONTAINER_STOPPED:
		return error_set(err, EINVAL, "cannot start a container that has stopped");
	default:
		return error_set(err, EINVAL, "cannot start a container in the creating state");
	}
}

/* Whether the process has run although no answer came: when it ends at once, the machine may be faster. */
static bool has_run(const struct container *container, const struct attachment *attachment)
{
	cleanup_close int result = -1;

	if (attachment->watch.event != WATCH_VMM_ENDED && attachment->watch.event != WATCH_FAILURE)
		return false;
	result = openat(container->folder, CONTAINER_RESULT_FILE, O_RDONLY | O_CLOEXEC);
	return result >= 0 && machine_has_exited(attachment->watch.vmm, result);
}

/* Whoever has started it for systemd waits here, as long as it takes. */
static void wait_until_ready(const struct container *container, struct attachment *attachment)
{
	struct error err;

	/* Other hull processes may work on it meanwhile. */
	flock(container->folder, LOCK_UN);
	attachment->watch.deadline = 0;
	if (notify_ask(attachment->agent, container->id, &attachment->watch, &err) < 0 ||
	    notify_pass_on(attachment->agent, container->state.vmm.pid, &attachment->watch, &err) < 0)
		report_warning("%s", err.message);
}

static int run(const struct invocation *invocation, struct error *err)
{
	cleanup_attachment struct attachment attachment = ATTACHMENT_NONE;
	cleanup_container struct container container = CONTAINER_NONE;
	cleanup_network_process struct network_process network = NETWORK_PROCESS_NONE;
	struct config config;
	unsigned timeout;

	if (config_load(invocation->global->config, &config, err) < 0)
		return -1;
	timeout = config.start_timeout;
	if (watch_start_timeout(&timeout, err) < 0 ||
	    container_open(invocation->global->root, invocation->argv[0], &container, err) < 0)
		return -1;
	/* Whoever has seen that the container is there may be here before the creation has come to its end. */
	if (container_settled_status(&container, LOCK_TIMEOUT_MS) != CONTAINER_CREATING &&
	    container_lock(&container, LOCK_TIMEOUT_MS, err) < 0)
		return -1;
	if (check_status(&container, err) < 0)
		return -1;
	if (attach(&container, timeout, &attachment, err) < 0 || attach_agent(&attachment, err) < 0)
		return -1;
	if (network_connect(&container, &attachment.watch, &network, err) < 0)
		return -1;
	if (agent_start(attachment.agent, &attachment.watch, container.id, err) < 0 &&
	    !has_run(&container, &attachment))
		return -1;
	container.state.stage = STATE_STARTED;
	if (container_save(&container, err) < 0 || network_keep(&network, err) < 0)
		return -1;
	container_run_hooks(&container, "poststart", "running", container.state.vmm.pid);
	if (notify_wanted())
		wait_until_ready(&container, &attachment);
	return 0;
}

const struct command command_start = {
    .name = "start",
    .summary = "start the process of a created container",
    .arguments = "ID",
    .description = "Starts the process of a container that `hull create` has made.",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
