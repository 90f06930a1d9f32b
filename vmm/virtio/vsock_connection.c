#include "vmm/virtio/vsock_parts.h"

#include <errno.h>
#include <stdlib.h>

#include "common/log.h"

#define CONNECTIONS_MAX 1024

/* --- the device's state ------------------------------------------------------------------------------------------ */

void vsock_settle_later(struct vsock *vsock)
{
	if (!vsock->again.deadline)
		loop_timer_set(vsock->base.loop, &vsock->again, 0);
}

void vsock_fail(struct vsock *vsock, enum vsock_failure failure)
{
	if (!vsock->failure)
		vsock->failure = failure;
}

void vsock_break(struct vsock *vsock, const char *reason)
{
	vsock->broken = true;
	vsock_fail(vsock, VSOCK_DEVICE_BROKEN);
	virtio_device_failed(&vsock->base, reason);
}

bool vsock_guest_serves(const struct vsock *vsock)
{
	return vsock->base.active && !vsock->broken;
}

/* --- the table --------------------------------------------------------------------------------------------------- */

static struct connection_bucket *bucket_of(struct vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	return &vsock->buckets[(guest_port * 31 + host_port) % BUCKETS];
}

struct vsock_connection *connection_find(struct vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_connection *connection;

	for (connection = LIST_FIRST(bucket_of(vsock, guest_port, host_port)); connection;
	     connection = LIST_NEXT(connection, bucket))
		if (connection->guest_port == guest_port && connection->host_port == host_port)
			return connection;
	return NULL;
}

struct vsock_connection *connection_new(struct vsock *vsock, enum connection_kind kind, uint32_t guest_port,
					uint32_t host_port)
{
	struct vsock_connection *connection;

	if (vsock->connection_count == CONNECTIONS_MAX)
		return NULL;
	connection = calloc(1, sizeof(*connection));
	if (!connection)
		return NULL;
	connection->vsock = vsock;
	connection->kind = kind;
	connection->guest_port = guest_port;
	connection->host_port = host_port;
	connection->stream.fd = -1;
	vsock->connection_count++;
	TAILQ_INSERT_TAIL(&vsock->connections, connection, all);
	LIST_INSERT_HEAD(bucket_of(vsock, guest_port, host_port), connection, bucket);
	return connection;
}

void connection_free(struct vsock_connection *connection)
{
	struct vsock *vsock = connection->vsock;

	if (connection->is_pending)
		TAILQ_REMOVE(&vsock->pending, connection, pending);
	if (connection->is_dirty)
		TAILQ_REMOVE(&vsock->dirty, connection, dirty);
	if (connection->state != DRAINING)
		LIST_REMOVE(connection, bucket);
	TAILQ_REMOVE(&vsock->connections, connection, all);
	if (connection->request)
		connection->request->connection = NULL;
	if (vsock->report == connection)
		vsock->report = NULL;
	vsock->stream_ended = true;
	vsock->connection_count--;
	stream_close(&connection->stream);
	free(connection);
}

/* --- what they owe ----------------------------------------------------------------------------------------------- */

void connection_owe(struct vsock_connection *connection, unsigned what)
{
	connection->owes |= what;
	if (connection->is_pending || !connection->owes)
		return;
	TAILQ_INSERT_TAIL(&connection->vsock->pending, connection, pending);
	connection->is_pending = true;
}

void connection_owe_nothing(struct vsock_connection *connection)
{
	connection->owes = 0;
	if (connection->is_pending)
		TAILQ_REMOVE(&connection->vsock->pending, connection, pending);
	connection->is_pending = false;
}

void connection_shut_down(struct vsock_connection *connection, uint32_t flags)
{
	if (connection->state != CONNECTED || (connection->shutdown_told & flags) == flags)
		return;
	connection->shutdown_told |= flags;
	connection_owe(connection, OWES_SHUTDOWN);
}

void vsock_tell_reset(struct vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	unsigned at = (vsock->reset_first + vsock->reset_count) % RESETS_MAX;

	if (vsock->reset_count == RESETS_MAX) {
		log_guest("vsock: guest gives no receive buffers, a reset is lost");
		return;
	}
	vsock->resets[at] = (struct reset){guest_port, host_port};
	vsock->reset_count++;
}

