/*
 * The file server: answers the guest's FUSE requests (linux/fuse.h, protocol 7.36 and later) on the exported trees.
 *
 * Theory of operation. The guest mounts one file system. Its root is virtual and read-only; the entries are the
 * exports, which come and go at run time (control.h). Below an export everything is the host's: each inode that the
 * guest has looked up is an O_PATH descriptor here, names are resolved one component at a time relative to it and never
 * through a symbolic link, and nothing but regular files and directories is ever opened. The guest's kernel checks
 * permissions (it mounts with default_permissions) and keeps locks, device nodes, fifos and sockets to itself: such
 * objects can be made, named, linked and removed here, no more.
 *
 * The current directory of the process is /proc/self/fd (jail.c): a descriptor's number is then the path to what it
 * refers to, for the system calls that take no O_PATH descriptor. No name from the guest is ever resolved there.
 *
 * One request at a time, on the main thread; the control socket's thread (main.c) takes its turn in between. Nothing
 * that the guest sends may block for longer than the host's file system needs.
 */
#pragma once

#include <errno.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/fs_protocol.h"
#include "common/fsd_control.h"
#include "vmm/fsd/handle.h"
#include "vmm/fsd/inode.h"

#define EXPORTS_MAX 1024
#define NO_EXPORT EXPORTS_MAX /* the virtual root's */
#define EXPORT_NAME_MAX FSD_NAME_MAX

struct export
{
	char name[EXPORT_NAME_MAX + 1];
	uint32_t cache_seconds; /* how long the guest may trust names and attributes */
	uint64_t node;		/* 0: the place is free */
	unsigned added_by;	/* control connection that may still change its mind; 0: none */
};

/* Directory entries read ahead, for one handle at a time: a directory is usually read from its beginning to its end. */
struct directory_buffer {
	uint32_t handle; /* 0: none */
	uint64_t cookie; /* of the entry at `at` */
	size_t at, end;
	_Alignas(8) uint8_t entries[32768];
};

struct server {
	struct inode_table inodes;
	struct handle_table handles;
	struct export exports[EXPORTS_MAX];
	unsigned exports_end; /* places from here on have never been used */
	unsigned export_count;
	struct directory_buffer directory;
	bool submounts;	  /* negotiated */
	bool expects_new; /* the last name that was looked up was new to the guest */
	/* Tells the VMM what it may no longer do with a handle: FS_WRITES_TO_SERVER or FS_CLOSED. */
	void (*revoke)(struct server *server, uint32_t handle, uint32_t flag);
	void *owner;
};

/* A request while it is worked on. */
struct request {
	const struct fuse_in_header *header;
	const uint8_t *body; /* arguments, 8-byte aligned */
	size_t size;	     /* bytes of body */
	size_t at;	     /* how many of them have been taken */

	uint8_t *answer; /* payload: FS_PAYLOAD_MAX bytes of room, 8-byte aligned */
	size_t answer_size;
	int descriptor; /* to be sent along, still owned by its handle; -1: none */
	uint32_t flags;
	uint32_t handle;
};

/* Makes a server without exports, which uses up to `descriptors` descriptors for what the guest knows and has open. */
int server_init(struct server *server, uint32_t descriptors, struct error *err);
void server_free(struct server *server);

/* Names of exports: 1 to EXPORT_NAME_MAX letters, digits and ". _ -", neither "." nor "..". */
bool export_name_valid(const char *name);

/* Adds an export: fd is an O_PATH descriptor, taken over also on failure. */
int server_export(struct server *server, const char *name, uint32_t cache_seconds, int fd, struct error *err);
struct export *server_find_export(struct server *server, const char *name);

/* Takes exports back: the one of that name, or all of a group, whose names begin with it and a dot. Nothing below them
 * can be reached any more; the guest's open files there are closed. Returns how many there were. */
unsigned server_unexport(struct server *server, const char *name, bool group);

/*
 * Carries out one request of size bytes, 8-byte aligned (a fuse_in_header and what belongs to it). answer has room for
 * FS_MESSAGE_MAX bytes, 8-byte aligned: a struct fs_message with the flags and the handle filled in, then the FUSE
 * answer. Returns the size of all of it, or 0 for a request that has no answer. *descriptor becomes the descriptor to
 * send along, which the server keeps, or -1.
 */
