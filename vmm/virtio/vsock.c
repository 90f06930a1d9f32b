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
#include <linux/virtio_vsock.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "common/agent_protocol.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "vmm/stream.h"

#define HOST_CID 2
#define HEADER_SIZE ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define SHUTDOWN_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

enum queue_index { RX, TX, EVENTS, QUEUES };
/* A Linux guest fills the receive queue with buffers of one page at boot. 64 of them keep a stream going as well as 256
 * do, and cost the boot 6 million instructions less on the host (page faults), and 768 KiB less memory. */
#define QUEUE_SIZE 64

#define CONNECTIONS_MAX 1024
#define STREAMS_MAX 256 /* registered and not yet connected */
#define BUCKETS 256	/* a power of two */
#define RESETS_MAX 128
#define RX_CHAINS 16	      /* receive buffers filled by one read */
#define RX_IOVECS_MAX 512     /* pieces of memory filled by one read */
#define INPUT_ROUNDS 4	      /* reads in a row from one descriptor before the others get their turn */
#define TX_BUDGET 256	      /* packets in a row before the rest of the loop gets its turn */
#define CHOSEN_FIRST 0x10000u /* ports of streams that the VMM chooses */
#define CHOSEN_COUNT 0x3fff0000u
#define EPHEMERAL_FIRST 0x40000000u
#define EPHEMERAL_COUNT 0x40000000u

#define STALL_TICK_NS 500000000ull
#define STALL_TICKS 4 /* 2 s without progress: a reader of the last output is given up */

/* What a connection owes to the guest: bits, in the order in which they are sent. */
#define OWES_REQUEST (1u << 0)
#define OWES_RESPONSE (1u << 1)
#define OWES_CREDIT (1u << 2)
#define OWES_SHUTDOWN (1u << 3)
#define OWES_NOTICE (1u << 5)
#define OWES_INPUT (1u << 4) /* not a packet: the host has data and a receive buffer was missing */

enum connection_kind {
	CONNECTION_STREAM, /* the guest connected to a registered stream */
	CONNECTION_ASKED,  /* the host asked for it */
	CONNECTION_REPORT, /* the agent's reports; no host descriptor */
};

enum connection_state {
	CONNECTING, /* REQUEST was sent, or waits for READY */
	CONNECTED,
	DRAINING, /* the guest knows it no more; output is still being delivered */
};

struct vsock_connection {
	struct vsock *vsock;
	enum connection_kind kind;
	enum connection_state state;
	uint32_t guest_port, host_port;
	unsigned owes;
	uint32_t shutdown_told; /* VIRTIO_VSOCK_SHUTDOWN_*: what the guest was told or is about to be told */

	/* Free-running counters, virtio 1.2 section 5.10.6.3. */
	uint32_t received;	/* bytes from the guest */
	uint32_t credit_told;	/* the last stream.delivered that the guest was told */
	uint32_t sent;		/* bytes to the guest */
	uint32_t guest_buffer;	/* what the guest said last */
	uint32_t guest_forward; /* what the guest said last */

	struct stream stream; /* delivered is our forward count, for reports too */
	struct vsock_connect *request;
	const void *owner;   /* of a stream */
	bool dropped;	     /* the owner is gone */
	uint32_t stall_seen; /* stream.delivered at the last tick */
	unsigned stalled;    /* ticks without progress */
	bool is_pending, is_dirty;
	TAILQ_ENTRY(vsock_connection) all, pending, dirty;
	LIST_ENTRY(vsock_connection) bucket;
};

TAILQ_HEAD(connection_list, vsock_connection);
LIST_HEAD(connection_bucket, vsock_connection);
TAILQ_HEAD(registration_list, registration);
TAILQ_HEAD(drain_list, vsock_drain);

/* A port that the guest may connect to, once. */
struct registration {
	uint32_t port;
	const void *owner;
	struct stream stream; /* not attached */
	TAILQ_ENTRY(registration) link;
};

struct reset {
	uint32_t guest_port, host_port;
};

