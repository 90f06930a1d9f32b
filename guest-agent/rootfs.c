#include "guest-agent/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "guest-agent/disks.h"
#include "guest-agent/path.h"
#include "guest-agent/places.h"

/* A mount that can become read-only only when everything in it has been made. */
struct late {
	int *fds;
	size_t n;
};

static void close_late(struct late *late)
{
	for (size_t i = 0; i < late->n; i++)
		close(late->fds[i]);
	free(late->fds);
}

static int set_attributes(int mount, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation)
{
	struct mount_attr attributes = {.attr_set = set, .attr_clr = clear, .propagation = propagation};

	return mount_setattr(mount, "", AT_EMPTY_PATH | flags, &attributes, sizeof(attributes));
}

static int propagate(int mount, unsigned long propagation)
{
	if (propagation == 0)
		return 0;
	return set_attributes(mount, propagation & MS_REC ? AT_RECURSIVE : 0, 0, 0,
			      propagation & ~(unsigned long)MS_REC);
}

static int attach(int mount, int target)
{
	return move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* --- file systems of the guest kernel ---------------------------------------------------------------------------- */

/* The kernel explains a refused option in a message that is read from the file system's descriptor: "e text". */
static int explain(int fs, const char *what, struct error *err)
{
	int code = errno;
	char text[256];
	ssize_t n = read(fs, text, sizeof(text) - 1);

	errno = code;
	if (n <= 2)
		return error_set_errno(err, "%s", what);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	error_set_errno(err, "%s", text + 2);
	return error_prefix(err, "%s", what);
}

static int configure(int fs, const char *option, struct error *err)
{
	char name[256];
	const char *equals = strchr(option, '=');
	size_t length = equals ? (size_t)(equals - option) : strlen(option);
	int status;

	memcpy(name, option, length); /* the plan bounds it to 255 */
	name[length] = '\0';
	status = fsconfig(fs, equals ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, name, equals ? equals + 1 : NULL, 0);
	return status < 0 ? explain(fs, option, err) : 0;
}

/* Flags that are a property of the file system, not of one mount of it. */
static int configure_flags(int fs, unsigned long flags, struct error *err)
{
	static const struct {
		unsigned long flag;
		const char *name;
	} known[] = {{MS_SYNCHRONOUS, "sync"}, {MS_DIRSYNC, "dirsync"}, {MS_LAZYTIME, "lazytime"}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (flags & known[i].flag && configure(fs, known[i].name, err) < 0)
			return -1;
	return 0;
}

static bool has_data(const struct plan_mount *mount, const char *prefix)
{
	for (size_t i = 0; i < mount->n_data; i++)
		if (strncmp(mount->data[i], prefix, strlen(prefix)) == 0)
			return true;
	return false;
}

/* A tmpfs over an existing directory looks like that directory unless the options say otherwise. */
static int configure_mode(int fs, const struct plan_mount *mount, mode_t existing, struct error *err)
{
	char option[16];

	if (existing == 0 || has_data(mount, "mode="))
		return 0;
	snprintf(option, sizeof(option), "mode=%o", existing & 07777);
	return configure(fs, option, err);
}

static int new_filesystem(const struct plan_mount *mount, mode_t existing, struct error *err)
{
	const char *type = strcmp(mount->type, "cgroup") == 0 ? "cgroup2" : mount->type;
	cleanup_close int fs = fsopen(type, FSOPEN_CLOEXEC);

	if (fs < 0)
		return error_set_errno(err, "file system %s", type);
	/* Only a label here, as it is for these in mount(2). One that is too long for the kernel is no reason to fail.
	 */
	fsconfig(fs, FSCONFIG_SET_STRING, "source", mount->source, 0);
	for (size_t i = 0; i < mount->n_data; i++)
		if (configure(fs, mount->data[i], err) < 0)
			return -1;
	if (configure_flags(fs, mount->options.flags, err) < 0)
		return -1;
	/* A disk that is read-only cannot be mounted otherwise. */
	if (mount->options.flags & MS_RDONLY && disks_is_node(mount->source) && configure(fs, "ro", err) < 0)
		return -1;
	if (strcmp(type, "tmpfs") == 0 && configure_mode(fs, mount, existing, err) < 0)
		return -1;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return explain(fs, type, err);
	return take_fd(&fs);
}

/* /dev and every tmpfs get content before they become read-only. */
static bool is_read_only_late(const struct plan_mount *mount)
{
	return mount->options.flags & MS_RDONLY &&
	       (strcmp(mount->destination, "/dev") == 0 || strcmp(mount->type, "tmpfs") == 0);
}

static int mount_filesystem(int root, const struct plan_mount *mount, struct late *late, struct error *err)
{
	/* A symbolic link on the way to /proc or /sys in an image is an attempt to have them elsewhere. */
	bool no_links = strcmp(mount->type, "proc") == 0 || strcmp(mount->type, "sysfs") == 0;
	cleanup_close int old = path_open(root, mount->destination, O_PATH | O_DIRECTORY);
	cleanup_close int target = path_make_directory(root, mount->destination, no_links, err);
	cleanup_close int fs = -1;
	cleanup_close int tree = -1;
	struct stat status = {0};
	uint64_t clear, attributes = mount_options_attributes(mount->options.flags, &clear);

	if (target < 0)
		return no_links
			   ? error_prefix(err, "filesystem \"%s\" must be mounted on ordinary directory", mount->type)
			   : -1;
	if (old >= 0 && fstat(old, &status) < 0)
		return error_set_errno(err, "stat");
	fs = new_filesystem(mount, status.st_mode, err);
	if (fs < 0)
		return -1;
	if (is_read_only_late(mount))
		attributes &= ~(uint64_t)MOUNT_ATTR_RDONLY;
	tree = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attributes);
	if (tree < 0)
		return explain(fs, mount->type, err);
	if (attach(tree, target) < 0 || propagate(tree, mount->options.propagate) < 0)
		return error_set_errno(err, "mount %s", mount->type);
	if (is_read_only_late(mount))
		late->fds[late->n++] = take_fd(&tree);
	return 0;
}

/* --- bind mounts ------------------------------------------------------------------------------------------------- */

/* What may be laid over files of /proc: programs that emulate these for a container need it. */
static bool is_allowed_in_proc(const char *destination)
{
	static const char *const allowed[] = {
	    "/proc/cpuinfo",
	    "/proc/diskstats",
	    "/proc/loadavg",
	    "/proc/meminfo",
	    "/proc/net/dev",
	    "/proc/slabinfo",
	    "/proc/stat",
	    "/proc/swaps",
	    "/proc/uptime",
	    "/proc/sys/kernel/ns_last_pid",
	    "/proc/sys/crypto/fips_enabled",
	};

	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		if (strcmp(destination, allowed[i]) == 0)
			return true;
	return false;
}

static int check_target(int target, const struct plan_mount *mount, struct error *err)
{
	struct statfs info;

	if (fstatfs(target, &info) < 0)
		return error_set_errno(err, "statfs");
	if (info.f_type == PROC_SUPER_MAGIC && !is_allowed_in_proc(mount->destination))
		return error_set(err, EPERM, "%s cannot be mounted because it is inside /proc", mount->destination);
	return 0;
}

static int open_export(const char *name, bool recursive, struct error *err)
{
	char path[128];
	int tree;

	snprintf(path, sizeof(path), PLACE_EXPORTS "/%s", name);
	tree =
	    open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? (unsigned)AT_RECURSIVE : 0));
	if (tree < 0)
		return error_set_errno(err, "open export %s", name);
	return tree;
}

