#include "guest-agent/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/path.h"
#include "guest-agent/disks.h"
#include "guest-agent/mounts.h"
#include "guest-agent/path.h"
#include "guest-agent/places.h"
#include "guest-agent/user_namespace.h"

/* --- /dev -------------------------------------------------------------------------------------------------------- */

/* A container that brings its own /dev by a bind mount gets nothing added to it. */
static bool brings_dev(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_mounts; i++)
		if (plan->mounts[i].exported && strcmp(plan->mounts[i].destination, "/dev") == 0)
			return true;
	return false;
}

static int make_links(int dev, struct error *err)
{
	static const struct {
		const char *name, *target;
	} links[] = {{"fd", "/proc/self/fd"},
		     {"stdin", "/proc/self/fd/0"},
		     {"stdout", "/proc/self/fd/1"},
		     {"stderr", "/proc/self/fd/2"}};

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		if (symlinkat(links[i].target, dev, links[i].name) < 0 && errno != EEXIST)
			return error_set_errno(err, "make link /dev/%s", links[i].name);
	/* The guest kernel may be without it. */
	if (access(PLACE_PROC "/kcore", F_OK) == 0 && symlinkat("/proc/kcore", dev, "core") < 0 && errno != EEXIST)
		return error_set_errno(err, "make link /dev/core");
	/* The multiplexer of the container's own devpts, whatever the image has there. */
	if (unlinkat(dev, "ptmx", 0) < 0 && errno != ENOENT)
		return error_set_errno(err, "remove /dev/ptmx");
	if (symlinkat("pts/ptmx", dev, "ptmx") < 0)
		return error_set_errno(err, "make link /dev/ptmx");
	return 0;
}

static int make_devices(int root, const struct plan *plan, struct error *err)
{
	cleanup_close int source = -1;
	cleanup_close int dev = -1;

	if (brings_dev(plan))
		return 0;
	if (user_namespace_wanted(plan)) {
		source = user_namespace_open_devices(plan, err);
		if (source < 0)
			return -1;
	}
	if (devices_make(root, &plan->devices, source, err) < 0)
		return -1;
	dev = path_make_directory(root, "/dev", false, err);
	if (dev < 0)
		return -1;
	return make_links(dev, err);
}

/* --- what is hidden or read-only --------------------------------------------------------------------------------- */

static int make_read_only(int root, const char *path, struct error *err)
{
	cleanup_close int target = path_open(root, path, O_PATH);
	cleanup_close int tree = -1;

	if (target < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : error_set_errno(err, "open read-only path %s", path);
	tree = open_tree(target, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0 || mount_set_attributes(tree, AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0, 0) < 0 ||
	    mount_attach(tree, target) < 0)
		return error_set_errno(err, "make %s read-only", path);
	return 0;
}

/* The agent's own null device, read-only so that no container can change its mode for the others. */
static int null_mount(void)
{
	cleanup_close int tree = open_tree(AT_FDCWD, PLACE_NULL, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0 || mount_set_attributes(tree, 0, MOUNT_ATTR_RDONLY, 0, 0) < 0)
		return -1;
	return take_fd(&tree);
}

static int empty_mount(void)
{
	cleanup_close int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", "tmpfs", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	return fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
}

static int mask(int root, const char *path, struct error *err)
{
	cleanup_close int target = path_open(root, path, O_PATH);
	cleanup_close int cover = -1;
	struct stat status;

	if (target < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : error_set_errno(err, "open masked path %s", path);
	if (fstat(target, &status) < 0)
		return error_set_errno(err, "stat masked path %s", path);
	cover = S_ISDIR(status.st_mode) ? empty_mount() : null_mount();
	if (cover < 0 || mount_attach(cover, target) < 0)
		return error_set_errno(err, "mask %s", path);
	return 0;
}

static int restrict_paths(int root, const struct plan *plan, struct error *err)
{
	for (size_t i = 0; i < plan->n_read_only_paths; i++)
		if (make_read_only(root, plan->read_only_paths[i], err) < 0)
			return -1;
	for (size_t i = 0; i < plan->n_masked; i++)
		if (mask(root, plan->masked[i], err) < 0)
			return -1;
	return 0;
}

/* --- the whole --------------------------------------------------------------------------------------------------- */

static int open_root(const struct plan *plan, struct error *err)
{
	cleanup_close int root =
	    plan->rootfs_disk ? disks_mount(plan->rootfs_disk, err) : mount_open_export(plan->rootfs, true, err);

	if (root < 0)
		return -1;
	if (mount_keep_flags(root, plan->rootfs_flags) < 0 ||
	    move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set_errno(err, "mount the root file system");
	return take_fd(&root);
}

static int make_cwd(int root, const struct plan *plan, struct error *err)
{
	cleanup_free char *cwd = path_clean(plan->process.cwd);
	cleanup_close int fd = -1;

	if (!cwd)
		return error_set(err, ENOMEM, "out of memory");
	fd = path_make_directory(root, cwd, false, err);
	return fd < 0 ? error_prefix(err, "process.cwd") : 0;
}

static int finish(int root, const struct plan *plan, const struct late_mounts *late, struct error *err)
{
	for (size_t i = 0; i < late->n; i++)
		if (mount_set_attributes(late->fds[i], 0, MOUNT_ATTR_RDONLY, 0, 0) < 0)
			return error_set_errno(err, "make a mount read-only");
	if (plan->read_only && mount_set_attributes(root, 0, MOUNT_ATTR_RDONLY, 0, 0) < 0)
		return error_set_errno(err, "make the root file system read-only");
	if (restrict_paths(root, plan, err) < 0)
		return -1;
	if (mount_propagate(root, plan->propagate) < 0)
		return error_set_errno(err, "linux.rootfsPropagation");
	return 0;
}

/* After all mounts, before anything of them becomes read-only. */
static int make_console(int root, const struct plan *plan, struct terminal *terminal, struct error *err)
{
	if (!plan->process.terminal)
		return 0;
	if (terminal_open(root, plan->process.uid, terminal, err) < 0)
		return -1;
	return terminal_mount_console(root, terminal, err);
}

static int fill(int root, const struct plan *plan, struct late_mounts *late, struct terminal *terminal,
		struct error *err)
{
	if (mounts_make(root, plan, late, err) < 0 || make_devices(root, plan, err) < 0 ||
	    make_cwd(root, plan, err) < 0 || make_console(root, plan, terminal, err) < 0)
		return -1;
	return finish(root, plan, late, err);
}

int rootfs_build(const struct plan *plan, struct terminal *terminal, struct error *err)
{
	struct late_mounts late = {.fds = calloc(plan->n_mounts + 1, sizeof(int))};
	cleanup_close int root = -1;
	int status;

	if (!late.fds)
		return error_set(err, ENOMEM, "out of memory");
	root = open_root(plan, err);
	status = root < 0 ? -1 : fill(root, plan, &late, terminal, err);
	late_mounts_close(&late);
	return status < 0 ? -1 : take_fd(&root);
}

int rootfs_enter(int root, bool locked, struct error *err)
{
	static const char *const own[] = {PLACE_EXPORTS, PLACE_CGROUP, PLACE_PROC};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]) && !locked; i++)
		if (umount2(own[i], MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return error_set_errno(err, "unmount %s", own[i]);
	/* Usually there is none. */
	if (!locked && umount2(PLACE_SYS, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		return error_set_errno(err, "unmount " PLACE_SYS);
	if (fchdir(root) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return error_set_errno(err, "enter the root file system");
	return 0;
}
