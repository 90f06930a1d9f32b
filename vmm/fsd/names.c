/* Names: looking them up, making, moving and removing them. */
#include "vmm/fsd/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "vmm/fsd/identity.h"

/* The host's /proc must stay out of reach, even where it is mounted below an exported tree: it holds this process's own
 * memory and descriptors. */
static bool is_procfs(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) < 0 || st.f_type == PROC_SUPER_MAGIC;
}

/* The inode of an O_PATH descriptor, which is taken over. */
static int adopt(struct server *server, const struct inode *parent, int fd, struct inode **child, struct statx *st)
{
	struct inode_key key;
	bool crossed;

	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_WANTED, st) < 0) {
		int result = failure();

		close(fd);
		return result;
	}
	key = inode_key_of(st);
	*child = inode_find(&server->inodes, &key);
	if (*child && !(*child)->parked) {
		(*child)->recent = true;
		close(fd);
		return 0;
	}
	if (*child && inode_revive(&server->inodes, *child, inode_id(&server->inodes, parent), fd, st))
		return 0;
	crossed = key.mount != parent->key.mount || key.device != parent->key.device;
	if (crossed && is_procfs(fd)) {
		close(fd);
		return -EACCES;
	}
	*child = inode_add(&server->inodes, &key, inode_id(&server->inodes, parent), fd);
	if (!*child)
		return -ENFILE;
	(*child)->type = st->stx_mode & S_IFMT;
	(*child)->export = parent->export;
	(*child)->submount = crossed && S_ISDIR(st->stx_mode);
	return 0;
}

static int find_export(struct server *server, const char *name, struct inode **child, struct statx *st)
{
	const struct export *export = server_find_export(server, name);

	if (!export)
		return -ENOENT;
	*child = inode_get(&server->inodes, export->node);
	return inode_stat(*child, st);
}

int child_find(struct server *server, struct inode *parent, const char *name, struct inode **child, struct statx *st)
{
	uint32_t count = server->inodes.count;
	struct inode_key key;
	int fd, result;

	if (is_root(parent))
		return find_export(server, name, child, st);
	/* Two calls for a name that is new to the guest, where the last one was, too: it walks through a tree. */
	if (server->expects_new) {
		fd = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return failure();
		result = adopt(server, parent, fd, child, st);
		server->expects_new = result < 0 || server->inodes.count != count;
		return result;
	}
	/* One call for a name that it knows and makes sure of; three for one that is new after all. */
	if (statx(parent->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_WANTED, st) < 0)
		return failure();
	key = inode_key_of(st);
	*child = inode_find(&server->inodes, &key);
	if (*child && !(*child)->parked) {
		(*child)->recent = true;
		return 0;
	}
	server->expects_new = true;
	fd = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return failure();
	return adopt(server, parent, fd, child, st);
}

int child_of_fd(struct server *server, struct inode *parent, int fd, struct inode **child, struct statx *st)
{
	int path_fd = open(fd_path(fd).text, O_PATH | O_CLOEXEC);

	if (path_fd < 0)
		return failure();
	return adopt(server, parent, path_fd, child, st);
}

void child_drop(struct server *server, struct inode *child)
{
	inode_forget(&server->inodes, child, 0);
}

void entry_fill(const struct server *server, struct inode *inode, const struct statx *st, struct fuse_entry_out *entry)
{
	uint32_t seconds = cache_seconds(server, inode);

	inode->lookups++;
	entry->nodeid = inode_id(&server->inodes, inode);
	/* An export's name may be taken back at any time. */
	entry->entry_valid = inode->pinned ? 0 : seconds;
	entry->attr_valid = seconds;
	attributes_fill(server, inode, st, &entry->attr);
}

int answer_entry(const struct server *server, struct request *request, struct inode *inode, const struct statx *st)
{
	entry_fill(server, inode, st, request_answer(request, sizeof(struct fuse_entry_out)));
	return 0;
}