size_t server_handle(struct server *server, const void *request, size_t size, void *answer, int *descriptor);

/* --- for the operations ----------------------------------------------------------------------------------------------
 */

/* The next argument: size bytes, or NULL when there are not as many. Sizes are rounded up to keep the alignment only
 * where the protocol does so: arguments before a name are multiples of 8 bytes. */
const void *request_take(struct request *request, size_t size);
/* A file name: 1 to 255 bytes, no slash, not "." or "..", ended by a NUL that is within the request. 0 or a negative
 * errno value. */
int request_take_name(struct request *request, const char **name);
/* Any other string: a link's target, an attribute's name. */
int request_take_string(struct request *request, size_t max, const char **text);
/* Adds size zeroed bytes to the answer and returns them; the answers of fixed size always fit. */
void *request_answer(struct request *request, size_t size);

/* What all answers about an inode hold. */
#define STATX_WANTED (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)

/* Attributes of an inode by its descriptor. 0 or a negative errno value. */
int inode_stat(const struct inode *inode, struct statx *st);
void attributes_fill(const struct server *server, const struct inode *inode, const struct statx *st,
		     struct fuse_attr *attr);
/* Counts a lookup, and fills the answer about a name that now refers to inode. */
void entry_fill(const struct server *server, struct inode *inode, const struct statx *st, struct fuse_entry_out *entry);
/* Both at once, into the request's answer. */
int answer_entry(const struct server *server, struct request *request, struct inode *inode, const struct statx *st);

/* Finds or makes the inode behind a name in a directory; no lookup is counted yet. 0 or a negative errno value. */
int child_find(struct server *server, struct inode *parent, const char *name, struct inode **child, struct statx *st);
/* The same for an open file, on the mount of parent. */
int child_of_fd(struct server *server, struct inode *parent, int fd, struct inode **child, struct statx *st);
/* An inode without lookups that is not to be given to the guest after all. */
void child_drop(struct server *server, struct inode *child);

/* The inode that the request is about: of a node that is known (ESTALE), below an export (EROFS for the virtual root,
 * which is all that is not) and, where asked, of that type. NULL with *result set. */
struct inode *request_inode(struct server *server, const struct request *request, int *result);
struct inode *request_directory(struct server *server, const struct request *request, int *result);

/* The inode of a node id, ready for use, or NULL: it is to be looked up anew (ESTALE). */
struct inode *node_get(struct server *server, uint64_t id);

static inline bool is_root(const struct inode *inode)
{
	return inode->export == NO_EXPORT;
}

static inline uint32_t cache_seconds(const struct server *server, const struct inode *inode)
{
	return server->exports[inode->export].cache_seconds;
}

/* The path of a descriptor, relative to the current directory. */
struct fd_path {
	char text[12];
};
struct fd_path fd_path(int fd);

/* A negative errno value that a FUSE answer can carry for the present errno. */
static inline int failure(void)
{
	int error = errno;

	if (error == ENOSYS) /* means to the guest that the operation never works, on any file */
		return -EOPNOTSUPP;
	if (error == EMFILE) /* this process has too many files open, not the guest's */
		return -ENFILE;
	if (error <= 0 || error >= 512)
		return -EIO;
	return -error;
}

/* The operations: 0 or a negative errno value; on success the answer has been added to the request. */
typedef int operation(struct server *server, struct request *request);

/* names.c */
operation do_lookup, do_forget, do_batch_forget, do_readlink, do_symlink, do_mknod, do_mkdir, do_unlink, do_rmdir,
    do_rename, do_rename2, do_link;
/* attributes.c */
operation do_getattr, do_setattr, do_statfs;
/* xattr.c */
operation do_setxattr, do_getxattr, do_listxattr, do_removexattr;
/* files.c */
operation do_open, do_create, do_tmpfile, do_read, do_write, do_release, do_fsync, do_fallocate, do_lseek,
    do_copy_file_range;
/* directories.c */
operation do_opendir, do_readdir, do_readdirplus, do_fsyncdir, do_syncfs;
