/*
 * hull delete: removes a stopped container and whatever a crash left of it; with --force any container.
 */
#include <errno.h>

#include "runtime/command.h"
#include "runtime/container.h"
#include "runtime/matching.h"

#define LOCK_TIMEOUT_MS 10000

struct delete_options {
	bool force, regex;
};

static const struct delete_options defaults = {0};

static const struct flag flags[] = {
    {"force", 'f', FLAG_SWITCH, offsetof(struct delete_options, force), NULL,
     "kill it if it runs; a container that does not exist is no error"},
    {"regex", 'r', FLAG_SWITCH, offsetof(struct delete_options, regex), NULL,
     "ID is a regular expression: delete all containers that it matches"},
    {0},
};

/* One that was created and not started is ended, as runc and crun do. */
static int check_idle(const struct container *container, struct error *err)
{
	enum container_status status = container_status(container);

	if (status == CONTAINER_STOPPED || status == CONTAINER_CREATED)
		return 0;
	return error_set(err, EBUSY, "cannot delete container %s that is not stopped: %s", container->id,
			 container_status_name(status));
}

/* A state that cannot be read names no processes; with --force the folder goes nevertheless. */
static int open_any(const char *root, const char *id, bool force, struct container *container, struct error *err)
{
	if (container_open(root, id, container, err) == 0)
		return 0;
	if (!force || err->code != EINVAL || state_check_id(id, NULL) < 0)
		return -1;
	return container_open_unread(root, id, container, err);
}

static int delete (const char *root, const char *id, bool force, struct error *err)
{
	cleanup_container struct container container = CONTAINER_NONE;

	if (open_any(root, id, force, &container, err) < 0)
		return -1;
	if (!force && check_idle(&container, err) < 0)
		return -1;
	/* Processes first: one of them may be what the holder of the lock waits for. Not those of a container that is
	 * perhaps being started. */
	if ((force || container_status(&container) == CONTAINER_STOPPED) &&
	    container_end_processes(&container, err) < 0)
		return -1;
	if (container_lock(&container, LOCK_TIMEOUT_MS, err) < 0 && !(force && err->code == EINVAL))
		return -1;
	if (!force && check_idle(&container, err) < 0)
		return -1;
	if (container_end_processes(&container, err) < 0)
		return -1;
	return container_remove(&container, err);
}

static int delete_one(const char *id, void *context, struct error *err)
{
	const struct invocation *invocation = context;
	const struct delete_options *options = invocation->options;
	int result = delete (invocation->global->root, id, options->force, err);

	return result < 0 && options->force && err->code == ENOENT ? 0 : result;
}

static int run(const struct invocation *invocation, struct error *err)
{
	const struct delete_options *options = invocation->options;

	if (options->regex)
		return matching_each(invocation->global->root, invocation->argv[0], delete_one, (void *)invocation,
				     err);
	return delete_one(invocation->argv[0], (void *)invocation, err);
}

const struct command command_delete = {
    .name = "delete",
    .summary = "delete a container",
    .arguments = "[flags] ID",
    .description = "Deletes a container that has stopped or was never started, and everything that it had on the host.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
