#include "guest-agent/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/words.h"
#include "guest-agent/copy_tree.h"
#include "guest-agent/disks.h"
#include "guest-agent/path.h"
#include "guest-agent/places.h"

void late_mounts_close(struct late_mounts *late)
{
	for (size_t i = 0; i < late->n; i++)
		close(late->fds[i]);
	free(late->fds);
}

int mount_set_attributes(int mount, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation)
{
	struct mount_attr attributes = {.attr_set = set, .attr_clr = clear, .propagation = propagation};

	return mount_setattr(mount, "", AT_EMPTY_PATH | flags, &attributes, sizeof(attributes));
}

int mount_propagate(int mount, unsigned long propagation)
{
	if (propagation == 0)
		return 0;
	return mount_set_attributes(mount, propagation & MS_REC ? AT_RECURSIVE : 0, 0, 0,
				    propagation & ~(unsigned long)MS_REC);
}

static int propagate_all(int mount, const struct mount_options *options)
{
	for (unsigned i = 0; i < options->n_propagate; i++)
		if (mount_propagate(mount, options->propagate[i]) < 0)
			return -1;
	return 0;
}

int mount_attach(int mount, int target)
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
	/* A mount from the machine's cgroup namespace sets this for all mounts of it, and the agent wants it. */
	if (strcmp(type, "cgroup2") == 0 && configure(fs, "nsdelegate", err) < 0)
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

static int set_tree_options(int tree, const struct mount_options *options)
{
	if (options->tree_set == 0 && options->tree_clear == 0)
		return 0;
	return mount_set_attributes(tree, AT_RECURSIVE, options->tree_set, options->tree_clear, 0);
}

/* What a user namespace may not mount unless the namespace that it shows is its own as well: the agent's mount of it
 * takes its place, as the host's does under runc. */
static int clone_own(const char *type)
{
	const char *place = strcmp(type, "sysfs") == 0					  ? PLACE_SYS
			    : strcmp(type, "cgroup") == 0 || strcmp(type, "cgroup2") == 0 ? PLACE_CGROUP
											  : NULL;

	return place ? open_tree(AT_FDCWD, place, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC) : -1;
}

/* A detached mount of a new file system. */
static int new_mount(const struct plan_mount *mount, mode_t existing, uint64_t attributes, struct error *err)
{
	cleanup_close int fs = new_filesystem(mount, existing, err);
	int tree;

	if (fs < 0 && err->code == EPERM) {
		cleanup_close int own = clone_own(mount->type);

		if (own >= 0 && (attributes == 0 || mount_set_attributes(own, 0, attributes, 0, 0) == 0))
			return take_fd(&own);
	}
	if (fs < 0)
		return -1;
	tree = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attributes);
	return tree < 0 ? explain(fs, mount->type, err) : tree;
}

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
	    NULL,
	};

	return is_one_of(allowed, destination);
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

/* These are known to do no harm there; the first two are what belongs there. */
static bool may_be_in_proc(const char *type)
{
	static const char *const types[] = {"proc", "sysfs", "tmpfs", "mqueue", "cgroup", NULL};

	return is_one_of(types, type);
}

static int mount_filesystem(int root, const struct plan_mount *mount, struct late_mounts *late, struct error *err)
{
	/* A symbolic link on the way to /proc or /sys in an image is an attempt to have them elsewhere. */
	bool no_links = strcmp(mount->type, "proc") == 0 || strcmp(mount->type, "sysfs") == 0;
	cleanup_close int old = path_open(root, mount->destination, O_PATH | O_DIRECTORY);
	cleanup_close int target = path_make_directory(root, mount->destination, no_links, err);
	cleanup_close int tree = -1;
	struct stat status = {0};
	uint64_t clear, attributes = mount_options_attributes(mount->options.flags, &clear);

	if (target < 0)
		return no_links
			   ? error_prefix(err, "filesystem \"%s\" must be mounted on ordinary directory", mount->type)
			   : -1;
	if (!may_be_in_proc(mount->type) && check_target(target, mount, err) < 0)
		return -1;
	if (old >= 0 && fstat(old, &status) < 0)
		return error_set_errno(err, "stat");
	if (is_read_only_late(mount))
		attributes &= ~(uint64_t)MOUNT_ATTR_RDONLY;
	tree = new_mount(mount, status.st_mode, attributes, err);
	if (tree < 0)
		return -1;
	if (set_tree_options(tree, &mount->options) < 0)
		return error_set_errno(err, "set mount options");
	if (mount->options.copy_up && old >= 0 && copy_tree(old, tree, err) < 0)
		return error_prefix(err, "tmpcopyup");
	if (mount_attach(tree, target) < 0 || propagate_all(tree, &mount->options) < 0)
		return error_set_errno(err, "mount %s", mount->type);
	if (is_read_only_late(mount))
		late->fds[late->n++] = take_fd(&tree);
	return 0;
}

