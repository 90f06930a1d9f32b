#include "vmm/virtio/vsock_parts.h"

#include <endian.h>

#include "common/log.h"

#define TX_BUDGET 256 /* packets in a row before the rest of the loop gets its turn */

/* --- connecting -------------------------------------------------------------------------------------------------- */

struct vsock_connection *vsock_accept_report(struct vsock *vsock, uint32_t guest_port)
{
	/* One agent, one report: whoever comes later is not the agent. */
	if (vsock->report || vsock->ready || vsock->exiting || vsock->failure)
		return NULL;
	vsock->report = connection_new(vsock, CONNECTION_REPORT, guest_port, AGENT_REPORT_PORT);
	if (vsock->report)
		vsock->report->state = CONNECTED;
	return vsock->report;
}

static struct vsock_connection *accept_stream(struct vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	struct registration *registration = registration_find(vsock, host_port);
	struct vsock_connection *connection;

	if (!registration)
		return NULL;
	connection = connection_new(vsock, CONNECTION_STREAM, guest_port, host_port);
	if (!connection)
		return NULL;
	connection->stream = registration->stream;
	connection->owner = registration->owner;
	registration->stream.fd = -1;
	registration_free(vsock, registration);
	if (connection_open(connection))
		return connection;
	connection_free(connection);
	return NULL;
}

static struct vsock_connection *guest_connects(struct vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_connection *connection = host_port == AGENT_REPORT_PORT
						  ? vsock_accept_report(vsock, guest_port)
						  : accept_stream(vsock, guest_port, host_port);

	if (connection)
		connection_owe(connection, OWES_RESPONSE);
	else
		vsock_tell_reset(vsock, guest_port, host_port);
	return connection;
}

/* The guest has accepted what the host asked for. */
static void guest_accepts(struct vsock_connection *connection)
{
	bool asked = connection->state == CONNECTING && connection->vsock->ready && connection->owes == 0;

	if (!asked || !connection_open(connection)) {
		connection_reset(connection);
		return;
	}
	connection_request_done(connection, 0);
}

/* --- the agent's reports ----------------------------------------------------------------------------------------- */

/* False: the agent does not keep to the protocol. */
static bool take_report(struct vsock *vsock, const struct agent_report *report)
{
	uint32_t value = le32toh(report->value);

	switch (le32toh(report->kind)) {
	case AGENT_REPORT_READY: {
		struct vsock_connection *connection;

		if (value != AGENT_PROTOCOL_VERSION) {
			vsock_fail(vsock, VSOCK_AGENT_VERSION);
			return false;
		}
		if (vsock->ready)
			break;
		vsock->ready = true;
		if (vsock->notice_waits)
			connection_owe(vsock->report, OWES_NOTICE);
		vsock->notice_waits = false;
		for (connection = TAILQ_FIRST(&vsock->connections); connection;
		     connection = TAILQ_NEXT(connection, all))
			if (connection->state == CONNECTING)
				connection_owe(connection, OWES_REQUEST);
		return true;
	}
	case AGENT_REPORT_EXIT:
		if (value > 255 || vsock->exiting)
			break;
		vsock->exiting = true;
		vsock->exit_status = value;
		return true;
	case AGENT_REPORT_TIME:
		/* However often it asks, one answer is owed. */
		if (!vsock->ready)
			break;
		connection_owe(vsock->report, OWES_TIME);
		return true;
	case AGENT_REPORT_OOM:
		if (!vsock->ready)
			break;
		if (vsock->handle && !vsock->exiting)
			vsock->handle(vsock->owner, VSOCK_OOM, 0);
		return true;
	}
	vsock_fail(vsock, VSOCK_AGENT_BAD_REPORT);
	return false;
}

static void read_reports(struct vsock_connection *connection, struct chain *chain, uint32_t length)
{
	struct vsock *vsock = connection->vsock;

	connection->stream.delivered += length;
	while (length) {
		char *at = (char *)&vsock->report_message + vsock->report_filled;
		uint32_t missing = (uint32_t)sizeof(vsock->report_message) - vsock->report_filled;
		uint32_t part = length < missing ? length : missing;

		if (chain_read(chain, at, part) != part)
			return;
		length -= part;
		vsock->report_filled = (vsock->report_filled + part) % sizeof(vsock->report_message);
		if (vsock->report_filled == 0 && !take_report(vsock, &vsock->report_message)) {
			connection_reset(connection);
			return;
		}
	}
	connection_tell_credit(connection);
}

/* --- packets ----------------------------------------------------------------------------------------------------- */

