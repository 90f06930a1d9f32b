#include "guest-agent/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "guest-agent/boot.h"
#include "guest-agent/places.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

/* linux.namespaces[].type, the flag of setns(2), the name below /proc/PID/ns. */
static const struct {
	const char *type;
	int flag;
	const char *file;
} kinds[NAMESPACE_KINDS] = {
    [NAMESPACE_PID] = {"pid", CLONE_NEWPID, "pid"},	[NAMESPACE_NETWORK] = {"network", CLONE_NEWNET, "net"},
    [NAMESPACE_IPC] = {"ipc", CLONE_NEWIPC, "ipc"},	[NAMESPACE_UTS] = {"uts", CLONE_NEWUTS, "uts"},
    [NAMESPACE_MOUNT] = {"mount", CLONE_NEWNS, "mnt"},	[NAMESPACE_CGROUP] = {"cgroup", CLONE_NEWCGROUP, "cgroup"},
    [NAMESPACE_USER] = {"user", CLONE_NEWUSER, "user"}, [NAMESPACE_TIME] = {"time", CLONE_NEWTIME, "time"},
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
	/* A network namespace of the host is filled in later: guest-agent/network.h. */
	if (path && *path && namespaces->use[kind] != NAMESPACE_JOINED && kind != NAMESPACE_NETWORK)
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
	/* The child would have no rights over it. */
	if (namespaces->use[NAMESPACE_CGROUP] == NAMESPACE_JOINED && namespaces->use[NAMESPACE_USER] == NAMESPACE_OWN)
		return error_set(err, ENOTSUP,
				 "linux.namespaces: a container with a user namespace of its own cannot join another "
				 "one's cgroup namespace");
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
static void come_back(const int own[NAMESPACE_RETURNABLE])
{
	for (int kind = 0; kind < NAMESPACE_RETURNABLE; kind++) {
		struct error err;

		if (own[kind] < 0)
			continue;
		if (setns(own[kind], kinds[kind].flag) < 0) {
			error_set_errno(&err, "return from a container's %s namespace", kinds[kind].type);
			boot_fail(&err);
		}
		close(own[kind]);
	}
}

static int enter_one(const struct plan_namespaces *namespaces, const int joined[NAMESPACE_SHAREABLE],
		     enum namespace_kind kind, struct error *err)
{
	if (namespaces->use[kind] == NAMESPACE_JOINED && setns(joined[kind], kinds[kind].flag) < 0)
		return error_set_errno(err, "join the %s namespace of container %s", kinds[kind].type,
				       namespaces->joined[kind]);
	return 0;
}

/* For the length of the fork, the agent is where its child shall be: a process can change its own namespaces, and for
 * process ids and clocks those of its children, but clone3 only makes new ones. */
static int enter(const struct plan_namespaces *namespaces, const int joined[NAMESPACE_SHAREABLE],
		 int own[NAMESPACE_RETURNABLE], struct error *err)
{
	for (enum namespace_kind kind = 0; kind < NAMESPACE_RETURNABLE; kind++) {
		if (namespaces->use[kind] != NAMESPACE_JOINED)
			continue;
		own[kind] = open_own(kind);
		if (own[kind] < 0)
			return error_set_errno(err, "open the agent's %s namespace", kinds[kind].type);
		if (enter_one(namespaces, joined, kind, err) < 0)
			return -1;
	}
	return 0;
}

/* Those that clone3 makes: clocks have to be set first, and cgroups come later. */
static uint64_t clone_flags(const struct plan_namespaces *namespaces, bool machine_network)
{
	static const enum namespace_kind made[] = {NAMESPACE_PID, NAMESPACE_NETWORK, NAMESPACE_IPC, NAMESPACE_UTS,
						   NAMESPACE_USER};
	uint64_t flags = CLONE_NEWNS;

	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		if (namespaces->use[made[i]] == NAMESPACE_OWN)
			flags |= (uint64_t)kinds[made[i]].flag;
	if (namespaces->use[NAMESPACE_USER] != NAMESPACE_OF_MACHINE)
		return flags & ~(uint64_t)CLONE_NEWIPC;
	return machine_network ? flags & ~(uint64_t)CLONE_NEWNET : flags;
}

static pid_t clone_process(struct clone_args *args, struct error *err)
{
	pid_t pid = (pid_t)syscall(SYS_clone3, args, sizeof(*args));

	return pid < 0 ? error_set_errno(err, "make the container's first process") : pid;
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
	pid = clone_process(args, err);
	if (pid != 0 && own_time >= 0) {
		struct error fatal;

		if (time_offsets_leave(own_time, &fatal) < 0)
			boot_fail(&fatal);
	}
	return pid;
}

/* It has nobody to tell yet; that it is gone will be noticed. */
static void begin_child(const struct plan_namespaces *namespaces, const int joined[NAMESPACE_SHAREABLE],
			const struct clone_args *args, struct error *err)
{
	/* From a cgroup namespace nobody is born into a cgroup outside of it. */
	if (enter_one(namespaces, joined, NAMESPACE_CGROUP, err) < 0 ||
	    ((args->flags & CLONE_NEWNET) && boot_bring_up_loopback(err) < 0))
		_exit(1);
}

/* --- another container's user namespace -------------------------------------------------------------------------- */

/* There is no way back from it, so that a helper goes there, and makes the process as a further child of the agent's.
 * What it tells the agent. */
struct helped {
	pid_t pid;
	struct error failure; /* when that is negative */
};

static pid_t help(const struct plan_namespaces *namespaces, const int joined[NAMESPACE_SHAREABLE],
		  struct clone_args *args, struct error *err)
{
	/* Those of the machine are to be had only before. */
	for (enum namespace_kind kind = 0; kind < NAMESPACE_SHAREABLE; kind++)
		if (kind != NAMESPACE_USER && enter_one(namespaces, joined, kind, err) < 0)
			return -1;
	if (namespaces->use[NAMESPACE_TIME] == NAMESPACE_OWN && time_offsets_enter(&namespaces->time_offsets, err) < 0)
		return -1;
	if (enter_one(namespaces, joined, NAMESPACE_USER, err) < 0)
		return -1;
	return clone_process(args, err);
}

/* Returns in the container's first process only. */
static void run_helper(const struct plan_namespaces *namespaces, const int joined[NAMESPACE_SHAREABLE], uint64_t flags,
		       int channel)
{
	int pidfd = -1;
	struct clone_args args = {.flags = flags | CLONE_PARENT | CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd};
	struct error err = {0};
	struct helped helped = {.pid = help(namespaces, joined, &args, &err)};

	if (helped.pid == 0) {
		if ((flags & CLONE_NEWNET) && boot_bring_up_loopback(&err) < 0)
			_exit(1);
		close(channel);
		return;
	}
	helped.failure = err;
	send_with_fds(channel, &helped, sizeof(helped), &pidfd, helped.pid < 0 ? 0 : 1, MSG_NOSIGNAL);
	_exit(0);
}

static pid_t take_helped(int channel, int *pidfd, struct error *err)
{
	struct helped helped = {0};
	size_t n_fds = 1;
	ssize_t n = receive_with_fds(channel, &helped, sizeof(helped), pidfd, &n_fds, 0);

	if (n != sizeof(helped))
		return error_set(err, EIO, "make the container's first process: its helper has died");
	if (helped.pid < 0)
		*err = helped.failure;
	return helped.pid;
}

/* The process is born in the agent's cgroup: the helper may not put it into another. */
static int move_to_cgroup(pid_t pid, int cgroup, struct error *err)
{
	cleanup_close int fd = openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || dprintf(fd, "%d", (int)pid) < 0)
		return error_set_errno(err, "put the container's first process into its cgroup");
	return 0;
}

