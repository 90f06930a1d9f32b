#include "vmm/fsd/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

/* What is wanted from the guest's kernel, each for a reason:
 *   ASYNC_READ, PARALLEL_DIROPS, ASYNC_DIO   several requests of one file or directory at a time
 *   ATOMIC_O_TRUNC                           open with O_TRUNC is one operation, as on the host
 *   BIG_WRITES, MAX_PAGES                    one WRITE for 1 MiB
 *   DONT_MASK, POSIX_ACL                     umask and default ACLs are applied by the host, which knows both
 *   AUTO_INVAL_DATA                          what others write on the host is seen
 *   DO_READDIRPLUS, READDIRPLUS_AUTO         names and attributes in one request where the guest uses them
 *   CACHE_SYMLINKS                           the target of a link inode never changes
 *   SUBMOUNTS                                a device number for each export: inode numbers are only unique in one
 *                                            (the guest's kernel carries a patch, or submounts would have no ACLs)
 *   HANDLE_KILLPRIV_V2, SETXATTR_EXT         set-user-ID bits are cleared here, by the operation that requires it
 *                                            (without it the guest asks for security.capability before each write)
 *
 * Not wanted:
 *
 *   WRITEBACK_CACHE                          the host would see writes late
 *   POSIX_LOCKS, FLOCK_LOCKS                 waiting for a lock could not be interrupted, since virtio-fs passes no
 *                                            FUSE_INTERRUPT; the guest's own locks hold within the sandbox
 *   EXPORT_SUPPORT                           inodes are not found again once forgotten
 */
#define WANTED_FLAGS                                                                                                   \
	(FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_ASYNC_DIO | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |             \
	 FUSE_MAX_PAGES | FUSE_DONT_MASK | FUSE_POSIX_ACL | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS |               \
	 FUSE_READDIRPLUS_AUTO | FUSE_CACHE_SYMLINKS | FUSE_SUBMOUNTS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT)

/* Without these the answers would be misunderstood, or modes be wrong. */
#define REQUIRED_FLAGS (FUSE_DONT_MASK | FUSE_POSIX_ACL | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_MAX_PAGES)

#define MAX_PAGES 256u
#define PAGE 4096u

static void forget_session(struct server *server)
{
	handle_close_all(&server->handles);
	inode_forget_all(&server->inodes);
	server->directory.handle = 0;
}

static int do_init(struct server *server, struct request *request)
{
	const struct fuse_init_in *in = request_take(request, sizeof(*in));
	struct fuse_init_out *out;

	if (in->major != FUSE_KERNEL_VERSION || in->minor < 36 || (in->flags & REQUIRED_FLAGS) != REQUIRED_FLAGS) {
		log_guest("the guest's FUSE %u.%u (flags %#x) lacks what is needed", in->major, in->minor, in->flags);
		return -EPROTO;
	}
	/* A guest that starts over has forgotten everything. */
	forget_session(server);
	server->submounts = in->flags & WANTED_FLAGS & FUSE_SUBMOUNTS;
	out = request_answer(request, sizeof(*out));
	out->major = FUSE_KERNEL_VERSION;
	out->minor = FUSE_KERNEL_MINOR_VERSION;
	out->max_readahead = in->max_readahead;
	out->flags = in->flags & WANTED_FLAGS;
	out->max_background = 64;
	out->congestion_threshold = 48;
	out->max_write = MAX_PAGES * PAGE;
	out->max_pages = MAX_PAGES;
	out->time_gran = 1;
	return 0;
}

static int do_destroy(struct server *server, struct request *request)
{
	(void)request;
	forget_session(server);
	return 0;
}

static int do_nothing(struct server *server, struct request *request)
{
	(void)server;
	(void)request;
	return 0;
}

/* Answered once with ENOSYS, these are not asked again: the guest's kernel then does the right thing by
 * itself. FLUSH    close() has nothing to wait for, writes have reached the host already ACCESS   permissions
 * are the guest's to check POLL     regular files are always ready GETLK, SETLK, SETLKW are not negotiated;
 * BMAP needs a block device; IOCTL (file attributes of chattr) becomes ENOTTY
 */
static int do_refuse(struct server *server, struct request *request)
{
	(void)server;
	(void)request;
	return -ENOSYS;
}

/* Every operation, by its opcode, with the least size of its arguments. What is not here is refused like
 * do_refuse. */
