#include "guest-agent/init.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "guest-agent/limits.h"
#include "guest-agent/lookup.h"
#include "guest-agent/path.h"
#include "guest-agent/places.h"
#include "guest-agent/rootfs.h"
#include "guest-agent/user_namespace.h"

#define PASSWD_MAX (1u << 20)

/* After take_descriptors: how many descriptors the program gets; the socket to the agent is the one above them. */
static int n_descriptors;
#define CHANNEL n_descriptors

static void report(enum init_stage stage, const struct error *err)
{
	struct init_report message = {.stage = stage};

	if (err) {
		message.code = err->code;
		snprintf(message.message, sizeof(message.message), "%s", err->message);
	}
	/* When the agent is not there to read it, the machine is gone as well. (SIGPIPE is blocked. Not send: system
	 * call filters allow write sooner.) */
	if (write(CHANNEL, &message, sizeof(message)) < 0)
		_exit(INIT_STATUS_FAILED);
}

static void fail(const struct error *err) __attribute__((noreturn));

static void fail(const struct error *err)
{
	report(INIT_FAILED, err);
	_exit(INIT_STATUS_FAILED);
}

/* --- stages ------------------------------------------------------------------------------------------------------ */

/* Copies it out of the way of what is about to be put below `lowest`. */
static int move_above(int *fd, int lowest, struct error *err)
{
	if (*fd >= lowest)
		return 0;
	*fd = fcntl(*fd, F_DUPFD_CLOEXEC, lowest);
	return *fd < 0 ? error_set_errno(err, "dup") : 0;
}

static int put(int fd, int at, struct error *err)
{
	return dup2(fd, at) < 0 ? error_set_errno(err, "dup2") : 0;
}

/* The program's descriptors to 0, 1, 2 and so on, the channel above them, then *place, where that is not NULL, and
 * nothing else: the agent's other descriptors must not live on here, where the container's processes may get at them.
 * What the agent has at these numbers is not needed. */
static int take_descriptors(const struct stdio_fds *fds, int channel, int *place, struct error *err)
{
	struct stdio_fds copies = *fds;
	int top = (int)fds->n + 2;

	n_descriptors = (int)fds->n;
	for (int i = 0; i < n_descriptors; i++)
		if (move_above(&copies.list[i], top, err) < 0)
			return -1;
	if (move_above(&channel, top, err) < 0 || (place && move_above(place, top, err) < 0))
		return -1;
	for (int i = 0; i < n_descriptors; i++)
		if (put(copies.list[i], i, err) < 0)
			return -1;
	if (put(channel, CHANNEL, err) < 0 || (place && put(*place, CHANNEL + 1, err) < 0))
		return -1;
	if (place)
		*place = CHANNEL + 1;
	if (close_range((unsigned)(place ? top : top - 1), ~0U, 0) < 0 ||
	    close_range((unsigned)CHANNEL, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return error_set_errno(err, "close_range");
	return 0;
}

static int join_keyring(const char *id, struct error *err)
{
	char keyring[300];

	/* A keyring of its own, so that no container finds another's keys. */
	snprintf(keyring, sizeof(keyring), "_ses.%s", id);
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, keyring) < 0 && errno != ENOSYS)
		return error_set_errno(err, "join a session keyring");
	return 0;
}

static int become_session(const struct plan *plan, const char *id, struct error *err)
{
	if (setsid() < 0)
		return error_set_errno(err, "setsid");
	/* Only now: the root of a cgroup namespace is the cgroup that the caller is in, and clone3 would still take the
	 * agent's. */
	if (plan->namespaces.use[NAMESPACE_CGROUP] == NAMESPACE_OWN && unshare(CLONE_NEWCGROUP) < 0)
		return error_set_errno(err, "make a cgroup namespace");
	return join_keyring(id, err);
}

static int set_names(const struct plan *plan, struct error *err)
{
	if (plan->hostname && sethostname(plan->hostname, strlen(plan->hostname)) < 0)
		return error_set_errno(err, "hostname");
	if (plan->domainname && setdomainname(plan->domainname, strlen(plan->domainname)) < 0)
		return error_set_errno(err, "domainname");
	return 0;
}

/* A stream to /dev/null shall be the container's own device, so that it can be opened again by its name. */
static int reopen_null(struct error *err)
{
	cleanup_close int null = path_open(AT_FDCWD, "/dev/null", O_RDWR | O_NOFOLLOW | O_NONBLOCK);
	struct stat status;

	if (null < 0 || fstat(null, &status) < 0 || !S_ISCHR(status.st_mode) || status.st_rdev != makedev(1, 3))
		return 0;
	for (int i = 0; i < n_descriptors; i++) {
		if (fstat(i, &status) < 0)
			return error_set_errno(err, "stat of stream %d", i);
		if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3) && put(null, i, err) < 0)
			return -1;
	}
	return 0;
}

/* --- the user ---------------------------------------------------------------------------------------------------- */