/* A name that does not exist may be remembered as well: node id 0. */
static int answer_absent(const struct server *server, struct request *request, const struct inode *parent)
{
	struct fuse_entry_out *entry;

	if (is_root(parent) || cache_seconds(server, parent) == 0)
		return -ENOENT;
	entry = request_answer(request, sizeof(*entry));
	entry->entry_valid = cache_seconds(server, parent);
	return 0;
}

int do_lookup(struct server *server, struct request *request)
{
	struct inode *parent = node_get(server, request->header->nodeid), *child;
	struct statx st;
	const char *name;
	int result = request_take_name(request, &name);

	if (result < 0)
		return result;
	if (!parent)
		return -ESTALE;
	if (!S_ISDIR(parent->type))
		return -ENOTDIR;
	result = child_find(server, parent, name, &child, &st);
	if (result == -ENOENT)
		return answer_absent(server, request, parent);
	/* clang's analyzer does not see that -errno is negative. */
	return result < 0 ? result : answer_entry(server, request, child, &st); /* NOLINT(clang-analyzer-core.*) */
}

static void forget(struct server *server, uint64_t node, uint64_t lookups)
{
	struct inode *inode = inode_get(&server->inodes, node);

	if (inode)
		inode_forget(&server->inodes, inode, lookups);
}

int do_forget(struct server *server, struct request *request)
{
	const struct fuse_forget_in *in = request_take(request, sizeof(*in));

	forget(server, request->header->nodeid, in->nlookup);
	return 0;
}

int do_batch_forget(struct server *server, struct request *request)
{
	const struct fuse_batch_forget_in *in = request_take(request, sizeof(*in));
	const struct fuse_forget_one *one;

	for (uint32_t i = 0; i < in->count; i++) {
		one = request_take(request, sizeof(*one));
		if (!one)
			return -EINVAL;
		forget(server, one->nodeid, one->nlookup);
	}
	return 0;
}

int do_readlink(struct server *server, struct request *request)
{
	int result = 0;
	struct inode *inode = request_inode(server, request, &result);
	ssize_t size;

	if (!inode)
		return result;
	if (!S_ISLNK(inode->type))
		return -EINVAL;
	size = readlinkat(inode->fd, "", (char *)request->answer, PATH_MAX);
	if (size < 0)
		return failure();
	request->answer_size = (size_t)size;
	return 0;
}

/* Takes the name that a request wants to make in a directory, and becomes whom the new object is to belong to. */
static struct inode *begin_creation(struct server *server, struct request *request, uint32_t mask, const char **name,
				    int *result)
{
	struct inode *parent = request_directory(server, request, result);

	if (!parent)
		return NULL;
	*result = request_take_name(request, name);
	if (*result == 0)
		*result = identity_assume(request->header->uid, request->header->gid, mask);
	return *result == 0 ? parent : NULL;
}

static int end_creation(struct server *server, struct request *request, struct inode *parent, const char *name)
{
	struct inode *child;
	struct statx st;
	int result = child_find(server, parent, name, &child, &st);

	return result < 0 ? result : answer_entry(server, request, child, &st); /* NOLINT(clang-analyzer-core.*) */
}

int do_symlink(struct server *server, struct request *request)
{
	const char *name, *target;
	int result = 0;
	struct inode *parent = begin_creation(server, request, 0, &name, &result);

	if (!parent)
		return result;
	result = request_take_string(request, PATH_MAX - 1, &target);
	if (result < 0)
		return result;
	if (symlinkat(target, parent->fd, name) < 0)
		return failure();
	return end_creation(server, request, parent, name);
}

/* The device number as the guest's kernel encodes it: 12 bits of major, 20 of minor. */
static dev_t decode_device(uint32_t rdev)
{
	return makedev(rdev >> 8 & 0xfff, (rdev & 0xff) | (rdev >> 12 & 0xfff00));
}

int do_mknod(struct server *server, struct request *request)
{
	const struct fuse_mknod_in *in = request_take(request, sizeof(*in));
	const char *name;
	int result = 0;
	struct inode *parent = begin_creation(server, request, in->umask, &name, &result);

	if (!parent)
		return result;
	if (S_ISDIR(in->mode) || S_ISLNK(in->mode))
		return -EINVAL;
	if (mknodat(parent->fd, name, in->mode & (S_IFMT | 07777), decode_device(in->rdev)) < 0)
		return failure();
	return end_creation(server, request, parent, name);
}

