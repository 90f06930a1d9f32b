#include "vmm/fsd/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"

void control_init(struct control *control, struct server *server, int listener)
{
	control->server = server;
	control->listener = listener;
	for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		control->connections[i] = -1;
}

static void keep(struct server *server, unsigned connection)
{
	for (unsigned i = 0; i < server->exports_end; i++)
		if (server->exports[i].added_by == connection)
			server->exports[i].added_by = 0;
}

void control_undo(struct server *server, unsigned connection)
{
	for (unsigned i = 0; i < server->exports_end; i++)
		if (server->exports[i].node != 0 && server->exports[i].added_by == connection)
			server_unexport(server, server->exports[i].name, false);
}

static uint32_t add(struct server *server, unsigned connection, const struct fsd_request *request, int fd)
{
	struct error err = {0};

	if (server_export(server, request->name, request->cache_seconds, fd, &err) < 0) {
		log_line("%s", err.message);
		return err.code > 0 ? (uint32_t)err.code : EIO;
	}
	server_find_export(server, request->name)->added_by = connection;
	return 0;
}

/* Whether all of it means something for its operation. */
static bool is_sound(const struct fsd_request *request, int fd)
{
	bool adds = request->operation == FSD_ADD, removes = request->operation == FSD_REMOVE;

	if (request->version != FSD_CONTROL_VERSION || !memchr(request->name, '\0', sizeof(request->name)))
		return false;
	if ((fd >= 0) != adds || (request->flags & ~(removes ? FSD_GROUP : 0)) != 0)
		return false;
	if (request->cache_seconds > (adds ? CACHE_SECONDS_MAX : 0))
		return false;
	return adds || removes || request->name[0] == '\0';
}

static bool carry_out(struct server *server, unsigned connection, const struct fsd_request *request, int *fd,
		      struct fsd_reply *reply)
{
	switch (request->operation) {
	case FSD_ADD:
		reply->error = add(server, connection, request, take_fd(fd));
		return true;
	case FSD_REMOVE:
		reply->value = server_unexport(server, request->name, request->flags & FSD_GROUP);
		reply->error = reply->value == 0 ? ENOENT : 0;
		return true;
	case FSD_KEEP:
		keep(server, connection);
		return true;
	case FSD_COUNT:
		reply->value = server->export_count;
		return true;
	default:
		return false;
	}
}

bool control_handle(struct server *server, unsigned connection, const void *packet, size_t size, int given_fd,
		    struct fsd_reply *reply)
{
	cleanup_close int fd = given_fd;
	struct fsd_request request;

	*reply = (struct fsd_reply){0};
	if (size != sizeof(request))
		return false;
	memcpy(&request, packet, sizeof(request));
	return is_sound(&request, fd) && carry_out(server, connection, &request, &fd, reply);
}

static int *free_connection(struct control *control)
{
	for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		if (control->connections[i] < 0)
			return &control->connections[i];
	return NULL;
}

static void end(struct control *control, int *connection)
{
	control_undo(control->server, (unsigned)(connection - control->connections) + 1);
	close(*connection);
	*connection = -1;
}

static void serve_connection(struct control *control, int *connection)
{
	unsigned number = (unsigned)(connection - control->connections) + 1;
	char packet[sizeof(struct fsd_request)];
	struct fsd_reply reply;
	size_t n_fds = 1;
	int fd = -1;
	ssize_t size = receive_with_fds(*connection, packet, sizeof(packet), &fd, &n_fds, MSG_DONTWAIT);

	if (size < 0 && errno == EAGAIN)
		return;
	if (size < 0 || !control_handle(control->server, number, packet, (size_t)size, n_fds > 0 ? fd : -1, &reply) ||
	    send_with_fds(*connection, &reply, sizeof(reply), NULL, 0, MSG_DONTWAIT) < 0)
		end(control, connection);
}

unsigned control_poll(struct control *control, struct pollfd *polled)
{
	unsigned n = 0;

	if (control->listener < 0)
		return 0;
	if (free_connection(control))
		polled[n++] = (struct pollfd){.fd = control->listener, .events = POLLIN};
	for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		if (control->connections[i] >= 0)
			polled[n++] = (struct pollfd){.fd = control->connections[i], .events = POLLIN};
	return n;
}

static void accept_one(struct control *control)
{
	int *place = free_connection(control);

	if (place)
		*place = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static void serve_one(struct control *control, int fd)
{
	if (fd == control->listener) {
		accept_one(control);
		return;
	}
	for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
		if (control->connections[i] == fd)
			serve_connection(control, &control->connections[i]);
}

void control_serve(struct control *control, const struct pollfd *polled, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (polled[i].revents)
			serve_one(control, polled[i].fd);
}