static int set_flags(int tree, unsigned long flags)
{
	uint64_t clear, set = mount_options_attributes(flags, &clear);

	return set || clear ? set_attributes(tree, 0, set, clear, 0) : 0;
}

/* What the host's mount forbids stays forbidden, as it would for a bind mount on the host. */
static int set_bind_options(int tree, const struct plan_mount *mount)
{
	const struct mount_options *options = &mount->options;

	if (set_flags(tree, mount->source_flags) < 0 || set_flags(tree, options->flags) < 0)
		return -1;
	if (options->tree_set == 0 && options->tree_clear == 0)
		return 0;
	return set_attributes(tree, AT_RECURSIVE, options->tree_set, options->tree_clear, 0);
}

static int mount_bind(int root, const struct plan_mount *mount, struct error *err)
{
	cleanup_close int tree = open_export(mount->exported, mount->options.flags & MS_REC, err);
	cleanup_close int target = -1;
	struct stat status;

	if (tree < 0)
		return -1;
	if (fstat(tree, &status) < 0)
		return error_set_errno(err, "stat");
	target = S_ISDIR(status.st_mode) ? path_make_directory(root, mount->destination, false, err)
					 : path_make_file(root, mount->destination, err);
	if (target < 0 || check_target(target, mount, err) < 0)
		return -1;
	if (set_bind_options(tree, mount) < 0)
		return error_set_errno(err, "set mount options");
	if (attach(tree, target) < 0 || propagate(tree, mount->options.propagate) < 0)
		return error_set_errno(err, "mount");
	return 0;
}