int do_mkdir(struct server *server, struct request *request)
{
	const struct fuse_mkdir_in *in = request_take(request, sizeof(*in));
	const char *name;
	int result = 0;
	struct inode *parent = begin_creation(server, request, in->umask, &name, &result);

	if (!parent)
		return result;
	if (mkdirat(parent->fd, name, in->mode & 07777) < 0)
		return failure();
	return end_creation(server, request, parent, name);
}

/* A parked inode that is about to lose its name gets its descriptor back first. */
static void unpark_child(struct server *server, const struct inode *parent, const char *name)
{
	struct inode_key key;
	struct inode *child;
	struct statx st;

	if (server->inodes.parked_count == 0)
		return;
	if (statx(parent->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_WANTED, &st) < 0)
		return;
	key = inode_key_of(&st);
	child = inode_find(&server->inodes, &key);
	if (child)
		inode_unpark(&server->inodes, child);
}

static int remove_name(struct server *server, struct request *request, int flags)
{
	const char *name;
	int result = 0;
	struct inode *parent = request_directory(server, request, &result);

	if (!parent)
		return result;
	result = request_take_name(request, &name);
	if (result < 0)
		return result;
	unpark_child(server, parent, name);
	return unlinkat(parent->fd, name, flags) < 0 ? failure() : 0;
}

int do_unlink(struct server *server, struct request *request)
{
	return remove_name(server, request, 0);
}

int do_rmdir(struct server *server, struct request *request)
{
	return remove_name(server, request, AT_REMOVEDIR);
}

static int rename_to(struct server *server, struct request *request, uint64_t new_node, uint32_t flags)
{
	struct inode *new_parent = node_get(server, new_node);
	const char *name, *new_name;
	int result = 0;
	struct inode *parent = request_directory(server, request, &result);

	if (!parent)
		return result;
	if (!new_parent)
		return -ESTALE;
	if (is_root(new_parent))
		return -EROFS;
	if (!S_ISDIR(new_parent->type))
		return -ENOTDIR;
	if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	result = request_take_name(request, &name);
	if (result < 0)
		return result;
	result = request_take_name(request, &new_name);
	if (result < 0)
		return result;
	/* A whiteout is a new object. */
	if (flags & RENAME_WHITEOUT)
		result = identity_assume(request->header->uid, request->header->gid, 0);
	if (result < 0)
		return result;
	unpark_child(server, parent, name);
	unpark_child(server, new_parent, new_name);
	return renameat2(parent->fd, name, new_parent->fd, new_name, flags) < 0 ? failure() : 0;
}

int do_rename(struct server *server, struct request *request)
{
	const struct fuse_rename_in *in = request_take(request, sizeof(*in));

	return rename_to(server, request, in->newdir, 0);
}

int do_rename2(struct server *server, struct request *request)
{
	const struct fuse_rename2_in *in = request_take(request, sizeof(*in));

	return rename_to(server, request, in->newdir, in->flags);
}

int do_link(struct server *server, struct request *request)
{
	const struct fuse_link_in *in = request_take(request, sizeof(*in));
	struct inode *old = node_get(server, in->oldnodeid);
	struct statx st;
	const char *name;
	int result = 0;
	struct inode *parent = request_directory(server, request, &result);

	if (!parent)
		return result;
	if (!old)
		return -ESTALE;
	if (is_root(old) || S_ISDIR(old->type))
		return -EPERM;
	result = request_take_name(request, &name);
	if (result < 0)
		return result;
	if (linkat(AT_FDCWD, fd_path(old->fd).text, parent->fd, name, AT_SYMLINK_FOLLOW) < 0)
		return failure();
	result = inode_stat(old, &st);
	return result < 0 ? result : answer_entry(server, request, old, &st);
}
