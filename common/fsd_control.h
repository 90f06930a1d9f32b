/*
 * The control socket of hull-fsd: a listening SOCK_SEQPACKET unix socket, made and bound by the runtime and handed to
 * the file server, so that only those who reach the container's folder can reach it. One struct fsd_request per packet,
 * with one descriptor attached where the operation says so; each is answered by one struct fsd_reply, in order.
 * Anything else ends the connection. The file server owns a descriptor from the moment it arrives.
 *
 * What has been added over a connection goes when the connection ends, unless FSD_KEEP has been said: whoever is killed
 * halfway through leaves nothing behind.
 */
#pragma once

#include <stdint.h>

enum fsd_operation {
	/* Exports the attached descriptor (O_PATH, of a mount of its own: see runtime/export_tree.h) as `name`. EEXIST:
	 * the name is taken; EINVAL: it is no name (vmm/fsd/server.h); EACCES: on procfs; ENOSPC: too many. */
	FSD_ADD = 1,
	/* Takes back the export `name`, or with FSD_GROUP all whose names begin with `name` and a dot. When it is
	 * answered, no file below it can be reached any more: what the guest has open is closed. value: how many there
	 * were; ENOENT: none. */
	FSD_REMOVE = 2,
	/* What has been added over this connection stays when it ends. */
	FSD_KEEP = 3,
	/* value: the number of exports. */
	FSD_COUNT = 4,
};

#define FSD_GROUP (1u << 0)

#define FSD_CONTROL_VERSION 1
#define FSD_NAME_MAX 64 /* bytes of an export's name */

struct fsd_request {
	uint32_t version;	     /* FSD_CONTROL_VERSION */
	uint32_t operation;	     /* enum fsd_operation */
	uint32_t flags;		     /* FSD_GROUP for FSD_REMOVE, else 0 */
	uint32_t cache_seconds;	     /* FSD_ADD: how long the guest may trust names and attributes; else 0 */
	char name[FSD_NAME_MAX + 8]; /* ended by a NUL; FSD_KEEP and FSD_COUNT: all zero */
};

struct fsd_reply {
	uint32_t error; /* 0 or a positive errno value */
	uint32_t value;
};
