/* Regular files: opening them, and what needs an open one. */
#include "vmm/fsd/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "vmm/fsd/identity.h"

/* What of the guest's flags reaches the host. O_APPEND does not: it comes with each WRITE, since a process can change
 * it later, and writing back a mapped page must not append. For O_SYNC and O_DSYNC the guest's kernel lets an FSYNC
 * follow each write. O_DIRECT is between the process and the guest's page cache. */
#define HOST_FLAGS (O_ACCMODE | O_TRUNC | O_NOATIME)

/* Never waits, neither for a lease nor for what somebody puts in a regular file's place. */
#define ALWAYS_FLAGS (O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

/* The host's clock for time stamps advances in ticks of up to 10 ms: what changed within the last two may change again
 * and look the same. */
#define RACY_NANOSECONDS 20000000ll

static bool same_time(const struct statx_timestamp *a, const struct statx_timestamp *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool is_settled(const struct statx_timestamp *changed)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (now.tv_sec - changed->tv_sec) * 1000000000ll + (now.tv_nsec - (long)changed->tv_nsec) >
	       RACY_NANOSECONDS;
}

/* Whether the guest's page cache of a file can be kept at open: nothing has changed since the last open. Exports
 * without caching always start afresh. */
static bool may_keep_cache(const struct server *server, struct inode *inode, const struct statx *st)
{
	struct inode_version *seen = &inode->opened;
	bool keep = cache_seconds(server, inode) > 0 && seen->size == (int64_t)st->stx_size &&
		    same_time(&seen->modified, &st->stx_mtime) && same_time(&seen->changed, &st->stx_ctime);

	seen->size = is_settled(&st->stx_ctime) ? (int64_t)st->stx_size : -1;
	seen->modified = st->stx_mtime;
	seen->changed = st->stx_ctime;
	return keep;
}

/* Makes a handle of fd (taken over) and sends the descriptor along. */
static int answer_open(struct server *server, struct request *request, struct inode *inode, int fd, int accmode,
		       const struct statx *st)
{
	uint32_t number = handle_add(&server->handles, inode_id(&server->inodes, inode), inode->export, fd, false);
	struct fuse_open_out *out;

	if (number == 0)
		return -ENFILE;
	inode->opens++;
	request->descriptor = fd;
	request->handle = number;
	request->flags = FS_HAS_DESCRIPTOR;
	if (accmode == O_RDONLY || (st->stx_mode & (S_ISUID | S_ISGID))) {
		request->flags |= FS_READS_ONLY;
	} else {
		server->handles.handles[number].vmm_writes = true;
		inode->writers++;
	}
	out = request_answer(request, sizeof(*out));
	out->fh = number;
	out->open_flags = may_keep_cache(server, inode, st) ? FOPEN_KEEP_CACHE : 0;
	return 0;
}

static int open_inode(const struct inode *inode, uint32_t flags, uint32_t open_flags)
{
	int fd;

	if (open_flags & FUSE_OPEN_KILL_SUIDGID)
		identity_drop_fsetid();
	fd = open(fd_path(inode->fd).text, (int)(flags & HOST_FLAGS) | ALWAYS_FLAGS);
	if (fd < 0)
		fd = failure();
	if (open_flags & FUSE_OPEN_KILL_SUIDGID)
		identity_restore_fsetid();
	return fd;
}

int do_open(struct server *server, struct request *request)
{
	const struct fuse_open_in *in = request_take(request, sizeof(*in));
	struct statx st;
	int fd, result = 0;
	struct inode *inode = request_inode(server, request, &result);

	if (!inode)
		return result;
	/* Everything else is opened by the guest's kernel itself, or not at all. */
	if (!S_ISREG(inode->type))
		return S_ISDIR(inode->type) ? -EISDIR : -ENXIO;
	fd = open_inode(inode, in->flags, in->open_flags);
	if (fd < 0)
		return fd;
	result = inode_stat(inode, &st);
	if (result < 0) {
		close(fd);
		return result;
	}
	return answer_open(server, request, inode, fd, (int)in->flags & O_ACCMODE, &st);
}

