#include "guest-agent/container.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "guest-agent/boot.h"
#include "guest-agent/cgroup.h"
#include "guest-agent/clock.h"
#include "guest-agent/container_parts.h"
#include "guest-agent/init.h"
#include "guest-agent/random.h"
#include "guest-agent/user_namespace.h"

static struct container *containers;
static uint32_t last_window_port; /* 0: none */
static struct plan_window last_window;
static unsigned n_made;
static bool network_taken;   /* the machine's, by the first container that wanted one */
static bool machine_lingers; /* it ends with the last container */
static bool machine_ends;
static uint32_t machine_status;

struct container *container_find(const char *id)
{
	struct container *container = containers;

	while (container && strcmp(container->id, id) != 0)
		container = container->next;
	return container;
}

static void stop_watching_cgroup(struct container *container)
{
	int fd = container->emptied.fd;

	loop_remove(&container->emptied);
	if (fd >= 0)
		close(fd);
}

static void unlink_container(struct container *container)
{
	struct container **link = &containers;

	while (*link && *link != container)
		link = &(*link)->next;
	if (*link)
		*link = container->next;
}

/* Releases all that the container holds. Its processes are gone. */
static void container_free(struct container *container)
{
	struct error err;

	unlink_container(container);
	connection_release(&container->tie);
	freezer_release(&container->freezer);
	sockets_close(&container->sockets);
	notify_end(&container->notify);
	network_release(&container->network);
	execs_free(&container->execs);
	child_release(&container->init);
	stop_watching_cgroup(container);
	oom_release(&container->oom);
	if (container->cgroup >= 0) {
		close(container->cgroup);
		cgroup_remove(container->number, &err);
	}
	if (container->has_user_namespace)
		user_namespace_forget(container->number);
	json_decref(container->trace);
	plan_free(container->plan);
	free(container->id);
	free(container);
}

static void terminal_came(struct child *child, int master);
static void reported(struct child *child, const struct init_report *report);
static void channel_closed(struct child *child);
static void exec_changed(struct execs *execs);
static void stream_connected(struct stdio *stdio, int code);
static void stream_ended(struct stdio *stdio);

static struct container *container_new(struct order *order)
{
	static const struct child_events events = {terminal_came, reported, channel_closed};
	struct container *container = calloc(1, sizeof(*container));

	if (!container)
		return NULL;
	container->number = ++n_made;
	container->cgroup = -1;
	container->emptied = (struct watch)WATCH_NONE;
	child_init(&container->init, &events);
	stdio_init(&container->init.stdio, container, stream_connected, stream_ended);
	container->oom = (struct oom_watch)OOM_WATCH_NONE;
	notify_begin(&container->notify);
	container->plan = take_pointer(order->plan);
	container->execs.changed = exec_changed;
	container->freezer = (struct freezer)FREEZER_NONE;
	container->id = strdup(order->id);
	container->next = containers;
	containers = container;
	if (container->id)
		return container;
	container_free(container);
	return NULL;
}

struct container *container_find_or_refuse(const struct order *order, struct error *err)
{
	struct container *container = container_find(order->id);

