/*
 * hooks.startContainer (config.md "POSIX-platform Hooks"): programs that run inside the container, between the order to
 * start and the container's own program, with its namespaces, user, capabilities and system call filter.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "common/error.h"

struct hook {
	const char *path;
	char **args;  /* end with NULL */
	char **env;   /* ends with NULL */
	long timeout; /* seconds; 0: none */
};

struct hooks {
	struct hook *list;
	size_t n;
	char *state; /* what they find on their standard input: state.md "State", as JSON; NULL when there is no hook */
	int input, output; /* descriptors, from hooks_open on */
};

/* Reads an array of hooks; its strings stay the array's. id, bundle and annotations (may be NULL) go into the state.
 * The caller releases the hooks in either case. Returns 0, or -1 with an error that names the field. */
int hooks_read(const json_t *array, const char *id, const char *bundle, const json_t *annotations, struct hooks *hooks,
	       struct error *err);
void hooks_release(struct hooks *hooks);

/* Makes the files in memory that they read and write. In the process that runs them, before a system call filter is
 * loaded that may not allow it. */
int hooks_open(struct hooks *hooks, struct error *err);

/* Runs one after the other and waits for each. Returns 0, or -1 when one fails or takes longer than it may (it is
 * killed then); the error holds what it has written. The caller has SIGCHLD blocked. */
int hooks_run(const struct hooks *hooks, struct error *err);
