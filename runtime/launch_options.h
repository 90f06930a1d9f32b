/*
 * What the caller of `hull create` or `hull run` wants.
 */
#pragma once

#include <stdbool.h>

#include "runtime/command.h"

struct launch_options {
	const char *id;
	const char *bundle;
	const char *config;	    /* the specification's file in it, or NULL: config.json */
	const char *pid_file;	    /* or NULL */
	const char *pidfd_socket;   /* or NULL */
	const char *console_socket; /* or NULL */
	unsigned preserve_fds;
	bool detached; /* hull does not stay */
	bool trace;    /* runtime/trace.h */
	bool start;    /* not only created but started */
	const struct global_options *global;
};
