/*
 * hull events: what a container uses, and that the kernel killed processes of it for want of memory, as lines of JSON.
 * The figures are those of the guest's cgroup, where the container's processes are counted.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "runtime/agent.h"
#include "runtime/attach.h"
#include "runtime/command.h"
#include "runtime/container.h"
#include "runtime/duration.h"
#include "runtime/output.h"

#define TIMEOUT_SECONDS 10

struct events_options {
	const char *interval;
	bool stats;
};

static const struct events_options defaults = {.interval = "5s"};

static const struct flag flags[] = {
    {"interval", 0, FLAG_TEXT, offsetof(struct events_options, interval), "TIME",
     "how often figures are printed, like 500ms or 1m30s (default: 5s)"},
    {"stats", 0, FLAG_SWITCH, offsetof(struct events_options, stats), NULL, "print the figures once and end"},
    {0},
};

/* What "no limit" is as a JSON number of 64 bits, and what jansson, which has no such integers, makes of it. */
#define UNLIMITED_REAL "1.8446744073709552e19"
#define UNLIMITED "18446744073709551615"

static int print_line(json_t *line, struct error *err)
{
	cleanup_free char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
	char *from, *found;
	int result = 0;

	json_decref(line);
	if (!text)
		return error_set(err, ENOMEM, "format an event");
	for (from = text; result == 0 && (found = strstr(from, UNLIMITED_REAL));
	     from = found + strlen(UNLIMITED_REAL)) {
		*found = '\0';
		result = output_text(from, err) < 0 ? -1 : output_text(UNLIMITED, err);
	}
	if (result == 0)
		result = output_text(from, err);
	return result < 0 ? -1 : output_text("\n", err);
}

static int print_stats(const struct container *container, int agent, struct watch *watch, struct error *err)
{
	cleanup_free char *order = NULL;
	json_t *answer, *data;

	/* Ids hold nothing that JSON would escape: see state_check_id. */
	if (asprintf(&order, "{\"order\":\"stats\",\"id\":\"%s\"}", container->id) < 0)
		return error_set(err, ENOMEM, "make an order");
	watch_set_timeout(watch, TIMEOUT_SECONDS);
	if (agent_order(agent, watch, order, strlen(order), &answer, err) < 0)
		return -1;
	data = json_incref(json_object_get(answer, "data"));
	json_decref(answer);
	if (!json_is_object(data)) {
		json_decref(data);
		return error_set(err, EPROTO, "the agent in the guest sent no figures");
	}
	return print_line(json_pack("{s:s, s:s, s:o}", "type", "stats", "id", container->id, "data", data), err);
}

/* --- following --------------------------------------------------------------------------------------------------- */

struct follower {
	struct attachment *attachment;
	int news; /* connection on which the agent owes an answer */
	uint64_t kills;
	int64_t interval, next; /* nanoseconds; of CLOCK_MONOTONIC */
};

static int ask_for_news(const struct container *container, struct follower *follower, struct error *err)
{
	cleanup_free char *order = NULL;

	if (asprintf(&order, "{\"order\":\"events\",\"id\":\"%s\",\"oomKills\":%" PRIu64 "}", container->id,
		     follower->kills) < 0)
		return error_set(err, ENOMEM, "make an order");
	return agent_send(follower->news, &follower->attachment->watch, order, strlen(order), err);
}

/* Returns 1 when the container has ended. */
static int hear_news(const struct container *container, struct follower *follower, struct error *err)
{
	json_int_t kills;
	json_t *answer;
	bool ended;

	watch_set_timeout(&follower->attachment->watch, TIMEOUT_SECONDS);
	if (agent_receive(follower->news, &follower->attachment->watch, &answer, err) < 0)
		return -1;
	kills = json_integer_value(json_object_get(answer, "oomKills"));
	ended = json_is_true(json_object_get(answer, "ended"));
	json_decref(answer);
	/* The guest's number is not to be believed as a count of lines. */
	if (kills > 0 && (uint64_t)kills > follower->kills) {
		follower->kills = (uint64_t)kills;
		if (print_line(json_pack("{s:s, s:s}", "type", "oom", "id", container->id), err) < 0)
			return -1;
	}
	return ended ? 1 : ask_for_news(container, follower, err);
}

static int wait_for_something(const struct follower *follower, struct pollfd polled[2])
{
	int64_t left = follower->next - now_ns();

	polled[0] = (struct pollfd){.fd = follower->news, .events = POLLIN};
	polled[1] = (struct pollfd){.fd = follower->attachment->watch.vmm, .events = POLLIN};
	return poll(polled, 2, left > 0 ? (int)(left / NS_PER_MS + 1) : 0);
}

static bool has_ended(const struct follower *follower)
{
	struct pollfd vmm = {.fd = follower->attachment->watch.vmm, .events = POLLIN};

	return poll(&vmm, 1, 1000) == 1;
}

static int follow(const struct container *container, struct follower *follower, struct error *err)
{
	struct attachment *attachment = follower->attachment;
	int result = ask_for_news(container, follower, err);

	while (result == 0) {
		struct pollfd polled[2];
		int n = wait_for_something(follower, polled);

		if (n < 0)
			continue;
		if (polled[0].revents) {
			result = hear_news(container, follower, err);
		} else if (polled[1].revents) {
			result = 1;
		} else if (now_ns() >= follower->next) {
			result = print_stats(container, attachment->agent, &attachment->watch, err);
			follower->next = now_ns() + follower->interval;
		}
	}
	/* The connection may break because the machine goes, which is how following ends. */
	return result > 0 || (attachment->watch.event != WATCH_NOTHING && has_ended(follower)) ? 0 : -1;
}

static int run(const struct invocation *invocation, struct error *err)
{
	const struct events_options *options = invocation->options;
	cleanup_attachment struct attachment attachment = ATTACHMENT_NONE;
	cleanup_container struct container container = CONTAINER_NONE;
	struct follower follower = {.attachment = &attachment, .news = -1};
	enum container_status status;
	int result;

	if (duration_parse(options->interval, &follower.interval) < 0)
		return error_set(err, EINVAL, "invalid value \"%s\" for flag -interval: parse error",
				 options->interval);
	if (follower.interval == 0)
		return error_set(err, EINVAL, "duration interval must be greater than 0");
	if (container_open(invocation->global->root, invocation->argv[0], &container, err) < 0)
		return -1;
	status = container_status(&container);
	if (status == CONTAINER_STOPPED)
		return error_set(err, ESRCH, "container with id %s is not running", container.id);
	if (attach(&container, TIMEOUT_SECONDS, &attachment, err) < 0 || attach_agent(&attachment, err) < 0)
		return -1;
	if (options->stats)
		return print_stats(&container, attachment.agent, &attachment.watch, err);
	follower.news = agent_connect(attachment.control, &attachment.watch, err);
	if (follower.news < 0)
		return -1;
	follower.next = now_ns() + follower.interval;
	result = follow(&container, &follower, err);
	cleanup_close_fd(&follower.news);
	return result;
}

const struct command command_events = {
    .name = "events",
    .summary = "print events and figures of a container",
    .arguments = "[flags] ID",
    .description = "Prints a line of JSON for every figure and every process killed for want of memory, until the\n"
		   "container ends; with --stats the figures once.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