static pid_t fork_with_helper(const struct plan_namespaces *namespaces, const int joined[NAMESPACE_SHAREABLE],
			      int cgroup, int *pidfd, struct error *err)
{
	int channel[2], status;
	pid_t helper, pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
		return error_set_errno(err, "socketpair");
	helper = fork();
	if (helper == 0) {
		close(channel[0]);
		run_helper(namespaces, joined, clone_flags(namespaces, false), channel[1]);
		return 0;
	}
	close(channel[1]);
	pid = helper < 0 ? error_set_errno(err, "make a helper") : take_helped(channel[0], pidfd, err);
	close(channel[0]);
	while (helper > 0 && waitpid(helper, &status, 0) < 0 && errno == EINTR)
		;
	if (pid > 0 && move_to_cgroup(pid, cgroup, err) < 0) {
		/* Nobody knows it yet: the agent reaps it with all others. */
		kill(pid, SIGKILL);
		close(*pidfd);
		*pidfd = -1;
		return -1;
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
	int own[NAMESPACE_RETURNABLE] = {-1, -1, -1, -1, -1};
	pid_t pid = -1;

	if (namespaces->use[NAMESPACE_USER] == NAMESPACE_JOINED)
		return fork_with_helper(namespaces, joined, cgroup, pidfd, err);
	if (enter(namespaces, joined, own, err) == 0)
		pid = fork_process(namespaces, &args, err);
	if (pid == 0) {
		begin_child(namespaces, joined, &args, err);
		return 0;
	}
	come_back(own);
	return pid;
}
