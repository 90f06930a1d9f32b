/*
 * hull exec: a further process in a container. In the foreground hull stays as its stand-in on the host; with --detach
 * a proxy does (proxy.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/vmm_control.h"
#include "runtime/agent.h"
#include "runtime/attach.h"
#include "runtime/cgroup.h"
#include "runtime/command.h"
#include "runtime/config.h"
#include "runtime/container.h"
#include "runtime/exec_process.h"
#include "runtime/pid_file.h"
#include "runtime/preserve.h"
#include "runtime/proxy.h"
#include "runtime/report.h"
#include "runtime/signals.h"
#include "runtime/streams.h"
#include "runtime/terminal.h"

/* What engines take for "it was not the process that failed". */
#define STATUS_FAILED 255

#define CREATION_TIMEOUT_MS 10000

struct exec_options {
	const char *console_socket, *cwd, *user, *process, *pid_file, *process_label, *apparmor, *cgroup;
	struct flag_list env, groups, capabilities;
	bool tty, detach, no_new_privs, ignore_paused;
	unsigned preserve_fds;
};

static const struct exec_options defaults = {0};

static const struct flag flags[] = {
    {"console-socket", 0, FLAG_TEXT, offsetof(struct exec_options, console_socket), "PATH",
     "unix socket that gets the terminal"},
    {"cwd", 0, FLAG_TEXT, offsetof(struct exec_options, cwd), "DIR", "working directory in the container"},
    {"env", 'e', FLAG_LIST, offsetof(struct exec_options, env), "NAME=VALUE", "add to the environment"},
    {"tty", 't', FLAG_SWITCH, offsetof(struct exec_options, tty), NULL, "give it a terminal"},
    {"user", 'u', FLAG_TEXT, offsetof(struct exec_options, user), "UID[:GID]", "the user it runs as"},
    {"additional-gids", 'g', FLAG_LIST, offsetof(struct exec_options, groups), "GID", "add a supplementary group"},
    {"process", 'p', FLAG_TEXT, offsetof(struct exec_options, process), "FILE",
     "a process.json, instead of a command and the flags that change it"},
    {"detach", 'd', FLAG_SWITCH, offsetof(struct exec_options, detach), NULL, "do not wait for it to end"},
    {"pid-file", 0, FLAG_TEXT, offsetof(struct exec_options, pid_file), "FILE",
     "write the id of the host process that stands for it to FILE"},
    {"process-label", 0, FLAG_TEXT, offsetof(struct exec_options, process_label), "LABEL", "SELinux label"},
    {"apparmor", 0, FLAG_TEXT, offsetof(struct exec_options, apparmor), "PROFILE", "AppArmor profile"},
    {"no-new-privs", 0, FLAG_SWITCH, offsetof(struct exec_options, no_new_privs), NULL,
     "it cannot gain privileges by execve"},
    {"cap", 'c', FLAG_LIST, offsetof(struct exec_options, capabilities), "CAPABILITY", "add a capability"},
    {"preserve-fds", 0, FLAG_NUMBER, offsetof(struct exec_options, preserve_fds), "N",
     "relay this many further descriptors, from 3 on"},
    {"cgroup", 0, FLAG_TEXT, offsetof(struct exec_options, cgroup), "PATH",
     "an existing cgroup below the container's in the guest"},
    {"ignore-paused", 0, FLAG_SWITCH, offsetof(struct exec_options, ignore_paused), NULL,
     "also in a paused container, where it waits until that is resumed"},
    {0},
};

/* What one call needs until it is done. */
struct call {
	const struct exec_options *options;
	struct container container;
	struct attachment attachment;
	struct exec_process process;
	struct stdio stdio;
	struct preserved preserved;
	uint32_t ports[STDIO_COUNT];
	char name[64]; /* of the process, for the agent */
	struct proxy proxy;
	int signals;
	int terminal; /* the caller's, or the one that stands for its on the host; or -1 */
	struct raw_terminal raw;
};

