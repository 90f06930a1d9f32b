/*
 * The namespaces of a container: its own, another container's, or the machine's.
 *
 * What "the host's" means to a runtime that shares one is the machine's here: it belongs to the sandbox alone. The
 * machine's network is that of the first container that wants one of its own: it is as empty as a new one, and what the
 * host connects the sandbox with appears there. A container that is to share the host's processes gets a process id
 * namespace to itself all the same: there is nothing in the machine's but the agent. So it is with mounts.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"
#include "guest-agent/time_offsets.h"

enum namespace_kind {
	NAMESPACE_PID,
	NAMESPACE_NETWORK,
	NAMESPACE_IPC,
	NAMESPACE_UTS,
	NAMESPACE_TIME,
	NAMESPACE_RETURNABLE, /* the agent can go to those above, and come back */
	NAMESPACE_CGROUP = NAMESPACE_RETURNABLE,
	NAMESPACE_USER,
	NAMESPACE_SHAREABLE, /* those above can be another container's */
	NAMESPACE_MOUNT = NAMESPACE_SHAREABLE,
	NAMESPACE_KINDS,
};

enum namespace_use {
	NAMESPACE_OF_MACHINE,
	NAMESPACE_OWN,
	NAMESPACE_JOINED,
};

struct plan_namespaces {
	enum namespace_use use[NAMESPACE_KINDS];
	const char *joined[NAMESPACE_SHAREABLE]; /* id of the container whose it is; belongs to the JSON */
	struct time_offsets time_offsets;
};

/* Reads linux.namespaces, and which of them the order says to share: {"ipc": ID, ...}. Returns 0, or -1 with err. */
int namespaces_read(struct plan_namespaces *namespaces, const json_t *list, const json_t *shared, struct error *err);

/*
 * As fork(2), into the namespaces and the cgroup (a descriptor). joined: for each kind that is joined a pidfd of the
 * other container's first process. machine_network: an own network is the machine's, because nobody has had it yet.
 * *pidfd is set in the parent. The mount namespace is always a new one; that of the cgroup is the child's to make once
 * it is in its cgroup. A user namespace of its own wants a network of its own as well, or its root could not even bind
 * a low port; the child has no ids in it until they are mapped, and makes its ipc namespace after that: the message
 * queues' directory belongs to whoever makes it. In another container's user namespace the child is nobody at first,
 * too. Returns -1 with err in the parent.
 */
pid_t namespaces_fork(const struct plan_namespaces *namespaces, const int joined[NAMESPACE_SHAREABLE],
		      bool machine_network, int cgroup, int *pidfd, struct error *err);
