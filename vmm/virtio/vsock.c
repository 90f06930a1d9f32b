/*
 * Theory of operation.
 *
 * Every entry point (doorbell, host descriptor, timer, request of the control socket) changes connections and ends in
 * settle(), which does what may wait until then: flushes output in one piece, sends the packets that connections owe to
 * the guest, interrupts the guest once for each queue, and tells the owner of events. Nothing below settle() frees a
 * connection that a caller still uses, but for connection_close, after which the caller returns at once.
 *
 * Packets to the guest need a receive buffer. A connection that has something to send while there is none waits in
 * `pending`; what it owes is a set of bits, not a queue of packets, so a guest that gives no buffers costs no memory.
 * Resets do not belong to a connection any more and wait in a small ring of their own; a guest that lets it overflow
 * loses some of them.
 *
 * Input: bytes are read from the host descriptor straight into several receive buffers by one call, after which the
 * headers are filled in. Receive buffers that stay empty are kept for the next time.
 *
 * Output: see vmm/stream.h. The guest may have STREAM_BUFFER_SIZE bytes under way; what the host has not taken of them
 * fits the connection's buffer. The buffer's space is advertised anew when half of it has become free.
 *
 * System calls at run time: those of vmm/stream.c; clock_gettime, epoll_ctl (loop); mmap, munmap, brk (connections).
 */
#include "vmm/virtio/vsock.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "vmm/virtio/vsock_parts.h"

/* A Linux guest fills the receive queue with buffers of one page at boot. 64 of them keep a stream going as well as 256
 * do, and cost the boot 6 million instructions less on the host (page faults), and 768 KiB less memory. */
#define QUEUE_SIZE 64

#define STREAMS_MAX 256	      /* registered and not yet connected */
#define CHOSEN_FIRST 0x10000u /* ports of streams that the VMM chooses */
#define CHOSEN_COUNT 0x3fff0000u
#define EPHEMERAL_FIRST 0x40000000u
#define EPHEMERAL_COUNT 0x40000000u

#define STALL_TICK_NS 500000000ull
#define STALL_TICKS 4 /* 2 s without progress: a reader of the last output is given up */

/* --- state ------------------------------------------------------------------------------------------------------- */

static struct vsock *vsock_of(struct virtio_device *device)
{
	return (struct vsock *)device;
}

const char *vsock_failure_text(uint32_t failure)
{
	switch ((enum vsock_failure)failure) {
	case VSOCK_AGENT_LOST:
		return "agent connection lost";
	case VSOCK_AGENT_VERSION:
		return "agent speaks another protocol version";
	case VSOCK_AGENT_BAD_REPORT:
		return "agent sent a bad report";
	case VSOCK_DEVICE_RESET:
		return "guest reset its vsock device";
	case VSOCK_DEVICE_BROKEN:
		return "guest broke the rules of its vsock device";
	}
	return "vsock failure";
}

/* --- events ------------------------------------------------------------------------------------------------------ */

static void tell(struct vsock *vsock, enum vsock_event event, uint32_t value)
{
	if (vsock->handle)
		vsock->handle(vsock->owner, event, value);
}

/* The guest is gone or has forgotten its sockets: what was received is still delivered. Requests that wait for READY
 * survive the reset with which a driver begins. */
static void forget_guest(struct vsock *vsock, bool for_good)
{
	struct vsock_connection *connection, *next;

	vsock->rx_first = vsock->rx_count = vsock->reset_count = 0;
	vsock->rx_asked = false;
	for (connection = TAILQ_FIRST(&vsock->connections); connection; connection = next) {
		next = TAILQ_NEXT(connection, all);
		if (connection->state == CONNECTING && !vsock->ready && !for_good)
			continue;
		connection_request_done(connection, ECONNRESET);
		connection_close(connection);
	}
}

static bool is_delivered(struct vsock *vsock)
{
	struct vsock_connection *connection;

	for (connection = TAILQ_FIRST(&vsock->connections); connection; connection = TAILQ_NEXT(connection, all))
		if (connection->stream.buffered)
			return false;
	return true;
}

/* The reader of a process that a signal ended (as the machine's end does to those beside the container's own), or of an
 * order's answer, is not waited for without end; a reader of an ordinary process's output is. */
static void drop_if_stalled(struct vsock_connection *connection)
{
	struct stream *stream = &connection->stream;

	if (!stream->buffered ||
	    (connection->kind == CONNECTION_STREAM && !connection->owner && connection->vsock->exit_status <= 128))
		return;
	if (stream->delivered != connection->stall_seen)
		connection->stalled = 0;
	else
		connection->stalled++;
	connection->stall_seen = stream->delivered;
	if (connection->stalled >= STALL_TICKS)
		stream_drop_output(stream);
}

