/*
 * System calls at run time: accept4, recvmsg, sendmsg, close; epoll_ctl, clock_gettime (loop); mmap, munmap, brk
 * (clients).
 */
#include "vmm/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "common/vmm_control.h"
#include "vmm/virtio/vsock.h"

#define DESCRIPTORS_MAX 2
#define CLIENTS_MAX 512		     /* each process that `hull exec` has started in the guest has one */
#define ACCEPT_PAUSE_NS 100000000ull /* after accept failed for want of descriptors or memory */

/* A request, and what follows it. */
struct packet {
	struct vmm_request request;
	struct vmm_net net; /* VMM_NET_ADD */
};

struct client {
	struct control *control;
	struct loop_source source;
	struct vsock_connect connect;
	struct vsock_drain drain; /* for a save as well, which comes afterwards */
	struct save_request save;
	bool saving;
	bool waiting; /* for the answer to one of these; no further request is read meanwhile */
	TAILQ_ENTRY(client) link;
};

TAILQ_HEAD(client_list, client);

struct control {
	struct virtio_device *vsock;
	struct loop *loop;
	struct control_saver saver;
	struct control_plugger plugger;
	struct loop_source listener;
	struct loop_timer pause;
	struct client_list clients;
	unsigned client_count;
};

static void end_save(struct client *client)
{
	const struct control_saver *saver = &client->control->saver;

	if (!client->saving)
		return;
	client->saving = false;
	saver->cancel(saver->machine, &client->save);
	close(client->save.state_fd);
	close(client->save.memory_fd);
}

static void client_free(struct client *client)
{
	struct control *control = client->control;

	end_save(client);
	vsock_connect_cancel(&client->connect);
	vsock_drain_cancel(&client->drain);
	vsock_drop_streams(control->vsock, client);
	loop_remove(control->loop, &client->source);
	close(client->source.fd);
	TAILQ_REMOVE(&control->clients, client, link);
	control->client_count--;
	free(client);
}

/* A client that does not take its answers is not worth waiting for. Returns 0, or -1 when it is to be dropped. */
static int reply(struct client *client, int error, uint32_t value)
{
	struct vmm_reply message = {.error = (uint32_t)error, .value = value};
	ssize_t sent = send_with_fds(client->source.fd, &message, sizeof(message), NULL, 0, MSG_DONTWAIT);

	return sent == sizeof(message) ? 0 : -1;
}

/* Still hears when the client goes away. */
static void begin_wait(struct client *client)
{
	client->waiting = true;
	loop_watch(client->control->loop, &client->source, 0);
}

static void end_wait(struct client *client, int error)
{
	client->waiting = false;
	if (reply(client, error, 0) < 0)
		client_free(client);
	else
		loop_watch(client->control->loop, &client->source, EPOLLIN);
}

static void connect_done(struct vsock_connect *connect, int error)
{
	end_wait(connect->owner, error);
}

static void drain_done(struct vsock_drain *drain)
{
	end_wait(drain->owner, 0);
}

/* The operations return 0 or a positive errno value for the reply. The descriptor stays the caller's unless it was
 * taken (*fd is -1 then). */
static int operate_connect(struct client *client, const struct vmm_request *request, int *fd)
{
	struct error err = {0};

	if (request->flags)
		return EINVAL;
	client->connect.owner = client;
	client->connect.done = connect_done;
	if (vsock_connect(client->control->vsock, &client->connect, request->port, *fd, &err) < 0)
		return err.code ? err.code : EINVAL;
	take_fd(fd);
	begin_wait(client);
	return 0;
}

static int operate_stream(struct client *client, const struct vmm_request *request, int *fd, uint32_t *value)
{
	struct error err = {0};

	*value = request->port;
	if (vsock_add_stream(client->control->vsock, value, *fd, request->flags, client, &err) < 0)
		return err.code ? err.code : EINVAL;
	take_fd(fd);
	return 0;
}

