/*
 * hull pause and hull resume: all processes of a container stand still, or go on. The guest's freezer does it; the
 * machine itself keeps running, idle.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "runtime/agent.h"
#include "runtime/attach.h"
#include "runtime/command.h"
#include "runtime/container.h"
#include "runtime/report.h"

#define LOCK_TIMEOUT_MS 10000
#define TIMEOUT_SECONDS 10

static int order(struct attachment *attachment, const char *id, const char *name, struct error *err)
{
	cleanup_free char *text = NULL;

	if (asprintf(&text, "{\"order\":\"%s\",\"id\":\"%s\"}", name, id) < 0)
		return error_set(err, ENOMEM, "make an order");
	return agent_order(attachment->agent, &attachment->watch, text, strlen(text), NULL, err);
}

static int connect_to(const struct container *container, struct attachment *attachment, struct error *err)
{
	if (attach(container, TIMEOUT_SECONDS, attachment, err) < 0 || attach_agent(attachment, err) < 0)
		return error_prefix(err, "container %s", container->id);
	return 0;
}

/* Processes that the kernel cannot stop in time are let go again. */
static int freeze(const struct container *container, struct error *err)
{
	cleanup_attachment struct attachment attachment = ATTACHMENT_NONE;
	cleanup_attachment struct attachment second = ATTACHMENT_NONE;
	struct error ignored;

	if (connect_to(container, &attachment, err) < 0)
		return -1;
	if (order(&attachment, container->id, "pause", err) == 0)
		return 0;
	if (attachment.watch.event == WATCH_TIMEOUT && connect_to(container, &second, &ignored) == 0 &&
	    order(&second, container->id, "resume", &ignored) < 0)
		report_debug("resume: %s", ignored.message);
	return error_prefix(err, "unable to freeze");
}

static int thaw(const struct container *container, struct error *err)
{
	cleanup_attachment struct attachment attachment = ATTACHMENT_NONE;

	if (connect_to(container, &attachment, err) < 0)
		return -1;
	return order(&attachment, container->id, "resume", err);
}

static int open_locked(const struct invocation *invocation, struct container *container, struct error *err)
{
	if (container_open(invocation->global->root, invocation->argv[0], container, err) < 0)
		return -1;
	return container_lock(container, LOCK_TIMEOUT_MS, err);
}

static int pause_container(const struct invocation *invocation, struct error *err)
{
	cleanup_container struct container container = CONTAINER_NONE;
	enum container_status status;

	if (open_locked(invocation, &container, err) < 0)
		return -1;
	status = container_status(&container);
	if (status != CONTAINER_CREATED && status != CONTAINER_RUNNING)
		return error_set(err, ESRCH, "container not running");
	if (freeze(&container, err) < 0)
		return -1;
	container.state.paused = true;
	return container_save(&container, err);
}

static int resume_container(const struct invocation *invocation, struct error *err)
{
	cleanup_container struct container container = CONTAINER_NONE;

	if (open_locked(invocation, &container, err) < 0)
		return -1;
	if (container_status(&container) != CONTAINER_PAUSED)
		return error_set(err, EINVAL, "container not paused");
	if (thaw(&container, err) < 0)
		return -1;
	container.state.paused = false;
	return container_save(&container, err);
}

const struct command command_pause = {
    .name = "pause",
    .summary = "stop all processes of a container for a while",
    .arguments = "ID",
    .description = "Stops all processes of a container until `hull resume`.",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = pause_container,
};

const struct command command_resume = {
    .name = "resume",
    .summary = "let the processes of a paused container go on",
    .arguments = "ID",
    .description = "Lets the processes of a container go on that `hull pause` has stopped.",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = resume_container,
};