static void guest_sends(struct vsock_connection *connection, struct chain *chain, uint32_t length)
{
	struct stream *stream = &connection->stream;

	if (connection->state != CONNECTED || stream->finishing) {
		connection_reset(connection);
		return;
	}
	if (!credit_receive(&connection->credit, length, stream->delivered)) {
		log_guest("vsock: guest sends more than it has credit for");
		connection_reset(connection);
		return;
	}
	if (connection->kind == CONNECTION_REPORT) {
		read_reports(connection, chain, length);
		return;
	}
	if (!stream->out)
		connection_shut_down(connection, VIRTIO_VSOCK_SHUTDOWN_RCV);
	if (stream_put(stream, chain, length) < 0)
		connection_output_lost(connection);
	if (stream->buffered && !stream->blocked)
		connection_flush_later(connection);
	connection_tell_credit(connection);
}

static void guest_shuts_down(struct vsock_connection *connection, uint32_t flags)
{
	if (connection->state != CONNECTED || (flags & SHUTDOWN_BOTH) == SHUTDOWN_BOTH ||
	    (connection->kind == CONNECTION_REPORT && flags & VIRTIO_VSOCK_SHUTDOWN_SEND)) {
		/* All that the guest sent is here, and it wants no more: the reset says that we know. */
		connection_reset(connection);
		return;
	}
	if (flags & VIRTIO_VSOCK_SHUTDOWN_RCV)
		stream_end_input(&connection->stream);
	if (flags & VIRTIO_VSOCK_SHUTDOWN_SEND)
		stream_finish_output(&connection->stream);
	connection_flush_later(connection);
}

/* Input that rested for want of credit goes on. */
static void resume_input(struct vsock_connection *connection)
{
	if (connection->stream.in && !connection->stream.wants_input && !(connection->owes & OWES_INPUT) &&
	    credit_left(&connection->credit))
		connection_pump_input(connection);
}

static void dispatch(struct vsock_connection *connection, const struct virtio_vsock_hdr *header, struct chain *chain)
{
	switch (le16toh(header->op)) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		guest_accepts(connection);
		return;
	case VIRTIO_VSOCK_OP_RST:
		connection_close(connection);
		return;
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		guest_shuts_down(connection, le32toh(header->flags));
		return;
	case VIRTIO_VSOCK_OP_RW:
		guest_sends(connection, chain, le32toh(header->len));
		return;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		return;
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		if (connection->state == CONNECTED)
			connection_owe(connection, OWES_CREDIT);
		return;
	default: /* a REQUEST for a connection that is there, or nothing we know */
		connection_reset(connection);
		return;
	}
}

static void take_packet(struct vsock *vsock, struct chain *chain)
{
	struct virtio_vsock_hdr header;
	struct vsock_connection *connection;
	uint32_t guest_port, host_port;
	uint16_t operation;

	if (chain_read(chain, &header, HEADER_SIZE) != HEADER_SIZE) {
		log_guest("vsock: guest sent a packet without a header");
		return;
	}
	if (le64toh(header.src_cid) != vsock->guest_cid || le64toh(header.dst_cid) != HOST_CID) {
		log_guest("vsock: guest sent a packet from or to a foreign CID");
		return;
	}
	guest_port = le32toh(header.src_port);
	host_port = le32toh(header.dst_port);
	operation = le16toh(header.op);
	connection = connection_find(vsock, guest_port, host_port);
	if (le16toh(header.type) != VIRTIO_VSOCK_TYPE_STREAM || le32toh(header.len) > chain_readable_left(chain)) {
		if (connection)
			connection_reset(connection);
		else if (operation != VIRTIO_VSOCK_OP_RST)
			vsock_tell_reset(vsock, guest_port, host_port);
		return;
	}
	if (connection) {
		credit_take(&connection->credit, &header);
		resume_input(connection);
		dispatch(connection, &header, chain);
	} else if (operation == VIRTIO_VSOCK_OP_REQUEST) {
		connection = guest_connects(vsock, guest_port, host_port);
		if (connection)
			credit_take(&connection->credit, &header);
	} else if (operation != VIRTIO_VSOCK_OP_RST) {
		vsock_tell_reset(vsock, guest_port, host_port);
	}
}

void vsock_serve_tx(struct vsock *vsock)
{
	struct queue *queue = &vsock->base.queues[TX];
	int popped = 0;

	for (int budget = 0; budget < TX_BUDGET && vsock_guest_serves(vsock); budget++) {
		popped = queue_pop(queue, &vsock->tx_chain);
		if (popped <= 0)
			break;
		take_packet(vsock, &vsock->tx_chain);
		queue_push(queue, vsock->tx_chain.head, 0);
		vsock->tx_pushed = true;
	}
	if (popped < 0)
		vsock_break(vsock, "transmit ring");
	else if (popped > 0)
		vsock_settle_later(vsock);
}
