/*
 * hull proxy: not a verb for people. The process that stands for one of the guest when the command that started that
 * does not stay; see proxy.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <termios.h>

#include "common/io.h"
#include "runtime/command.h"
#include "runtime/proxy.h"

/* When the guest's word cannot be had: what the exit status of `hull exec` says then. */
#define STATUS_UNKNOWN 255

struct proxy_options {
	unsigned control, agent, terminal;
	struct flag_list outputs;
};

static const struct flag flags[] = {
    {"control", 0, FLAG_NUMBER, offsetof(struct proxy_options, control), "FD", "connection to the virtual machine"},
    {"agent", 0, FLAG_NUMBER, offsetof(struct proxy_options, agent), "FD", "connection to the agent"},
    {"terminal", 0, FLAG_NUMBER, offsetof(struct proxy_options, terminal), "FD", "terminal with the size"},
    {"output", 0, FLAG_LIST, offsetof(struct proxy_options, outputs), "PORT", "stream to be delivered"},
    {0},
};

static const struct proxy_options defaults = {0};

static int read_ports(const struct flag_list *list, struct proxy *proxy, struct error *err)
{
	for (size_t i = 0; i < list->n; i++) {
		uint64_t port;

		if (proxy->n_outputs == PROXY_STREAMS_MAX || parse_u64(list->items[i], 1, UINT32_MAX, &port) < 0)
			return error_set(err, EINVAL, "--output: %s", list->items[i]);
		proxy->outputs[proxy->n_outputs++] = (uint32_t)port;
	}
	return 0;
}

static int run(const struct invocation *invocation, struct error *err)
{
	const struct proxy_options *options = invocation->options;
	struct proxy proxy = {
	    .id = invocation->argv[0],
	    .exec = invocation->argc > 1 ? invocation->argv[1] : NULL,
	    .control = (int)options->control,
	    .agent = (int)options->agent,
	    .terminal = options->terminal ? (int)options->terminal : -1,
	};
	sigset_t set;
	int status;

	if (proxy.control <= 2 || proxy.agent <= 2 || fcntl(proxy.control, F_GETFD) < 0 ||
	    fcntl(proxy.agent, F_GETFD) < 0)
		return error_set(err, EINVAL, "hull proxy is for hull itself");
	if (read_ports(&options->outputs, &proxy, err) < 0)
		return -1;
	prctl(PR_SET_NAME, "hull-proxy");
	proxy_signals(&proxy, &set);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_set_errno(err, "block signals");
	/* So that the kernel tells about changes of its size; one may have been before. */
	if (proxy.terminal >= 0 && (ioctl(proxy.terminal, TIOCSCTTY, 0) < 0 || raise(SIGWINCH) != 0))
		return error_set_errno(err, "take the terminal");
	status = proxy_wait(&proxy, err);
	return status < 0 ? -STATUS_UNKNOWN : status;
}

const struct command command_proxy = {
    .name = "proxy",
    .summary = "stand for a process of a guest",
    .arguments = "--control FD --agent FD [flags] ID [PROCESS]",
    .description = "Used by hull itself.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 2,
    .run = run,
};