static void tell_events(struct vsock *vsock)
{
	if (vsock->ready && !vsock->ready_told) {
		vsock->ready_told = true;
		tell(vsock, VSOCK_READY, 0);
	}
	if (vsock->ended)
		return;
	if (vsock->exiting) {
		if (is_delivered(vsock)) {
			vsock->ended = true;
			tell(vsock, VSOCK_EXITED, vsock->exit_status);
		} else if (!vsock->stall.deadline) {
			loop_timer_set(vsock->base.loop, &vsock->stall, STALL_TICK_NS);
		}
	} else if (vsock->failure) {
		vsock->ended = true;
		forget_guest(vsock, true);
		tell(vsock, VSOCK_FAILED, vsock->failure);
	}
}

static void drop_connections(struct vsock *vsock)
{
	struct vsock_connection *connection, *next;

	if (!vsock->dropping)
		return;
	vsock->dropping = false;
	for (connection = TAILQ_FIRST(&vsock->connections); connection; connection = next) {
		next = TAILQ_NEXT(connection, all);
		if (!connection->dropped)
			continue;
		if (connection->state != DRAINING)
			vsock_tell_reset(vsock, connection->guest_port, connection->host_port);
		connection_free(connection);
	}
}

/* Port or all. */
static bool is_awaited(struct vsock *vsock, const struct vsock_drain *request)
{
	return request->port == VSOCK_ANY_PORT ? vsock_has_connections(vsock) : vsock_port_in_use(vsock, request->port);
}

/* One may make its owner go, and with it other streams and those who wait for them. */
static void tell_drained(struct vsock *vsock)
{
	struct vsock_drain *request;

	while (vsock->stream_ended) {
		vsock->stream_ended = false;
		for (request = TAILQ_FIRST(&vsock->drains); request; request = TAILQ_NEXT(request, link)) {
			if (is_awaited(vsock, request))
				continue;
			vsock_drain_cancel(request);
			vsock->stream_ended = true;
			request->done(request);
			break;
		}
	}
}

static void settle(struct vsock *vsock)
{
	drop_connections(vsock);
	vsock_flush_dirty(vsock);
	if (vsock_guest_serves(vsock))
		vsock_serve_pending(vsock);
	if (vsock->broken)
		forget_guest(vsock, true);
	if (vsock->rx_pushed && vsock_guest_serves(vsock))
		virtio_device_signal(&vsock->base, RX);
	if (vsock->tx_pushed && vsock_guest_serves(vsock))
		virtio_device_signal(&vsock->base, TX);
	vsock->rx_pushed = vsock->tx_pushed = false;
	tell_drained(vsock);
	tell_events(vsock);
}

static void stall_tick(struct loop_timer *timer)
{
	struct vsock *vsock = timer->owner;
	struct vsock_connection *connection;

	for (connection = TAILQ_FIRST(&vsock->connections); connection; connection = TAILQ_NEXT(connection, all))
		drop_if_stalled(connection);
	settle(vsock);
}

static void again(struct loop_timer *timer)
{
	struct vsock *vsock = timer->owner;

	if (vsock_guest_serves(vsock))
		vsock_serve_tx(vsock);
	settle(vsock);
}

/* --- host descriptors -------------------------------------------------------------------------------------------- */

static void host_event(struct stream *stream, uint32_t events)
{
	struct vsock_connection *connection =
	    (struct vsock_connection *)((char *)stream - offsetof(struct vsock_connection, stream));
	struct vsock *vsock = connection->vsock;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && stream->wants_input)
		connection_pump_input(connection);
	if (stream_output_is_lost(stream, events))
		connection_output_lost(connection);
	if (stream->buffered || stream->finishing || connection->state == DRAINING)
		connection_flush(connection);
	settle(vsock);
}

/* --- the device -------------------------------------------------------------------------------------------------- */

static void vsock_read_config(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	uint64_t cid = htole64(vsock_of(device)->guest_cid);

	memset(data, 0, size);
	if (offset < sizeof(cid))
		memcpy(data, (char *)&cid + offset, size < sizeof(cid) - offset ? size : sizeof(cid) - offset);
}

static int vsock_activate(struct virtio_device *device, struct error *err)
{
	(void)err;
	queue_notifications(&device->queues[RX], false);
	queue_notifications(&device->queues[EVENTS], false);
	vsock_settle_later(vsock_of(device));
	return 0;
}

static void vsock_reset(struct virtio_device *device)
{
	struct vsock *vsock = vsock_of(device);

	if (vsock->report && !vsock->exiting)
		vsock_fail(vsock, VSOCK_DEVICE_RESET);
	forget_guest(vsock, false);
	vsock->broken = false;
	vsock->rx_pushed = vsock->tx_pushed = false;
	vsock_settle_later(vsock);
}

