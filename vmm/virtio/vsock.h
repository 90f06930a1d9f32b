/*
 * virtio-vsock (virtio 1.2, section 5.10): stream sockets between the guest and host descriptors.
 *
 * The device is its own: nothing of the host's vsock is used. Two kinds of connections exist, both bound to a host
 * descriptor that the device owns: those the host asks for (vsock_connect), and those the guest makes to a host port
 * that was registered (vsock_add_stream), each of them once. The agent's report connection (common/agent_protocol.h)
 * ends in the device itself. A guest that tries any other port is refused.
 *
 * Flow control reaches from end to end: the device takes from a host descriptor only what the guest has credit for, and
 * gives the guest credit only for what the host descriptor has taken, but for CONNECTION_BUFFER bytes a connection.
 *
 * Everything runs on the loop's thread. SIGPIPE is to be ignored by the program.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/error.h"
#include "common/vmm_control.h"
#include "vmm/loop.h"
#include "vmm/virtio/device.h"

#define VSOCK_GUEST_CID_DEFAULT 3

enum vsock_event {
	VSOCK_READY = 1, /* the agent has reported READY; value is 0 */
	VSOCK_OOM,	 /* the agent has reported that its kernel killed for want of memory */
	VSOCK_EXITED,	 /* the agent has reported EXIT and the output is delivered; value is the status, 0 to 255 */
	VSOCK_FAILED,	 /* the machine is of no use any more; value is an enum vsock_failure */
};

enum vsock_failure {
	VSOCK_AGENT_LOST = 1,	/* the report connection ended without EXIT */
	VSOCK_AGENT_VERSION,	/* READY with a protocol version that is not ours */
	VSOCK_AGENT_BAD_REPORT, /* a report that the protocol does not know */
	VSOCK_DEVICE_RESET,	/* the guest reset the device while the report connection was open */
	VSOCK_DEVICE_BROKEN,	/* the guest broke the rules of a ring */
};

/* One line for a person, without a newline. */
const char *vsock_failure_text(uint32_t failure);

struct virtio_device *vsock_new(uint64_t guest_cid, struct loop *loop, struct error *err);

/* Lets the guest connect once to host port *port (0: one that is free, which *port becomes); flags are VMM_STREAM_IN
 * and VMM_STREAM_OUT. owner (or NULL) is whom vsock_drop_streams names. Takes fd over when it succeeds. Returns 0 or
 * -1: EINVAL, EBADF (fd cannot be read or written as asked), EADDRINUSE, ENOBUFS. */
int vsock_add_stream(struct virtio_device *device, uint32_t *port, int fd, unsigned flags, const void *owner,
		     struct error *err);

/* Gives up all streams of this owner, registered or connected, and what they still hold. */
void vsock_drop_streams(struct virtio_device *device, const void *owner);

/* Somebody waits until there is no stream at a port. Embedded in its user; must stay where it is until done was called
 * or vsock_drain_cancel. */
struct vsock_drain {
	void (*done)(struct vsock_drain *request); /* called once, never from within vsock_drain */
	void *owner;
	uint32_t port;
	struct virtio_device *device; /* NULL: not waiting */
	TAILQ_ENTRY(vsock_drain) link;
};

/* As a port: waits until the agent's reports are the only connection that there is. */
#define VSOCK_ANY_PORT 0xffffffffu
void vsock_drain(struct virtio_device *device, struct vsock_drain *request, uint32_t port);
/* Gives up; harmless when done was called. */
void vsock_drain_cancel(struct vsock_drain *request);

/* Who hears of the events, each of which but OOM happens at most once; EXITED and FAILED exclude each other. The
 * handler must not free the device. */
void vsock_on_report(struct virtio_device *device, void (*handle)(void *owner, enum vsock_event event, uint32_t value),
		     void *owner);

/* Tells the agent over its report connection; before READY, afterwards. Of two that come before the guest takes them,
 * the later counts. */
void vsock_notify_agent(struct virtio_device *device, uint32_t kind, uint32_t port, uint32_t value);

/* Tells the agent that the host's clock was set. The time itself is told whenever the agent asks for it. */
void vsock_clock_was_set(struct virtio_device *device);

/* VMM_STATUS_* bits. With VMM_STATUS_EXITING a guest that goes away is no failure any more: VSOCK_EXITED will follow
 * when the host has taken the output. */
uint32_t vsock_status(const struct virtio_device *device);

/* Takes what the guest has sent, without waiting for its doorbell to be heard. */
void vsock_catch_up(struct virtio_device *device);

/* A connection that the host asks for. Embedded in its user; must stay where it is until done was called or
 * vsock_connect_cancel. */
struct vsock_connect {
	/* error: 0, ECONNREFUSED (the guest said no), ECONNRESET (the guest or its driver is gone). Called once, never
	 * from within vsock_connect. */
	void (*done)(struct vsock_connect *request, int error);
	void *owner;
	struct vsock_connection *connection; /* the device's own */
};

/* Connects fd, a stream socket, to `port` in the guest; waits for READY first. Takes fd over when it succeeds. Returns
 * 0 or -1: EINVAL (not a stream socket), ENOBUFS (too many connections), ECONNRESET (the guest is gone). */
int vsock_connect(struct virtio_device *device, struct vsock_connect *request, uint32_t port, int fd,
		  struct error *err);
/* Gives up; harmless when done was called. */
void vsock_connect_cancel(struct vsock_connect *request);