struct vsock {
	struct virtio_device base;
	uint64_t guest_cid;
	uint32_t next_ephemeral, next_chosen;
	unsigned connection_count;
	struct connection_list connections;
	struct connection_list pending;
	struct connection_list dirty; /* output was put into the buffer and not yet flushed */
	struct connection_bucket buckets[BUCKETS];
	struct registration_list registrations;
	unsigned registration_count;
	struct drain_list drains;
	bool dropping;	   /* some connections are to be */
	bool stream_ended; /* one has: somebody may have waited for it */
	struct reset resets[RESETS_MAX];
	unsigned reset_first, reset_count;

	struct chain tx_chain;
	struct chain rx_chains[RX_CHAINS]; /* taken from the ring, not yet used: a ring as well */
	unsigned rx_first, rx_count;
	struct iovec rx_iovecs[RX_IOVECS_MAX];
	bool rx_asked; /* the guest rings when it adds receive buffers */
	bool rx_pushed, tx_pushed;

	struct loop_timer again; /* settle() from the loop */
	struct loop_timer stall;

	struct vsock_connection *report;
	struct agent_report report_message;
	unsigned report_filled; /* bytes of it */
	struct agent_notice notice;
	bool notice_waits; /* for READY */
	bool ready, ready_told;
	bool broken; /* a ring is; the guest's side is forgotten in settle() */
	bool exiting;
	bool ended; /* EXITED or FAILED was told */
	uint32_t exit_status;
	enum vsock_failure failure;
	void (*handle)(void *owner, enum vsock_event event, uint32_t value);
	void *owner;
};

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

/* Later, from the loop: for callers that must not be called back. */
static void settle_later(struct vsock *vsock)
{
	if (!vsock->again.deadline)
		loop_timer_set(vsock->base.loop, &vsock->again, 0);
}

static void fail(struct vsock *vsock, enum vsock_failure failure)
{
	if (!vsock->failure)
		vsock->failure = failure;
}

static void break_device(struct vsock *vsock, const char *reason)
{
	vsock->broken = true;
	fail(vsock, VSOCK_DEVICE_BROKEN);
	virtio_device_failed(&vsock->base, reason);
}

