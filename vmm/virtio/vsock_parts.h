/*
 * What the files of the vsock device share. Each calls those below it only:
 *
 *   vsock.c             the device, what the program asks of it, and the theory of operation
 *   vsock_state.c       what a saved machine keeps of it
 *   vsock_tx.c          what comes from the guest
 *   vsock_rx.c          what goes to it
 *   vsock_connection.c  the connections
 *   vsock_credit.c      the arithmetic of their credit
 */
#pragma once

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "common/agent_protocol.h"
#include "vmm/loop.h"
#include "vmm/stream.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/vsock.h"
#include "vmm/virtio/vsock_credit.h"

#define HOST_CID 2
#define HEADER_SIZE ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define SHUTDOWN_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)

enum queue_index { RX, TX, EVENTS, QUEUES };

#define BUCKETS 256 /* a power of two */
#define RESETS_MAX 128
#define RX_CHAINS 16	  /* receive buffers filled by one read */
#define RX_IOVECS_MAX 512 /* pieces of memory filled by one read */

/* What a connection owes to the guest: bits, in the order in which they are sent. */
#define OWES_REQUEST (1u << 0)
#define OWES_RESPONSE (1u << 1)
#define OWES_CREDIT (1u << 2)
#define OWES_SHUTDOWN (1u << 3)
#define OWES_NOTICE (1u << 5)
#define OWES_CLOCK_SET (1u << 6)
#define OWES_TIME (1u << 7)
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

	struct vsock_credit credit;
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
	bool stream_ended; /* a stream or connection has: somebody may have waited for it */
	struct reset resets[RESETS_MAX];
	unsigned reset_first, reset_count;

	struct chain tx_chain;
	struct chain rx_chains[RX_CHAINS]; /* taken from the ring, not yet used: a ring as well */
	unsigned rx_first, rx_count;
	struct iovec rx_iovecs[RX_IOVECS_MAX];
	bool rx_asked; /* the guest rings when it adds receive buffers */
	bool rx_pushed, tx_pushed;

	/* Something happened at the host descriptor of a connection. */
	void (*host_event)(struct stream *stream, uint32_t events);
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

/* --- vsock_connection.c: the device's state, and the connections ------------------------------------------------- */

/* What every entry point ends in (see the theory of operation) comes later, from the loop: for callers that must not be
 * called back. */
void vsock_settle_later(struct vsock *vsock);

/* The machine is of no use any more; the first reason counts. */
void vsock_fail(struct vsock *vsock, enum vsock_failure failure);

/* The guest broke the rules of a ring. */
void vsock_break(struct vsock *vsock, const char *reason);

/* Whether the rings may be used. */
bool vsock_guest_serves(const struct vsock *vsock);

struct vsock_connection *connection_find(struct vsock *vsock, uint32_t guest_port, uint32_t host_port);

/* Enters a new one, which has no host descriptor yet. NULL when there are too many, or memory is short. */
struct vsock_connection *connection_new(struct vsock *vsock, enum connection_kind kind, uint32_t guest_port,
					uint32_t host_port);
void connection_free(struct vsock_connection *connection);

/* The guest's end is there: data may flow. False when the descriptor cannot be watched. */
bool connection_open(struct vsock_connection *connection);

/* The guest's side is over: output that was received is still delivered. Frees the connection now or when that is done.
 * The second tells the guest so. */
void connection_close(struct vsock_connection *connection);
void connection_reset(struct vsock_connection *connection);

/* Answers who asked for the connection, if somebody still waits. */
void connection_request_done(struct vsock_connection *connection, int error);

/* The guest will be sent OWES_*. */
void connection_owe(struct vsock_connection *connection, unsigned what);
void connection_owe_nothing(struct vsock_connection *connection);

/* The guest is told VIRTIO_VSOCK_SHUTDOWN_*; both of them when both directions are at their end on the host's side;
 * that it may send again. */
void connection_shut_down(struct vsock_connection *connection, uint32_t flags);
void connection_tell_end(struct vsock_connection *connection);
void connection_tell_credit(struct vsock_connection *connection);

/* A reset is for a pair of ports, known or not. */
void vsock_tell_reset(struct vsock *vsock, uint32_t guest_port, uint32_t host_port);

/* The host's reader is gone: the guest's writes are to fail. */
void connection_output_lost(struct vsock_connection *connection);

/* Moves buffered output on: now (the connection may be freed), when things are settled, or of all that wait for it. */
void connection_flush(struct vsock_connection *connection);
void connection_flush_later(struct vsock_connection *connection);
void vsock_flush_dirty(struct vsock *vsock);

/* Ports that the guest may connect to. */
struct registration *registration_find(struct vsock *vsock, uint32_t port);
void registration_free(struct vsock *vsock, struct registration *registration);

/* Whether a stream is registered or connected there. */
bool vsock_port_in_use(struct vsock *vsock, uint32_t port);

/* --- vsock_rx.c: to the guest ------------------------------------------------------------------------------------- */

/* Reads from the host descriptor into receive buffers, as far as there are some, and credit. */
void connection_pump_input(struct vsock_connection *connection);

/* Sends what is owed, as far as there are receive buffers. */
void vsock_serve_pending(struct vsock *vsock);

/* --- vsock_tx.c: from the guest ----------------------------------------------------------------------------------- */

/* Takes the packets of the transmit queue. */
void vsock_serve_tx(struct vsock *vsock);

/* A connection of the guest to AGENT_REPORT_PORT; NULL when it cannot be the agent's. */
struct vsock_connection *vsock_accept_report(struct vsock *vsock, uint32_t guest_port);

/* --- vsock_state.c ------------------------------------------------------------------------------------------------ */

/* Whether there are connections beside that of the agent's reports. */
bool vsock_has_connections(const struct vsock *vsock);

/* The end of quiesce, when all that came from the guest has been taken. */
int vsock_rest(struct vsock *vsock, struct error *err);
void vsock_save(const struct virtio_device *device, struct state_writer *writer);
int vsock_restore(struct virtio_device *device, struct state_reader *reader, struct error *err);
