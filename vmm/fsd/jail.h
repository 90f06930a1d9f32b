/*
 * The confinement of hull-fsd: what remains for a guest that has taken it over is the exported trees, which it may
 * change through ordinary requests anyway.
 *
 * The exported trees are mounts of their own that are attached nowhere: only their descriptors lead there. The runtime
 * makes them (runtime/export_tree.h), because a mount can be cloned only in one's own mount namespace and with a right
 * that this process does not keep.
 *
 * Stages, in their order:
 *
 *   self         the current directory becomes /proc/self/fd, the one path that is used later.
 *   namespaces   own mount, UTS and cgroup namespaces. (Of others the filter leaves no use.)
 *   root         an empty, read-only root directory: no path of the host resolves any more.
 *   privilege    the capabilities that ownership needs and no other, in no set; no_new_privs; not dumpable.
 *   filter       an allow-list of system calls. Must come last.
 *
 * Started without privilege, it leaves out the stages that need privilege, which is logged.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"

/* The first stage. */
int jail_enter_self(struct error *err);

/* Namespaces, root and privilege. */
int jail_enter(struct error *err);

/* The filter, of the calling thread. A forbidden system call ends the process with SIGSYS. */
int jail_filter(struct error *err);
