/* Attributes of inodes and of file systems. */
#include "vmm/fsd/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <unistd.h>

#include "vmm/fsd/identity.h"

/* What is said of the root never changes, though exports come and go: there is no need to ask again. */
#define ROOT_CACHE_SECONDS 86400u

int inode_stat(const struct inode *inode, struct statx *st)
{
	return statx(inode->fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_WANTED, st) < 0 ? failure() : 0;
}

/* As the guest's kernel decodes it: 12 bits of major, 20 of minor. */
static uint32_t encode_device(uint32_t major, uint32_t minor)
{
	return (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xfff00) << 12;
}

void attributes_fill(const struct server *server, const struct inode *inode, const struct statx *st,
		     struct fuse_attr *attr)
{
	attr->ino = st->stx_ino;
	attr->size = st->stx_size;
	attr->blocks = st->stx_blocks;
	attr->atime = (uint64_t)st->stx_atime.tv_sec;
	attr->mtime = (uint64_t)st->stx_mtime.tv_sec;
	attr->ctime = (uint64_t)st->stx_ctime.tv_sec;
	attr->atimensec = st->stx_atime.tv_nsec;
	attr->mtimensec = st->stx_mtime.tv_nsec;
	attr->ctimensec = st->stx_ctime.tv_nsec;
	attr->mode = st->stx_mode;
	attr->nlink = st->stx_nlink;
	attr->uid = st->stx_uid;
	attr->gid = st->stx_gid;
	attr->rdev = encode_device(st->stx_rdev_major, st->stx_rdev_minor);
	attr->blksize = st->stx_blksize;
	attr->flags = server->submounts && inode->submount ? FUSE_ATTR_SUBMOUNT : 0;
}

static int answer_root(struct request *request)
{
	struct fuse_attr_out *out = request_answer(request, sizeof(*out));

	out->attr_valid = ROOT_CACHE_SECONDS;
	out->attr.ino = FUSE_ROOT_ID;
	out->attr.mode = S_IFDIR | 0555;
	out->attr.nlink = 2;
	out->attr.blksize = 4096;
	return 0;
}

static int answer_attributes(const struct server *server, struct request *request, const struct inode *inode)
{
	struct fuse_attr_out *out;
	struct statx st;
	int result = inode_stat(inode, &st);

	if (result < 0)
		return result;
	out = request_answer(request, sizeof(*out));
	out->attr_valid = cache_seconds(server, inode);
	attributes_fill(server, inode, &st, &out->attr);
	return 0;
}

int do_getattr(struct server *server, struct request *request)
{
	const struct inode *inode = node_get(server, request->header->nodeid);

	if (!inode)
		return -ESTALE;
	return is_root(inode) ? answer_root(request) : answer_attributes(server, request, inode);
}

/* With the bits set, a write by the VMM would clear them: from now on writes come here. */
static void revoke_writers(struct server *server, struct inode *inode)
{
	uint64_t node = inode_id(&server->inodes, inode);

	for (uint32_t i = 1; inode->writers > 0 && i < server->handles.end; i++) {
		struct handle *handle = handle_get(&server->handles, i, node);

		if (!handle || !handle->vmm_writes)
			continue;
		handle->vmm_writes = false;
		inode->writers--;
		server->revoke(server, i, FS_WRITES_TO_SERVER);
	}
}

static int change_mode(struct server *server, struct inode *inode, uint32_t mode)
{
	if (chmod(fd_path(inode->fd).text, mode & 07777) < 0)
		return failure();
	if (S_ISREG(inode->type) && (mode & (S_ISUID | S_ISGID)))
		revoke_writers(server, inode);
	return 0;
}

/* Also changes nothing but the time of change and the set-user-ID bits, when neither id is given. */
static int change_owner(const struct inode *inode, const struct fuse_setattr_in *in)
{
	uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
	gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;

	return fchownat(inode->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? failure() : 0;
}

static int change_size(struct server *server, struct request *request, const struct inode *inode,
		       const struct fuse_setattr_in *in)
{
	const struct handle *handle = NULL;
	int result;

	if (!S_ISREG(inode->type))
		return S_ISDIR(inode->type) ? -EISDIR : -EINVAL;
	if (in->size > INT64_MAX)
		return -EINVAL;
	if (in->valid & FATTR_FH) {
		handle = handle_get(&server->handles, in->fh, request->header->nodeid);
		if (!handle)
			return -EBADF;
	}
	if (in->valid & FATTR_KILL_SUIDGID)
		identity_drop_fsetid();
	result = handle ? ftruncate(handle->fd, (off_t)in->size) : truncate(fd_path(inode->fd).text, (off_t)in->size);
	result = result < 0 ? failure() : 0;
	if (in->valid & FATTR_KILL_SUIDGID)
		identity_restore_fsetid();
	return result;
}

static struct timespec time_to_set(uint32_t valid, uint32_t given, uint32_t now, uint64_t seconds, uint32_t nanoseconds)
{
	if (valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	if (!(valid & given))
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = nanoseconds};
}

static int change_times(const struct inode *inode, const struct fuse_setattr_in *in)
{
	const struct timespec times[2] = {
	    time_to_set(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
	    time_to_set(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
	};

	return utimensat(AT_FDCWD, fd_path(inode->fd).text, times, 0) < 0 ? failure() : 0;
}

#define ANY_TIME (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW)
#define ANY_CHANGE (FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | ANY_TIME)

int do_setattr(struct server *server, struct request *request)
{
	const struct fuse_setattr_in *in = request_take(request, sizeof(*in));
	int result = 0;
	struct inode *inode = request_inode(server, request, &result);

	if (!inode)
		return result;
	/* The owner first, since that clears bits of the mode. A request for nothing is what the guest's kernel makes
	 * of chown(-1, -1). */
	if ((in->valid & (FATTR_UID | FATTR_GID)) || !(in->valid & ANY_CHANGE))
		result = change_owner(inode, in);
	if (result == 0 && (in->valid & FATTR_MODE))
		result = change_mode(server, inode, in->mode);
	if (result == 0 && (in->valid & FATTR_SIZE))
		result = change_size(server, request, inode, in);
	if (result == 0 && (in->valid & ANY_TIME))
		result = change_times(inode, in);
	return result < 0 ? result : answer_attributes(server, request, inode);
}

int do_statfs(struct server *server, struct request *request)
{
	const struct inode *inode = node_get(server, request->header->nodeid);
	struct statfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namelen = NAME_MAX};
	struct fuse_kstatfs *out;

	if (!inode)
		return -ESTALE;
	if (!is_root(inode) && fstatfs(inode->fd, &st) < 0)
		return failure();
	out = &((struct fuse_statfs_out *)request_answer(request, sizeof(struct fuse_statfs_out)))->st;
	out->blocks = st.f_blocks;
	out->bfree = st.f_bfree;
	out->bavail = st.f_bavail;
	out->files = st.f_files;
	out->ffree = st.f_ffree;
	out->bsize = (uint32_t)st.f_bsize;
	out->namelen = (uint32_t)st.f_namelen;
	out->frsize = (uint32_t)st.f_frsize;
	return 0;
}