/* Answers CREATE and TMPFILE: a new file is open as fd, which is taken over. */
static int answer_create(struct server *server, struct request *request, struct inode *inode, int fd, int accmode,
			 const struct statx *st)
{
	int result;

	answer_entry(server, request, inode, st);
	result = answer_open(server, request, inode, fd, accmode, st);
	if (result < 0)
		inode_forget(&server->inodes, inode, 1);
	return result;
}

static int create_new(struct server *server, struct request *request, struct inode *parent, int fd, int accmode)
{
	struct inode *child;
	struct statx st;
	int result = child_of_fd(server, parent, fd, &child, &st);

	if (result < 0) {
		close(fd);
		return result;
	}
	return answer_create(server, request, child, fd, accmode, &st);
}

/* The name exists after all: somebody on the host made it a moment ago, or the guest believed a name that it had cached
 * as absent. */
static int create_existing(struct server *server, struct request *request, struct inode *parent, const char *name,
			   const struct fuse_create_in *in)
{
	struct inode *child;
	struct statx st;
	int fd, result = child_find(server, parent, name, &child, &st);

	if (result < 0)
		return result;
	/* The guest's kernel looks the name up anew, and opens what is there as what it is. */
	if (!S_ISREG(child->type)) {
		child_drop(server, child);
		return -ESTALE;
	}
	if (inode_unpark(&server->inodes, child) < 0)
		return failure();
	fd = open_inode(child, in->flags, in->open_flags);
	if (fd >= 0)
		result = inode_stat(child, &st);
	if (fd < 0 || result < 0) {
		child_drop(server, child);
		if (fd >= 0)
			close(fd);
		return fd < 0 ? fd : result;
	}
	return answer_create(server, request, child, fd, (int)in->flags & O_ACCMODE, &st);
}

int do_create(struct server *server, struct request *request)
{
	const struct fuse_create_in *in = request_take(request, sizeof(*in));
	int flags = (int)(in->flags & HOST_FLAGS) | ALWAYS_FLAGS | O_CREAT | O_EXCL | O_NOFOLLOW;
	const char *name;
	int fd, result = 0;
	struct inode *parent = request_directory(server, request, &result);

	if (!parent)
		return result;
	result = request_take_name(request, &name);
	if (result == 0)
		result = identity_assume(request->header->uid, request->header->gid, in->umask);
	if (result < 0)
		return result;
	fd = openat(parent->fd, name, flags, in->mode & 07777);
	if (fd >= 0)
		return create_new(server, request, parent, fd, (int)in->flags & O_ACCMODE);
	if (errno == EEXIST && !(in->flags & O_EXCL))
		return create_existing(server, request, parent, name, in);
	return failure();
}

/* A file without a name. Unless it was opened with O_EXCL, LINK can give it one later. */
int do_tmpfile(struct server *server, struct request *request)
{
	const struct fuse_create_in *in = request_take(request, sizeof(*in));
	int fd, result = 0;
	struct inode *parent = request_directory(server, request, &result);

	if (!parent)
		return result;
	result = identity_assume(request->header->uid, request->header->gid, in->umask);
	if (result < 0)
		return result;
	fd = openat(parent->fd, ".", (int)(in->flags & (O_ACCMODE | O_EXCL | O_NOATIME)) | ALWAYS_FLAGS | O_TMPFILE,
		    in->mode & 07777);
	if (fd < 0)
		return failure();
	return create_new(server, request, parent, fd, (int)in->flags & O_ACCMODE);
}

int do_release(struct server *server, struct request *request)
{
	const struct fuse_release_in *in = request_take(request, sizeof(*in));
	struct handle *handle = handle_get_to_release(&server->handles, in->fh, request->header->nodeid);
	struct inode *inode = inode_get(&server->inodes, request->header->nodeid);

	if (!handle)
		return -EBADF;
	if (handle->vmm_writes && inode && inode->writers > 0)
		inode->writers--;
	if (inode && inode->opens > 0)
		inode->opens--;
	if (server->directory.handle == in->fh)
		server->directory.handle = 0;
	handle_close(&server->handles, handle);
	return 0;
}

static const struct handle *open_file(const struct server *server, uint64_t number, uint64_t node)
{
	const struct handle *handle = handle_get(&server->handles, number, node);

	return handle && !handle->directory ? handle : NULL;
}