static void call_release(struct call *call)
{
	raw_terminal_end(&call->raw);
	cleanup_close_fd(&call->terminal);
	exec_process_release(&call->process);
	stdio_release(&call->stdio);
	preserved_release(&call->preserved);
	attachment_release(&call->attachment);
	container_close(&call->container);
	cleanup_close_fd(&call->signals);
}

static int check_status(struct container *container, bool ignore_paused, struct error *err)
{
	switch (container_settled_status(container, CREATION_TIMEOUT_MS)) {
	case CONTAINER_PAUSED:
		if (ignore_paused)
			return 0;
		return error_set(err, EBUSY, "cannot exec in a paused container (use --ignore-paused to override)");
	case CONTAINER_STOPPED:
		return error_set(err, EINVAL, "cannot exec in a stopped container");
	case CONTAINER_CREATING:
		return error_set(err, EINVAL, "cannot exec in a container that is being created");
	default:
		return 0;
	}
}

static int check_options(const struct call *call, struct error *err)
{
	const char *cgroup = call->options->cgroup;

	if (cgroup && strchr(cgroup, ':'))
		return error_set(err, EINVAL,
				 "invalid --cgroup argument: %s (the guest has cgroup v2, where no controller is "
				 "named)",
				 cgroup);
	if (call->options->detach && call->process.terminal && !call->options->console_socket)
		return error_set(err, EINVAL, "cannot allocate tty if hull will detach without setting console socket");
	if (call->options->console_socket && (!call->options->detach || !call->process.terminal))
		return error_set(err, EINVAL, "cannot use console socket if hull will not detach or allocate tty");
	return 0;
}

/* Those that end the making of the process; in the foreground they are passed on later. */
static int catch_signals(struct call *call, struct error *err)
{
	sigset_t set;

	signals_interrupting(&set);
	call->signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (call->signals < 0)
		return error_set_errno(err, "make a signal descriptor");
	if (!call->options->detach)
		proxy_signals(&call->proxy, &set);
	if (call->terminal >= 0)
		sigaddset(&set, SIGWINCH);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_set_errno(err, "block signals");
	call->attachment.watch.signals = call->signals;
	return 0;
}

static int reach_guest(struct call *call, const struct global_options *global, struct error *err)
{
	struct config config;
	unsigned timeout;

	if (config_load(global->config, &config, err) < 0)
		return -1;
	timeout = config.start_timeout;
	if (watch_start_timeout(&timeout, err) < 0 || attach(&call->container, timeout, &call->attachment, err) < 0)
		return -1;
	return 0;
}

static int register_stream(struct call *call, int stream, struct error *err)
{
	uint32_t direction = stream == STDIO_IN ? VMM_STREAM_IN : VMM_STREAM_OUT;
	bool has_output = stream != STDIO_IN || call->stdio.both_ways;
	struct attachment *attachment = &call->attachment;
	struct proxy *proxy = &call->proxy;

	if (call->stdio.fds[stream] < 0)
		return 0;
	if (call->stdio.both_ways)
		direction |= VMM_STREAM_OUT;
	if (vmm_control_stream(attachment->control, &attachment->watch, call->stdio.fds[stream], direction,
			       &call->ports[stream], err) < 0)
		return -1;
	if (has_output)
		proxy->outputs[proxy->n_outputs++] = call->ports[stream];
	return 0;
}

/* Where the proxy sees changes of the window's size: of the caller's terminal, or of the engine's. */
static int take_terminal(struct call *call, struct error *err)
{
	if (call->options->console_socket) {
		if (terminal_hand_over(call->options->console_socket, &call->stdio, err) < 0)
			return -1;
		call->terminal = fcntl(call->stdio.fds[STDIO_IN], F_DUPFD_CLOEXEC, 3);
		return call->terminal < 0 ? error_set_errno(err, "duplicate the terminal") : 0;
	}
	call->terminal = terminal_find(err);
	return call->terminal < 0 ? -1 : terminal_take_stdio(call->terminal, &call->stdio, err);
}

static int take_stdio(struct call *call, struct error *err)
{
	return call->process.terminal ? take_terminal(call, err) : stdio_take(&call->stdio, err);
}