static const struct {
	const char *name;
	size_t size;
	operation *handler;
} operations[] = {
    [FUSE_LOOKUP] = {"LOOKUP", 2, do_lookup},
    [FUSE_FORGET] = {"FORGET", sizeof(struct fuse_forget_in), do_forget},
    [FUSE_GETATTR] = {"GETATTR", sizeof(struct fuse_getattr_in), do_getattr},
    [FUSE_SETATTR] = {"SETATTR", sizeof(struct fuse_setattr_in), do_setattr},
    [FUSE_READLINK] = {"READLINK", 0, do_readlink},
    [FUSE_SYMLINK] = {"SYMLINK", 3, do_symlink},
    [FUSE_MKNOD] = {"MKNOD", sizeof(struct fuse_mknod_in) + 2, do_mknod},
    [FUSE_MKDIR] = {"MKDIR", sizeof(struct fuse_mkdir_in) + 2, do_mkdir},
    [FUSE_UNLINK] = {"UNLINK", 2, do_unlink},
    [FUSE_RMDIR] = {"RMDIR", 2, do_rmdir},
    [FUSE_RENAME] = {"RENAME", sizeof(struct fuse_rename_in) + 4, do_rename},
    [FUSE_LINK] = {"LINK", sizeof(struct fuse_link_in) + 2, do_link},
    [FUSE_OPEN] = {"OPEN", sizeof(struct fuse_open_in), do_open},
    [FUSE_READ] = {"READ", sizeof(struct fuse_read_in), do_read},
    [FUSE_WRITE] = {"WRITE", sizeof(struct fuse_write_in), do_write},
    [FUSE_STATFS] = {"STATFS", 0, do_statfs},
    [FUSE_RELEASE] = {"RELEASE", sizeof(struct fuse_release_in), do_release},
    [FUSE_FSYNC] = {"FSYNC", sizeof(struct fuse_fsync_in), do_fsync},
    [FUSE_SETXATTR] = {"SETXATTR", sizeof(struct fuse_setxattr_in) + 2, do_setxattr},
    [FUSE_GETXATTR] = {"GETXATTR", sizeof(struct fuse_getxattr_in) + 2, do_getxattr},
    [FUSE_LISTXATTR] = {"LISTXATTR", sizeof(struct fuse_getxattr_in), do_listxattr},
    [FUSE_REMOVEXATTR] = {"REMOVEXATTR", 2, do_removexattr},
    [FUSE_FLUSH] = {"FLUSH", 0, do_refuse},
    [FUSE_INIT] = {"INIT", sizeof(struct fuse_init_in), do_init},
    [FUSE_OPENDIR] = {"OPENDIR", sizeof(struct fuse_open_in), do_opendir},
    [FUSE_READDIR] = {"READDIR", sizeof(struct fuse_read_in), do_readdir},
    [FUSE_RELEASEDIR] = {"RELEASEDIR", sizeof(struct fuse_release_in), do_release},
    [FUSE_FSYNCDIR] = {"FSYNCDIR", sizeof(struct fuse_fsync_in), do_fsyncdir},
    [FUSE_GETLK] = {"GETLK", 0, do_refuse},
    [FUSE_SETLK] = {"SETLK", 0, do_refuse},
    [FUSE_SETLKW] = {"SETLKW", 0, do_refuse},
    [FUSE_ACCESS] = {"ACCESS", 0, do_refuse},
    [FUSE_CREATE] = {"CREATE", sizeof(struct fuse_create_in) + 2, do_create},
    [FUSE_INTERRUPT] = {"INTERRUPT", 0, do_nothing},
    [FUSE_BMAP] = {"BMAP", 0, do_refuse},
    [FUSE_DESTROY] = {"DESTROY", 0, do_destroy},
    [FUSE_IOCTL] = {"IOCTL", 0, do_refuse},
    [FUSE_POLL] = {"POLL", 0, do_refuse},
    [FUSE_NOTIFY_REPLY] = {"NOTIFY_REPLY", 0, do_nothing},
    [FUSE_BATCH_FORGET] = {"BATCH_FORGET", sizeof(struct fuse_batch_forget_in), do_batch_forget},
    [FUSE_FALLOCATE] = {"FALLOCATE", sizeof(struct fuse_fallocate_in), do_fallocate},
    [FUSE_READDIRPLUS] = {"READDIRPLUS", sizeof(struct fuse_read_in), do_readdirplus},
    [FUSE_RENAME2] = {"RENAME2", sizeof(struct fuse_rename2_in) + 4, do_rename2},
    [FUSE_LSEEK] = {"LSEEK", sizeof(struct fuse_lseek_in), do_lseek},
    [FUSE_COPY_FILE_RANGE] = {"COPY_FILE_RANGE", sizeof(struct fuse_copy_file_range_in), do_copy_file_range},
    [FUSE_SYNCFS] = {"SYNCFS", sizeof(struct fuse_syncfs_in), do_syncfs},
    [FUSE_TMPFILE] = {"TMPFILE", sizeof(struct fuse_create_in) + 1, do_tmpfile},
};

