/*
 * hull logs: what the programs that serve a container, or its guest's kernel, have said.
 */
#include "runtime/command.h"
#include "runtime/container.h"
#include "runtime/kernel_log.h"

struct logs_options {
	bool kernel, follow;
};

static const struct logs_options defaults = {0};

static const struct flag flags[] = {
    {"kernel", 'k', FLAG_SWITCH, offsetof(struct logs_options, kernel), NULL, "the guest kernel's messages instead"},
    {"follow", 'f', FLAG_SWITCH, offsetof(struct logs_options, follow), NULL,
     "with --kernel: go on until the container ends"},
    {0},
};

static int run(const struct invocation *invocation, struct error *err)
{
	const struct logs_options *options = invocation->options;
	cleanup_container struct container container = CONTAINER_NONE;

	if (container_open(invocation->global->root, invocation->argv[0], &container, err) < 0)
		return -1;
	return options->kernel ? kernel_log_print(&container, options->follow, err)
			       : kernel_log_print_file(&container, CONTAINER_LOG_FILE, err);
}

const struct command command_logs = {
    .name = "logs",
    .summary = "print what a container's virtual machine has said",
    .arguments = "[flags] ID",
    .description = "Prints the messages of hull-vmm and hull-fsd, or of the guest's kernel; the latter also after the\n"
		   "container has ended, where they are kept (annotation or configuration: console).",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};

/* --- console ----------------------------------------------------------------------------------------------------- */

static int run_console(const struct invocation *invocation, struct error *err)
{
	cleanup_container struct container container = CONTAINER_NONE;

	if (container_open(invocation->global->root, invocation->argv[0], &container, err) < 0)
		return -1;
	return kernel_log_print(&container, true, err);
}

const struct command command_console = {
    .name = "console",
    .summary = "follow the messages of a container's guest kernel",
    .arguments = "ID",
    .description = "Prints the guest kernel's messages, and further ones as they come, until the container ends. A\n"
		   "guest has no login; `hull exec` runs a shell in the container.",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run_console,
};
