/*
 * hull network: not a verb for people. Keeps a container's network as that of the host; see network_watch.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include "common/log.h"
#include "runtime/command.h"
#include "runtime/network_watch.h"

struct network_options {
	unsigned control, agent, owner, owner_pid, messages, ready;
};

static const struct flag flags[] = {
    {"control", 0, FLAG_NUMBER, offsetof(struct network_options, control), "FD", "connection to the virtual machine"},
    {"agent", 0, FLAG_NUMBER, offsetof(struct network_options, agent), "FD", "connection to the agent"},
    {"owner", 0, FLAG_NUMBER, offsetof(struct network_options, owner), "FD", "pidfd of the container's process"},
    {"owner-pid", 0, FLAG_NUMBER, offsetof(struct network_options, owner_pid), "PID", "the same process"},
    {"messages", 0, FLAG_NUMBER, offsetof(struct network_options, messages), "FD", "where messages go"},
    {"ready", 0, FLAG_NUMBER, offsetof(struct network_options, ready), "FD", "who waits for the network"},
    {0},
};

static const struct network_options defaults = {0};

/* What it needs: to make taps and filters in the network namespace that it was born into. */
static int drop_privilege(struct error *err)
{
	static const cap_value_t kept[] = {CAP_NET_ADMIN};
	cap_t caps = cap_init();
	int failed = !caps || cap_set_flag(caps, CAP_PERMITTED, 1, kept, CAP_SET) ||
		     cap_set_flag(caps, CAP_EFFECTIVE, 1, kept, CAP_SET) || cap_set_proc(caps) < 0 ||
		     prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0;

	cap_free(caps);
	return failed ? error_set_errno(err, "drop privileges") : 0;
}

static int run(const struct invocation *invocation, struct error *err)
{
	const struct network_options *options = invocation->options;
	struct network_watcher watcher = {.id = invocation->argv[0],
					  .control = (int)options->control,
					  .agent = (int)options->agent,
					  .owner = (int)options->owner,
					  .owner_pid = options->owner_pid,
					  .log = (int)options->messages,
					  .ready = (int)options->ready};
	const int fds[] = {watcher.control, watcher.agent, watcher.owner, watcher.log, watcher.ready};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] <= 2 || fcntl(fds[i], F_GETFD) < 0)
			return error_set(err, EINVAL, "hull network is for hull itself");
	prctl(PR_SET_NAME, "hull-net");
	log_to(watcher.log, "hull-net");
	return drop_privilege(err) < 0 ? -1 : network_watcher_run(&watcher, err);
}

const struct command command_network = {
    .name = "network",
    .summary = "keep a container's network",
    .arguments = "--control FD --agent FD --owner FD --owner-pid PID --messages FD --ready FD ID",
    .description = "Used by hull itself.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
