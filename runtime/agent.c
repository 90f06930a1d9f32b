#include "runtime/agent.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "common/cleanup.h"
#include "common/io.h"
#include "common/vmm_control.h"
#include "runtime/report.h"

int socket_connect_in(int folder, const char *name, const char *whom, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	cleanup_close int fd = -1;

	/* The path of a container's folder may be longer than a socket address holds. */
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder, name);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_set_errno(err, "make a socket");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set_errno(err, "connect to %s", whom);
	return take_fd(&fd);
}

int socket_listen_in(int folder, const char *name, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder, name);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 128) < 0)
		return error_set_errno(err, "make the socket `%s`", name);
	return take_fd(&fd);
}

int vmm_control_connect(int folder, const char *name, struct error *err)
{
	return socket_connect_in(folder, name, "the virtual machine", err);
}

static int control_send(int control, const struct vmm_request *request, const int *fds, size_t n, struct error *err)
{
	if (send_with_fds(control, request, sizeof(*request), fds, n, MSG_DONTWAIT) < 0)
		return error_set_errno(err, "send a request to the virtual machine");
	return 0;
}

static int control_receive(int control, struct watch *watch, struct vmm_reply *reply, struct error *err)
{
	ssize_t n;

	if (watch_wait(watch, control, POLLIN, err) < 0)
		return -1;
	n = recv(control, reply, sizeof(*reply), MSG_DONTWAIT);
	if (n < 0)
		return error_set_errno(err, "receive from the virtual machine");
	if (n != sizeof(*reply))
		return error_set(err, ECONNRESET, "the virtual machine ended the connection");
	return 0;
}

static int control_call(int control, struct watch *watch, const struct vmm_request *request, const int *fds, size_t n,
			struct vmm_reply *reply, struct error *err)
{
	return control_send(control, request, fds, n, err) < 0 ? -1 : control_receive(control, watch, reply, err);
}

int vmm_control_stream(int control, struct watch *watch, int fd, uint32_t flags, uint32_t *port, struct error *err)
{
	struct vmm_request request = {.version = VMM_CONTROL_VERSION, .operation = VMM_STREAM, .flags = flags};
	struct vmm_reply reply = {0};

	if (control_call(control, watch, &request, &fd, 1, &reply, err) < 0)
		return -1;
	if (reply.error)
		return error_set(err, (int)reply.error, "hand a stream to the virtual machine: %s",
				 strerror((int)reply.error));
	*port = reply.value;
	return 0;
}

int vmm_control_drain(int control, uint32_t port, struct error *err)
{
	struct vmm_request request = {.version = VMM_CONTROL_VERSION, .operation = VMM_DRAIN, .port = port};

	return control_send(control, &request, NULL, 0, err);
}

int vmm_control_drained(int control, struct watch *watch, struct error *err)
{
	struct vmm_reply reply = {0};

	if (control_receive(control, watch, &reply, err) < 0)
		return -1;
	if (reply.error)
		return error_set(err, (int)reply.error, "wait for a stream: %s", strerror((int)reply.error));
	return 0;
}

int vmm_control_status(int control, struct watch *watch, uint32_t *status, struct error *err)
{
	struct vmm_request request = {.version = VMM_CONTROL_VERSION, .operation = VMM_STATUS};
	struct vmm_reply reply = {0};

	if (control_call(control, watch, &request, NULL, 0, &reply, err) < 0)
		return -1;
	if (reply.error)
		return error_set(err, (int)reply.error, "ask the virtual machine for its state: %s",
				 strerror((int)reply.error));
	*status = reply.value;
	return 0;
}

int vmm_control_save(int control, struct watch *watch, int state, int memory, struct error *err)
{
	struct vmm_request request = {.version = VMM_CONTROL_VERSION, .operation = VMM_SAVE, .flags = VMM_SAVE_AND_END};
	struct vmm_reply reply = {0};
	int files[] = {state, memory};

	if (control_call(control, watch, &request, files, 2, &reply, err) < 0)
		return -1;
	if (reply.error)
		return error_set(err, (int)reply.error, "save the virtual machine: %s", strerror((int)reply.error));
	return 0;
}

int vmm_control_add_net(int control, struct watch *watch, int tap, const uint8_t mac[6], uint32_t *slot,
			struct error *err)
{
	struct {
		struct vmm_request request;
		struct vmm_net net;
	} message = {.request = {.version = VMM_CONTROL_VERSION, .operation = VMM_NET_ADD}};
	struct vmm_reply reply = {0};

