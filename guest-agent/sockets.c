#include "guest-agent/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "guest-agent/loop.h"
#include "guest-agent/places.h"
#include "guest-agent/relay_pair.h"
#include "guest-agent/vsock.h"

#define BACKLOG 64
#define CONNECTIONS_MAX 256

struct socket_listener {
	struct watch watch;
	struct socket_listener *next;
	struct sockets *sockets;
	size_t index; /* into spec.mounts */
	char path[PLAN_SOCKET_PATH_SIZE];
};

struct socket_connection {
	struct socket_connection *next;
	struct sockets *sockets; /* NULL: the container has gone */
	uint32_t id;
	size_t index;
	bool offered; /* the relay knows of it */
	struct relay_pair pair;
};

/* --- one connection ---------------------------------------------------------------------------------------------- */

static void unlink_connection(struct socket_connection *connection)
{
	struct socket_connection **link;

	if (!connection->sockets)
		return;
	link = &connection->sockets->connections;
	while (*link != connection)
		link = &(*link)->next;
	*link = connection->next;
	connection->sockets->count--;
}

/* The relay's end takes the streams along, so it hears of the container's when they have delivered what they hold. */
static void tell_if_over(struct sockets *sockets)
{
	const struct error ended = {.message = "the container has ended", .code = ESRCH};

	if (sockets->ended && sockets->count == 0)
		answer_error(&sockets->answer, &ended);
}

static void end_connection(struct socket_connection *connection)
{
	struct sockets *sockets = connection->sockets;

	unlink_connection(connection);
	relay_pair_stop(&connection->pair);
	free(connection);
	if (sockets)
		tell_if_over(sockets);
}

static void pair_ended(struct relay_pair *pair)
{
	end_connection(pair->owner);
}

/* --- the relay on the host --------------------------------------------------------------------------------------- */

static struct socket_connection *find_unoffered(const struct sockets *sockets)
{
	struct socket_connection *found = NULL;

	/* The list begins with the youngest. */
	for (struct socket_connection *connection = sockets->connections; connection; connection = connection->next)
		if (!connection->offered)
			found = connection;
	return found;
}

static void offer(struct sockets *sockets)
{
	struct socket_connection *connection = find_unoffered(sockets);

	if (!connection || !sockets->answer.connection)
		return;
	connection->offered = true;
	answer_ok(&sockets->answer, json_pack("{s:I, s:I}", "socket", (json_int_t)connection->index, "connection",
					      (json_int_t)connection->id));
}

/* What became of a connection: a port, or nothing. */
static void settle_connection(struct sockets *sockets, uint32_t id, uint32_t port)
{
	struct socket_connection *connection = sockets->connections;
	struct error err;

	while (connection && (connection->id != id || !connection->offered || connection->pair.fd < 0))
		connection = connection->next;
	if (connection && (port == 0 || relay_pair_start(&connection->pair, port, &err) < 0))
		end_connection(connection);
}

int sockets_order(struct sockets *sockets, const struct order *order, struct answer *answer, struct error *err)
{
	if (order->connection != 0)
		settle_connection(sockets, order->connection, order->port);
	if (!sockets->listeners && sockets->count == 0)
		return error_set(err, ESRCH, "container \"%s\" has no sockets", order->id);
	if (sockets->answer.connection)
		return error_set(err, EBUSY, "somebody else serves the sockets of container \"%s\"", order->id);
	answer_move(&sockets->answer, answer);
	offer(sockets);
	return 0;
}

/* --- listening --------------------------------------------------------------------------------------------------- */

static void listener_ready(struct watch *watch, uint32_t events)
{
	struct socket_listener *listener =
	    (struct socket_listener *)((char *)watch - offsetof(struct socket_listener, watch));
	struct sockets *sockets = listener->sockets;
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct socket_connection *connection;

	(void)events;
	if (fd < 0)
		return;
	connection = sockets->count < CONNECTIONS_MAX ? calloc(1, sizeof(*connection)) : NULL;
	if (!connection) {
		close(fd);
		return;
	}
	connection->sockets = sockets;
	connection->id = ++sockets->last_id;
	connection->index = listener->index;
	connection->pair = (struct relay_pair){.fd = fd, .ended = pair_ended, .owner = connection};
	connection->next = sockets->connections;
	sockets->connections = connection;
	sockets->count++;
	offer(sockets);
}

/* With the owner and the mode of the host's. */
static int bind_listener(int fd, const struct plan_socket *socket, const char *path, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, path, strlen(path) + 1);
	if ((mkdir(PLACE_SOCKETS, 0700) < 0 && errno != EEXIST) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set_errno(err, "make a socket");
	if (chown(path, socket->uid, socket->gid) < 0 || chmod(path, socket->mode) < 0 || listen(fd, BACKLOG) < 0)
		return error_set_errno(err, "set up a socket");
	return 0;
}

static int open_listener(struct sockets *sockets, struct plan_mount *mount, size_t index, unsigned number,
			 struct error *err)
{
	struct socket_listener *listener = calloc(1, sizeof(*listener));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (!listener || fd < 0) {
		free(listener);
		return error_set_errno(err, "make a socket");
	}
	snprintf(mount->socket.path, sizeof(mount->socket.path), PLACE_SOCKETS "/%u-%zu", number, index);
	memcpy(listener->path, mount->socket.path, sizeof(listener->path));
	listener->sockets = sockets;
	listener->index = index;
	listener->watch = (struct watch){.fd = -1, .ready = listener_ready};
	listener->next = sockets->listeners;
	sockets->listeners = listener;
	if (bind_listener(fd, &mount->socket, listener->path, err) == 0 && loop_add(&listener->watch, fd, EPOLLIN) == 0)
		return 0;
	close(fd);
	return -1;
}

int sockets_open(struct sockets *sockets, struct plan *plan, unsigned number, struct error *err)
{
	for (size_t i = 0; i < plan->n_mounts; i++)
		if (plan->mounts[i].is_socket && !plan->mounts[i].socket.is_notify &&
		    open_listener(sockets, &plan->mounts[i], i, number, err) < 0)
			return -1;
	return 0;
}

static void close_listeners(struct sockets *sockets)
{
	struct socket_listener *listener;

	while ((listener = sockets->listeners)) {
		int fd = listener->watch.fd;

		sockets->listeners = listener->next;
		loop_remove(&listener->watch);
		if (fd >= 0)
			close(fd);
		unlink(listener->path);
		free(listener);
	}
}

void sockets_end(struct sockets *sockets)
{
	struct socket_connection *connection = sockets->connections;

	sockets->ended = true;
	close_listeners(sockets);
	while (connection) {
		struct socket_connection *next = connection->next;

		if (connection->pair.fd >= 0)
			end_connection(connection);
		connection = next;
	}
	tell_if_over(sockets);
}

void sockets_close(struct sockets *sockets)
{
	struct socket_connection *connection;

	sockets_end(sockets);
	/* What is joined goes on by itself until both its ends have had enough. */
	while ((connection = sockets->connections)) {
		/* clang's analyzer does not see that those which have been freed are no longer in the list. */
		sockets->connections = connection->next; /* NOLINT(clang-analyzer-unix.Malloc) */
		sockets->count--;
		connection->sockets = NULL;
	}
	tell_if_over(sockets);
}
