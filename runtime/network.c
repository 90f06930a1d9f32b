#include "runtime/network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "runtime/agent.h"
#include "runtime/cgroup.h"
#include "runtime/network_facts.h"
#include "runtime/network_watch.h"
#include "runtime/redirect.h"
#include "runtime/report.h"

#define OWN_NAMESPACE "/proc/self/ns/net"
#define HOST_NAMESPACE "/proc/1/ns/net"

/* --- what the spec says ------------------------------------------------------------------------------------------ */

void network_plan_release(struct network_plan *plan)
{
	cleanup_close_fd(&plan->fd);
	*plan = NETWORK_PLAN_NONE;
}

static bool is_same(int fd, const char *path)
{
	struct stat one, other;

	return fstat(fd, &one) == 0 && stat(path, &other) == 0 && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}

/* Never waits: the path may be anything. */
static int open_namespace(const char *path)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd >= 0 && ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET ? take_fd(&fd) : -1;
}

bool network_is_namespace(const char *path)
{
	cleanup_close int fd = open_namespace(path);

	return fd >= 0;
}

static int open_given(size_t index, struct network_plan *plan, struct error *err)
{
	plan->fd = open_namespace(plan->path);
	if (plan->fd < 0)
		return error_set(err, EINVAL, SPEC_FILE ": linux.namespaces[%zu].path: `%s` is not a network namespace",
				 index, plan->path);
	if (is_same(plan->fd, OWN_NAMESPACE) || is_same(plan->fd, HOST_NAMESPACE))
		return error_set(err, ENOTSUP,
				 SPEC_FILE
				 ": linux.namespaces[%zu].path: `%s` is the host's own network, which a virtual "
				 "machine cannot share",
				 index, plan->path);
	return 0;
}

int network_plan_read(const struct spec *spec, const struct joined *joined, struct network_plan *plan,
		      struct error *err)
{
	const json_t *list = json_object_get(json_object_get(spec->json, "linux"), "namespaces"), *element;
	size_t index;

	*plan = NETWORK_PLAN_NONE;
	if (joined->ids[SHARED_NETWORK])
		return 0;
	json_array_foreach(list, index, element)
	{
		const char *type = json_string_value(json_object_get(element, "type"));
		const char *path = json_string_value(json_object_get(element, "path"));

		if (!type || strcmp(type, shared_kind_names[SHARED_NETWORK]) != 0)
			continue;
		plan->own = true;
		plan->path = path && *path ? path : NULL;
		if (plan->path && open_given(index, plan, err) < 0)
			return -1;
	}
	return 0;
}

/* --- looking into it --------------------------------------------------------------------------------------------- */

/* The socket stays in that namespace, this process is back in its own. */
static int open_netlink_in(int namespace, struct netlink *netlink, struct error *err)
{
	cleanup_close int own = open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC);
	int result;

	*netlink = NETLINK_NONE;
	if (own < 0 || setns(namespace, CLONE_NEWNET) < 0)
		return error_set_errno(err, "enter the container's network namespace");
	result = netlink_open(netlink, err);
	if (setns(own, CLONE_NEWNET) < 0) {
		/* Whatever came next would be done to the container's network. */
		report_error("return from the container's network namespace: %s", strerror(errno));
		_exit(1);
	}
	return result;
}

static int open_namespace_of(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	return open_namespace(path);
}

/* Whether there is anything that the guest has to be told of. */
static int has_links(int namespace, bool *found, struct error *err)
{
	cleanup_netlink struct netlink netlink = NETLINK_NONE;
	struct network_links links;

	if (open_netlink_in(namespace, &netlink, err) < 0 || network_links_read(&netlink, &links, err) < 0)
		return -1;
	if (*links.left_out)
		report_warning("network interface %s: the container does not have it", links.left_out);
	*found = links.n > 0;
	return 0;
}

/* --- connecting it ----------------------------------------------------------------------------------------------- */

void network_process_end(struct network_process *process)
{
	child_end(&process->child);
	lifeline_cut(&process->lifeline);
}

int network_keep(struct network_process *process, struct error *err)
{
	if (process->child.pid <= 0)
		return 0;
	close(process->child.pidfd);
	process->child = CHILD_NONE;
	return lifeline_release(&process->lifeline, err);
}