/* The home directory in the line of this user in a passwd file, or NULL. Cuts the text up. */
static char *home_of(char *text, uid_t uid)
{
	for (char *line = text; line;) {
		char *next = strchr(line, '\n');
		char *field[6] = {0};
		uint64_t number;
		int n = 0;

		if (next)
			*next++ = '\0';
		for (char *rest = line; rest && n < 6;)
			field[n++] = strsep(&rest, ":");
		if (n == 6 && parse_u64(field[2], 0, UINT32_MAX, &number) == 0 && number == uid)
			return field[5];
		line = next;
	}
	return NULL;
}

/* Owned by the process until it executes. */
static char *default_home(uid_t uid)
{
	cleanup_close int fd = path_open(AT_FDCWD, "/etc/passwd", O_RDONLY | O_NONBLOCK);
	char *text, *home, *entry = NULL;

	if (fd >= 0 && read_stream(fd, PASSWD_MAX, &text, NULL, NULL) == 0) {
		home = home_of(text, uid);
		if (home && asprintf(&entry, "HOME=%s", home) < 0)
			entry = NULL;
		free(text);
	}
	return entry ? entry : strdup("HOME=/");
}

/* The environment has room for one more. An empty HOME counts as none. */
static int set_home(const struct plan_process *process, struct error *err)
{
	const char *home = lookup_variable(process->env, "HOME");
	char *entry;
	size_t i;

	if (home && *home)
		return 0;
	entry = default_home(process->uid);
	if (!entry)
		return error_set(err, ENOMEM, "out of memory");
	for (i = 0; i < process->n_env && strncmp(process->env[i], "HOME=", 5) != 0; i++)
		;
	process->env[i] = entry;
	return 0;
}

/* The working directory must be one inside of the container: its own name for it must be known (a directory outside has
 * none that starts with a slash). */
static int change_directory(const char *cwd, struct error *err)
{
	char name[PATH_MAX];

	if (chdir(cwd) < 0)
		return error_set(err, errno, "chdir to cwd (\"%s\") set in config.json failed: %s", cwd,
				 lookup_reason(errno));
	if (syscall(SYS_getcwd, name, sizeof(name)) < 0 || name[0] != '/')
		return error_set(err, EPERM,
				 "chdir to cwd (\"%s\") set in config.json failed: outside of the container", cwd);
	return 0;
}

static int become_user(const struct plan_process *process, struct error *err)
{
	if (setgroups(process->n_groups, process->groups) < 0)
		return error_set_errno(err, "process.user.additionalGids");
	/* Not setresgid and setresuid: system call filters may be in force, and these are what they expect. */
	if (setgid(process->gid) < 0)
		return error_set_errno(err, "process.user.gid");
	if (setuid(process->uid) < 0)
		return error_set_errno(err, "process.user.uid");
	return 0;
}

/* From here on the process has what the program shall have and no more. Without no_new_privs a filter can only be
 * loaded with privileges, so it is in force while they are dropped; with it, as late as possible, so that a profile
 * needs to allow nothing but what the program does, read, write and execve. The directory is entered before, with the
 * rights of root if these suffice, else afterwards with the user's (a directory of another file server). */
