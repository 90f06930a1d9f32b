/*
 * The host's side of common/agent_protocol.h, over the VMM's control socket (common/vmm_control.h).
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "runtime/watch.h"

/* Connects to the control socket in a container's folder. Returns a descriptor or -1; ECONNREFUSED when nobody listens
 * there any more. */
int vmm_control_connect(int folder, const char *name, struct error *err);

/* The same for any SOCK_SEQPACKET socket there; whom names the listener in messages. */
int socket_connect_in(int folder, const char *name, const char *whom, struct error *err);

/* Makes a SOCK_SEQPACKET socket there that listens. Returns a descriptor or -1. */
int socket_listen_in(int folder, const char *name, struct error *err);

/* Asks the VMM for its VMM_STATUS_* bits. */
int vmm_control_status(int control, struct watch *watch, uint32_t *status, struct error *err);

/* Registers a stream of VMM_STREAM_IN or VMM_STREAM_OUT (or both) for this connection, at a port that the VMM chooses.
 * The descriptor stays the caller's. */
int vmm_control_stream(int control, struct watch *watch, int fd, uint32_t flags, uint32_t *port, struct error *err);

/* Sends VMM_DRAIN; the reply, when the stream is delivered, is to be taken by vmm_control_drained. */
int vmm_control_drain(int control, uint32_t port, struct error *err);
int vmm_control_drained(int control, struct watch *watch, struct error *err);

/* VMM_SAVE_AND_END: saves the machine into two empty files, after which it ends. */
int vmm_control_save(int control, struct watch *watch, int state, int memory, struct error *err);

/* VMM_NET_ADD, VMM_NET_REMOVE: a network card whose wire is the tap, which stays the caller's; *slot is where it is. */
int vmm_control_add_net(int control, struct watch *watch, int tap, const uint8_t mac[6], uint32_t *slot,
			struct error *err);
int vmm_control_remove_net(int control, struct watch *watch, uint32_t slot, struct error *err);

/* Connects to the agent: waits until the guest has come up. Returns a stream or -1. */
int agent_connect(int control, struct watch *watch, struct error *err);

/* Sends one order (size bytes of JSON) and waits for the answer. An answer that says no becomes an error with the
 * agent's words and errno value, watch->event then being WATCH_NOTHING. *answer (may be NULL) is for the caller to
 * release. Returns 0 or -1. */
int agent_order(int agent, struct watch *watch, const char *order, size_t size, json_t **answer, struct error *err);

/* The two halves of agent_order: for an answer that takes its time. */
int agent_send(int agent, struct watch *watch, const char *order, size_t size, struct error *err);
int agent_receive(int agent, struct watch *watch, json_t **answer, struct error *err);

/* The simple orders. exec names a process beside the container's own one, or is NULL. */
int agent_start(int agent, struct watch *watch, const char *id, struct error *err);
int agent_kill(int agent, struct watch *watch, const char *id, const char *exec, int signal, int all,
	       struct error *err);
int agent_resize(int agent, struct watch *watch, const char *id, const char *exec, unsigned columns, unsigned rows,
		 struct error *err);
