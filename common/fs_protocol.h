/*
 * Between the VMM's virtio-fs device and hull-fsd: a SOCK_SEQPACKET socketpair, one packet a message.
 *
 * VMM to file server: struct fs_message, then the FUSE request as the guest wrote it (struct fuse_in_header and its
 * arguments, see linux/fuse.h). File server to VMM: struct fs_message with the same tag, then the FUSE answer (struct
 * fuse_out_header and its payload). Requests without an answer (fs_has_answer) get none. Each packet is at most
 * FS_MESSAGE_MAX bytes.
 *
 * READ and WRITE do not travel here in the usual case: an answer to OPEN, CREATE or TMPFILE that carries a descriptor
 * gives the VMM the open file; the handle `fh` of that answer (fs_message.handle) then names it in later READ and WRITE
 * requests, which the VMM serves itself. A handle for which no descriptor was sent is served by the file server also
 * for READ and WRITE (the data then travels in the packet, and the VMM cuts what is larger than FS_PAYLOAD_MAX into
 * several requests). RELEASE of a handle closes the VMM's descriptor and is passed on.
 *
 * Two kinds of WRITE always go to the file server: those on a handle whose descriptor came with FS_READS_ONLY, and
 * those on a handle for which the file server has later sent FS_WRITES_TO_SERVER, a message without a FUSE answer.
 * These are set-user-ID and set-group-ID files: the VMM has no CAP_FSETID, so its writes would clear those bits where
 * the guest's root keeps them.
 *
 * FS_CLOSED, a message without a FUSE answer as well, closes the VMM's descriptor: the file's export has been taken
 * back. What the guest still asks about the handle is the file server's to refuse, until the guest RELEASEs it.
 *
 * Handles are small numbers from 1 to FS_HANDLE_MAX, chosen by the file server, reused after RELEASE.
 */
#pragma once

#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>

#define FS_MESSAGE_MAX (160u << 10) /* bytes, with the header */
#define FS_PAYLOAD_MAX (128u << 10) /* bytes of data in one READ, WRITE, READDIR answer through this socket */
#define FS_HANDLE_MAX (1u << 20)

#define FS_HAS_DESCRIPTOR (1u << 0)   /* answer: a descriptor is attached that serves `handle` */
#define FS_READS_ONLY (1u << 1)	      /* with FS_HAS_DESCRIPTOR: it serves READ, not WRITE */
#define FS_WRITES_TO_SERVER (1u << 2) /* no answer: from now on WRITE to `handle` goes to the file server; tag is 0 */

#define FS_CLOSED (1u << 3) /* no answer: close the descriptor of `handle`; tag is 0 */

struct fs_message {
	uint64_t tag;	 /* chosen by the VMM, repeated in the answer */
	uint32_t flags;	 /* FS_... */
	uint32_t handle; /* with any of the flags */
};

/* Whether the file server answers a FUSE request: both sides have to agree on it. Nobody looks at what RELEASE gives,
 * but the guest waits for it at each close(): the VMM answers it as soon as it has passed it on. */
static inline bool fs_has_answer(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT &&
	       opcode != FUSE_NOTIFY_REPLY && opcode != FUSE_RELEASE && opcode != FUSE_RELEASEDIR;
}
