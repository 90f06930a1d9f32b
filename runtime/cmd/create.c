/*
 * hull create: a container up to the point where its process waits for `hull start`. This process ends; hull-vmm stays
 * and is what the engine takes for the container's process.
 */
#include "runtime/command.h"
#include "runtime/launch.h"

struct create_options {
	const char *bundle;
	const char *console_socket;
	const char *pid_file;
	bool no_pivot;
	bool no_new_keyring;
	unsigned preserve_fds;
};

static const struct create_options defaults = {.bundle = "."};

static const struct flag flags[] = {
    {"bundle", 'b', FLAG_TEXT, offsetof(struct create_options, bundle), "DIR",
     "the bundle: a folder with config.json (default: the current one)"},
    {"console-socket", 0, FLAG_TEXT, offsetof(struct create_options, console_socket), "PATH",
     "unix socket that gets the terminal"},
    {"pid-file", 0, FLAG_TEXT, offsetof(struct create_options, pid_file), "FILE", "write the process id to FILE"},
    {"no-pivot", 0, FLAG_SWITCH, offsetof(struct create_options, no_pivot), NULL,
     "accepted; a guest's root is its own"},
    {"no-new-keyring", 0, FLAG_SWITCH, offsetof(struct create_options, no_new_keyring), NULL,
     "accepted; a guest has its own keyrings"},
    {"preserve-fds", 0, FLAG_NUMBER, offsetof(struct create_options, preserve_fds), "N", "only 0 is supported yet"},
    {0},
};

static int run(const struct invocation *invocation, struct error *err)
{
	const struct create_options *options = invocation->options;
	struct launch_options launching = {
	    .global = invocation->global,
	    .id = invocation->argv[0],
	    .bundle = options->bundle,
	    .pid_file = options->pid_file,
	    .console_socket = options->console_socket,
	    .preserve_fds = options->preserve_fds,
	    .detached = true,
	};
	struct launch made;

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