	/* It is not told the MTU: that would be the largest one that the guest can set. */
	memcpy(message.net.mac, mac, sizeof(message.net.mac));
	if (send_with_fds(control, &message, sizeof(message), &tap, 1, MSG_DONTWAIT) < 0)
		return error_set_errno(err, "send a request to the virtual machine");
	if (control_receive(control, watch, &reply, err) < 0)
		return -1;
	if (reply.error)
		return error_set(err, (int)reply.error, "add a network card to the virtual machine: %s",
				 strerror((int)reply.error));
	*slot = reply.value;
	return 0;
}

int vmm_control_remove_net(int control, struct watch *watch, uint32_t slot, struct error *err)
{
	struct vmm_request request = {.version = VMM_CONTROL_VERSION, .operation = VMM_NET_REMOVE, .port = slot};
	struct vmm_reply reply = {0};

	if (control_call(control, watch, &request, NULL, 0, &reply, err) < 0)
		return -1;
	if (reply.error)
		return error_set(err, (int)reply.error, "remove a network card from the virtual machine: %s",
				 strerror((int)reply.error));
	return 0;
}

int agent_connect(int control, struct watch *watch, struct error *err)
{
	struct vmm_request request = {.version = VMM_CONTROL_VERSION, .operation = VMM_CONNECT, .port = AGENT_PORT};
	cleanup_close int ours = -1, theirs = -1;
	struct vmm_reply reply = {0};
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return error_set_errno(err, "make a socket pair");
	ours = ends[0];
	theirs = ends[1];
	if (control_call(control, watch, &request, &theirs, 1, &reply, err) < 0)
		return -1;
	if (reply.error)
		return error_set(err, (int)reply.error, "connect to the agent in the guest: %s",
				 strerror((int)reply.error));
	return take_fd(&ours);
}

static int connection_ended(struct error *err)
{
	return error_set(err, ECONNRESET, "the agent in the guest ended the connection");
}

/* Drops what has been sent from the head of the list. */
static void advance(struct iovec *parts, size_t n, size_t sent)
{
	for (size_t i = 0; i < n; i++) {
		size_t part = sent < parts[i].iov_len ? sent : parts[i].iov_len;

		parts[i].iov_base = (char *)parts[i].iov_base + part;
		parts[i].iov_len -= part;
		sent -= part;
	}
}