void connection_tell_end(struct vsock_connection *connection)
{
	if (!connection->stream.in && !connection->stream.out)
		connection_shut_down(connection, SHUTDOWN_BOTH);
}

void connection_tell_credit(struct vsock_connection *connection)
{
	if (credit_is_due(&connection->credit, connection->stream.delivered))
		connection_owe(connection, OWES_CREDIT);
}

/* --- their end --------------------------------------------------------------------------------------------------- */

void connection_request_done(struct vsock_connection *connection, int error)
{
	struct vsock_connect *request = connection->request;

	connection->request = NULL;
	if (!request)
		return;
	request->connection = NULL;
	request->done(request, error);
}

void connection_close(struct vsock_connection *connection)
{
	struct vsock *vsock = connection->vsock;

	if (connection == vsock->report) {
		vsock->report = NULL;
		if (!vsock->exiting)
			vsock_fail(vsock, VSOCK_AGENT_LOST);
	}
	if (connection->state == DRAINING)
		return;
	connection_request_done(connection, ECONNREFUSED);
	connection_owe_nothing(connection);
	stream_end_input(&connection->stream);
	stream_finish_output(&connection->stream);
	if (!connection->stream.buffered) {
		connection_free(connection);
		return;
	}
	LIST_REMOVE(connection, bucket);
	connection->state = DRAINING;
}

void connection_reset(struct vsock_connection *connection)
{
	vsock_tell_reset(connection->vsock, connection->guest_port, connection->host_port);
	connection_close(connection);
}

/* --- host descriptors -------------------------------------------------------------------------------------------- */

void connection_output_lost(struct vsock_connection *connection)
{
	stream_drop_output(&connection->stream);
	connection->stream.delivered = connection->credit.received;
	connection_shut_down(connection, VIRTIO_VSOCK_SHUTDOWN_RCV);
	connection_tell_end(connection);
}

void connection_flush(struct vsock_connection *connection)
{
	if (stream_flush(&connection->stream) < 0)
		connection_output_lost(connection);
	if (connection->state == DRAINING) {
		if (!connection->stream.buffered)
			connection_free(connection);
		return;
	}
	if (connection->state == CONNECTED && connection->kind != CONNECTION_REPORT) {
		connection_tell_credit(connection);
		connection_tell_end(connection);
	}
}

void connection_flush_later(struct vsock_connection *connection)
{
	if (connection->is_dirty)
		return;
	TAILQ_INSERT_TAIL(&connection->vsock->dirty, connection, dirty);
	connection->is_dirty = true;
}

void vsock_flush_dirty(struct vsock *vsock)
{
	struct vsock_connection *connection;

	while ((connection = TAILQ_FIRST(&vsock->dirty))) {
		TAILQ_REMOVE(&vsock->dirty, connection, dirty);
		connection->is_dirty = false;
		connection_flush(connection);
	}
}

bool connection_open(struct vsock_connection *connection)
{
	struct error err;

	if (stream_attach(&connection->stream, connection->vsock->base.loop, connection->vsock->host_event, &err) < 0) {
		log_line("vsock: %s", err.message);
		return false;
	}
	connection->state = CONNECTED;
	if (connection->stream.in)
		stream_want_input(&connection->stream, true);
	return true;
}

/* --- ports for the guest ----------------------------------------------------------------------------------------- */

struct registration *registration_find(struct vsock *vsock, uint32_t port)
{
	struct registration *registration;

	for (registration = TAILQ_FIRST(&vsock->registrations); registration;
	     registration = TAILQ_NEXT(registration, link))
		if (registration->port == port)
			return registration;
	return NULL;
}

bool vsock_port_in_use(struct vsock *vsock, uint32_t port)
{
	struct vsock_connection *connection;

	for (connection = TAILQ_FIRST(&vsock->connections); connection; connection = TAILQ_NEXT(connection, all)) {
		if (connection->kind == CONNECTION_STREAM && connection->host_port == port)
			return true;
	}
	return registration_find(vsock, port) != NULL;
}

void registration_free(struct vsock *vsock, struct registration *registration)
{
	TAILQ_REMOVE(&vsock->registrations, registration, link);
	vsock->registration_count--;
	vsock->stream_ended = true;
	stream_close(&registration->stream);
	free(registration);
}
