/*
 * hull relay: not a verb for people. Connects a guest to sockets of the host; see relay.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include "common/io.h"
#include "runtime/command.h"
#include "runtime/relay.h"

struct relay_options {
	unsigned control, agent;
	struct flag_list sockets;
};

static const struct flag flags[] = {
    {"control", 0, FLAG_NUMBER, offsetof(struct relay_options, control), "FD", "connection to the virtual machine"},
    {"agent", 0, FLAG_NUMBER, offsetof(struct relay_options, agent), "FD", "connection to the agent"},
    {"socket", 0, FLAG_LIST, offsetof(struct relay_options, sockets), "INDEX=FD", "a socket of the host"},
    {0},
};

static const struct relay_options defaults = {0};

static int read_sockets(const struct flag_list *list, struct relay *relay, struct error *err)
{
	for (size_t i = 0; i < list->n; i++) {
		unsigned long index;
		uint64_t fd;
		char *end;

		index = strtoul(list->items[i], &end, 10);
		if (relay->n == RELAY_SOCKETS_MAX || *end != '=' || parse_u64(end + 1, 3, INT32_MAX, &fd) < 0)
			return error_set(err, EINVAL, "--socket: %s", list->items[i]);
		relay->sockets[relay->n++] = (struct relay_socket){.index = index, .fd = (int)fd};
	}
	return 0;
}

/* What it needs beside its uid: to connect whatever the socket's mode, as its caller can. */
static int drop_privilege(struct error *err)
{
	static const cap_value_t kept[] = {CAP_DAC_OVERRIDE};
	cap_t now = cap_get_proc(), caps = cap_init();
	cap_flag_value_t have = CAP_CLEAR;
	int failed = !now || !caps;

	if (!failed)
		cap_get_flag(now, CAP_DAC_OVERRIDE, CAP_PERMITTED, &have);
	if (have == CAP_SET)
		failed = cap_set_flag(caps, CAP_PERMITTED, 1, kept, CAP_SET) ||
			 cap_set_flag(caps, CAP_EFFECTIVE, 1, kept, CAP_SET);
	failed = failed || cap_set_proc(caps) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0;
	cap_free(now);
	cap_free(caps);
	return failed ? error_set_errno(err, "drop privileges") : 0;
}

static int run(const struct invocation *invocation, struct error *err)
{
	const struct relay_options *options = invocation->options;
	static struct relay relay;

	relay.id = invocation->argv[0];
	relay.control = (int)options->control;
	relay.agent = (int)options->agent;
	if (relay.control <= 2 || relay.agent <= 2 || fcntl(relay.control, F_GETFD) < 0 ||
	    fcntl(relay.agent, F_GETFD) < 0)
		return error_set(err, EINVAL, "hull relay is for hull itself");
	if (read_sockets(&options->sockets, &relay, err) < 0)
		return -1;
	prctl(PR_SET_NAME, "hull-relay");
	return drop_privilege(err) < 0 ? -1 : relay_serve(&relay, err);
}

const struct command command_relay = {
    .name = "relay",
    .summary = "connect a guest to sockets of the host",
    .arguments = "--control FD --agent FD [flags] ID",
    .description = "Used by hull itself.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
