#include "runtime/exports.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/spec_fields.h"
#include "runtime/disks.h"
#include "runtime/export_tree.h"

/* The root file system belongs to the container while it runs; a bind mount is usually shared with somebody. */
#define CACHE_ROOTFS 1
#define CACHE_BIND_MOUNT 0

void exports_release(struct exports *exports)
{
	for (size_t i = 0; i < exports->n; i++) {
		close(exports->list[i].fd);
		json_decref(exports->list[i].writable);
	}
	free(exports->list);
	free(exports->rootfs);
	*exports = (struct exports){0};
}

/* The last of several options that contradict each other counts, as in mount(8). */
static bool has_option(const json_t *mount, const char *on, const char *off)
{
	const json_t *option;
	bool result = false;
	size_t index;

	json_array_foreach(json_object_get(mount, "options"), index, option)
	{
		if (strcmp(json_string_value(option), on) == 0)
			result = true;
		else if (off && strcmp(json_string_value(option), off) == 0)
			result = false;
	}
	return result;
}

/* A bind mount inherits what the mount that it comes from does not allow; so it must in the guest. */
static int read_host_flags(struct export *export, struct error *err)
{
	struct statvfs status;

	if (fstatvfs(export->fd, &status) < 0)
		return error_set_errno(err, "find the mount of export %s", export->name);
	export->host_flags = status.f_flag;
	return 0;
}

static const char *file_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFIFO:
		return "fifo";
	case S_IFBLK:
		return "block device";
	case S_IFCHR:
		return "character device";
	default:
		return "special file";
	}
}

static int check_source(size_t index, const char *source, const struct stat *status, struct error *err)
{
	if (S_ISDIR(status->st_mode) || S_ISREG(status->st_mode) || S_ISSOCK(status->st_mode))
		return 0;
	return error_set(
	    err, ENOTSUP, SPEC_FILE ": mounts[%zu].source: `%s` is a %s: %s", index, source, file_type(status->st_mode),
	    S_ISFIFO(status->st_mode) ? "a process in the virtual machine could not reach who is at its other end"
				      : "bind mounts of those are not supported, name it in linux.devices");
}

/* To the guest an export is one mount, and read-only as a whole: it is told of what shall not be. */
static int find_writable(struct export *export, struct error *err)
{
	if (!export->read_only || export->read_only_below || !export->recursive)
		return 0;
	export->writable = export_tree_writable_below(export->fd, err);
	return export->writable ? 0 : -1;
}

/* After what is to be known of the host's mount has been read. */
static int make_tree(struct export *export, struct error *err)
{
	if (export->is_socket)
		return 0;
	if (read_host_flags(export, err) == 0 && find_writable(export, err) == 0 &&
	    export_tree_clone(&export->fd, export->read_only, export->read_only_below, export->recursive,
			      &export->idmap, err) == 0)
		return 0;
	json_decref(export->writable);
	close(export->fd);
	return -1;
}

static int open_bind_mount(size_t index, const json_t *mount, const struct idmap *idmap, int bundle,
			   struct export *export, struct error *err)
{
	const char *source = json_string_value(json_object_get(mount, "source"));
	cleanup_close int fd = -1;
	struct stat status;

	if (!source || *source == '\0')
		return error_set(err, EINVAL, SPEC_FILE ": mounts[%zu].source: a bind mount must have one", index);
	fd = openat(bundle, source, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, SPEC_FILE ": mounts[%zu].source: open `%s`", index, source);
	if (fstat(fd, &status) < 0)
		return error_set_errno(err, SPEC_FILE ": mounts[%zu].source: stat `%s`", index, source);
	if (check_source(index, source, &status, err) < 0)
		return -1;
	if (idmap->users && S_ISSOCK(status.st_mode))
		return error_set(err, ENOTSUP, SPEC_FILE ": mounts[%zu]: ids of a socket cannot be mapped", index);
	*export = (struct export){
	    .fd = take_fd(&fd),
	    .mount = index,
	    .read_only = has_option(mount, "ro", "rw"),
	    .read_only_below = has_option(mount, "rro", "rrw"),
	    .recursive = has_option(mount, "rbind", NULL),
	    .idmap = *idmap,
	    .is_socket = S_ISSOCK(status.st_mode),
	    .uid = status.st_uid,
	    .gid = status.st_gid,
	    .mode = status.st_mode & 07777,
	    .cache = CACHE_BIND_MOUNT,
	};
	snprintf(export->name, sizeof(export->name), "m%zu", index);
	return make_tree(export, err) < 0 ? error_prefix(err, SPEC_FILE ": mounts[%zu].source: `%s`", index, source)
					  : 0;
}

