/*
 * Between the VMM's virtio-fs device and hull-fsd: a SOCK_SEQPACKET socketpair, one packet a message.
 *
 * VMM to file server: struct fs_message, then the FUSE request as the guest wrote it (struct fuse_in_header and its
 * arguments, see linux/fuse.h). File server to VMM: struct fs_message with the same tag, then the FUSE answer (struct
 * fuse_out_header and its payload). Requests without an answer (FORGET, BATCH_FORGET) get none. Each packet is at most
 * FS_MESSAGE_MAX bytes.
 *
 * READ and WRITE do not travel here in the usual case: an answer to OPEN, CREATE or TMPFILE that carries a descriptor
 * gives the VMM the open file; the handle `fh` of that answer (fs_message.handle) then names it in later READ and WRITE
 * requests, which the VMM serves itself. A handle for which no descriptor was sent is served by the file server also
 * for READ and WRITE (the data then travels in the packet). RELEASE of a handle closes the VMM's descriptor and is
 * passed on.
 *
 * Handles are small numbers from 1 to FS_HANDLE_MAX, chosen by the file server, reused after RELEASE.
 */
#pragma once

#include <stdint.h>

#define FS_MESSAGE_MAX (160u << 10) /* bytes, with the header */
#define FS_PAYLOAD_MAX (128u << 10) /* bytes of data in one READ, WRITE, READDIR answer through this socket */
#define FS_HANDLE_MAX (1u << 20)

#define FS_HAS_DESCRIPTOR (1u << 0) /* answer: a descriptor is attached that serves `handle` */

struct fs_message {
	uint64_t tag;	 /* chosen by the VMM, repeated in the answer */
	uint32_t flags;	 /* FS_HAS_DESCRIPTOR */
	uint32_t handle; /* with FS_HAS_DESCRIPTOR */
};