	/* One that is being made is not there yet. */
	if (container && container->state != CREATING)
		return container;
	error_set(err, ENOENT, "container \"%s\" does not exist", order->id);
	return NULL;
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

static void remove_container(struct container *container)
{
	struct answer answer = {0};

	answer_move(&answer, &container->answer);
	container_free(container);
	answer_ok(&answer, NULL);
}

/* The container that stands for the machine has ended: the others go with it, and each gets to say how it ended. */
static void end_others(void)
{
	struct error err;

	for (struct container *other = containers; other; other = other->next) {
		if (other->settled)
			continue;
		if (other->state != STOPPED) {
			cgroup_kill(other->cgroup, &err);
			continue;
		}
		stdio_lose_patience(&other->init.stdio);
		execs_lose_patience(&other->execs);
	}
}

/* The VMM ends with this status: answers that are owed come first. */
static void end_machine_if_settled(void)
{
	struct error err;

	for (const struct container *container = containers; container; container = container->next)
		if (!container->settled)
			return;
	/* From now on nobody joins. */
	if (machine_lingers)
		machine_ends = true;
	if (machine_ends)
		boot_report(AGENT_REPORT_EXIT, machine_status, &err);
}

void container_answer_exit(struct container *container)
{
	answer_ok(&container->waiting, json_pack("{s:i}", "exitStatus", container->exit_status));
}

static void begin_end(const struct container *container)
{
	machine_status = (uint32_t)container->exit_status;
	if (container->plan->lingers) {
		machine_lingers = true;
		return;
	}
	machine_ends = true;
	end_others();
}

/* The process has ended and all its output is in the streams. The container may be gone afterwards. */
static void settle(struct container *container)
{
	if (container->stands_for_machine)
		begin_end(container);
	container->settled = true;
	/* Its mounts went with its last process, and with them what programs had written through shared mappings; this
	 * is for file systems that somebody else still has mounted. */
	sync();
	container_answer_exit(container);
	if (container->deleting)
		remove_container(container);
	end_machine_if_settled();
}

static void settle_if_drained(struct container *container)
{
	if (container->state == STOPPED && !container->settled && !stdio_is_draining(&container->init.stdio) &&
	    container->emptied.fd < 0 && execs_are_over(&container->execs))
		settle(container);
}

static void stream_ended(struct stdio *stdio)
{
	settle_if_drained(stdio->owner);
}

static void exec_changed(struct execs *execs)
{
	settle_if_drained((struct container *)((char *)execs - offsetof(struct container, execs)));
}

/* --- processes that are left ------------------------------------------------------------------------------------- */

/* Whether there are processes in the cgroup; read anew each time, since that also arms the next notice. */
static bool is_populated(int events)
{
	char text[256];
	ssize_t n = pread(events, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "populated 1") != NULL;
}

static void cgroup_changed(struct watch *watch, uint32_t events)
{
	struct container *container = (struct container *)((char *)watch - offsetof(struct container, emptied));

	(void)events;
	if (is_populated(watch->fd))
		return;
	stop_watching_cgroup(container);
	settle_if_drained(container);
}

/* Where its first process is not the first of the pid namespace, the kernel leaves the others alone when that ends.
 * They are the container's all the same, and go with it. */
static void end_leftovers(struct container *container)
{
	int events = openat(container->cgroup, "cgroup.events", O_RDONLY | O_CLOEXEC);
	struct error err;

	container->emptied.ready = cgroup_changed;
	if (events < 0 || cgroup_kill(container->cgroup, &err) < 0 || !is_populated(events) ||
	    loop_add(&container->emptied, events, EPOLLPRI) < 0) {
		if (events >= 0)
			close(events);
	}
}

static void init_ended(struct container *container, int status)
{
	struct error err = {.message = "the container's first process ended before it was ready"};
	struct answer answer = {0}, gone = {0};

	/* What it said last comes first: a failure to execute is the answer to start. */
	child_drain(&container->init);
	if (container->state == CREATING) {
		child_fail(&container->init, &err);
		err = container->init.failure;
		answer_move(&answer, &container->answer);
		answer_move(&gone, &container->gone);
		container_free(container);
		answer_error(&answer, &err);
		answer_ok(&gone, NULL);
		end_machine_if_settled();
		return;
	}
	container->exit_status = child_exit_status(status);
	/* Before the machine may end with it. */
	oom_container_ended(&container->oom);
	if (container->shares_pids)
		end_leftovers(container);
	/* All other processes of it have been killed by now. Input that nobody read is lost, as in a pipe. */
	stdio_finish(&container->init.stdio, WIFSIGNALED(status));
	container->state = STOPPED;
	sockets_end(&container->sockets);
	notify_end(&container->notify);
	execs_lose_patience(&container->execs);
	settle_if_drained(container);
}

void container_reaped(pid_t pid, int status)
{
	for (struct container *container = containers; container; container = container->next) {
		if (container->init.pid == pid && container->state != STOPPED) {
			init_ended(container, status);
			return;
		}
		if (execs_reaped(&container->execs, pid, status))
			return;
	}
}

/* --- create ------------------------------------------------------------------------------------------------------ */

/* Remembers when it was; without a wish for that, nothing. */
static void step(struct container *container, const char *name)
{
	if (container->trace)
		json_array_append_new(container->trace, json_pack("[s, I]", name, (json_int_t)now_ns()));
}

/* Times become distances from now. */
static json_t *finish_trace(struct container *container)
{
	json_t *entry, *trace = container->trace;
	json_int_t now = now_ns();
	size_t i;

	container->trace = NULL;
	json_array_foreach(trace, i, entry)
	{
		json_array_set_new(entry, 1, json_integer(now - json_integer_value(json_array_get(entry, 1))));
	}
	return trace;
}

static void finish_creating(struct container *container)
{
	struct error err;
	json_t *more;

	if (container->state != CREATING || container->init.failed || !container->init_ready ||
	    container->init.stdio.connecting > 0)
		return;
	/* Only now: what mounts its disks is in the cgroup already, and nothing of the container has run. */
	if (device_filter_attach(container->cgroup, container->plan->device_rules, container->plan->n_device_rules,
				 &err) < 0) {
		child_fail(&container->init, &err);
		return;
	}
	if (container->plan->reports_oom && oom_report(&container->oom, container->cgroup, &err) < 0) {
		child_fail(&container->init, &err);
		return;
	}
	container->state = CREATED;
	container->stands_for_machine = container->plan->stands_for_machine;
	step(container, "the first process is ready");
	more = json_pack("{s:i}", "pid", (int)container->init.pid);
	if (more && container->trace)
		json_object_set_new(more, "trace", finish_trace(container));
	if (more && json_array_size(container->plan->warnings) > 0)
		json_object_set(more, "warnings", container->plan->warnings);
	answer_ok(&container->answer, more);
}

/* A container that runs goes on without the stream. */
static void stream_connected(struct stdio *stdio, int code)
{
	struct container *container = stdio->owner;
	struct error err;

	if (code == 0) {
		finish_creating(container);
		return;
	}
	error_set(&err, code, "connect stdio: %s", strerror(code));
	if (container->state == CREATING)
		child_fail(&container->init, &err);
}

/* Whose namespaces are shared must live: a namespace is entered through one of its processes. */
static const struct container *find_living(const char *id, struct error *err)
{
	const struct container *container = container_find(id);

	if (container && container->state != CREATING && container->state != STOPPED)
		return container;
	error_set(err, ESRCH, "create: namespaces: container \"%s\" is not there or has stopped", id);
	return NULL;
}

/* The first processes of the containers whose namespaces are shared. */
static int find_joined(const struct plan_namespaces *namespaces, int joined[NAMESPACE_SHAREABLE], struct error *err)
{
	for (int kind = 0; kind < NAMESPACE_SHAREABLE; kind++) {
		const struct container *other;

		joined[kind] = -1;
		if (namespaces->use[kind] != NAMESPACE_JOINED)
			continue;
		other = find_living(namespaces->joined[kind], err);
		if (!other)
			return -1;
		joined[kind] = other->init.pidfd;
	}
	return 0;
}

/* Whose user namespace is joined has ids mapped already. */
static int join_id_maps(struct plan *plan, struct error *err)
{
	const struct container *other;

	if (plan->namespaces.use[NAMESPACE_USER] != NAMESPACE_JOINED)
		return 0;
	other = find_living(plan->namespaces.joined[NAMESPACE_USER], err);
	if (!other)
		return -1;
	if (!other->has_user_namespace)
		return error_set(err, EINVAL, "linux.namespaces: container \"%s\" has no user namespace to be joined",
				 other->id);
	return plan_join_id_maps(plan, &other->plan->id_maps, err);
}

static pid_t fork_init(struct container *container, struct error *err)
{
	const struct plan_namespaces *namespaces = &container->plan->namespaces;
	int joined[NAMESPACE_SHAREABLE];
	bool own_network = namespaces->use[NAMESPACE_NETWORK] == NAMESPACE_OWN;
	pid_t pid;

	if (find_joined(namespaces, joined, err) < 0)
		return -1;
	container->shares_pids = namespaces->use[NAMESPACE_PID] != NAMESPACE_OWN;
	pid = namespaces_fork(namespaces, joined, !network_taken, container->cgroup, &container->init.pidfd, err);
	if (pid > 0 && own_network && !container->has_user_namespace)
		network_taken = true;
	return pid;
}

static int start_init(struct container *container, const struct stdio_fds *fds, struct error *err)
{
	int channel = child_open_channel(&container->init, err);

	if (channel < 0)
		return -1;
	container->init.pid = fork_init(container, err);
	if (container->init.pid == 0)
		init_run(container->plan, container->id, fds, channel);
	close(channel);
	if (container->init.pid < 0 || child_watch(&container->init, err) < 0)
		return -1;
	return user_namespace_begin(container->plan, container->init.pid, container->init.channel, err);
}

/* A container that may write to its own cgroup tree owns the files that a tree is made with. */
static int delegate_cgroup(const struct container *container, struct error *err)
{
	uint32_t owner;

	if (!container->plan->writes_cgroup)
		return 0;
	id_map_outside(&container->plan->id_maps.users, container->plan->process.uid, &owner);
	return owner == 0 ? 0 : cgroup_delegate(container->cgroup, owner, err);
}

static int make(struct container *container, struct error *err)
{
	struct stdio_fds fds = {.n = 0};
	uint32_t owner;
	int status;

	container->has_user_namespace = user_namespace_wanted(container->plan);
	if (join_id_maps(container->plan, err) < 0 || boot_mount_exports(err) < 0 ||
	    user_namespace_prepare(container->plan, container->number, err) < 0)
		return -1;
	step(container, "the exports are mounted");
	container->cgroup = cgroup_create(container->number, err);
	if (container->cgroup < 0 || resources_apply(container->cgroup, &container->plan->resources, err) < 0 ||
	    delegate_cgroup(container, err) < 0)
		return -1;
	step(container, "the cgroup is made");
	id_map_outside(&container->plan->id_maps.users, container->plan->process.uid, &owner);
	if (sockets_open(&container->sockets, container->plan, container->number, err) < 0 ||
	    notify_open(&container->notify, container->plan, container->number, err) < 0)
		return -1;
	status = stdio_open(&container->init.stdio, container->plan, owner, &fds, err);
	if (status == 0)
		status = start_init(container, &fds, err);
	stdio_close_fds(&fds);
	step(container, "the first process is forked");
	return status;
}

/* What stands for it on the host has gone. */
static void tie_ended(struct dependent *tie)
{
	struct container *container = (struct container *)((char *)tie - offsetof(struct container, tie));
	struct error err = {.message = "its owner has gone", .code = ECANCELED};

	if (container->state == CREATING)
		child_fail(&container->init, &err);
	else if (container->state != STOPPED)
		cgroup_kill(container->cgroup, &err);
}

/* Before the first container: a machine that was forked is still its template in what it knows of time, and its random
 * generator is that of all others forked from it. */
static int become_own_machine(const struct order *order, struct error *err)
{
	if (order->has_seed && random_seed(order->seed, err) < 0)
		return -1;
	return order->time ? clock_begin(order->time, err) : 0;
}

int container_create(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container;

	if (machine_ends)
		return error_set(err, ECANCELED, "the sandbox is ending");
	if (container_find(order->id))
		return error_set(err, EEXIST, "container with id exists: %s", order->id);
	if (!containers && n_made == 0 && become_own_machine(order, err) < 0)
		return -1;
	container = container_new(order);
	if (!container)
		return error_set(err, ENOMEM, "out of memory");
	if (order->trace)
		container->trace = json_array();
	step(container, "the order is read");
	answer_move(&container->answer, answer);
	container->tie.ended = tie_ended;
	if (container->plan->tied)
		connection_depend(&container->answer, &container->tie);
	if (make(container, err) == 0)
		return 0;
	if (container->init.pid > 0) {
		child_fail(&container->init, err); /* goes when it has been reaped */
		return 0;
	}
	answer_move(answer, &container->answer);
	container_free(container);
	return -1;
}

/* --- start ------------------------------------------------------------------------------------------------------- */

static struct container *container_of(struct child *child)
{
	return (struct container *)((char *)child - offsetof(struct container, init));
}

static void terminal_came(struct child *child, int master)
{
	const struct container *container = container_of(child);
	const struct plan *plan = container->plan;
	bool is_told = last_window_port && last_window_port == plan->stdio[STDIO_OUT];

	if (container->state == CREATING)
		child_take_terminal(child, plan, is_told ? &last_window : &plan->window, master);
	else
		close(master);
}

static void init_failed(struct container *container, const struct init_report *report)
{
	struct error err;

	child_reported_error(report, &err);
	if (container->state == CREATING)
		child_fail(&container->init, &err);
	else
		answer_error(&container->answer, &err);
}

static void reported(struct child *child, const struct init_report *report)
{
	struct container *container = container_of(child);
	struct error err;

	if (report->stage == INIT_FAILED)
		init_failed(container, report);
	if (report->stage != INIT_READY)
		return;
	container->init_ready = true;
	if (container->state == CREATING && user_namespace_finish(container->plan, child->pid, &err) < 0)
		child_fail(child, &err);
	finish_creating(container);
}

/* Its program runs, or it has died without a word: then its status tells. */
static void channel_closed(struct child *child)
{
	struct container *container = container_of(child);

	if (container->state != STARTING)
		return;
	container->state = RUNNING;
	answer_ok(&container->answer, NULL);
}

int container_start(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);