static int open_cgroup(const struct state *state)
{
	cleanup_free char *path = NULL;

	if (!state->cgroup || asprintf(&path, CGROUP_MOUNT "%s", state->cgroup) < 0)
		return -1;
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* What hull-net writes: nothing and the end when all is well, or an error. */
static int wait_until_ready(int ready, struct watch *watch, struct error *err)
{
	char text[sizeof(err->message)];
	ssize_t n;

	if (watch_wait(watch, ready, POLLIN, err) < 0)
		return -1;
	n = read(ready, text, sizeof(text) - 1);
	if (n <= 0)
		return error_set(err, EIO, "hull-net has ended");
	text[n] = '\0';
	if (strcmp(text, NETWORK_READY) == 0)
		return 0;
	return error_set(err, EIO, "%s", text);
}

static int spawn_watcher(struct container *container, int namespace, struct watch *watch,
			 struct network_process *process, struct error *err)
{
	cleanup_close int control = -1, agent = -1, owner = -1, cgroup = -1, log = -1, ready = -1, ready_end = -1;
	struct network_watcher watcher = {.id = container->id};
	int ends[2];

	control = vmm_control_connect(container->folder, CONTAINER_CONTROL_SOCKET, err);
	agent = control < 0 ? -1 : agent_connect(control, watch, err);
	if (agent < 0)
		return -1;
	owner = process_open(&container->state.vmm);
	log = openat(container->folder, CONTAINER_LOG_FILE, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (owner < 0 || log < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return error_set_errno(err, "prepare hull-net");
	ready = ends[0];
	ready_end = ends[1];
	cgroup = open_cgroup(&container->state);
	if (lifeline_make(&process->lifeline, err) < 0)
		return -1;
	watcher.control = control;
	watcher.agent = agent;
	watcher.owner = owner;
	watcher.owner_pid = (uint32_t)container->state.vmm.pid;
	watcher.log = log;
	watcher.ready = ready_end;
	if (network_watcher_spawn(&watcher, namespace, cgroup, &process->lifeline, &process->child, err) < 0)
		return -1;
	close(take_fd(&ready_end));
	return wait_until_ready(ready, watch, err);
}

/* From the moment that this is recorded, whoever cleans up looks for what is left in the namespace. */
static int record(struct container *container, int namespace, struct error *err)
{
	struct stat status;

	if (fstat(namespace, &status) < 0)
		return error_set_errno(err, "the container's network namespace");
	container->state.netns = status.st_ino;
	return container_save(container, err);
}

int network_connect(struct container *container, struct watch *watch, struct network_process *process,
		    struct error *err)
{
	struct state *state = &container->state;
	cleanup_close int namespace = -1;
	bool found = false;

	*process = NETWORK_PROCESS_NONE;
	if (!state->has_network)
		return 0;
	namespace = open_namespace_of(state->vmm.pid);
	/* Without privilege it made one that is its own user's, and nobody can have put anything into it. */
	if (namespace < 0 && geteuid() != 0)
		return 0;
	if (namespace < 0)
		return error_set_errno(err, "open the container's network namespace");
	/* Whatever has gone wrong: never this one. */
	if (is_same(namespace, OWN_NAMESPACE))
		return error_set(err, EINVAL, "the container's network namespace is the host's");
	if (has_links(namespace, &found, err) < 0)
		return geteuid() != 0 && err->code == EPERM ? 0 : -1;
	if (!found)
		return 0;
	if (record(container, namespace, err) < 0)
		return -1;
	if (spawn_watcher(container, namespace, watch, process, err) < 0) {
		network_process_end(process);
		return error_prefix(err, "network");
	}
	return process_identify(process->child.pid, &state->network, err);
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

static int check_inode(int fd, uint64_t inode)
{
	cleanup_close int namespace = fd;
	struct stat status;

	return namespace >= 0 && fstat(namespace, &status) == 0 && status.st_ino == inode ? take_fd(&namespace) : -1;
}

/* Engines keep a network namespace by a mount, which the kernel lists as "net:[INODE]". */
static int find_mounted(uint64_t inode)
{
	cleanup_file FILE *mounts = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	size_t size = 0;
	char root[48];
	int found = -1;

	snprintf(root, sizeof(root), "net:[%llu]", (unsigned long long)inode);
	while (mounts && found < 0 && getline(&line, &size, mounts) > 0) {
		char *rest = line, *word = NULL;

		for (int field = 1; field <= 4; field++)
			word = strsep(&rest, " ");
		if (!word || !rest || strcmp(word, root) != 0)
			continue;
		found = check_inode(open_namespace(strsep(&rest, " ")), inode);
	}
	return found;
}

int network_find(const struct state *state)
{
	int found = -1;

	if (!state->netns)
		return -1;
	if (process_alive(&state->vmm))
		found = check_inode(open_namespace_of(state->vmm.pid), state->netns);
	if (found < 0 && process_alive(&state->network))
		found = check_inode(open_namespace_of(state->network.pid), state->netns);
	if (found < 0 && state->netns_path)
		found = check_inode(open_namespace(state->netns_path), state->netns);
	return found >= 0 ? found : find_mounted(state->netns);
}

int network_clear(int namespace, const struct state *state, struct error *err)
{
	cleanup_netlink struct netlink netlink = NETLINK_NONE;

	/* A number that is used again must not lead us astray. */
	if (is_same(namespace, OWN_NAMESPACE))
		return 0;
	if (open_netlink_in(namespace, &netlink, err) < 0)
		return -1;
	return redirect_undo_all(&netlink, (uint32_t)state->vmm.pid, err);
}
