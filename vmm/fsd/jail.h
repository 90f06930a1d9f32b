/*
 * The confinement of hull-fsd: what remains for a guest that has taken it over is the exported trees, which it may
 * change through ordinary requests anyway.
 *
 * Stages, in their order:
 *
 *   self         the current directory becomes /proc/self/fd, the one path that is used later.
 *   trees        each exported tree is cloned into a mount of its own that is attached nowhere: only its descriptor
 *                leads there. Must come before the namespaces: a mount can be cloned only from one's own mount
 * namespace. namespaces   own mount, network, IPC, UTS and cgroup namespaces, all empty. root         an empty,
 * read-only root directory: no path of the host resolves any more. privilege    the capabilities that ownership needs
 * and no other, in no set; no_new_privs; not dumpable. filter       an allow-list of system calls. Must come last.
 *
 * Started without privilege, it serves the descriptors as they are: stages that need privilege are left out, which is
 * logged, and a read-only export is refused.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"

/* The first stage. */
int jail_enter_self(struct error *err);

/* Replaces *fd (an O_PATH descriptor) by one of a private clone of the tree there, with the mounts below it where
 * recursive. Nothing on it can be executed, set ids or be opened as a device, and no symbolic link on it is followed,
 * on this side. */
int jail_clone_tree(int *fd, bool read_only, bool recursive, struct error *err);

/* Namespaces, root and privilege. */
int jail_enter(struct error *err);

/* The filter. A forbidden system call ends the process with SIGSYS. */
int jail_filter(struct error *err);
