/*
 * hull state: one container as JSON.
 */
#include "runtime/command.h"
#include "runtime/container.h"
#include "runtime/describe.h"
#include "runtime/output.h"

static int run(const struct invocation *invocation, struct error *err)
{
	cleanup_container struct container container = CONTAINER_NONE;

	if (container_open(invocation->global->root, invocation->argv[0], &container, err) < 0)
		return -1;
	return output_json(container_describe(&container, ""), JSON_INDENT(2), "", err);
}

const struct command command_state = {
    .name = "state",
    .summary = "print the state of a container",
    .arguments = "ID",
    .description = "Prints the state of a container as JSON, as the OCI runtime specification defines it.",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