int server_init(struct server *server, uint32_t descriptors, struct error *err)
{
	memset(server, 0, sizeof(*server));
	/* A part is left for open files. */
	if (inode_table_init(&server->inodes, descriptors / 4 * 3, err) < 0)
		return -1;
	inode_get(&server->inodes, FUSE_ROOT_ID)->export = NO_EXPORT;
	return handle_table_init(&server->handles, err);
}

void server_free(struct server *server)
{
	handle_table_free(&server->handles);
	inode_table_free(&server->inodes);
}

static int dispatch(struct server *server, struct request *request)
{
	uint32_t opcode = request->header->opcode;

	server->inodes.request++;

	if (opcode >= sizeof(operations) / sizeof(operations[0]) || !operations[opcode].handler) {
		log_guest("operation %u refused", opcode);
		return -ENOSYS;
	}
	if (request->size < operations[opcode].size) {
		log_guest("%s: %zu bytes of arguments are too few", operations[opcode].name, request->size);
		return -EINVAL;
	}
	return operations[opcode].handler(server, request);
}

size_t server_handle(struct server *server, const void *data, size_t size, void *answer, int *descriptor)
{
	struct fs_message *message = answer;
	struct fuse_out_header *out = (void *)(message + 1);
	const struct fuse_in_header *header = data;
	struct request request = {.header = header,
				  .body = (const uint8_t *)(header + 1),
				  .size = size - sizeof(*header),
				  .answer = (uint8_t *)(out + 1),
				  .descriptor = -1};
	int result;

	*descriptor = -1;
	if (size < sizeof(*header))
		return 0;
	result = dispatch(server, &request);
	if (!fs_has_answer(header->opcode))
		return 0;
	if (result < 0)
		request.answer_size = request.flags = request.handle = 0;
	else
		*descriptor = request.descriptor;
	*message = (struct fs_message){.flags = request.flags, .handle = request.handle};
	*out = (struct fuse_out_header){.len = (uint32_t)(sizeof(*out) + request.answer_size),
					.error = result < 0 ? result : 0,
					.unique = header->unique};
	return sizeof(*message) + out->len;
}

/* --- requests and answers
 * -------------------------------------------------------------------------------------------
 */

const void *request_take(struct request *request, size_t size)
{
	const uint8_t *argument = request->body + request->at;

	if (size > request->size - request->at)
		return NULL;
	request->at += size;
	return argument;
}

int request_take_string(struct request *request, size_t max, const char **text)
{
	const char *start = (const char *)request->body + request->at;
	const char *end = memchr(start, '\0', request->size - request->at);

	if (!end)
		return -EINVAL;
	if ((size_t)(end - start) > max)
		return -ENAMETOOLONG;
	request->at += (size_t)(end - start) + 1;
	*text = start;
	return 0;
}

int request_take_name(struct request *request, const char **name)
{
	int result = request_take_string(request, NAME_MAX, name);

	if (result < 0)
		return result;
	if (**name == '\0' || strchr(*name, '/') || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
		return -EINVAL;
	return 0;
}

void *request_answer(struct request *request, size_t size)
{
	void *space = request->answer + request->answer_size;

	memset(space, 0, size);
	request->answer_size += size;
	return space;
}

struct inode *node_get(struct server *server, uint64_t id)
{
	struct inode *inode = inode_get(&server->inodes, id);

	if (!inode)
		return NULL;
	inode->recent = true;
	inode->request = server->inodes.request;
	return inode->parked && inode_unpark(&server->inodes, inode) < 0 ? NULL : inode;
}

struct inode *request_inode(struct server *server, const struct request *request, int *result)
{
	struct inode *inode = node_get(server, request->header->nodeid);

	if (inode && !is_root(inode))
		return inode;
	*result = inode ? -EROFS : -ESTALE;
	return NULL;
}

struct inode *request_directory(struct server *server, const struct request *request, int *result)
{
	struct inode *inode = request_inode(server, request, result);

	if (!inode || S_ISDIR(inode->type))
		return inode;
	*result = -ENOTDIR;
	return NULL;
}

struct fd_path fd_path(int fd)
{
	struct fd_path path;

	snprintf(path.text, sizeof(path.text), "%d", fd);
	return path;
}