static int operate_drain(struct client *client, const struct vmm_request *request)
{
	if (request->flags)
		return EINVAL;
	client->drain.owner = client;
	client->drain.done = drain_done;
	vsock_drain(client->control->vsock, &client->drain, request->port);
	begin_wait(client);
	return 0;
}

static void save_done(struct save_request *request, int error)
{
	struct client *client = request->owner;

	end_save(client);
	end_wait(client, error);
}

/* No connection is open any more. */
static void save_drained(struct vsock_drain *drain)
{
	struct client *client = drain->owner;
	const struct control_saver *saver = &client->control->saver;
	int error = saver->save(saver->machine, &client->save);

	if (error)
		save_done(&client->save, error);
}

static int operate_save(struct client *client, const struct vmm_request *request, int *fds)
{
	if (!client->control->saver.save)
		return EOPNOTSUPP;
	if (request->flags & ~VMM_SAVE_AND_END || request->port)
		return EINVAL;
	client->save = (struct save_request){.state_fd = take_fd(&fds[0]),
					     .memory_fd = take_fd(&fds[1]),
					     .end = request->flags & VMM_SAVE_AND_END,
					     .done = save_done,
					     .owner = client};
	client->saving = true;
	client->drain.owner = client;
	client->drain.done = save_drained;
	vsock_drain(client->control->vsock, &client->drain, VSOCK_ANY_PORT);
	begin_wait(client);
	return 0;
}

static int operate_net_add(struct client *client, const struct packet *packet, int *fd, uint32_t *value)
{
	const struct control_plugger *plugger = &client->control->plugger;

	if (!plugger->add_net)
		return EOPNOTSUPP;
	if (packet->request.flags || packet->request.port || packet->net.reserved)
		return EINVAL;
	return plugger->add_net(plugger->machine, fd, &packet->net, value);
}

static int operate_net_remove(struct client *client, const struct vmm_request *request)
{
	const struct control_plugger *plugger = &client->control->plugger;

	if (!plugger->remove_net)
		return EOPNOTSUPP;
	return request->flags ? EINVAL : plugger->remove_net(plugger->machine, request->port);
}

/* How many descriptors come with an operation. */
static size_t descriptors_of(uint32_t operation)
{
	switch (operation) {
	case VMM_SAVE:
		return 2;
	case VMM_CONNECT:
	case VMM_STREAM:
	case VMM_NET_ADD:
		return 1;
	default:
		return 0;
	}
}

static size_t size_of(uint32_t operation)
{
	return operation == VMM_NET_ADD ? sizeof(struct packet) : sizeof(struct vmm_request);
}

static int operate(struct client *client, const struct packet *packet, int *fds, size_t count, uint32_t *value)
{
	const struct vmm_request *request = &packet->request;
	int *fd = &fds[0];

	if (request->version != VMM_CONTROL_VERSION)
		return EPROTONOSUPPORT;
	if (count > descriptors_of(request->operation))
		return EINVAL;
	if (count < descriptors_of(request->operation))
		return EBADF;
	switch (request->operation) {
	case VMM_CONNECT:
		return operate_connect(client, request, fd);
	case VMM_STREAM:
		return operate_stream(client, request, fd, value);
	case VMM_DRAIN:
		return operate_drain(client, request);
	case VMM_STATUS:
		*value = vsock_status(client->control->vsock);
		return !request->port && !request->flags ? 0 : EINVAL;
	case VMM_SAVE:
		return operate_save(client, request, fds);
	case VMM_NET_ADD:
		return operate_net_add(client, packet, fd, value);
	case VMM_NET_REMOVE:
		return operate_net_remove(client, request);
	default:
		return EOPNOTSUPP;
	}
}

static int serve_request(struct client *client, const struct packet *packet, int *fds, size_t count)
{
	uint32_t value = 0;
	int error = operate(client, packet, fds, count, &value);

	return client->waiting ? 0 : reply(client, error, error ? 0 : value);
}

