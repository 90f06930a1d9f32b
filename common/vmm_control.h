/*
 * The control socket of hull-vmm: a listening SOCK_SEQPACKET unix socket, made and bound by the runtime and handed to
 * the VMM. One struct vmm_request per packet, followed by the operation's own struct where it has one, with the
 * descriptors attached that the operation is about; each is answered by one struct vmm_reply, in order on that
 * connection. Anything else ends the connection. The VMM owns a descriptor from the moment it arrives.
 */
#pragma once

#include <stdint.h>

enum vmm_operation {
	/* Connects the attached stream socket to vsock port `port` in the guest. Answered when the guest has accepted
	 * (error 0) or refused (ECONNREFUSED). Before the agent has reported READY the request waits; when the guest
	 * ends first, the answer is ECONNRESET. */
	VMM_CONNECT = 1,
	/* Lets the guest connect once to host port `port`; the bytes go to (VMM_STREAM_OUT) or come from
	 * (VMM_STREAM_IN), or both, the attached descriptor: a pipe, socket, terminal, file. With port 0 the VMM
	 * chooses one that is free; `value` in the reply is the port. The stream lives no longer than the control
	 * connection that it was registered over: when that ends, the guest's connection is reset, and output that has
	 * not been taken is dropped. */
	VMM_STREAM = 2,
	/* Asks for `value` in the reply: VMM_STATUS_* bits. */
	VMM_STATUS = 3,
	/* Answered when there is no stream at `port` any more, neither registered nor connected, and the descriptor has
	 * taken all of its output; at once when there is none. */
	VMM_DRAIN = 4,
	/* Saves the machine into the two attached descriptors, empty regular files: its state, then its memory
	 * (vmm/memory_image.h says how that is to be kept). Waits until no connection to the guest is open but the
	 * agent's own report; the guest may have no file system of the host mounted. Answered when both files are
	 * complete; the machine then goes on, or with VMM_SAVE_AND_END in `flags` ends, its result being "saved".
	 * Errors: EOPNOTSUPP (the machine was not started with --savable), EBUSY (the guest uses what cannot be saved),
	 * or whatever kept the files from being written. The reason is in the log, and the machine goes on. */
	VMM_SAVE = 5,
	/* Puts a network card (virtio-net) on the bus of the running machine; a struct vmm_net follows the request. The
	 * attached descriptor is its wire: a tap that was opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR and
	 * O_NONBLOCK, with TUNSETVNETHDRSZ of VMM_NET_HEADER and TUNSETOFFLOAD of VMM_NET_OFFLOADS. The VMM changes
	 * nothing of the tap. `value` in the reply is the card's slot S on bus 0: the guest finds it at 0000:00:S.0 (S
	 * in two hexadecimal digits) after a rescan of its bus. The card stays until VMM_NET_REMOVE or the machine's
	 * end, whatever becomes of the control connection; while there is one the machine cannot be saved (EBUSY).
	 * Errors: EINVAL (the descriptor is no such tap, the MAC address a group's, the MTU impossible), ENOSPC (no
	 * slot is free), or what the host has too little of. */
	VMM_NET_ADD = 6,
	/* Takes the card in slot `port` off the bus and closes its tap. The guest should have let go of it before
	 * (`remove` in sysfs); one that has not finds it gone. Error: ENOENT (no network card in that slot). */
	VMM_NET_REMOVE = 7,
};

#define VMM_NET_HEADER 12u /* bytes before each frame: struct virtio_net_hdr_v1 */
/* TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN */
#define VMM_NET_OFFLOADS 0x0fu

#define VMM_SAVE_AND_END (1u << 0)

#define VMM_STREAM_IN (1u << 0)	 /* host descriptor to guest: stdin */
#define VMM_STREAM_OUT (1u << 1) /* guest to host descriptor: stdout, stderr */

#define VMM_STATUS_READY (1u << 0)   /* the agent has reported READY */
#define VMM_STATUS_EXITING (1u << 1) /* the agent has reported EXIT, output is still being delivered */

/* With --trace the VMM writes lines to its log that begin with this word: a time of CLOCK_MONOTONIC in nanoseconds, and
 * which step of the machine's start was reached then. */
#define VMM_TRACE_WORD "trace"

#define VMM_CONTROL_VERSION 1

struct vmm_request {
	uint32_t version;   /* VMM_CONTROL_VERSION */
	uint32_t operation; /* enum vmm_operation */
	uint32_t port;
	uint32_t flags; /* VMM_STREAM_* for VMM_STREAM, VMM_SAVE_* for VMM_SAVE, else 0 */
};

/* Follows the request of VMM_NET_ADD. */
struct vmm_net {
	uint8_t mac[6];	   /* the card's address */
	uint16_t mtu;	   /* bytes, 68 at least; 0: the guest is not told */
	uint32_t reserved; /* 0 */
};

struct vmm_reply {
	uint32_t error; /* 0 or a positive errno value */
	uint32_t value;
};