static int drop_privileges(const struct plan_process *process, const struct syscall_filter *filter, struct error *err)
{
	bool entered;

	if (process->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set_errno(err, "process.noNewPrivileges");
	entered = change_directory(process->cwd, err) == 0;
	if (!entered && err->code != EACCES && err->code != EPERM)
		return -1;
	if (!process->no_new_privileges && syscall_filter_load(filter, err) < 0)
		return -1;
	if (capabilities_bound(process->capabilities.bounding, err) < 0)
		return -1;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return error_set_errno(err, "keep capabilities");
	if (become_user(process, err) < 0)
		return -1;
	if (!entered && change_directory(process->cwd, err) < 0)
		return -1;
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return error_set_errno(err, "keep capabilities");
	return capabilities_apply(&process->capabilities, err);
}

/* The agent gets the one end, the process takes the other. */
static int use_terminal(struct terminal *terminal, struct error *err)
{
	const struct init_report message = {.stage = INIT_TERMINAL};

	if (terminal->slave < 0)
		return 0;
	if (terminal_take(terminal, err) < 0)
		return -1;
	if (send_with_fds(CHANNEL, &message, sizeof(message), &terminal->master, 1, 0) < 0)
		return error_set_errno(err, "hand the terminal to the agent");
	terminal_close(terminal);
	return 0;
}

/* --- the program ------------------------------------------------------------------------------------------------- */

static void wait_for_start(void)
{
	char byte;
	ssize_t n;

	do
		n = read(CHANNEL, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(INIT_STATUS_FAILED);
}

static int set_personality(const struct plan *plan, struct error *err)
{
	if (plan->has_personality && personality(plan->personality) < 0)
		return error_set_errno(err, "linux.personality");
	return 0;
}

static int prepare(struct plan *plan, const char *id, char *program, size_t room, struct error *err)
{
	struct terminal terminal = TERMINAL_NONE;
	cleanup_close int root = -1;

	umask(0);
	if (user_namespace_wanted(plan)) {
		if (user_namespace_enter(CHANNEL, err) < 0)
			return -1;
		if (plan->namespaces.use[NAMESPACE_IPC] == NAMESPACE_OWN && unshare(CLONE_NEWIPC) < 0)
			return error_set_errno(err, "make an ipc namespace");
	} else if (limits_set_oom_score(&plan->process, 0, err) < 0 ||
		   schedule_apply(&plan->process.schedule, 0, err) < 0) {
		return -1;
	}
	if (become_session(plan, id, err) < 0 || set_names(plan, err) < 0 ||
	    sysctls_apply(PLACE_PROC, &plan->sysctls, err) < 0)
		return -1;
	if (set_personality(plan, err) < 0)
		return -1;
	root = rootfs_build(plan, &terminal, err);
	if (root < 0 || rootfs_enter(root, user_namespace_wanted(plan), err) < 0 || use_terminal(&terminal, err) < 0)
		return -1;
	if (reopen_null(err) < 0 || set_home(&plan->process, err) < 0 || hooks_open(&plan->start_hooks, err) < 0)
		return -1;
	umask(plan->process.umask);
	/* With a user namespace the agent does it. */
	if (!user_namespace_wanted(plan) && limits_apply(&plan->process, 0, err) < 0)
		return -1;
	if (drop_privileges(&plan->process, &plan->filter, err) < 0 ||
	    lookup_program(plan->process.args[0], plan->process.env, program, room, err) < 0)
		return -1;
	return plan->process.no_new_privileges ? syscall_filter_load(&plan->filter, err) : 0;
}

/* The agent blocks signals, and what is blocked stays so in the program. Handlers there are none. */
static void unblock_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void execute(const struct plan *plan, const char *program) __attribute__((noreturn));

static void execute(const struct plan *plan, const char *program)
{
	struct error err;

	unblock_signals();
	execve(program, plan->process.args, plan->process.env);
	error_set(&err, errno, "exec %s: %s", program, lookup_reason(errno));
	fail(&err);
}

void init_run(struct plan *plan, const char *id, const struct stdio_fds *fds, int channel)
{
	static char program[PATH_MAX];
	struct error err = {0};

	if (take_descriptors(fds, channel, NULL, &err) < 0)
		_exit(INIT_STATUS_FAILED);
	if (prepare(plan, id, program, sizeof(program), &err) < 0)
		fail(&err);
	report(INIT_READY, NULL);
	wait_for_start();
	if (hooks_run(&plan->start_hooks, &err) < 0)
		fail(&err);
	execute(plan, program);
}

/* --- a further process ------------------------------------------------------------------------------------------- */

/* In the container's namespaces "/" is the container's root. */
static int join(const struct init_place *place, struct error *err)
{
	if (setns(place->pidfd, place->namespaces) < 0)
		return error_set_errno(err, "join the container's namespaces");
	if (place->namespaces & CLONE_NEWUSER && (setgid(0) < 0 || setuid(0) < 0))
		return error_set_errno(err, "become root of the container's user namespace");
	return 0;
}

static int prepare_beside(const struct plan *plan, const struct init_place *place, char *program, size_t room,
			  struct error *err)
{
	const struct plan_process *process = &plan->process;
	struct terminal terminal = TERMINAL_NONE;

	umask(0);
	if (setsid() < 0)
		return error_set_errno(err, "setsid");
	/* What root of a user namespace may not do comes before it is joined. */
	if (join_keyring(place->id, err) < 0 || limits_set_oom_score(process, 0, err) < 0 ||
	    limits_apply(process, 0, err) < 0 || schedule_apply(&process->schedule, 0, err) < 0 ||
	    schedule_apply_affinity(&process->schedule, err) < 0 || set_personality(plan, err) < 0 ||
	    join(place, err) < 0)
		return -1;
	/* The descriptor was needed until now, and names the container's first process only. */
	if (close_range((unsigned)CHANNEL + 1, ~0U, 0) < 0)
		return error_set_errno(err, "close_range");
	if (process->terminal &&
	    (terminal_open(AT_FDCWD, process->uid, &terminal, err) < 0 || use_terminal(&terminal, err) < 0))
		return -1;
	if (reopen_null(err) < 0 || set_home(process, err) < 0)
		return -1;
	umask(process->umask);
	if (drop_privileges(process, place->filter, err) < 0 ||
	    lookup_program(process->args[0], process->env, program, room, err) < 0)
		return -1;
	return process->no_new_privileges ? syscall_filter_load(place->filter, err) : 0;
}

void init_run_beside(const struct plan *plan, const struct init_place *place, const struct stdio_fds *fds, int channel)
{
	static char program[PATH_MAX];
	struct init_place joined = *place;
	struct error err = {0};

	if (take_descriptors(fds, channel, &joined.pidfd, &err) < 0)
		_exit(INIT_STATUS_FAILED);
	if (prepare_beside(plan, &joined, program, sizeof(program), &err) < 0)
		fail(&err);
	execute(plan, program);
}
