/*
 * The verbs of the command line. Each is one file in cmd/ that defines one of these; main.c has the table.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "runtime/options.h"

/* What stands before the verb. */
struct global_options {
	const char *root;
	const char *log;
	const char *log_format;
	bool debug;
	bool systemd_cgroup;
	const char *cgroup_manager; /* or NULL */
	const char *criu;
	const char *rootless;
	const char *config; /* or NULL */
	bool version;
};

struct invocation {
	const struct global_options *global;
	const void *options; /* the verb's own structure */
	int argc;	     /* arguments without flags */
	char **argv;	     /* NULL after the last */
};

struct command {
	const char *name;
	const char *summary;
	const char *arguments; /* as in the usage line */
	const char *description;
	const struct flag *flags; /* NULL: none */
	const void *defaults;	  /* the options structure before the flags are read; NULL without flags */
	size_t options_size;
	enum options_order order; /* OPTIONS_FIRST: what follows the first argument is somebody else's command line */
	int min_arguments, max_arguments;
	/* Returns the exit status, or -1 with err set: exit status 1. */
	int (*run)(const struct invocation *invocation, struct error *err);
};

#define COMMAND_OPTIONS_MAX 256 /* bytes; at least every options_size */

/* All verbs, in the order of the help text, and what may stand before them: runtime/commands.c. */
extern const struct command *const commands[];
extern const size_t n_commands;
extern const struct flag global_flags[];				   /* ended by an entry without name */
extern const struct command command_proxy, command_relay, command_network; /* called by hull itself, never listed */
