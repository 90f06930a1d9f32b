#include "guest-agent/connection.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#include "guest-agent/loop.h"
#include "guest-agent/message.h"

/* Each process that was started by an order has one, for as long as it runs. */
#define CONNECTIONS_MAX 512

struct connection {
	struct watch watch;
	struct message_reader reader;
	struct answer *owed;  /* where the answer that this connection waits for will come from */
	struct answer direct; /* that place, until somebody moves it to where the answer takes its time */
	struct dependent *dependents;
	unsigned char *output;
	size_t output_size, output_sent;
};

static struct watch listener = WATCH_NONE;
static connection_order *handle_order;
static unsigned n_connections;

void connection_depend(const struct answer *answer, struct dependent *dependent)
{
	dependent->connection = answer->connection;
	if (!answer->connection) {
		dependent->ended(dependent);
		return;
	}
	dependent->next = answer->connection->dependents;
	answer->connection->dependents = dependent;
}

void connection_release(struct dependent *dependent)
{
	struct dependent **link;

	if (!dependent->connection)
		return;
	link = &dependent->connection->dependents;
	while (*link != dependent)
		link = &(*link)->next;
	*link = dependent->next;
	dependent->connection = NULL;
}

static void end_dependents(struct connection *connection)
{
	struct dependent *dependent;

	while ((dependent = connection->dependents) != NULL) {
		connection_release(dependent);
		dependent->ended(dependent);
	}
}

static void connection_end(struct connection *connection)
{
	int fd = connection->watch.fd;

	loop_remove(&connection->watch);
	close(fd);
	if (connection->owed)
		connection->owed->connection = NULL;
	end_dependents(connection);
	message_reader_clear(&connection->reader);
	free(connection->output);
	free(connection);
	n_connections--;
}

/* --- answers ----------------------------------------------------------------------------------------------------- */

void answer_move(struct answer *to, struct answer *from)
{
	*to = *from;
	from->connection = NULL;
	if (to->connection)
		to->connection->owed = to;
}

/* 1: all is sent; 0: later; -1: never. */
static int send_output(struct connection *connection)
{
	while (connection->output_sent < connection->output_size) {
		ssize_t n = send(connection->watch.fd, connection->output + connection->output_sent,
				 connection->output_size - connection->output_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		connection->output_sent += (size_t)n;
	}
	free(connection->output);
	connection->output = NULL;
	return 1;
}

static void flush(struct connection *connection)
{
	int status = send_output(connection);

	if (status < 0)
		connection_end(connection);
	else
		loop_set(&connection->watch, status == 0 ? EPOLLOUT : EPOLLIN);
}

static void give(struct answer *answer, json_t *object)
{
	struct connection *connection = answer->connection;

	answer->connection = NULL;
	if (connection) {
		connection->owed = NULL;
		connection->output_sent = 0;
		connection->output = message_encode(object, &connection->output_size);
		if (connection->output)
			flush(connection);
		else
			connection_end(connection);
	}
	json_decref(object);
}

void answer_ok(struct answer *answer, json_t *more)
{
	json_t *object = json_pack("{s:b}", "ok", 1);

	if (more && object)
		json_object_update(object, more);
	json_decref(more);
	give(answer, object);
}

void answer_error(struct answer *answer, const struct error *err)
{
	json_t *text = json_string(err->message);

	/* A message may quote what is not UTF-8, or cut a character in two. */
	if (!text)
		text = json_string("the error message is not valid text");
	give(answer, json_pack("{s:b, s:o, s:i}", "ok", 0, "error", text, "code", err->code));
}

/* --- orders ------------------------------------------------------------------------------------------------------ */

/* Gives a complete message away. The connection may be gone afterwards. */
static void dispatch(struct connection *connection)
{
	struct error err = {0};
	json_t *order = message_reader_take(&connection->reader, &err);

	if (!order) {
		connection_end(connection);
		return;
	}
	/* One at a time: nothing more is read before this is answered. That the host has gone still ends the
	 * connection; vsock calls that EPOLLRDHUP. */
	loop_set(&connection->watch, EPOLLRDHUP);
	connection->direct.connection = connection;
	connection->owed = &connection->direct;
	handle_order(order, &connection->direct);
	json_decref(order);
}

/* 1: message complete; 0: more to come; -1: the connection has to end. */
static int receive(struct connection *connection)
{
	for (;;) {
		struct error err;
		size_t room;
		void *place = message_reader_room(&connection->reader, &room, &err);
		ssize_t n = place ? recv(connection->watch.fd, place, room, MSG_DONTWAIT) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		if (n == 0)
			return -1;
		if (message_reader_add(&connection->reader, (size_t)n))
			return 1;
	}
}

static void connection_ready(struct watch *watch, uint32_t events)
{
	struct connection *connection = (struct connection *)((char *)watch - offsetof(struct connection, watch));
	int status;

	if (connection->output) {
		flush(connection);
		return;
	}
	/* Nothing was asked for while an order is carried out: the other side has gone. */
	if (connection->owed || !(events & EPOLLIN)) {
		connection_end(connection);
		return;
	}
	status = receive(connection);
	if (status < 0)
		connection_end(connection);
	else if (status > 0)
		dispatch(connection);
}

static void listener_ready(struct watch *watch, uint32_t events)
{
	struct sockaddr_vm peer = {0};
	socklen_t size = sizeof(peer);
	int fd = accept4(watch->fd, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct connection *connection;

	(void)events;
	if (fd < 0)
		return;
	/* Vsock knows no namespaces: a container may try it as well. */
	if (peer.svm_family == AF_VSOCK && peer.svm_cid != VMADDR_CID_HOST) {
		close(fd);
		return;
	}
	connection = n_connections < CONNECTIONS_MAX ? calloc(1, sizeof(*connection)) : NULL;
	if (!connection) {
		close(fd);
		return;
	}
	connection->watch.ready = connection_ready;
	if (loop_add(&connection->watch, fd, EPOLLIN) < 0) {
		close(fd);
		free(connection);
		return;
	}
	n_connections++;
}

int connection_listen(int socket, connection_order *handler, struct error *err)
{
	handle_order = handler;
	listener.ready = listener_ready;
	if (loop_add(&listener, socket, EPOLLIN) < 0)
		return error_set_errno(err, "watch the control socket");
	return 0;
}