static bool guest_serves(const struct vsock *vsock)
{
	return vsock->base.active && !vsock->broken;
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static struct connection_bucket *bucket_of(struct vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	return &vsock->buckets[(guest_port * 31 + host_port) % BUCKETS];
}

static struct vsock_connection *connection_find(struct vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_connection *connection;

	for (connection = LIST_FIRST(bucket_of(vsock, guest_port, host_port)); connection;
	     connection = LIST_NEXT(connection, bucket))
		if (connection->guest_port == guest_port && connection->host_port == host_port)
			return connection;
	return NULL;
}

static struct vsock_connection *connection_new(struct vsock *vsock, enum connection_kind kind, uint32_t guest_port,
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

static void connection_free(struct vsock_connection *connection)
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
	if (connection->kind == CONNECTION_STREAM)
		vsock->stream_ended = true;
	vsock->connection_count--;
	stream_close(&connection->stream);
	free(connection);
}

static void owe(struct vsock_connection *connection, unsigned what)
{
	connection->owes |= what;
	if (connection->is_pending || !connection->owes)
		return;
	TAILQ_INSERT_TAIL(&connection->vsock->pending, connection, pending);
	connection->is_pending = true;
}

static void owe_nothing(struct vsock_connection *connection)
{
	connection->owes = 0;
	if (connection->is_pending)
		TAILQ_REMOVE(&connection->vsock->pending, connection, pending);
	connection->is_pending = false;
}

static void tell_shutdown(struct vsock_connection *connection, uint32_t flags)
{
	if (connection->state != CONNECTED || (connection->shutdown_told & flags) == flags)
		return;
	connection->shutdown_told |= flags;
	owe(connection, OWES_SHUTDOWN);
}

/* A reset is for a pair of ports, known or not. */
static void tell_reset(struct vsock *vsock, uint32_t guest_port, uint32_t host_port)
{
	unsigned at = (vsock->reset_first + vsock->reset_count) % RESETS_MAX;

	if (vsock->reset_count == RESETS_MAX) {
		log_guest("vsock: guest gives no receive buffers, a reset is lost");
		return;
	}
	vsock->resets[at] = (struct reset){guest_port, host_port};
	vsock->reset_count++;
}

static void request_done(struct vsock_connection *connection, int error)
{
	struct vsock_connect *request = connection->request;

	connection->request = NULL;
	if (!request)
		return;
	request->connection = NULL;
	request->done(request, error);
}

/* The guest's side is over: output that was received is still delivered. Frees the connection now or when that is done.
 */
static void connection_close(struct vsock_connection *connection)
{
	struct vsock *vsock = connection->vsock;

	if (connection == vsock->report) {
		vsock->report = NULL;
		if (!vsock->exiting)
			fail(vsock, VSOCK_AGENT_LOST);
	}
	if (connection->state == DRAINING)
		return;
	request_done(connection, ECONNREFUSED);
	owe_nothing(connection);
	stream_end_input(&connection->stream);
	stream_finish_output(&connection->stream);
	if (!connection->stream.buffered) {
		connection_free(connection);
		return;
	}
	LIST_REMOVE(connection, bucket);
	connection->state = DRAINING;
}

static void connection_reset(struct vsock_connection *connection)
{
	tell_reset(connection->vsock, connection->guest_port, connection->host_port);
	connection_close(connection);
}

/* Both directions have come to their end on the host's side: the guest may let go as well. */
static void tell_end(struct vsock_connection *connection)
{
	if (!connection->stream.in && !connection->stream.out)
		tell_shutdown(connection, SHUTDOWN_BOTH);
}

/* The host's reader is gone: the guest's writes are to fail. */
static void output_lost(struct vsock_connection *connection)
{
	stream_drop_output(&connection->stream);
	connection->stream.delivered = connection->received;
	tell_shutdown(connection, VIRTIO_VSOCK_SHUTDOWN_RCV);
	tell_end(connection);
}

static void tell_credit_if_due(struct vsock_connection *connection)
{
	if (connection->stream.delivered - connection->credit_told >= STREAM_BUFFER_SIZE / 2)
		owe(connection, OWES_CREDIT);
}

/* Moves buffered output on. The connection may be freed. */
static void flush_output(struct vsock_connection *connection)
{
	if (stream_flush(&connection->stream) < 0)
		output_lost(connection);
	if (connection->state == DRAINING) {
		if (!connection->stream.buffered)
			connection_free(connection);
		return;
	}
	if (connection->state == CONNECTED && connection->kind != CONNECTION_REPORT) {
		tell_credit_if_due(connection);
		tell_end(connection);
	}
}

static void flush_later(struct vsock_connection *connection)
{
	if (connection->is_dirty)
		return;
	TAILQ_INSERT_TAIL(&connection->vsock->dirty, connection, dirty);
	connection->is_dirty = true;
}

static void flush_dirty(struct vsock *vsock)
{
	struct vsock_connection *connection;

	while ((connection = TAILQ_FIRST(&vsock->dirty))) {
		TAILQ_REMOVE(&vsock->dirty, connection, dirty);
		connection->is_dirty = false;
		flush_output(connection);
	}
}

/* --- to the guest ------------------------------------------------------------------------------------------------- */

/* Takes receive buffers from the ring until `wanted` are at hand; returns how many are. Asks for the doorbell when
 * there are fewer. */
static unsigned rx_gather(struct vsock *vsock, unsigned wanted)
{
	struct queue *queue = &vsock->base.queues[RX];
	while (vsock->rx_count < wanted && guest_serves(vsock)) {
		struct chain *chain = &vsock->rx_chains[(vsock->rx_first + vsock->rx_count) % RX_CHAINS];
		int popped = queue_pop(queue, chain);

		if (popped < 0) {
			break_device(vsock, "receive ring");
		} else if (popped > 0 && chain->writable <= HEADER_SIZE) {
			break_device(vsock, "receive buffer too small for a packet");
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
	return guest_serves(vsock) ? vsock->rx_count : 0;
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

	header.buf_alloc = htole32(STREAM_BUFFER_SIZE);
	header.fwd_cnt = htole32(connection->stream.delivered);
	connection->credit_told = connection->stream.delivered;
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

static uint32_t credit_of(const struct vsock_connection *connection)
{
	uint32_t under_way = connection->sent - connection->guest_forward;

	/* A guest may shrink its buffer below what is under way, or lie. */
	return under_way < connection->guest_buffer ? connection->guest_buffer - under_way : 0;
}

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
	return guest_serves(vsock) ? room : 0;
}

/* `size` bytes have been read into the prepared buffers: makes packets of them. */
static void rx_commit(struct vsock_connection *connection, uint32_t size)
{
	struct vsock *vsock = connection->vsock;

	connection->sent += size;
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
	tell_shutdown(connection, VIRTIO_VSOCK_SHUTDOWN_SEND);
	tell_end(connection);
}

/* One read into the guest. False when there is nothing more to do for now. */
static bool pump_once(struct vsock_connection *connection)
{
	uint32_t credit = credit_of(connection), room;
	unsigned iovecs;
	ssize_t got;

	if (!credit) {
		stream_want_input(&connection->stream, false);
		return false;
	}
	room = rx_prepare(connection->vsock, credit, &iovecs);
	if (!room) {
		stream_want_input(&connection->stream, false);
		owe(connection, OWES_INPUT);
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

static void pump_input(struct vsock_connection *connection)
{
	if (connection->state != CONNECTED || !connection->stream.in || !guest_serves(connection->vsock))
		return;
	for (int round = 0; round < INPUT_ROUNDS; round++)
		if (!pump_once(connection))
			return;
}

/* False when there is no receive buffer. One that has no room for it, or an agent that does not read, goes without. */
static bool send_notice(struct vsock_connection *connection)
{
	struct vsock *vsock = connection->vsock;
	struct virtio_vsock_hdr header;
	uint32_t size = sizeof(vsock->notice);

	if (!rx_gather(vsock, 1))
		return false;
	if (credit_of(connection) < size || rx_at(vsock, 0)->writable < HEADER_SIZE + size)
		return true;
	header = connection_header(connection, VIRTIO_VSOCK_OP_RW);
	header.len = htole32(size);
	chain_seek_write(rx_at(vsock, 0), HEADER_SIZE);
	chain_write(rx_at(vsock, 0), &vsock->notice, size);
	connection->sent += size;
	rx_push(vsock, &header, size);
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
	if (connection->owes & OWES_NOTICE) {
		if (!send_notice(connection))
			return false;
		connection->owes &= ~OWES_NOTICE;
	}
	return true;
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

static void serve_pending(struct vsock *vsock)
{
	struct vsock_connection *connection;

	send_resets(vsock);
	while (!vsock->reset_count && (connection = TAILQ_FIRST(&vsock->pending)) && rx_gather(vsock, 1)) {
		bool wants_input;

		if (!pay(connection))
			return;
		wants_input = connection->owes & OWES_INPUT;
		owe_nothing(connection);
		if (wants_input)
			pump_input(connection);
	}
}

/* --- events ------------------------------------------------------------------------------------------------------- */

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
		request_done(connection, ECONNRESET);
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
			tell_reset(vsock, connection->guest_port, connection->host_port);
		connection_free(connection);
	}
}

static bool is_port_in_use(struct vsock *vsock, uint32_t port);

/* One may make its owner go, and with it other streams and those who wait for them. */
static void tell_drained(struct vsock *vsock)
{
	struct vsock_drain *request;

	while (vsock->stream_ended) {
		vsock->stream_ended = false;
		for (request = TAILQ_FIRST(&vsock->drains); request; request = TAILQ_NEXT(request, link)) {
			if (is_port_in_use(vsock, request->port))
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
	flush_dirty(vsock);
	if (guest_serves(vsock))
		serve_pending(vsock);
	if (vsock->broken)
		forget_guest(vsock, true);
	if (vsock->rx_pushed && guest_serves(vsock))
		virtio_device_signal(&vsock->base, RX);
	if (vsock->tx_pushed && guest_serves(vsock))
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

/* --- host descriptors --------------------------------------------------------------------------------------------- */

static void host_event(struct stream *stream, uint32_t events)
{
	struct vsock_connection *connection =
	    (struct vsock_connection *)((char *)stream - offsetof(struct vsock_connection, stream));
	struct vsock *vsock = connection->vsock;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && stream->wants_input)
		pump_input(connection);
	if (stream_output_is_lost(stream, events))
		output_lost(connection);
	if (stream->buffered || stream->finishing || connection->state == DRAINING)
		flush_output(connection);
	settle(vsock);
}

/* The guest's end is there: data may flow. False when the descriptor cannot be watched. */
static bool connection_open(struct vsock_connection *connection)
{
	struct error err;

	if (stream_attach(&connection->stream, connection->vsock->base.loop, host_event, &err) < 0) {
		log_line("vsock: %s", err.message);
		return false;
	}
	connection->state = CONNECTED;
	if (connection->stream.in)
		stream_want_input(&connection->stream, true);
	return true;
}

/* --- from the guest ----------------------------------------------------------------------------------------------- */

static struct registration *registration_find(struct vsock *vsock, uint32_t port)
{
	struct registration *registration;

	for (registration = TAILQ_FIRST(&vsock->registrations); registration;
	     registration = TAILQ_NEXT(registration, link))
		if (registration->port == port)
			return registration;
	return NULL;
}

static bool is_port_in_use(struct vsock *vsock, uint32_t port)
{
	struct vsock_connection *connection;

	for (connection = TAILQ_FIRST(&vsock->connections); connection; connection = TAILQ_NEXT(connection, all)) {
		if (connection->kind == CONNECTION_STREAM && connection->host_port == port)
			return true;
	}
	return registration_find(vsock, port) != NULL;
}

static void registration_free(struct vsock *vsock, struct registration *registration)
{
	TAILQ_REMOVE(&vsock->registrations, registration, link);
	vsock->registration_count--;
	vsock->stream_ended = true;
	stream_close(&registration->stream);
	free(registration);
}

static struct vsock_connection *accept_report(struct vsock *vsock, uint32_t guest_port)
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
						  ? accept_report(vsock, guest_port)
						  : accept_stream(vsock, guest_port, host_port);

	if (connection)
		owe(connection, OWES_RESPONSE);
	else
		tell_reset(vsock, guest_port, host_port);
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
	request_done(connection, 0);
}

/* False: the agent does not keep to the protocol. */
static bool take_report(struct vsock *vsock, const struct agent_report *report)
{
	uint32_t value = le32toh(report->value);

	switch (le32toh(report->kind)) {
	case AGENT_REPORT_READY: {
		struct vsock_connection *connection;

		if (value != AGENT_PROTOCOL_VERSION) {
			fail(vsock, VSOCK_AGENT_VERSION);
			return false;
		}
		if (vsock->ready)
			break;
		vsock->ready = true;
		if (vsock->notice_waits)
			owe(vsock->report, OWES_NOTICE);
		vsock->notice_waits = false;
		for (connection = TAILQ_FIRST(&vsock->connections); connection;
		     connection = TAILQ_NEXT(connection, all))
			if (connection->state == CONNECTING)
				owe(connection, OWES_REQUEST);
		return true;
	}
	case AGENT_REPORT_EXIT:
		if (value > 255 || vsock->exiting)
			break;
		vsock->exiting = true;
		vsock->exit_status = value;
		return true;
	}
	fail(vsock, VSOCK_AGENT_BAD_REPORT);
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
	tell_credit_if_due(connection);
}

static void guest_sends(struct vsock_connection *connection, struct chain *chain, uint32_t length)
{
	struct stream *stream = &connection->stream;

	if (connection->state != CONNECTED || stream->finishing) {
		connection_reset(connection);
		return;
	}
	connection->received += length;
	if (connection->received - stream->delivered > STREAM_BUFFER_SIZE) {
		log_guest("vsock: guest sends more than it has credit for");
		connection_reset(connection);
		return;
	}
	if (connection->kind == CONNECTION_REPORT) {
		read_reports(connection, chain, length);
		return;
	}
	if (!stream->out)
		tell_shutdown(connection, VIRTIO_VSOCK_SHUTDOWN_RCV);
	if (stream_put(stream, chain, length) < 0)
		output_lost(connection);
	if (stream->buffered && !stream->blocked)
		flush_later(connection);
	tell_credit_if_due(connection);
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
	flush_later(connection);
}

static void take_credit(struct vsock_connection *connection, const struct virtio_vsock_hdr *header)
{
	connection->guest_buffer = le32toh(header->buf_alloc);
	connection->guest_forward = le32toh(header->fwd_cnt);
}

/* Input that rested for want of credit goes on. */
static void resume_input(struct vsock_connection *connection)
{
	if (connection->stream.in && !connection->stream.wants_input && !(connection->owes & OWES_INPUT) &&
	    credit_of(connection))
		pump_input(connection);
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
			owe(connection, OWES_CREDIT);
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
			tell_reset(vsock, guest_port, host_port);
		return;
	}
	if (connection) {
		take_credit(connection, &header);
		resume_input(connection);
		dispatch(connection, &header, chain);
	} else if (operation == VIRTIO_VSOCK_OP_REQUEST) {
		connection = guest_connects(vsock, guest_port, host_port);
		if (connection)
			take_credit(connection, &header);
	} else if (operation != VIRTIO_VSOCK_OP_RST) {
		tell_reset(vsock, guest_port, host_port);
	}
}

static void serve_tx(struct vsock *vsock)
{
	struct queue *queue = &vsock->base.queues[TX];
	int popped = 0;

	for (int budget = 0; budget < TX_BUDGET && guest_serves(vsock); budget++) {
		popped = queue_pop(queue, &vsock->tx_chain);
		if (popped <= 0)
			break;
		take_packet(vsock, &vsock->tx_chain);
		queue_push(queue, vsock->tx_chain.head, 0);
		vsock->tx_pushed = true;
	}
	if (popped < 0)
		break_device(vsock, "transmit ring");
	else if (popped > 0)
		settle_later(vsock);
}

static void again(struct loop_timer *timer)
{
	struct vsock *vsock = timer->owner;

	if (guest_serves(vsock))
		serve_tx(vsock);
	settle(vsock);
}

/* --- the device --------------------------------------------------------------------------------------------------- */

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
	settle_later(vsock_of(device));
	return 0;
}

static void vsock_reset(struct virtio_device *device)
{
	struct vsock *vsock = vsock_of(device);

	if (vsock->report && !vsock->exiting)
		fail(vsock, VSOCK_DEVICE_RESET);
	forget_guest(vsock, false);
	vsock->broken = false;
	vsock->rx_pushed = vsock->tx_pushed = false;
	settle_later(vsock);
}

static void vsock_notify(struct virtio_device *device, unsigned queue)
{
	struct vsock *vsock = vsock_of(device);

	if (!guest_serves(vsock))
		return;
	if (queue == TX)
		serve_tx(vsock);
	settle(vsock);
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
		request_done(connection, ECONNRESET);
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
	vsock->again = (struct loop_timer){.handle = again, .owner = vsock};
	vsock->stall = (struct loop_timer){.handle = stall_tick, .owner = vsock};
	TAILQ_INIT(&vsock->connections);
	TAILQ_INIT(&vsock->pending);
	TAILQ_INIT(&vsock->dirty);
	TAILQ_INIT(&vsock->registrations);
	TAILQ_INIT(&vsock->drains);
	return &vsock->base;
}

/* --- for the rest of the program ---------------------------------------------------------------------------------- */

static uint32_t choose_port(struct vsock *vsock)
{
	uint32_t port;

	do
		port = CHOSEN_FIRST + vsock->next_chosen++ % CHOSEN_COUNT;
	while (is_port_in_use(vsock, port));
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
	settle_later(vsock);
}

void vsock_drain(struct virtio_device *device, struct vsock_drain *request, uint32_t port)
{
	struct vsock *vsock = vsock_of(device);

	request->device = device;
	request->port = port;
	TAILQ_INSERT_TAIL(&vsock->drains, request, link);
	vsock->stream_ended = true;
	settle_later(vsock);
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
		owe(vsock->report, OWES_NOTICE);
	settle_later(vsock);
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
		owe(connection, OWES_REQUEST);
	settle_later(vsock);
	return 0;
}

void vsock_connect_cancel(struct vsock_connect *request)
{
	struct vsock_connection *connection = request->connection;

	if (!connection)
		return;
	request->connection = NULL;
	connection->request = NULL;
	settle_later(connection->vsock);
	if (connection->vsock->ready && !(connection->owes & OWES_REQUEST))
		connection_reset(connection);
	else
		connection_close(connection);
}
