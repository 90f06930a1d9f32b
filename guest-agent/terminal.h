/*
 * The terminal of a process (config.md "process.terminal", config-linux.md "/dev/console"): a pseudo-terminal of the
 * container's own devpts.
 */
#pragma once

#include <sys/types.h>

#include "common/error.h"

struct terminal {
	int master; /* for the agent */
	int slave;
};

#define TERMINAL_NONE ((struct terminal){-1, -1})

void terminal_close(struct terminal *terminal);

/* Makes one by the container's /dev/ptmx; root is the container's. It belongs to `user`. */
int terminal_open(int root, uid_t user, struct terminal *terminal, struct error *err);

/* Makes it the container's /dev/console. */
int terminal_mount_console(int root, const struct terminal *terminal, struct error *err);

/* Makes it the controlling terminal of the caller, who leads a session, and its descriptors 0, 1 and 2. */
int terminal_take(const struct terminal *terminal, struct error *err);
