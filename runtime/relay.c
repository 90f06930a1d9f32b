#include "runtime/relay.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/vmm_control.h"
#include "runtime/agent.h"
#include "runtime/report.h"

/* Seconds for the VMM to take a stream. */
#define STREAM_TIMEOUT 10

bool relay_needed(const struct exports *exports)
{
	for (size_t i = 0; i < exports->n; i++)
		if (exports->list[i].is_socket)
			return true;
	return false;
}

int relay_spawn(const char *id, const struct exports *exports, int control, int agent, int cgroup, struct child *child,
		struct error *err)
{
	cleanup_descriptors struct descriptors descriptors = {0};
	cleanup_arguments struct arguments arguments = {0};
	struct spawn spawning = {
	    .program = "/proc/self/exe", .arguments = &arguments, .keep = &descriptors, .cgroup = cgroup};

	arguments_add(&arguments, "hull-relay");
	arguments_add(&arguments, "relay");
	arguments_add(&arguments, "--control=%d", control);
	arguments_add(&arguments, "--agent=%d", agent);
	descriptors_add(&descriptors, control);
	descriptors_add(&descriptors, agent);
	for (size_t i = 0; i < exports->n; i++) {
		if (!exports->list[i].is_socket)
			continue;
		arguments_add(&arguments, "--socket=%zu=%d", exports->list[i].mount, exports->list[i].fd);
		descriptors_add(&descriptors, exports->list[i].fd);
	}
	arguments_add(&arguments, "%s", id);
	return spawn(&spawning, child, err);
}

/* By the descriptor, whatever has become of the name. Never waits: a full queue is a refusal. */
static int connect_to(const struct relay_socket *target)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", target->fd);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return take_fd(&fd);
}

static const struct relay_socket *find_socket(const struct relay *relay, json_int_t index)
{
	for (size_t i = 0; i < relay->n; i++)
		if (index >= 0 && relay->sockets[i].index == (size_t)index)
			return &relay->sockets[i];
	return NULL;
}

/* The port of a stream to the socket that the guest asks for; 0 when there is none to be had. */
static uint32_t make_stream(const struct relay *relay, json_int_t index)
{
	const struct relay_socket *target = find_socket(relay, index);
	cleanup_close int fd = target ? connect_to(target) : -1;
	struct watch watch = WATCH_NONE;
	struct error err;
	uint32_t port;

	if (fd < 0) {
		report_debug("mounts[%lld]: %s", (long long)index, target ? strerror(errno) : "no socket");
		return 0;
	}
	watch_set_timeout(&watch, STREAM_TIMEOUT);
	if (vmm_control_stream(relay->control, &watch, fd, VMM_STREAM_IN | VMM_STREAM_OUT, &port, &err) == 0)
		return port;
	report_debug("%s", err.message);
	return 0;
}

/* Tells what became of the last connection (0: there was none) and waits for the next. */
static json_t *ask(const struct relay *relay, json_int_t connection, uint32_t port, struct error *err)
{
	struct watch watch = WATCH_NONE;
	cleanup_free char *order = NULL;
	json_t *answer = NULL;

	if (asprintf(&order, "{\"order\":\"sockets\",\"id\":\"%s\",\"connection\":%lld,\"port\":%u}", relay->id,
		     (long long)connection, port) < 0) {
		error_set(err, ENOMEM, "make an order");
		return NULL;
	}
	return agent_order(relay->agent, &watch, order, strlen(order), &answer, err) < 0 ? NULL : answer;
}

int relay_serve(const struct relay *relay, struct error *err)
{
	json_int_t connection = 0;
	uint32_t port = 0;

	for (;;) {
		json_t *answer = ask(relay, connection, port, err);

		/* The container has ended, or its machine: no news to anybody. */
		if (!answer)
			return 0;
		connection = json_integer_value(json_object_get(answer, "connection"));
		if (connection <= 0 || connection > UINT32_MAX) {
			json_decref(answer);
			return error_set(err, EPROTO, "the agent in the guest asks for a connection that is none");
		}
		port = make_stream(relay, json_integer_value(json_object_get(answer, "socket")));
		json_decref(answer);
	}
}