static void vsock_notify(struct virtio_device *device, unsigned queue)
{
	struct vsock *vsock = vsock_of(device);

	if (!vsock_guest_serves(vsock))
		return;
	if (queue == TX)
		vsock_serve_tx(vsock);
	settle(vsock);
}

static int vsock_quiesce(struct virtio_device *device, struct error *err)
{
	struct vsock *vsock = vsock_of(device);

	do
		vsock_serve_tx(vsock);
	while (vsock_guest_serves(vsock) && queue_has_more(&device->queues[TX]));
	settle(vsock);
	return vsock_rest(vsock, err);
}

static void vsock_free(struct virtio_device *device)
{
	struct vsock *vsock = vsock_of(device);
	struct vsock_connection *connection, *next_connection;
	struct registration *registration, *next;

	loop_timer_cancel(device->loop, &vsock->again);
	loop_timer_cancel(device->loop, &vsock->stall);
	for (connection = TAILQ_FIRST(&vsock->connections); connection; connection = next_connection) {
		next_connection = TAILQ_NEXT(connection, all);
		connection_request_done(connection, ECONNRESET);
		connection_free(connection);
	}
	for (registration = TAILQ_FIRST(&vsock->registrations); registration; registration = next) {
		next = TAILQ_NEXT(registration, link);
		registration_free(vsock, registration);
	}
	free(vsock);
}

static const struct virtio_device_operations vsock_operations = {
    .name = "vsock",
    .id = VIRTIO_ID_VSOCK,
    .pci_class = 0x028000, /* other network controller */
    .queue_count = QUEUES,
    .queue_size_max = QUEUE_SIZE,
    .read_config = vsock_read_config,
    .activate = vsock_activate,
    .reset = vsock_reset,
    .notify = vsock_notify,
    .free = vsock_free,
    .quiesce = vsock_quiesce,
    .save = vsock_save,
    .restore = vsock_restore,
};

struct virtio_device *vsock_new(uint64_t guest_cid, struct loop *loop, struct error *err)
{
	struct vsock *vsock;

	if (guest_cid <= HOST_CID || guest_cid >= UINT32_MAX) {
		error_set(err, EINVAL, "vsock: guest CID must be 3 to 4294967294");
		return NULL;
	}
	vsock = calloc(1, sizeof(*vsock));
	if (!vsock) {
		error_set_errno(err, "vsock");
		return NULL;
	}
	vsock->base.operations = &vsock_operations;
	vsock->base.loop = loop;
	vsock->guest_cid = guest_cid;
	vsock->host_event = host_event;
	vsock->again = (struct loop_timer){.handle = again, .owner = vsock};
	vsock->stall = (struct loop_timer){.handle = stall_tick, .owner = vsock};
	TAILQ_INIT(&vsock->connections);
	TAILQ_INIT(&vsock->pending);
	TAILQ_INIT(&vsock->dirty);
	TAILQ_INIT(&vsock->registrations);
	TAILQ_INIT(&vsock->drains);
	return &vsock->base;
}

/* --- for the rest of the program --------------------------------------------------------------------------------- */

static uint32_t choose_port(struct vsock *vsock)
{
	uint32_t port;

	do
		port = CHOSEN_FIRST + vsock->next_chosen++ % CHOSEN_COUNT;
	while (vsock_port_in_use(vsock, port));
	return port;
}

int vsock_add_stream(struct virtio_device *device, uint32_t *port, int fd, unsigned flags, const void *owner,
		     struct error *err)
{
	struct vsock *vsock = vsock_of(device);
	cleanup_free struct registration *registration = NULL;

	if (!flags || flags & ~(VMM_STREAM_IN | VMM_STREAM_OUT) || *port == AGENT_REPORT_PORT)
		return error_set(err, EINVAL, "vsock port %u: bad stream", *port);
	if (registration_find(vsock, *port))
		return error_set(err, EADDRINUSE, "vsock port %u is taken", *port);
	if (vsock->registration_count == STREAMS_MAX)
		return error_set(err, ENOBUFS, "vsock port %u: too many streams", *port);
	registration = calloc(1, sizeof(*registration));
	if (!registration)
		return error_set_errno(err, "vsock port %u", *port);
	if (stream_open(&registration->stream, fd, flags & VMM_STREAM_IN, flags & VMM_STREAM_OUT, err) < 0)
		return error_prefix(err, "vsock port %u", *port);
	if (*port == 0)
		*port = choose_port(vsock);
	registration->port = *port;
	registration->owner = owner;
	TAILQ_INSERT_TAIL(&vsock->registrations, registration, link);
	vsock->registration_count++;
	take_pointer(registration);
	return 0;
}