/* Returns 0, or -1 when the client is to be dropped. */
static int serve(struct client *client)
{
	struct {
		struct packet packet;
		char more; /* to see one that is too long */
	} message = {0};
	int fds[DESCRIPTORS_MAX] = {-1, -1};
	size_t count = DESCRIPTORS_MAX;
	int result = -1;
	ssize_t got = receive_with_fds(client->source.fd, &message, sizeof(message), fds, &count, MSG_DONTWAIT);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (got >= (ssize_t)sizeof(struct vmm_request) && (size_t)got == size_of(message.packet.request.operation))
		result = serve_request(client, &message.packet, fds, count);
	else if (got != 0)
		log_line("control: a packet that is no request");
	for (size_t i = 0; i < count; i++)
		cleanup_close_fd(&fds[i]); /* what was not taken over */
	return result;
}

static void client_event(struct loop_source *source, uint32_t events)
{
	struct client *client = source->owner;

	if (client->waiting) {
		if (events & (EPOLLHUP | EPOLLERR))
			client_free(client);
		return;
	}
	if (serve(client) < 0)
		client_free(client);
}

static void client_new(struct control *control, int socket)
{
	cleanup_close int fd = socket;
	cleanup_free struct client *client = NULL;
	struct error err;

	if (control->client_count == CLIENTS_MAX) {
		log_line("control: too many clients");
		return;
	}
	client = calloc(1, sizeof(*client));
	if (!client)
		return;
	client->control = control;
	client->source = (struct loop_source){.fd = fd, .events = EPOLLIN, .handle = client_event, .owner = client};
	if (loop_add(control->loop, &client->source, &err) < 0) {
		log_line("control: %s", err.message);
		return;
	}
	take_fd(&fd);
	TAILQ_INSERT_TAIL(&control->clients, client, link);
	control->client_count++;
	take_pointer(client);
}

static void listener_event(struct loop_source *source, uint32_t events)
{
	struct control *control = source->owner;
	int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC);

	(void)events;
	if (fd >= 0) {
		client_new(control, fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
		/* The connection stays in the backlog and would wake the loop without end. */
		loop_watch(control->loop, source, 0);
		loop_timer_set(control->loop, &control->pause, ACCEPT_PAUSE_NS);
	}
}

static void pause_over(struct loop_timer *timer)
{
	struct control *control = timer->owner;

	loop_watch(control->loop, &control->listener, EPOLLIN);
}

struct control *control_new(int listen_fd, struct virtio_device *vsock, struct loop *loop, struct error *err)
{
	cleanup_free struct control *control = calloc(1, sizeof(*control));

	if (!control) {
		error_set_errno(err, "control socket");
		return NULL;
	}
	control->vsock = vsock;
	control->loop = loop;
	TAILQ_INIT(&control->clients);
	control->pause = (struct loop_timer){.handle = pause_over, .owner = control};
	control->listener =
	    (struct loop_source){.fd = listen_fd, .events = EPOLLIN, .handle = listener_event, .owner = control};
	/* Between epoll's word and accept the client may be gone again. */
	if (set_nonblocking(listen_fd, true) < 0) {
		error_set_errno(err, "control socket");
		return NULL;
	}
	if (loop_add(loop, &control->listener, err) < 0) {
		error_prefix(err, "control socket");
		return NULL;
	}
	return take_pointer(control);
}

void control_on_save(struct control *control, const struct control_saver *saver)
{
	control->saver = *saver;
}

void control_on_plug(struct control *control, const struct control_plugger *plugger)
{
	control->plugger = *plugger;
}

void control_free(struct control *control)
{
	struct client *client, *next;

	if (!control)
		return;
	for (client = TAILQ_FIRST(&control->clients); client; client = next) {
		next = TAILQ_NEXT(client, link);
		if (client->waiting)
			reply(client, ECONNRESET, 0);
		client_free(client);
	}
	loop_timer_cancel(control->loop, &control->pause);
	loop_remove(control->loop, &control->listener);
	close(control->listener.fd);
	free(control);
}
