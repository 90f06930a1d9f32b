#include "guest-agent/exec.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "guest-agent/boot.h"
#include "guest-agent/child.h"
#include "guest-agent/init.h"
#include "guest-agent/loop.h"
#include "guest-agent/path.h"
#include "guest-agent/places.h"
#include "guest-agent/stdio.h"

/* STARTING: the child makes itself what the order says; RUNNING: it has executed its program; ENDED: reaped. One that
 * fails in STARTING is never seen: the order is answered when it has been reaped. */
enum state { STARTING, RUNNING, ENDED };

struct exec {
	struct exec *next;
	struct execs *all;
	char *id;
	enum state state;
	struct plan *plan; /* until RUNNING */
	struct child child;
	int exit_status;
	struct dependent dependent;
	struct answer answer; /* to exec, then to wait */
};

static struct exec *find(const struct execs *execs, const char *id)
{
	struct exec *exec = execs->first;

	while (exec && strcmp(exec->id, id) != 0)
		exec = exec->next;
	return exec;
}

static struct exec *find_or_refuse(const struct execs *execs, const struct order *order, struct error *err)
{
	struct exec *exec = find(execs, order->exec);

	if (!exec)
		error_set(err, ENOENT, "container \"%s\" has no process \"%s\"", order->id, order->exec);
	return exec;
}

