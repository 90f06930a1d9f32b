#include "guest-agent/container.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>

#include "guest-agent/cgroup.h"
#include "guest-agent/container_parts.h"
#include "guest-agent/figures.h"
#include "guest-agent/processes.h"

/* --- kill -------------------------------------------------------------------------------------------------------- */

/* In a child of the agent. From inside the pid namespace, kill(-1) reaches every process but its init in one step that
 * no fork can slip past. The container may get hold of the process that does it: so it has nothing but the right to
 * kill. */
static void signal_namespace(int pidfd, int signal) __attribute__((noreturn));

static void signal_namespace(int pidfd, int signal)
{
	const struct capabilities only_kill = {.effective = UINT64_C(1) << CAP_KILL,
					       .permitted = UINT64_C(1) << CAP_KILL};
	struct error err;
	pid_t pid;

	if (setns(pidfd, CLONE_NEWPID) < 0 || close_range(0, ~0U, 0) < 0 || capabilities_apply(&only_kill, &err) < 0)
		_exit(1);
	pid = fork();
	if (pid == 0) {
		kill(-1, signal);
		_exit(0);
	}
	_exit(pid < 0 || waitpid(pid, NULL, 0) < 0);
}

static int signal_all(struct container *container, int signal, struct error *err)
{
	pid_t pid;

	if (signal == SIGKILL)
		return cgroup_kill(container->cgroup, err);
	/* There are others in its pid namespace. */
	if (container->shares_pids)
		return processes_signal(container->number, signal, err);
	pid = fork();
	if (pid == 0)
		signal_namespace(container->init.pidfd, signal);
	if (pid < 0)
		return error_set_errno(err, "fork");
	return 0;
}

int container_kill(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);

	if (!container)
		return -1;
	if (order->exec)
		return exec_kill(&container->execs, order, answer, err);
	if (container->state == STOPPED)
		return error_set(err, ESRCH, "container not running");
	if (order->all && signal_all(container, order->signal, err) < 0)
		return -1;
	if (child_signal(&container->init, order->signal) < 0) {
		if (errno == ESRCH)
			return error_set(err, ESRCH, "process already finished");
		return error_set_errno(err, "send signal %d", order->signal);
	}
	answer_ok(answer, NULL);
	return 0;
}

/* --- asking and changing ----------------------------------------------------------------------------------------- */

int container_state(struct order *order, struct answer *answer, struct error *err)
{
	static const char *const names[] = {
	    [CREATED] = "created", [STARTING] = "created", [RUNNING] = "running", [STOPPED] = "stopped"};
	struct container *container = container_find_or_refuse(order, err);
	const char *status;
	json_t *more;

	if (!container)
		return -1;
	status = container->freezer.frozen && container->state != STOPPED ? "paused" : names[container->state];
	more = json_pack("{s:s, s:i}", "status", status, "pid",
			 container->state == STOPPED ? 0 : (int)container->init.pid);
	if (more && container->state == STOPPED)
		json_object_set_new(more, "exitStatus", json_integer(container->exit_status));
	answer_ok(answer, more);
	return 0;
}

int container_update(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);

	if (!container)
		return -1;
	if (container->state == STOPPED)
		return error_set(err, ESRCH, "container not running");
	if (resources_apply(container->cgroup, &order->resources, err) < 0)
		return -1;
	answer_ok(answer, NULL);
	return 0;
}

int container_stats(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);
	json_t *figures = container ? figures_read(container->cgroup, err) : NULL;

	if (!figures)
		return -1;
	answer_ok(answer, json_pack("{s:o}", "data", figures));
	return 0;
}

int container_events(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);

	if (!container)
		return -1;
	if (container->state != STOPPED)
		return oom_wait(&container->oom, container->cgroup, order->known, answer, err);
	answer_ok(answer,
		  json_pack("{s:I, s:b}", "oomKills", (json_int_t)figures_oom_kills(container->cgroup), "ended", 1));
	return 0;
}

int container_sockets(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);

	return container ? sockets_order(&container->sockets, order, answer, err) : -1;
}

int container_notify(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);

	return container ? notify_order(&container->notify, answer, err) : -1;
}

int container_network(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);
	struct network_place place;
	json_t *dropped;
	int status;

	if (!container)
		return -1;
	if (container->state == STOPPED && !order->network->begin)
		return error_set(err, ESRCH, "container not running");
	/* Its namespace cannot be entered any more, but its cards can be taken back. */
	if (container->state == STOPPED) {
		network_release(&container->network);
		answer_ok(answer, NULL);
		return 0;
	}
	dropped = json_array();
	place = (struct network_place){container->init.pid, container->init.pidfd, container->cgroup};
	status = network_set(&container->network, &place, order->network, dropped, err);
	if (status == 0)
		answer_ok(answer, json_pack("{s:O}", "dropped", dropped));
	json_decref(dropped);
	return status;
}

/* --- processes beside its own one -------------------------------------------------------------------------------- */

int container_exec(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);
	struct exec_place place;

	if (!container)
		return -1;
	if (container->state == STOPPED)
		return error_set(err, EINVAL, "cannot exec in a stopped container");
	if (container->freezer.frozen && !order->ignore_paused)
		return error_set(err, EBUSY, "cannot exec in a paused container (use --ignore-paused to override)");
	place = (struct exec_place){
	    .id = container->id,
	    .pid = container->init.pid,
	    .pidfd = container->init.pidfd,
	    .cgroup = container->cgroup,
	    .plan = container->plan,
	};
	return exec_start(&container->execs, &place, order, answer, err);
}

int container_wait(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);

	if (!container)
		return -1;
	if (order->exec)
		return exec_wait(&container->execs, order, answer, err);
	if (container->waiting.connection)
		return error_set(err, EBUSY, "somebody else waits for container \"%s\"", order->id);
	answer_move(&container->waiting, answer);
	if (container->settled)
		container_answer_exit(container);
	return 0;
}

static int set_frozen(struct order *order, bool frozen, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);

	if (!container)
		return -1;
	if (container->state == STOPPED)
		return error_set(err, ESRCH, "container not running");
	return freezer_set(&container->freezer, container->cgroup, frozen, answer, err);
}

int container_pause(struct order *order, struct answer *answer, struct error *err)
{
	return set_frozen(order, true, answer, err);
}

int container_resume(struct order *order, struct answer *answer, struct error *err)
{
	return set_frozen(order, false, answer, err);
}

int container_ps(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);
	json_t *list;

	if (!container)
		return -1;
	list = processes_list(container->number, err);
	if (!list)
		return -1;
	answer_ok(answer, list);
	return 0;
}

int container_resize(struct order *order, struct answer *answer, struct error *err)
{
	struct container *container = container_find_or_refuse(order, err);

	if (!container)
		return -1;
	if (order->exec)
		return exec_resize(&container->execs, order, answer, err);
	if (stdio_resize(&container->init.stdio, order->columns, order->rows, err) < 0)
		return -1;
	answer_ok(answer, NULL);
	return 0;
}