	if (!container)
		return -1;
	if (container->state == STOPPED)
		return error_set(err, EINVAL, "cannot start a container that has stopped");
	if (container->state != CREATED)
		return error_set(err, EINVAL, "cannot start an already running container");
	container->state = STARTING;
	answer_move(&container->answer, answer);
	/* If init has been killed meanwhile, its channel closes and tells. */
	send(container->init.channel, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	return 0;
}

/* --- delete ------------------------------------------------------------------------------------------------------ */

/* Its creator may have been killed; nothing of it must appear after the answer. */
static int delete_unfinished(struct container *container, struct answer *answer, struct error *err)
{
	struct error reason = {.message = "it was deleted while it was made", .code = ECANCELED};

	if (container->gone.connection)
		return error_set(err, EBUSY, "another order for container %s is under way", container->id);
	answer_move(&container->gone, answer);
	child_fail(&container->init, &reason);
	return 0;
}

int container_delete(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find(order->id);

	if (container && container->state == CREATING && order->force)
		return delete_unfinished(container, answer, err);
	container = container_find_or_refuse(order, err);
	if (!container)
		return -1;
	if (container->state != STOPPED && !order->force)
		return error_set(err, EBUSY, "cannot delete container %s that is not stopped", order->id);
	if (container->deleting || container->answer.connection)
		return error_set(err, EBUSY, "another order for container %s is under way", order->id);
	container->deleting = true;
	answer_move(&container->answer, answer);
	if (container->settled)
		remove_container(container);
	else if (container->state != STOPPED)
		child_signal(&container->init, SIGKILL);
	return 0;
}

/* --- the terminal's size ----------------------------------------------------------------------------------------- */

void container_window(uint32_t port, unsigned columns, unsigned rows)
{
	struct error err;

	/* Its container may not be made yet. */
	last_window_port = port;
	last_window = (struct plan_window){.columns = columns, .rows = rows};

	for (struct container *container = containers; container; container = container->next)
		if (container->plan->process.terminal && container->plan->stdio[STDIO_OUT] == port &&
		    container->state != STOPPED)
			stdio_resize(&container->init.stdio, columns, rows, &err);
}