static int register_preserved(struct call *call, struct error *err)
{
	struct proxy *proxy = &call->proxy;

	if (preserved_register(&call->preserved, call->attachment.control, &call->attachment.watch, err) < 0)
		return -1;
	proxy->n_outputs += preserved_outputs(&call->preserved, proxy->outputs + proxy->n_outputs);
	return 0;
}

static int register_streams(struct call *call, struct error *err)
{
	for (int i = 0; i < STDIO_COUNT; i++)
		if (register_stream(call, i, err) < 0)
			return -1;
	if (call->stdio.both_ways)
		call->ports[STDIO_OUT] = call->ports[STDIO_IN];
	if (call->stdio.merged)
		call->ports[STDIO_ERR] = call->ports[STDIO_OUT];
	/* The VMM has its own; nobody else shall hold off their end. */
	stdio_release(&call->stdio);
	return register_preserved(call, err);
}

static void write_port(FILE *out, const char *name, uint32_t port)
{
	if (port)
		fprintf(out, "\"%s\":%u", name, port);
	else
		fprintf(out, "\"%s\":null", name);
}

static int write_cgroup(FILE *out, const char *path, struct error *err)
{
	cleanup_free char *text = NULL;
	json_t *value;

	if (!path)
		return 0;
	value = json_string(path + strspn(path, "/"));
	text = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
	json_decref(value);
	if (!text)
		return error_set(err, EINVAL, "--cgroup \"%s\" is not valid UTF-8", path);
	fprintf(out, ",\"cgroup\":%s", text);
	return 0;
}

static int write_order(const struct call *call, FILE *out, struct error *err)
{
	const struct window *window = &call->stdio.window;

	fprintf(out, "{\"order\":\"exec\",\"id\":\"%s\",\"exec\":\"%s\"", call->container.id, call->name);
	if (write_cgroup(out, call->options->cgroup, err) < 0)
		return -1;
	if (call->options->ignore_paused)
		fputs(",\"ignorePaused\":true", out);
	fputs(",\"stdio\":{", out);
	write_port(out, "stdin", call->ports[STDIO_IN]);
	fputc(',', out);
	write_port(out, "stdout", call->ports[STDIO_OUT]);
	fputc(',', out);
	write_port(out, "stderr", call->ports[STDIO_ERR]);
	if (window->columns && window->rows)
		fprintf(out, ",\"window\":{\"width\":%u,\"height\":%u}", window->columns, window->rows);
	preserved_write(&call->preserved, out);
	fputs("},\"process\":", out);
	fwrite(call->process.text, 1, call->process.size, out);
	fputc('}', out);
	return 0;
}

static char *format_order(const struct call *call, size_t *size, struct error *err)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, size);
	int result = out ? write_order(call, out, err) : error_set_errno(err, "make an order");

	if (out && fclose(out) != 0)
		result = error_set(err, ENOMEM, "make an order");
	if (result == 0)
		return text;
	free(text);
	return NULL;
}

/* The keys are the guest's from the process's first moment on. One that waits in a paused container has none yet. */
static int begin_raw(struct call *call, struct error *err)
{
	if (call->terminal < 0 || call->options->detach || call->options->ignore_paused)
		return 0;
	return raw_terminal_begin(&call->raw, call->terminal, err);
}

static int order(struct call *call, struct error *err)
{
	struct attachment *attachment = &call->attachment;
	cleanup_free char *text = NULL;
	struct timespec now;
	size_t size;

	clock_gettime(CLOCK_MONOTONIC, &now);
	snprintf(call->name, sizeof(call->name), "%d-%lld.%09ld", (int)getpid(), (long long)now.tv_sec, now.tv_nsec);
	text = format_order(call, &size, err);
	if (!text || attach_agent(attachment, err) < 0 || begin_raw(call, err) < 0)
		return -1;
	/* A paused guest answers when it is resumed. */
	if (call->options->ignore_paused)
		attachment->watch.deadline = 0;
	report_debug("process %s of container %s is to be started in the guest", call->name, call->container.id);
	if (agent_order(attachment->agent, &attachment->watch, text, size, NULL, err) == 0)
		return 0;
	if (attachment->watch.event == WATCH_VMM_ENDED || attachment->watch.event == WATCH_FAILURE)
		return error_set(err, EINVAL, "cannot exec in a stopped container");
	if (attachment->watch.event != WATCH_NOTHING)
		return -1;
	return error_prefix(err, "unable to start container process");
}

