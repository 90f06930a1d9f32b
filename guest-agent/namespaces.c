#include "guest-agent/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "guest-agent/boot.h"
#include "guest-agent/places.h"

/* linux.namespaces[].type, the flag of clone(2), the name below /proc/PID/ns. */
static const struct {
	const char *type;
	uint64_t flag;
	const char *file;
} kinds[NAMESPACE_KINDS] = {
    [NAMESPACE_PID] = {"pid", CLONE_NEWPID, "pid"},	[NAMESPACE_NETWORK] = {"network", CLONE_NEWNET, "net"},
    [NAMESPACE_IPC] = {"ipc", CLONE_NEWIPC, "ipc"},	[NAMESPACE_UTS] = {"uts", CLONE_NEWUTS, "uts"},
    [NAMESPACE_MOUNT] = {"mount", CLONE_NEWNS, "mnt"},	[NAMESPACE_CGROUP] = {"cgroup", CLONE_NEWCGROUP, "cgroup"},
    [NAMESPACE_USER] = {"user", CLONE_NEWUSER, "user"}, [NAMESPACE_TIME] = {"time", 0, "time"},
};

static int find_kind(const char *type)
{
	for (int kind = 0; kind < NAMESPACE_KINDS; kind++)
		if (strcmp(kinds[kind].type, type) == 0)
			return kind;
	return -1;
}

/* A path is the runtime's to understand: it says whose namespace that is. */
static int read_one(struct plan_namespaces *namespaces, bool *given, const json_t *element, size_t index,
		    struct error *err)
{
	const char *type = json_string_value(json_object_get(element, "type"));
	const char *path = json_string_value(json_object_get(element, "path"));
	int kind = find_kind(type ? type : "");

	if (kind < 0)
		return error_set(err, EINVAL, "linux.namespaces[%zu].type: `%s` does not exist", index,
				 type ? type : "");
	if (given[kind])
		return error_set(err, EINVAL, "linux.namespaces[%zu]: %s is given twice", index, type);
	given[kind] = true;
	if (path && *path && namespaces->use[kind] != NAMESPACE_JOINED)
		return error_set(err, ENOTSUP, "linux.namespaces[%zu].path: `%s` is not of this sandbox", index, path);
	if (namespaces->use[kind] == NAMESPACE_OF_MACHINE)
		namespaces->use[kind] = NAMESPACE_OWN;
	return 0;
}

static int read_shared(struct plan_namespaces *namespaces, const json_t *shared, struct error *err)
{
	const char *type;
	json_t *id;

	json_object_foreach((json_t *)shared, type, id)
	{
		int kind = find_kind(type);

		if (json_is_null(id))
			continue;
		if (kind < 0 || kind >= NAMESPACE_SHAREABLE || !json_is_string(id))
			return error_set(err, EINVAL, "create: namespaces.%s cannot be shared", type);
		namespaces->use[kind] = NAMESPACE_JOINED;
		namespaces->joined[kind] = json_string_value(id);
	}
	return 0;
}

int namespaces_read(struct plan_namespaces *namespaces, const json_t *list, const json_t *shared, struct error *err)
{
	bool given[NAMESPACE_KINDS] = {false};
	const json_t *element;
	size_t i;

	if (read_shared(namespaces, shared, err) < 0)
		return -1;
	json_array_foreach(list, i, element)
	{
		if (read_one(namespaces, given, element, i, err) < 0)
			return -1;
	}
	/* Nothing there could be shared: see the head of namespaces.h. */
	if (namespaces->use[NAMESPACE_PID] == NAMESPACE_OF_MACHINE)
		namespaces->use[NAMESPACE_PID] = NAMESPACE_OWN;
	if (namespaces->use[NAMESPACE_MOUNT] == NAMESPACE_OF_MACHINE)
		namespaces->use[NAMESPACE_MOUNT] = NAMESPACE_OWN;
	return 0;
}

/* --- fork -------------------------------------------------------------------------------------------------------- */

