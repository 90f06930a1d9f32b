/*
 * The jail of hull-vmm: what remains for whoever takes over the process through a device.
 *
 * The main thread, still alone, calls jail_enter when every descriptor is in hand; then it starts the vCPU threads, and
 * each thread calls jail_filter before any guest instruction runs. Stages, in their order:
 *
 *   namespaces   own mount, IPC, UTS and cgroup namespaces, and a network namespace where it was not born into the
 *                container's. Must come first: it needs the caller's privilege.
 *   root         an empty, read-only root directory; no path of the host resolves any more.
 *   identity     the given uid and gid, no supplementary groups, where the caller is root.
 *   privilege    no capability in any set, no_new_privs, not dumpable. Nothing after this stage may need privilege.
 *   limits       no core file (it would hold the guest's memory), no new process.
 *   filter       per kind of thread, an allow-list of system calls. Must come last: the earlier stages' calls are not
 * on it.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"

struct jail_options {
	bool change_identity; /* the caller is root: become uid and gid */
	bool keep_network;    /* the network namespace is the container's: it was given one */
	uid_t uid;
	gid_t gid;
};

enum jail_thread {
	JAIL_THREAD_LOOP,   /* the event loop with all devices */
	JAIL_THREAD_SAVING, /* the same in a machine that may be saved: may read the vCPUs' state */
	JAIL_THREAD_VCPU,   /* one of the vCPUs */
};

/* The stages up to the limits, for the whole process. The process must have one thread. Without root, namespaces come
 * from a user namespace; where the host forbids those, the process keeps its root directory, which is logged, and the
 * filter alone keeps it from opening anything. Returns 0 or -1. */
int jail_enter(const struct jail_options *options, struct error *err);

/* The last stage, for the calling thread. Returns 0 or -1. A forbidden system call ends the process with SIGSYS. */
int jail_filter(enum jail_thread thread, struct error *err);
