#include "vmm/virtio/vsock_parts.h"

#include <endian.h>
#include <errno.h>
#include <time.h>

#include "common/agent_protocol.h"
#include "common/clock.h"

#define INPUT_ROUNDS 4 /* reads in a row from one descriptor before the others get their turn */

/* --- receive buffers --------------------------------------------------------------------------------------------- */

/* Takes receive buffers from the ring until `wanted` are at hand; returns how many are. Asks for the doorbell when
 * there are fewer. */
static unsigned rx_gather(struct vsock *vsock, unsigned wanted)
{
	struct queue *queue = &vsock->base.queues[RX];
	while (vsock->rx_count < wanted && vsock_guest_serves(vsock)) {
		struct chain *chain = &vsock->rx_chains[(vsock->rx_first + vsock->rx_count) % RX_CHAINS];
		int popped = queue_pop(queue, chain);

		if (popped < 0) {
			vsock_break(vsock, "receive ring");
		} else if (popped > 0 && chain->writable <= HEADER_SIZE) {
			vsock_break(vsock, "receive buffer too small for a packet");
		} else if (popped > 0) {
			vsock->rx_count++;
		} else if (vsock->rx_asked) {
			break;
		} else {
			queue_notifications(queue, true);
			vsock->rx_asked = true;
		}
	}
	if (vsock->rx_asked && vsock->rx_count >= wanted) {
		queue_notifications(queue, false);
		vsock->rx_asked = false;
	}
	return vsock_guest_serves(vsock) ? vsock->rx_count : 0;
}

static struct chain *rx_at(struct vsock *vsock, unsigned index)
{
	return &vsock->rx_chains[(vsock->rx_first + index) % RX_CHAINS];
}

/* Gives the first receive buffer back to the guest, its header filled in before `length` bytes that are there. */
static void rx_push(struct vsock *vsock, const struct virtio_vsock_hdr *header, uint32_t length)
{
	struct chain *chain = rx_at(vsock, 0);

	chain_seek_write(chain, 0);
	chain_write(chain, header, HEADER_SIZE);
	queue_push(&vsock->base.queues[RX], chain->head, HEADER_SIZE + length);
	vsock->rx_first = (vsock->rx_first + 1) % RX_CHAINS;
	vsock->rx_count--;
	vsock->rx_pushed = true;
}

/* --- packets ----------------------------------------------------------------------------------------------------- */

static struct virtio_vsock_hdr header_for(const struct vsock *vsock, uint32_t guest_port, uint32_t host_port,
					  uint16_t operation)
{
	return (struct virtio_vsock_hdr){
	    .src_cid = htole64(HOST_CID),
	    .dst_cid = htole64(vsock->guest_cid),
	    .src_port = htole32(host_port),
	    .dst_port = htole32(guest_port),
	    .type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
	    .op = htole16(operation),
	};
}

/* Every packet of a connection carries its credit. */
static struct virtio_vsock_hdr connection_header(struct vsock_connection *connection, uint16_t operation)
{
	struct virtio_vsock_hdr header =
	    header_for(connection->vsock, connection->guest_port, connection->host_port, operation);

	credit_tell(&connection->credit, connection->stream.delivered, &header);
	return header;
}

/* Sends one control packet; false when there is no receive buffer. */
static bool send_control(struct vsock_connection *connection, uint16_t operation, uint32_t flags)
{
	struct virtio_vsock_hdr header;

	if (!rx_gather(connection->vsock, 1))
		return false;
	header = connection_header(connection, operation);
	header.flags = htole32(flags);
	rx_push(connection->vsock, &header, 0);
	return true;
}

/* --- input ------------------------------------------------------------------------------------------------------- */

/* Collects receive buffers for at most `wanted` bytes of data into rx_iovecs. Returns the bytes they hold. */
static uint32_t rx_prepare(struct vsock *vsock, uint32_t wanted, unsigned *iovecs)
{
	uint32_t room = 0;

	*iovecs = 0;
	for (unsigned i = 0; i < RX_CHAINS && room < wanted && *iovecs < RX_IOVECS_MAX; i++) {
		unsigned added;

		if (rx_gather(vsock, i + 1) <= i)
			break;
		chain_seek_write(rx_at(vsock, i), HEADER_SIZE);
		added = chain_writable_iovecs(rx_at(vsock, i), wanted - room, vsock->rx_iovecs + *iovecs,
					      RX_IOVECS_MAX - *iovecs);
		for (unsigned j = 0; j < added; j++)
			room += (uint32_t)vsock->rx_iovecs[*iovecs + j].iov_len;
		*iovecs += added;
	}
	return vsock_guest_serves(vsock) ? room : 0;
}

/* `size` bytes have been read into the prepared buffers: makes packets of them. */
static void rx_commit(struct vsock_connection *connection, uint32_t size)
{
	struct vsock *vsock = connection->vsock;

	connection->credit.sent += size;
	while (size) {
		struct virtio_vsock_hdr header = connection_header(connection, VIRTIO_VSOCK_OP_RW);
		uint32_t room = rx_at(vsock, 0)->writable - HEADER_SIZE;
		uint32_t length = size < room ? size : room;

		header.len = htole32(length);
		rx_push(vsock, &header, length);
		size -= length;
	}
}