/* The agent's own, to come back to. */
static int open_own(enum namespace_kind kind)
{
	char path[64];

	snprintf(path, sizeof(path), PLACE_PROC "/self/ns/%s", kinds[kind].file);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* An agent in a container's namespaces would be at its mercy. */
static void come_back(const int own[NAMESPACE_SHAREABLE])
{
	for (int kind = 0; kind < NAMESPACE_SHAREABLE; kind++) {
		struct error err;

		if (own[kind] < 0)
			continue;
		if (setns(own[kind], (int)kinds[kind].flag) < 0) {
			error_set_errno(&err, "return from a container's %s namespace", kinds[kind].type);
			boot_fail(&err);
		}
		close(own[kind]);
	}
}

/* For the length of the fork, the agent is where its child shall be: a process can change its own namespaces, and for
 * process ids those of its children, but clone3 only makes new ones. */
static int enter(const struct plan_namespaces *namespaces, const int joined[NAMESPACE_SHAREABLE],
		 int own[NAMESPACE_SHAREABLE], struct error *err)
{
	for (enum namespace_kind kind = 0; kind < NAMESPACE_SHAREABLE; kind++) {
		if (namespaces->use[kind] != NAMESPACE_JOINED)
			continue;
		own[kind] = open_own(kind);
		if (own[kind] < 0 || setns(joined[kind], (int)kinds[kind].flag) < 0)
			return error_set_errno(err, "join the %s namespace of container %s", kinds[kind].type,
					       namespaces->joined[kind]);
	}
	return 0;
}

static uint64_t clone_flags(const struct plan_namespaces *namespaces, bool machine_network)
{
	uint64_t flags = CLONE_NEWNS;

	for (int kind = 0; kind < NAMESPACE_SHAREABLE; kind++)
		if (namespaces->use[kind] == NAMESPACE_OWN)
			flags |= kinds[kind].flag;
	if (namespaces->use[NAMESPACE_USER] == NAMESPACE_OWN)
		return (flags | CLONE_NEWUSER) & ~(uint64_t)CLONE_NEWIPC;
	return machine_network ? flags & ~(uint64_t)CLONE_NEWNET : flags;
}

/* Makes the process, in a new time namespace if that is wanted: clone3 does not set clocks. */
static pid_t fork_process(const struct plan_namespaces *namespaces, struct clone_args *args, struct error *err)
{
	int own_time = -1;
	pid_t pid;

	if (namespaces->use[NAMESPACE_TIME] == NAMESPACE_OWN) {
		own_time = time_offsets_enter(&namespaces->time_offsets, err);
		if (own_time < 0)
			return -1;
	}
	pid = (pid_t)syscall(SYS_clone3, args, sizeof(*args));
	if (pid < 0)
		error_set_errno(err, "make the container's first process");
	if (pid != 0 && own_time >= 0) {
		struct error fatal;

		if (time_offsets_leave(own_time, &fatal) < 0)
			boot_fail(&fatal);
	}
	return pid;
}

pid_t namespaces_fork(const struct plan_namespaces *namespaces, const int joined[NAMESPACE_SHAREABLE],
		      bool machine_network, int cgroup, int *pidfd, struct error *err)
{
	struct clone_args args = {
	    .flags = clone_flags(namespaces, machine_network) | CLONE_INTO_CGROUP | CLONE_PIDFD,
	    .pidfd = (uintptr_t)pidfd,
	    .exit_signal = SIGCHLD,
	    .cgroup = (uint64_t)cgroup,
	};
	int own[NAMESPACE_SHAREABLE] = {-1, -1, -1, -1};
	pid_t pid = -1;

	if (enter(namespaces, joined, own, err) == 0)
		pid = fork_process(namespaces, &args, err);
	if (pid == 0) {
		/* It has nobody to tell yet; that it is gone will be noticed. */
		if ((args.flags & CLONE_NEWNET) && boot_bring_up_loopback(err) < 0)
			_exit(1);
		return 0;
	}
	come_back(own);
	return pid;
}
