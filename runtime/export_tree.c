#include "runtime/export_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "runtime/report.h"

static bool is_procfs(int fd)
{
	struct statfs st;

	return fstatfs(fd, &st) == 0 && st.f_type == PROC_SUPER_MAGIC;
}

static int set_attributes(int fd, bool read_only, bool recursive)
{
	struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC |
						    MOUNT_ATTR_NOSYMFOLLOW | (read_only ? MOUNT_ATTR_RDONLY : 0),
					.propagation = MS_PRIVATE};
	unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);

	if (syscall(SYS_mount_setattr, fd, "", flags, &attributes, sizeof(attributes)) == 0)
		return 0;
	if (errno != EINVAL)
		return -1;
	/* Kernels before 5.14 do not know that one; links are not followed in any case (O_NOFOLLOW). */
	attributes.attr_set &= ~(uint64_t)MOUNT_ATTR_NOSYMFOLLOW;
	return (int)syscall(SYS_mount_setattr, fd, "", flags, &attributes, sizeof(attributes));
}

static int map_ids(int fd, const struct idmap *idmap, struct error *err)
{
	cleanup_close int namespace = -1;
	struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP};

	if (!idmap->users)
		return 0;
	namespace = idmap_namespace(idmap, err);
	if (namespace < 0)
		return -1;
	attributes.userns_fd = (uint64_t) namespace;
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | (idmap->recursive ? AT_RECURSIVE : 0), &attributes,
		    sizeof(attributes)) == 0)
		return 0;
	if (errno == EINVAL)
		return error_set(err, ENOTSUP, "the file system there cannot map ids");
	return error_set_errno(err, "map the mount's ids");
}

int export_tree_clone(int *fd, bool read_only, bool recursive, const struct idmap *idmap, struct error *err)
{
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
	cleanup_close int tree = -1;

	if (is_procfs(*fd))
		return error_set(err, EACCES, "on procfs, which is not exported");
	tree = (int)syscall(SYS_open_tree, *fd, "", flags);
	if (tree < 0 && errno == EPERM && !read_only && !idmap->users) {
		report_debug("no privilege to clone mounts: an export is served as it is");
		return 0;
	}
	if (tree < 0)
		return error_set_errno(err, "clone the mount");
	if (set_attributes(tree, read_only, recursive) < 0)
		return error_set_errno(err, "set the mount's attributes");
	if (map_ids(tree, idmap, err) < 0)
		return -1;
	close(*fd);
	*fd = take_fd(&tree);
	return 0;
}
