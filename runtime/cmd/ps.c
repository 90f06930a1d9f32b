/*
 * hull ps: the processes of a container. The table is about the guest's, by the numbers that the container has for
 * them.
 * --format json is about the host: engines look those numbers up there, so it has the processes that stand for those of
 * the guest: hull-vmm for the container's own, a proxy for each that `hull exec --detach` has started.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "runtime/agent.h"
#include "runtime/attach.h"
#include "runtime/cgroup.h"
#include "runtime/command.h"
#include "runtime/container.h"
#include "runtime/describe.h"
#include "runtime/output.h"
#include "runtime/ps_format.h"

#define TIMEOUT_SECONDS 10
#define PROCS_MAX (1u << 20)
#define COMMAND_LINE_MAX (1u << 20)

/* A process without a command line is looked at for a second. */
#define BIRTH_CHECKS 100
#define BIRTH_CHECK_NS 10000000

struct ps_options {
	const char *format;
};

static const struct ps_options defaults = {.format = "table"};

static const struct flag flags[] = {
    {"format", 'f', FLAG_TEXT, offsetof(struct ps_options, format), "FORMAT", "table (default) or json"},
    {0},
};

static int out_of_memory(struct error *err)
{
	return error_set(err, ENOMEM, "out of memory");
}

/* --- json: processes of the host --------------------------------------------------------------------------------- */

/* By the name that it was started under: which it gives itself comes a moment later. In the middle of its execve, or
 * when it ends, a process has no command line. */
static bool is_proxy(pid_t pid)
{
	const struct timespec pause = {.tv_nsec = BIRTH_CHECK_NS};
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	for (int i = 0; i < BIRTH_CHECKS; i++) {
		cleanup_free char *name = NULL;
		size_t size;

		if (read_file_at(AT_FDCWD, path, COMMAND_LINE_MAX, &name, &size, NULL) < 0)
			return false;
		if (size > 0)
			return strcmp(name, "hull-proxy") == 0;
		nanosleep(&pause, NULL);
	}
	return false;
}

/* Proxies are in the container's cgroup; where it has none, nothing is known of them. */
static int add_proxies(const struct container *container, json_t *list, struct error *err)
{
	cleanup_free char *text = NULL;
	char path[PATH_MAX];

	if (!container->state.cgroup)
		return 0;
	snprintf(path, sizeof(path), CGROUP_MOUNT "%s/cgroup.procs", container->state.cgroup);
	if (read_file_at(AT_FDCWD, path, PROCS_MAX, &text, NULL, err) < 0)
		return -1;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		pid_t pid = (pid_t)atoi(line);

		if (is_proxy(pid) && json_array_append_new(list, json_integer(pid)) < 0)
			return out_of_memory(err);
	}
	return 0;
}

static int print_json(const struct container *container, struct error *err)
{
	json_t *list = json_array();
	cleanup_free char *text = NULL;
	cleanup_free char *line = NULL;
	int result = -1;

	if (list && json_array_append_new(list, json_integer(container->state.vmm.pid)) == 0)
		result = add_proxies(container, list, err);
	else
		out_of_memory(err);
	text = result == 0 ? json_dumps(list, JSON_COMPACT) : NULL;
	json_decref(list);
	if (result < 0)
		return -1;
	if (!text || asprintf(&line, "%s\n", text) < 0)
		return out_of_memory(err);
	return output_text(line, err);
}

/* --- table: processes of the guest ------------------------------------------------------------------------------- */

static int print_processes(const struct ps_format *format, const json_t *answer, struct error *err)
{
	cleanup_free char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return out_of_memory(err);
	ps_format_write(format, answer, out);
	return fclose(out) == 0 ? output_text(text, err) : out_of_memory(err);
}

/* One that has stopped has no processes: an empty table, or what runc's language makes of an empty list. */
static int print_none(const struct ps_format *format, bool json, struct error *err)
{
	return json ? output_text("null\n", err) : print_processes(format, NULL, err);
}

static int print_table(const struct container *container, const struct ps_format *format, struct error *err)
{
	cleanup_attachment struct attachment attachment = ATTACHMENT_NONE;
	cleanup_free char *order = NULL;
	json_t *answer = NULL;
	int result;

	if (asprintf(&order, "{\"order\":\"ps\",\"id\":\"%s\"}", container->id) < 0)
		return out_of_memory(err);
	if (attach(container, TIMEOUT_SECONDS, &attachment, err) < 0 || attach_agent(&attachment, err) < 0 ||
	    agent_order(attachment.agent, &attachment.watch, order, strlen(order), &answer, err) < 0)
		return -1;
	result = print_processes(format, answer, err);
	json_decref(answer);
	return result;
}

static int run(const struct invocation *invocation, struct error *err)
{
	const struct ps_options *options = invocation->options;
	cleanup_container struct container container = CONTAINER_NONE;
	bool json = strcmp(options->format, "json") == 0;
	struct ps_format format;
	enum container_status status;

	if (!json && strcmp(options->format, "table") != 0)
		return error_set(err, EINVAL, "invalid format option");
	if (ps_format_parse(invocation->argv + 1, &format, err) < 0)
		return -1;
	if (container_open(invocation->global->root, invocation->argv[0], &container, err) < 0)
		return -1;
	status = container_status(&container);
	if (status == CONTAINER_CREATING)
		return error_set(err, ESRCH, "container not running");
	if (status == CONTAINER_STOPPED)
		return print_none(&format, json, err);
	return json ? print_json(&container, err) : print_table(&container, &format, err);
}

const struct command command_ps = {
    .name = "ps",
    .summary = "show the processes of a container",
    .arguments = "[flags] ID [OPTION OF PS...]",
    .description = "Shows the processes of a container as `ps -ef` does, by their numbers inside of it, or as it does\n"
		   "with other options; or, with --format json, the process ids on the host that stand for them.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .order = OPTIONS_FIRST,
    .min_arguments = 1,
    .max_arguments = INT_MAX,
    .run = run,
};