/* The caller may stand in the middle of the connections: those are given up in settle(). */
void vsock_drop_streams(struct virtio_device *device, const void *owner)
{
	struct vsock *vsock = vsock_of(device);
	struct vsock_connection *connection;
	struct registration *registration, *next;

	for (registration = TAILQ_FIRST(&vsock->registrations); registration; registration = next) {
		next = TAILQ_NEXT(registration, link);
		if (registration->owner == owner)
			registration_free(vsock, registration);
	}
	for (connection = TAILQ_FIRST(&vsock->connections); connection; connection = TAILQ_NEXT(connection, all)) {
		if (connection->kind == CONNECTION_STREAM && connection->owner == owner)
			connection->dropped = vsock->dropping = true;
	}
	vsock_settle_later(vsock);
}

void vsock_drain(struct virtio_device *device, struct vsock_drain *request, uint32_t port)
{
	struct vsock *vsock = vsock_of(device);

	request->device = device;
	request->port = port;
	TAILQ_INSERT_TAIL(&vsock->drains, request, link);
	vsock->stream_ended = true;
	vsock_settle_later(vsock);
}

void vsock_drain_cancel(struct vsock_drain *request)
{
	if (!request->device)
		return;
	TAILQ_REMOVE(&vsock_of(request->device)->drains, request, link);
	request->device = NULL;
}

void vsock_on_report(struct virtio_device *device, void (*handle)(void *owner, enum vsock_event event, uint32_t value),
		     void *owner)
{
	struct vsock *vsock = vsock_of(device);

	vsock->handle = handle;
	vsock->owner = owner;
}

void vsock_notify_agent(struct virtio_device *device, uint32_t kind, uint32_t port, uint32_t value)
{
	struct vsock *vsock = vsock_of(device);

	vsock->notice = (struct agent_notice){htole32(kind), htole32(port), htole32(value)};
	vsock->notice_waits = !vsock->ready;
	if (vsock->ready && vsock->report)
		connection_owe(vsock->report, OWES_NOTICE);
	vsock_settle_later(vsock);
}

void vsock_clock_was_set(struct virtio_device *device)
{
	struct vsock *vsock = vsock_of(device);

	if (!vsock->ready || !vsock->report)
		return;
	connection_owe(vsock->report, OWES_CLOCK_SET);
	vsock_settle_later(vsock);
}

uint32_t vsock_status(const struct virtio_device *device)
{
	const struct vsock *vsock = (const struct vsock *)device;

	return (vsock->ready ? VMM_STATUS_READY : 0) | (vsock->exiting ? VMM_STATUS_EXITING : 0);
}

void vsock_catch_up(struct virtio_device *device)
{
	if (device->active && device->queues[TX].ready)
		vsock_notify(device, TX);
}

/* A host port that no connection to this guest port has. Ends: there are fewer connections than ports. */
static uint32_t ephemeral_port(struct vsock *vsock, uint32_t guest_port)
{
	uint32_t port;

	do
		port = EPHEMERAL_FIRST + vsock->next_ephemeral++ % EPHEMERAL_COUNT;
	while (connection_find(vsock, guest_port, port));
	return port;
}

int vsock_connect(struct virtio_device *device, struct vsock_connect *request, uint32_t port, int fd, struct error *err)
{
	struct vsock *vsock = vsock_of(device);
	struct vsock_connection *connection;
	struct stream stream;

	if (vsock->ended || vsock->failure)
		return error_set(err, ECONNRESET, "the guest is gone");
	if (stream_open(&stream, fd, true, true, err) < 0)
		return -1;
	if (stream.kind != STREAM_SOCKET)
		return error_set(err, EINVAL, "the descriptor to connect is not a socket");
	connection = connection_new(vsock, CONNECTION_ASKED, port, ephemeral_port(vsock, port));
	if (!connection)
		return error_set(err, ENOBUFS, "too many vsock connections");
	connection->state = CONNECTING;
	connection->stream = stream;
	connection->request = request;
	request->connection = connection;
	if (vsock->ready)
		connection_owe(connection, OWES_REQUEST);
	vsock_settle_later(vsock);
	return 0;
}

void vsock_connect_cancel(struct vsock_connect *request)
{
	struct vsock_connection *connection = request->connection;

	if (!connection)
		return;
	request->connection = NULL;
	connection->request = NULL;
	vsock_settle_later(connection->vsock);
	if (connection->vsock->ready && !(connection->owes & OWES_REQUEST))
		connection_reset(connection);
	else
		connection_close(connection);
}