static void exec_free(struct exec *exec)
{
	struct exec **link = &exec->all->first;

	while (*link && *link != exec)
		link = &(*link)->next;
	if (*link)
		*link = exec->next;
	connection_release(&exec->dependent);
	child_release(&exec->child);
	plan_free(exec->plan);
	free(exec->id);
	free(exec);
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

static bool is_over(const struct exec *exec)
{
	return exec->state == ENDED && !stdio_is_draining(&exec->child.stdio);
}

static bool is_abandoned(const struct exec *exec)
{
	return !exec->dependent.connection;
}

/* Tells whoever waits. What nobody can ask for any more goes. */
static void settle_if_over(struct exec *exec)
{
	struct execs *all = exec->all;
	struct answer answer = {0};
	int status = exec->exit_status;

	if (!is_over(exec))
		return;
	answer_move(&answer, &exec->answer);
	if (answer.connection || is_abandoned(exec))
		exec_free(exec);
	answer_ok(&answer, json_pack("{s:i}", "exitStatus", status));
	all->changed(all);
}

static void stream_ended(struct stdio *stdio)
{
	settle_if_over(stdio->owner);
}

static void stream_connected(struct stdio *stdio, int code)
{
	struct exec *exec = stdio->owner;
	struct error err;

	if (code == 0)
		return;
	error_set(&err, code, "connect stdio: %s", strerror(code));
	if (exec->state == STARTING)
		child_fail(&exec->child, &err);
}

/* The order that made it came over a connection that has ended: so has whoever stands for it on the host. */
static void owner_gone(struct dependent *dependent)
{
	struct exec *exec = (struct exec *)((char *)dependent - offsetof(struct exec, dependent));

	if (exec->state != ENDED)
		child_signal(&exec->child, SIGKILL);
	else
		stdio_close(&exec->child.stdio);
	settle_if_over(exec);
}

static void failed_to_start(struct exec *exec)
{
	struct error err = {.message = "the process ended before it executed its program"};
	struct execs *all = exec->all;
	struct answer answer = {0};

	child_fail(&exec->child, &err);
	err = exec->child.failure;
	answer_move(&answer, &exec->answer);
	exec_free(exec);
	answer_error(&answer, &err);
	all->changed(all);
}

static void ended(struct exec *exec, int status)
{
	/* What it said last comes first: a failure to execute is the answer to exec. */
	child_drain(&exec->child);
	if (exec->state == STARTING) {
		failed_to_start(exec);
		return;
	}
	exec->state = ENDED;
	exec->exit_status = child_exit_status(status);
	stdio_finish(&exec->child.stdio, WIFSIGNALED(status));
	settle_if_over(exec);
}

bool execs_reaped(struct execs *execs, pid_t pid, int status)
{
	for (struct exec *exec = execs->first; exec; exec = exec->next) {
		if (exec->child.pid == pid && exec->state != ENDED) {
			ended(exec, status);
			return true;
		}
	}
	return false;
}

bool execs_are_over(const struct execs *execs)
{
	for (const struct exec *exec = execs->first; exec; exec = exec->next)
		if (!is_over(exec))
			return false;
	return true;
}

void execs_lose_patience(struct execs *execs)
{
	for (struct exec *exec = execs->first; exec; exec = exec->next)
		stdio_lose_patience(&exec->child.stdio);
}

void execs_free(struct execs *execs)
{
	while (execs->first) {
		struct answer answer = {0};
		int status = execs->first->exit_status;

		answer_move(&answer, &execs->first->answer);
		exec_free(execs->first);
		answer_ok(&answer, json_pack("{s:i}", "exitStatus", status));
	}
}

/* --- exec -------------------------------------------------------------------------------------------------------- */

static struct exec *exec_of(struct child *child)
{
	return (struct exec *)((char *)child - offsetof(struct exec, child));
}

static void terminal_came(struct child *child, int master)
{
	const struct plan *plan = exec_of(child)->plan;

	child_take_terminal(child, plan, &plan->window, master);
}

static void reported(struct child *child, const struct init_report *report)
{
	struct error err;

	if (report->stage != INIT_FAILED)
		return;
	child_reported_error(report, &err);
	child_fail(child, &err);
}

/* Its program runs, or it has died without a word: then its status tells. */
static void channel_closed(struct child *child)
{
	struct exec *exec = exec_of(child);

	if (child->failed || exec->state != STARTING)
		return;
	exec->state = RUNNING;
	plan_free(take_pointer(exec->plan));
	answer_ok(&exec->answer, json_pack("{s:i}", "pid", (int)child->pid));
}

static struct exec *exec_new(struct execs *execs, struct order *order)
{
	static const struct child_events events = {terminal_came, reported, channel_closed};
	struct exec *exec = calloc(1, sizeof(*exec));

	if (!exec)
		return NULL;
	exec->all = execs;
	child_init(&exec->child, &events);
	exec->dependent.ended = owner_gone;
	exec->plan = take_pointer(order->plan);
	stdio_init(&exec->child.stdio, exec, stream_connected, stream_ended);
	exec->id = strdup(order->exec);
	exec->next = execs->first;
	execs->first = exec;
	if (exec->id)
		return exec;
	exec_free(exec);
	return NULL;
}

static bool same_namespace(pid_t pid, const char *name)
{
	struct stat theirs, ours;
	char path[64];

	snprintf(path, sizeof(path), PLACE_PROC "/%d/ns/%s", (int)pid, name);
	if (stat(path, &theirs) < 0)
		return true;
	snprintf(path, sizeof(path), PLACE_PROC "/self/ns/%s", name);
	return stat(path, &ours) == 0 && theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev;
}

/* One's own user namespace cannot be entered again. */
static int namespaces_of(const struct exec_place *place)
{
	int flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP;

	if (!same_namespace(place->pid, "user"))
		flags |= CLONE_NEWUSER;
	if (!same_namespace(place->pid, "time"))
		flags |= CLONE_NEWTIME;
	return flags;
}

static int open_cgroup(int at, const char *path)
{
	return path_open_beneath(at, *path ? path : ".", O_RDONLY | O_DIRECTORY);
}

/* The cgroup that the container's first process is in now: it may have moved below the container's and divided that
 * among others, and then nothing can be born in the container's own. */
static int open_cgroup_of(pid_t pid)
{
	cleanup_free char *text = NULL;
	char path[64], *entry;
	cleanup_close int root = -1;

	snprintf(path, sizeof(path), PLACE_PROC "/%d/cgroup", (int)pid);
	if (read_file_at(AT_FDCWD, path, 1u << 16, &text, NULL, NULL) < 0)
		return -1;
	entry = strstr(text, "0::/");
	if (!entry)
		return -1;
	entry[strcspn(entry, "\n")] = '\0';
	root = open(PLACE_CGROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? -1 : open_cgroup(root, entry + strlen("0::/"));
}

/* As fork(2), into the cgroup and the process id namespace of the container: a process cannot change that of its own,
 * only that of its children. */
static pid_t fork_into(const struct exec_place *place, int cgroup, int *pidfd)
{
	static int own = -1;
	struct clone_args args = {
	    .flags = CLONE_INTO_CGROUP | CLONE_PIDFD,
	    .pidfd = (uintptr_t)pidfd,
	    .exit_signal = SIGCHLD,
	    .cgroup = (uint64_t)cgroup,
	};
	struct error err;
	pid_t pid;
	int code;

	if (own < 0)
		own = open(PLACE_PROC "/self/ns/pid", O_RDONLY | O_CLOEXEC);
	if (own < 0 || setns(place->pidfd, CLONE_NEWPID) < 0)
		return -1;
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		return 0;
	code = errno;
	if (setns(own, CLONE_NEWPID) < 0) {
		/* An agent whose children land in a container would be at its mercy. */
		error_set_errno(&err, "return from a container's pid namespace");
		boot_fail(&err);
	}
	errno = code;
	return pid;
}

/* runc's words, which scripts look for: there the runtime writes to cgroup.procs. */
static int refuse_cgroup(const char *below, int code, struct error *err)
{
	char reason[64];

	if (code == EXDEV || code == ELOOP)
		return error_set(err, code, "bad sub cgroup path: %s is not a sub cgroup path", below);
	snprintf(reason, sizeof(reason), "%s", strerror(code));
	for (char *letter = reason; *letter; letter++)
		*letter = (char)tolower((unsigned char)*letter);
	return error_set(err, code, "error adding pid of the process to cgroups: %s%s/cgroup.procs: %s",
			 *below && *below != '/' ? "/" : "", below, reason);
}

static pid_t fork_into_cgroup(const struct exec_place *place, const char *below, int *pidfd, struct error *err)
{
	cleanup_close int cgroup = open_cgroup(place->cgroup, below ? below : "");
	pid_t pid;

	if (cgroup < 0)
		return refuse_cgroup(below ? below : "", errno, err);
	pid = fork_into(place, cgroup, pidfd);
	if (pid < 0 && errno == EBUSY && !below) {
		close(cgroup);
		cgroup = open_cgroup_of(place->pid);
		if (cgroup >= 0)
			pid = fork_into(place, cgroup, pidfd);
	}
	/* The kernel's word for a pid namespace that is coming to its end. */
	if (pid < 0 && (errno == ENOMEM || errno == ESRCH))
		return error_set(err, ESRCH, "container not running");
	if (pid < 0 && errno == EBUSY)
		return refuse_cgroup(below ? below : "", errno, err);
	if (pid < 0)
		return error_set_errno(err, "make the process");
	return pid;
}

static int start_child(struct exec *exec, const struct exec_place *place, const char *cgroup,
		       const struct stdio_fds *fds, struct error *err)
{
	const struct init_place joined = {
	    .id = place->id,
	    .pidfd = place->pidfd,
	    .namespaces = namespaces_of(place),
	    .filter = &place->plan->filter,
	};
	struct child *child = &exec->child;
	int channel = child_open_channel(child, err);

	if (channel < 0)
		return -1;
	child->pid = fork_into_cgroup(place, cgroup, &child->pidfd, err);
	if (child->pid == 0)
		init_run_beside(exec->plan, &joined, fds, channel);
	close(channel);
	return child->pid < 0 ? -1 : child_watch(child, err);
}

static int make(struct exec *exec, const struct exec_place *place, const char *cgroup, struct error *err)
{
	struct stdio_fds fds = {.n = 0};
	uint32_t owner;
	int status;

	if (plan_inherit(exec->plan, place->plan, err) < 0)
		return -1;
	if (id_map_outside(&place->plan->id_maps.users, exec->plan->process.uid, &owner) < 0)
		return error_set(err, EINVAL, "cannot set uid to unmapped user in user namespace");
	status = stdio_open(&exec->child.stdio, exec->plan, owner, &fds, err);
	if (status == 0)
		status = start_child(exec, place, cgroup, &fds, err);
	stdio_close_fds(&fds);
	return status;
}

int exec_start(struct execs *execs, const struct exec_place *place, struct order *order, struct answer *answer,
	       struct error *err)
{
	struct exec *exec;

	if (find(execs, order->exec))
		return error_set(err, EEXIST, "exec: container \"%s\" has a process \"%s\" already", order->id,
				 order->exec);
	exec = exec_new(execs, order);
	if (!exec)
		return error_set(err, ENOMEM, "out of memory");
	if (make(exec, place, order->cgroup, err) < 0 && exec->child.pid <= 0) {
		exec_free(exec);
		return -1;
	}
	if (exec->child.watch.fd < 0)
		child_fail(&exec->child, err); /* goes when it has been reaped */
	connection_depend(answer, &exec->dependent);
	answer_move(&exec->answer, answer);
	return 0;
}

/* --- wait, kill, resize ------------------------------------------------------------------------------------------ */

int exec_wait(struct execs *execs, const struct order *order, struct answer *answer, struct error *err)
{
	struct exec *exec = find_or_refuse(execs, order, err);

	if (!exec)
		return -1;
	if (exec->answer.connection)
		return error_set(err, EBUSY, "another order for process \"%s\" is under way", order->exec);
	answer_move(&exec->answer, answer);
	settle_if_over(exec);
	return 0;
}

int exec_kill(struct execs *execs, const struct order *order, struct answer *answer, struct error *err)
{
	const struct exec *exec = find_or_refuse(execs, order, err);

	if (!exec)
		return -1;
	if (exec->state == ENDED || child_signal(&exec->child, order->signal) < 0)
		return error_set(err, ESRCH, "process already finished");
	answer_ok(answer, NULL);
	return 0;
}

int exec_resize(struct execs *execs, const struct order *order, struct answer *answer, struct error *err)
{
	struct exec *exec = find_or_refuse(execs, order, err);

	if (!exec || stdio_resize(&exec->child.stdio, order->columns, order->rows, err) < 0)
		return -1;
	answer_ok(answer, NULL);
	return 0;
}