static int open_rootfs(const struct spec *spec, int bundle, struct exports *exports, struct error *err)
{
	const char *path = spec_root_path(spec);
	char link[32], target[PATH_MAX];
	ssize_t length;
	int fd = openat(bundle, path, O_PATH | O_CLOEXEC);
	struct stat status;

	if (fd < 0)
		return error_set_errno(err, "invalid rootfs: open `%s`", path);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, target, sizeof(target) - 1);
	if (length < 0) {
		close(fd);
		return error_set_errno(err, "invalid rootfs: find the path of `%s`", path);
	}
	target[length] = '\0';
	exports->rootfs = strdup(target);
	if (!exports->rootfs) {
		close(fd);
		return error_set_errno(err, "copy path of the rootfs");
	}
	exports->rootfs_is_disk = disk_is_image(fd);
	if (exports->rootfs_is_disk) {
		close(fd);
		return 0;
	}
	if (fstat(fd, &status) < 0 || !S_ISDIR(status.st_mode)) {
		close(fd);
		return error_set(err, ENOTDIR, "invalid rootfs: open `%s`: %s", path, strerror(ENOTDIR));
	}
	/* Recursive: engines assemble root file systems out of mounts. */
	exports->list[0] = (struct export){.name = EXPORT_ROOTFS, .fd = fd, .recursive = true, .cache = CACHE_ROOTFS};
	if (make_tree(&exports->list[0], err) < 0)
		return error_prefix(err, "invalid rootfs: `%s`", path);
	exports->n++;
	return 0;
}

int exports_join_group(struct exports *exports, char group[EXPORT_GROUP_SIZE], struct error *err)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return error_set_errno(err, "choose a name");
	snprintf(group, EXPORT_GROUP_SIZE, "%012llx", (unsigned long long)(random >> 16));
	for (size_t i = 0; i < exports->n; i++) {
		struct export *export = &exports->list[i];
		char name[sizeof(export->name)];

		snprintf(name, sizeof(name), "%s", export->name);
		snprintf(export->name, sizeof(export->name), "%s.%.24s", group, name);
	}
	return 0;
}

static int open_all(const struct spec *spec, int bundle, struct exports *exports, struct error *err)
{
	const json_t *mounts = json_object_get(spec->json, "mounts"), *mount;
	size_t index;

	exports->list = calloc(1 + json_array_size(mounts), sizeof(*exports->list));
	if (!exports->list)
		return error_set_errno(err, "allocate exports");
	if (open_rootfs(spec, bundle, exports, err) < 0)
		return -1;
	json_array_foreach(mounts, index, mount)
	{
		struct idmap idmap;

		if (idmap_read(spec->json, index, &idmap, err) < 0)
			return -1;
		if (!spec_mount_is_bind(mount))
			continue;
		if (open_bind_mount(index, mount, &idmap, bundle, &exports->list[exports->n], err) < 0)
			return -1;
		exports->n++;
	}
	return 0;
}

int exports_open(const struct spec *spec, int bundle, struct exports *exports, struct error *err)
{
	*exports = (struct exports){0};
	if (open_all(spec, bundle, exports, err) < 0) {
		exports_release(exports);
		return -1;
	}
	return 0;
}