/* In one call where there is room, because each may wake the guest. */
static int send_message(int agent, struct watch *watch, const char *text, size_t size, struct error *err)
{
	uint32_t header = htole32((uint32_t)size);
	struct iovec parts[] = {{&header, sizeof(header)}, {(char *)text, size}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

	while (parts[0].iov_len + parts[1].iov_len > 0) {
		ssize_t n = sendmsg(agent, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			advance(parts, 2, (size_t)n);
		} else if (errno == EAGAIN) {
			if (watch_wait(watch, agent, POLLOUT, err) < 0)
				return -1;
		} else if (errno == EPIPE || errno == ECONNRESET) {
			return connection_ended(err);
		} else if (errno != EINTR) {
			return error_set_errno(err, "send an order to the agent");
		}
	}
	return 0;
}

static int receive_all(int agent, struct watch *watch, void *data, size_t size, struct error *err)
{
	char *position = data;

	while (size > 0) {
		ssize_t n = recv(agent, position, size, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return connection_ended(err);
		if (n > 0) {
			position += n;
			size -= (size_t)n;
		} else if (errno == EAGAIN) {
			if (watch_wait(watch, agent, POLLIN, err) < 0)
				return -1;
		} else if (errno != EINTR) {
			return error_set_errno(err, "receive the agent's answer");
		}
	}
	return 0;
}

static int receive_answer(int agent, struct watch *watch, json_t **answer, struct error *err)
{
	cleanup_free char *text = NULL;
	uint32_t size;

	if (receive_all(agent, watch, &size, sizeof(size), err) < 0)
		return -1;
	size = le32toh(size);
	if (size == 0 || size > AGENT_MESSAGE_MAX)
		return error_set(err, EPROTO, "the agent in the guest sent a message of %u bytes", size);
	text = malloc(size);
	if (!text)
		return error_set_errno(err, "allocate %u bytes", size);
	if (receive_all(agent, watch, text, size, err) < 0)
		return -1;
	*answer = json_loadb(text, size, 0, NULL);
	if (!json_is_object(*answer) || !json_is_boolean(json_object_get(*answer, "ok"))) {
		json_decref(*answer);
		*answer = NULL;
		return error_set(err, EPROTO, "the agent in the guest sent an answer that is none");
	}
	return 0;
}

/* The guest chose these bytes and a person's terminal shows them. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

static int refusal(const json_t *answer, struct error *err)
{
	const char *text = json_string_value(json_object_get(answer, "error"));
	json_int_t code = json_integer_value(json_object_get(answer, "code"));

	error_set(err, code > 0 && code < 4096 ? (int)code : 0, "%s",
		  text ? text : "the agent refused without a reason");
	make_printable(err->message);
	return -1;
}

/* A guest must not fill the host's log. */
#define WARNINGS_MAX 16

/* What the agent did differently than asked, where the specification says to warn and go on. */
static void pass_warnings_on(const json_t *answer)
{
	const json_t *warning;
	size_t index;

	json_array_foreach(json_object_get(answer, "warnings"), index, warning)
	{
		struct error line;

		if (index == WARNINGS_MAX)
			break;
		if (!json_is_string(warning))
			continue;
		error_set(&line, 0, "%s", json_string_value(warning));
		make_printable(line.message);
		report_warning("%s", line.message);
	}
}

static int note_failure(struct watch *watch)
{
	if (watch->event == WATCH_NOTHING)
		watch->event = WATCH_FAILURE;
	return -1;
}

int agent_send(int agent, struct watch *watch, const char *order, size_t size, struct error *err)
{
	watch->event = WATCH_NOTHING;
	if (size > AGENT_MESSAGE_MAX)
		return error_set(err, EMSGSIZE, "order to the agent: %zu bytes are too many", size);
	return send_message(agent, watch, order, size, err) < 0 ? note_failure(watch) : 0;
}

int agent_receive(int agent, struct watch *watch, json_t **answer, struct error *err)
{
	json_t *received = NULL;
	int result = 0;

	watch->event = WATCH_NOTHING;
	if (receive_answer(agent, watch, &received, err) < 0)
		return note_failure(watch);
	if (!json_is_true(json_object_get(received, "ok")))
		result = refusal(received, err);
	else
		pass_warnings_on(received);
	if (answer && result == 0)
		*answer = json_incref(received);
	json_decref(received);
	return result;
}

int agent_order(int agent, struct watch *watch, const char *order, size_t size, json_t **answer, struct error *err)
{
	return agent_send(agent, watch, order, size, err) < 0 ? -1 : agent_receive(agent, watch, answer, err);
}

int agent_start(int agent, struct watch *watch, const char *id, struct error *err)
{
	cleanup_free char *order = NULL;

	/* Ids hold nothing that JSON would escape: see state_check_id. */
	if (asprintf(&order, "{\"order\":\"start\",\"id\":\"%s\"}", id) < 0)
		return error_set(err, ENOMEM, "make an order");
	return agent_order(agent, watch, order, strlen(order), NULL, err);
}

/* "exec":"NAME", or nothing. Names of processes are made by hull and hold nothing that JSON would escape either. */
static void format_exec(char *text, size_t size, const char *exec)
{
	*text = '\0';
	if (exec)
		snprintf(text, size, "\"exec\":\"%s\",", exec);
}

int agent_kill(int agent, struct watch *watch, const char *id, const char *exec, int signal, int all, struct error *err)
{
	cleanup_free char *order = NULL;
	char process[128];

	format_exec(process, sizeof(process), exec);
	if (asprintf(&order, "{\"order\":\"kill\",\"id\":\"%s\",%s\"signal\":%d,\"all\":%s}", id, process, signal,
		     all ? "true" : "false") < 0)
		return error_set(err, ENOMEM, "make an order");
	return agent_order(agent, watch, order, strlen(order), NULL, err);
}

int agent_resize(int agent, struct watch *watch, const char *id, const char *exec, unsigned columns, unsigned rows,
		 struct error *err)
{
	cleanup_free char *order = NULL;
	char process[128];

	format_exec(process, sizeof(process), exec);
	if (asprintf(&order, "{\"order\":\"resize\",\"id\":\"%s\",%s\"width\":%u,\"height\":%u}", id, process, columns,
		     rows) < 0)
		return error_set(err, ENOMEM, "make an order");
	return agent_order(agent, watch, order, strlen(order), NULL, err);
}