/* The host's input has ended. */
static void input_ended(struct vsock_connection *connection)
{
	stream_end_input(&connection->stream);
	connection_shut_down(connection, VIRTIO_VSOCK_SHUTDOWN_SEND);
	connection_tell_end(connection);
}

/* One read into the guest. False when there is nothing more to do for now. */
static bool pump_once(struct vsock_connection *connection)
{
	uint32_t credit = credit_left(&connection->credit), room;
	unsigned iovecs;
	ssize_t got;

	if (!credit) {
		stream_want_input(&connection->stream, false);
		return false;
	}
	room = rx_prepare(connection->vsock, credit, &iovecs);
	if (!room) {
		stream_want_input(&connection->stream, false);
		connection_owe(connection, OWES_INPUT);
		return false;
	}
	got = stream_read(&connection->stream, connection->vsock->rx_iovecs, iovecs);
	if (got > 0) {
		rx_commit(connection, (uint32_t)got);
	} else if (got == 0 || errno != EAGAIN) {
		input_ended(connection);
		return false;
	}
	stream_want_input(&connection->stream, true);
	return got == (ssize_t)room;
}

void connection_pump_input(struct vsock_connection *connection)
{
	if (connection->state != CONNECTED || !connection->stream.in || !vsock_guest_serves(connection->vsock))
		return;
	for (int round = 0; round < INPUT_ROUNDS; round++)
		if (!pump_once(connection))
			return;
}

/* --- what is owed ------------------------------------------------------------------------------------------------ */

/* False when there is no receive buffer. One that has no room for it, or an agent that does not read, goes without. */
static bool send_notice(struct vsock_connection *connection, const struct agent_notice *notice)
{
	struct vsock *vsock = connection->vsock;
	struct virtio_vsock_hdr header;
	uint32_t size = sizeof(*notice);

	if (!rx_gather(vsock, 1))
		return false;
	if (credit_left(&connection->credit) < size || rx_at(vsock, 0)->writable < HEADER_SIZE + size)
		return true;
	header = connection_header(connection, VIRTIO_VSOCK_OP_RW);
	header.len = htole32(size);
	chain_seek_write(rx_at(vsock, 0), HEADER_SIZE);
	chain_write(rx_at(vsock, 0), notice, size);
	connection->credit.sent += size;
	rx_push(vsock, &header, size);
	return true;
}

static struct agent_notice make_notice(const struct vsock *vsock, unsigned what)
{
	uint64_t time;

	if (what == OWES_NOTICE)
		return vsock->notice;
	if (what == OWES_CLOCK_SET)
		return (struct agent_notice){.kind = htole32(AGENT_NOTICE_CLOCK_SET)};
	time = (uint64_t)clock_ns(CLOCK_REALTIME);
	return (struct agent_notice){htole32(AGENT_NOTICE_TIME), htole32((uint32_t)time),
				     htole32((uint32_t)(time >> 32))};
}

/* False when receive buffers ran out. */
static bool pay_notices(struct vsock_connection *connection)
{
	static const unsigned notices[] = {OWES_NOTICE, OWES_CLOCK_SET, OWES_TIME};

	for (size_t i = 0; i < sizeof(notices) / sizeof(notices[0]); i++) {
		struct agent_notice notice;

		if (!(connection->owes & notices[i]))
			continue;
		notice = make_notice(connection->vsock, notices[i]);
		if (!send_notice(connection, &notice))
			return false;
		connection->owes &= ~notices[i];
	}
	return true;
}

/* Sends what the connection owes. False when receive buffers ran out. */
static bool pay(struct vsock_connection *connection)
{
	static const struct {
		unsigned bit;
		uint16_t operation;
	} packets[] = {
	    {OWES_REQUEST, VIRTIO_VSOCK_OP_REQUEST},
	    {OWES_RESPONSE, VIRTIO_VSOCK_OP_RESPONSE},
	    {OWES_CREDIT, VIRTIO_VSOCK_OP_CREDIT_UPDATE},
	    {OWES_SHUTDOWN, VIRTIO_VSOCK_OP_SHUTDOWN},
	};

	for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
		if (!(connection->owes & packets[i].bit))
			continue;
		if (!send_control(connection, packets[i].operation,
				  packets[i].bit == OWES_SHUTDOWN ? connection->shutdown_told : 0))
			return false;
		connection->owes &= ~packets[i].bit;
	}
	return pay_notices(connection);
}

static void send_resets(struct vsock *vsock)
{
	while (vsock->reset_count && rx_gather(vsock, 1)) {
		struct reset *reset = &vsock->resets[vsock->reset_first];
		struct virtio_vsock_hdr header =
		    header_for(vsock, reset->guest_port, reset->host_port, VIRTIO_VSOCK_OP_RST);

		rx_push(vsock, &header, 0);
		vsock->reset_first = (vsock->reset_first + 1) % RESETS_MAX;
		vsock->reset_count--;
	}
}

void vsock_serve_pending(struct vsock *vsock)
{
	struct vsock_connection *connection;

	send_resets(vsock);
	while (!vsock->reset_count && (connection = TAILQ_FIRST(&vsock->pending)) && rx_gather(vsock, 1)) {
		bool wants_input;

		if (!pay(connection))
			return;
		wants_input = connection->owes & OWES_INPUT;
		connection_owe_nothing(connection);
		if (wants_input)
			connection_pump_input(connection);
	}
}