static int mount_all(int root, const struct plan *plan, struct late *late, struct error *err)
{
	for (size_t i = 0; i < plan->n_mounts; i++) {
		const struct plan_mount *mount = &plan->mounts[i];
		int status = mount->exported ? mount_bind(root, mount, err) : mount_filesystem(root, mount, late, err);

		if (status < 0)
			return error_prefix(err, "error mounting \"%s\" to rootfs at \"%s\"", mount->source,
					    mount->destination);
	}
	return 0;
}

/* --- /dev -------------------------------------------------------------------------------------------------------- */

/* A container that brings its own /dev by a bind mount gets nothing added to it. */
static bool brings_dev(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_mounts; i++)
		if (plan->mounts[i].exported && strcmp(plan->mounts[i].destination, "/dev") == 0)
			return true;
	return false;
}

static int make_nodes(int dev, struct error *err)
{
	static const struct {
		const char *name;
		unsigned major, minor;
	} nodes[] = {{"null", 1, 3}, {"zero", 1, 5},   {"full", 1, 7},
		     {"tty", 5, 0},  {"random", 1, 8}, {"urandom", 1, 9}};

	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
		if (mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) < 0 &&
		    errno != EEXIST)
			return error_set_errno(err, "make device node /dev/%s", nodes[i].name);
	return 0;
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
	cleanup_close int dev = -1;

	if (brings_dev(plan))
		return 0;
	dev = path_make_directory(root, "/dev", false, err);
	if (dev < 0)
		return -1;
	if (make_nodes(dev, err) < 0)
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
	if (tree < 0 || set_attributes(tree, AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0, 0) < 0 || attach(tree, target) < 0)
		return error_set_errno(err, "make %s read-only", path);
	return 0;
}

/* The agent's own null device, read-only so that no container can change its mode for the others. */
static int null_mount(void)
{
	cleanup_close int tree = open_tree(AT_FDCWD, PLACE_NULL, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0 || set_attributes(tree, 0, MOUNT_ATTR_RDONLY, 0, 0) < 0)
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
	if (cover < 0 || attach(cover, target) < 0)
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
	    plan->rootfs_disk ? disks_mount(plan->rootfs_disk, err) : open_export(plan->rootfs, true, err);

	if (root < 0)
		return -1;
	if (set_flags(root, plan->rootfs_flags) < 0 || move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
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

static int finish(int root, const struct plan *plan, const struct late *late, struct error *err)
{
	for (size_t i = 0; i < late->n; i++)
		if (set_attributes(late->fds[i], 0, MOUNT_ATTR_RDONLY, 0, 0) < 0)
			return error_set_errno(err, "make a mount read-only");
	if (plan->read_only && set_attributes(root, 0, MOUNT_ATTR_RDONLY, 0, 0) < 0)
		return error_set_errno(err, "make the root file system read-only");
	if (restrict_paths(root, plan, err) < 0)
		return -1;
	if (propagate(root, plan->propagate) < 0)
		return error_set_errno(err, "linux.rootfsPropagation");
	return 0;
}

static int fill(int root, const struct plan *plan, struct late *late, struct error *err)
{
	if (mount_all(root, plan, late, err) < 0 || make_devices(root, plan, err) < 0 || make_cwd(root, plan, err) < 0)
		return -1;
	return finish(root, plan, late, err);
}

int rootfs_build(const struct plan *plan, struct error *err)
{
	struct late late = {.fds = calloc(plan->n_mounts + 1, sizeof(int))};
	cleanup_close int root = -1;
	int status;

	if (!late.fds)
		return error_set(err, ENOMEM, "out of memory");
	root = open_root(plan, err);
	status = root < 0 ? -1 : fill(root, plan, &late, err);
	close_late(&late);
	return status < 0 ? -1 : take_fd(&root);
}

int rootfs_enter(int root, struct error *err)
{
	static const char *const own[] = {PLACE_EXPORTS, PLACE_CGROUP, PLACE_PROC};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (umount2(own[i], MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return error_set_errno(err, "unmount %s", own[i]);
	if (fchdir(root) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return error_set_errno(err, "enter the root file system");
	return 0;
}