/* --- bind mounts ------------------------------------------------------------------------------------------------- */

int mount_open_export(const char *name, bool recursive, struct error *err)
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

int mount_set_flags(int tree, unsigned long flags)
{
	uint64_t clear, set = mount_options_attributes(flags, &clear);

	return set || clear ? mount_set_attributes(tree, 0, set, clear, 0) : 0;
}

#define TIME_FLAGS (MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME)

/* In a user namespace the time mode of a mount from outside cannot be changed. It protects nothing. */
int mount_keep_flags(int tree, unsigned long flags)
{
	if (mount_set_flags(tree, flags) == 0)
		return 0;
	return errno == EPERM ? mount_set_flags(tree, flags & ~(unsigned long)TIME_FLAGS) : -1;
}

/* What the host's mount forbids stays forbidden, as it would for a bind mount on the host. */
static int set_bind_options(int tree, const struct plan_mount *mount)
{
	const struct mount_options *options = &mount->options;

	if (mount_keep_flags(tree, mount->source_flags) < 0 || mount_set_flags(tree, options->flags) < 0)
		return -1;
	return set_tree_options(tree, options);
}

static int open_socket(const struct plan_socket *socket, struct error *err)
{
	int tree = open_tree(AT_FDCWD, socket->path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	return tree < 0 ? error_set_errno(err, "open the socket's stand-in") : tree;
}

/* On the host something else is mounted there, and only the mount above was to be read-only. */
static int mount_writable(int tree, const char *path)
{
	cleanup_close int target = path_open_beneath(tree, path, O_PATH);
	cleanup_close int clone =
	    target < 0 ? -1 : open_tree(target, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	/* It may have gone. */
	if (target < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
	if (clone < 0 || mount_set_attributes(clone, 0, 0, MOUNT_ATTR_RDONLY, 0) < 0)
		return -1;
	return mount_attach(clone, target);
}

static int mount_all_writable(int tree, const json_t *paths, struct error *err)
{
	const json_t *path;
	size_t i;

	json_array_foreach(paths, i, path)
	{
		if (json_is_string(path) && mount_writable(tree, json_string_value(path)) < 0)
			return error_set_errno(err, "mount what is below it at `%s`", json_string_value(path));
	}
	return 0;
}

static int mount_bind(int root, const struct plan_mount *mount, struct error *err)
{
	cleanup_close int tree = mount->is_socket
				     ? open_socket(&mount->socket, err)
				     : mount_open_export(mount->exported, mount->options.flags & MS_REC, err);
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
	if (mount_attach(tree, target) < 0)
		return error_set_errno(err, "mount");
	if (mount_all_writable(tree, mount->writable, err) < 0)
		return -1;
	return propagate_all(tree, &mount->options) < 0 ? error_set_errno(err, "mount") : 0;
}

/* --- remounts ---------------------------------------------------------------------------------------------------- */

/* The file system's own options as mount(2) takes them. */
static char *join_data(const struct plan_mount *mount)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	for (size_t i = 0; out && i < mount->n_data; i++)
		fprintf(out, "%s%s", i ? "," : "", mount->data[i]);
	if (!out || fclose(out) != 0)
		return NULL;
	return text;
}

/* In a function of its own: elsewhere here "mount" is a parameter. */
static int mount_again(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
	return mount(source, target, type, flags, data);
}

static int remount(int root, const struct plan_mount *mount, struct error *err)
{
	cleanup_close int target = path_open(root, mount->destination, O_PATH);
	cleanup_free char *data = join_data(mount);
	char path[64];

	if (target < 0)
		return error_set_errno(err, "open %s", mount->destination);
	if (!data)
		return error_set(err, ENOMEM, "out of memory");
	snprintf(path, sizeof(path), PLACE_PROC "/self/fd/%d", target);
	if (mount_again(mount->source, path, mount->type, mount->options.flags, data) < 0)
		return error_set_errno(err, "remount");
	return 0;
}

static int make_one(int root, const struct plan_mount *mount, struct late_mounts *late, struct error *err)
{
	if (mount->options.flags & MS_REMOUNT)
		return remount(root, mount, err);
	return mount->exported || mount->is_socket ? mount_bind(root, mount, err)
						   : mount_filesystem(root, mount, late, err);
}

int mounts_make(int root, const struct plan *plan, struct late_mounts *late, struct error *err)
{
	for (size_t i = 0; i < plan->n_mounts; i++) {
		const struct plan_mount *mount = &plan->mounts[i];

		if (make_one(root, mount, late, err) < 0)
			return error_prefix(err, "error mounting \"%s\" to rootfs at \"%s\"", mount->source,
					    mount->destination);
	}
	return 0;
}