/* READ and WRITE are the VMM's, as a rule (common/fs_protocol.h). */
int do_read(struct server *server, struct request *request)
{
	const struct fuse_read_in *in = request_take(request, sizeof(*in));
	const struct handle *handle = open_file(server, in->fh, request->header->nodeid);
	ssize_t size;

	if (!handle)
		return -EBADF;
	if (in->offset > INT64_MAX)
		return -EINVAL;
	size = pread(handle->fd, request->answer, in->size < FS_PAYLOAD_MAX ? in->size : FS_PAYLOAD_MAX,
		     (off_t)in->offset);
	if (size < 0)
		return failure();
	request->answer_size = (size_t)size;
	return 0;
}

int do_write(struct server *server, struct request *request)
{
	const struct fuse_write_in *in = request_take(request, sizeof(*in));
	const struct handle *handle = open_file(server, in->fh, request->header->nodeid);
	struct iovec data = {.iov_base = (void *)request_take(request, in->size), .iov_len = in->size};
	ssize_t size;

	if (!handle)
		return -EBADF;
	if (!data.iov_base || in->offset > INT64_MAX)
		return -EINVAL;
	if (in->write_flags & FUSE_WRITE_KILL_SUIDGID)
		identity_drop_fsetid();
	size = pwritev2(handle->fd, &data, 1, (off_t)in->offset, in->flags & O_APPEND ? RWF_APPEND : 0);
	if (size < 0)
		size = failure();
	if (in->write_flags & FUSE_WRITE_KILL_SUIDGID)
		identity_restore_fsetid();
	if (size < 0)
		return (int)size;
	((struct fuse_write_out *)request_answer(request, sizeof(struct fuse_write_out)))->size = (uint32_t)size;
	return 0;
}

int do_fsync(struct server *server, struct request *request)
{
	const struct fuse_fsync_in *in = request_take(request, sizeof(*in));
	const struct handle *handle = open_file(server, in->fh, request->header->nodeid);
	int result;

	if (!handle)
		return -EBADF;
	result = in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(handle->fd) : fsync(handle->fd);
	return result < 0 ? failure() : 0;
}

int do_fallocate(struct server *server, struct request *request)
{
	const struct fuse_fallocate_in *in = request_take(request, sizeof(*in));
	const struct handle *handle = open_file(server, in->fh, request->header->nodeid);

	if (!handle)
		return -EBADF;
	if (in->offset > INT64_MAX || in->length > INT64_MAX)
		return -EINVAL;
	return fallocate(handle->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) < 0 ? failure() : 0;
}

/* The descriptor's own position means nothing to anybody: all reads and writes name theirs. */
int do_lseek(struct server *server, struct request *request)
{
	const struct fuse_lseek_in *in = request_take(request, sizeof(*in));
	const struct handle *handle = open_file(server, in->fh, request->header->nodeid);
	off_t offset;

	if (!handle)
		return -EBADF;
	if (in->offset > INT64_MAX || (in->whence != SEEK_DATA && in->whence != SEEK_HOLE))
		return -EINVAL;
	offset = lseek(handle->fd, (off_t)in->offset, (int)in->whence);
	if (offset < 0)
		return failure();
	((struct fuse_lseek_out *)request_answer(request, sizeof(struct fuse_lseek_out)))->offset = (uint64_t)offset;
	return 0;
}

/* In pieces, so that other requests get their turn; callers of copy_file_range expect less than they asked for. */
#define COPY_MAX (16u << 20)

int do_copy_file_range(struct server *server, struct request *request)
{
	const struct fuse_copy_file_range_in *in = request_take(request, sizeof(*in));
	const struct handle *from = open_file(server, in->fh_in, request->header->nodeid);
	const struct handle *to = open_file(server, in->fh_out, in->nodeid_out);
	off_t from_offset = (off_t)in->off_in, to_offset = (off_t)in->off_out;
	ssize_t size;

	if (!from || !to)
		return -EBADF;
	if (in->off_in > INT64_MAX || in->off_out > INT64_MAX || in->flags != 0)
		return -EINVAL;
	size = copy_file_range(from->fd, &from_offset, to->fd, &to_offset, in->len < COPY_MAX ? in->len : COPY_MAX, 0);
	if (size < 0)
		return failure();
	((struct fuse_write_out *)request_answer(request, sizeof(struct fuse_write_out)))->size = (uint32_t)size;
	return 0;
}