static int stay(struct call *call, struct error *err)
{
	if (call->options->pid_file && pid_file_write(call->options->pid_file, getpid(), err) < 0)
		return -1;
	if (call->terminal >= 0 && !call->raw.raw && raw_terminal_begin(&call->raw, call->terminal, err) < 0)
		return -1;
	if (stdio_let_go(err) < 0)
		return -1;
	return proxy_wait(&call->proxy, err);
}

static int open_cgroup(const struct container *container)
{
	char path[PATH_MAX];

	if (!container->state.cgroup)
		return -1;
	snprintf(path, sizeof(path), CGROUP_MOUNT "%s", container->state.cgroup);
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static int leave(struct call *call, struct error *err)
{
	cleanup_close int cgroup = open_cgroup(&call->container);
	struct child child = CHILD_NONE;

	if (proxy_spawn(&call->proxy, cgroup, &child, err) < 0)
		return -1;
	if (call->options->pid_file && pid_file_write(call->options->pid_file, child.pid, err) < 0) {
		child_end(&child);
		return -1;
	}
	return 0;
}

static int make_process(struct call *call, const struct invocation *invocation, struct error *err)
{
	const struct exec_options *options = call->options;
	const struct exec_flags changes = {
	    .process = options->process,
	    .cwd = options->cwd,
	    .user = options->user,
	    .process_label = options->process_label,
	    .apparmor = options->apparmor,
	    .env = options->env,
	    .groups = options->groups,
	    .capabilities = options->capabilities,
	    .tty = options->tty,
	    .no_new_privs = options->no_new_privs,
	    .args = invocation->argv + 1,
	};

	return exec_process_make(&changes, call->container.state.bundle, call->container.state.config, &call->process,
				 err);
}

static int carry_out(struct call *call, const struct invocation *invocation, struct error *err)
{
	if (preserved_take(call->options->preserve_fds, &call->preserved, err) < 0 ||
	    container_open(invocation->global->root, invocation->argv[0], &call->container, err) < 0 ||
	    check_status(&call->container, call->options->ignore_paused, err) < 0 ||
	    make_process(call, invocation, err) < 0 || check_options(call, err) < 0)
		return -1;
	if (reach_guest(call, invocation->global, err) < 0 || take_stdio(call, err) < 0 ||
	    catch_signals(call, err) < 0 || register_streams(call, err) < 0 || order(call, err) < 0)
		return -1;
	call->proxy.id = call->container.id;
	call->proxy.exec = call->name;
	call->proxy.control = call->attachment.control;
	call->proxy.agent = call->attachment.agent;
	call->proxy.terminal = call->terminal;
	return call->options->detach ? leave(call, err) : stay(call, err);
}

static int run(const struct invocation *invocation, struct error *err)
{
	struct call call = {
	    .options = invocation->options,
	    .container = CONTAINER_NONE,
	    .attachment = ATTACHMENT_NONE,
	    .stdio = STDIO_NONE,
	    .terminal = -1,
	    .raw = RAW_TERMINAL_NONE,
	    .proxy = {.control = -1, .agent = -1, .terminal = -1},
	    .signals = -1,
	};
	int status = carry_out(&call, invocation, err);

	call_release(&call);
	if (status >= 0)
		return status;
	error_prefix(err, "exec failed");
	return -STATUS_FAILED;
}

const struct command command_exec = {
    .name = "exec",
    .summary = "run a further process in a container",
    .arguments = "[flags] ID COMMAND [ARG...] | --process FILE ID",
    .description = "Runs COMMAND in a container that was created or runs, with what the container's own process has\n"
		   "unless flags say otherwise, and ends with its exit status; with 255 when it could not be started.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .order = OPTIONS_FIRST,
    .min_arguments = 1,
    .max_arguments = INT_MAX,
    .run = run,
};
