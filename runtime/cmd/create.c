/*
 * hull create: a container up to the point where its process waits for `hull start`. This process ends; hull-vmm stays
 * and is what the engine takes for the container's process.
 */
#include "runtime/command.h"
#include "runtime/launch_flags.h"

struct create_options {
	struct launch_flags launch;
};

static const struct create_options defaults = {.launch = LAUNCH_FLAGS_DEFAULT};

static const struct flag flags[] = {
    LAUNCH_FLAGS(struct create_options, launch),
    {0},
};

static int run(const struct invocation *invocation, struct error *err)
{
	const struct create_options *options = invocation->options;
	struct launch_options launching = launch_options_of(&options->launch);
	struct launch made;

	launching.global = invocation->global;
	launching.id = invocation->argv[0];
	launching.detached = true;
	/* Not released: the machine lives on, and the rest ends with this process. */
	return launch(&launching, &made, err);
}

const struct command command_create = {
    .name = "create",
    .summary = "create a container",
    .arguments = "[flags] ID",
    .description = "Creates a container from a bundle. Its process is started by `hull start`.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
