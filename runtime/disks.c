#include "runtime/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/spec_fields.h"

#define NAMED_PREFIX "hull.disk."
#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
#define NAME_MAX_BYTES 32

void disks_release(struct disks *disks)
{
	for (size_t i = 0; i < disks->n; i++)
		close(disks->list[i].fd);
	disks->n = 0;
}

bool disk_is_image(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode));
}

/* Takes fd over. */
static int add(struct disks *disks, enum disk_use use, size_t index, int fd, bool read_only, struct error *err)
{
	struct disk *disk = &disks->list[disks->n];

	if (disks->n == DISKS_MAX) {
		close(fd);
		return error_set(err, E2BIG, "more than %d disks", DISKS_MAX);
	}
	*disk = (struct disk){.fd = fd, .read_only = read_only, .use = use, .index = index};
	snprintf(disk->serial, sizeof(disk->serial), "hull-%zu", disks->n);
	disks->n++;
	return 0;
}

/* Two machines on one image would destroy it; several may read it. */
static int lock_image(int fd, const char *path, bool read_only, struct error *err)
{
	if (flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return error_set(err, EBUSY, "`%s` is in use by another machine", path);
	return error_set_errno(err, "lock `%s`", path);
}

static int open_image(int at, const char *path, bool read_only, bool alone, struct error *err)
{
	cleanup_close int found = openat(at, path, O_PATH | O_CLOEXEC);
	cleanup_close int fd = -1;
	struct stat status;

	if (found < 0 || fstat(found, &status) < 0)
		return error_set_errno(err, "open `%s`", path);
	if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
		return error_set(err, ENOTBLK, "`%s` is neither a block device nor an image file", path);
	fd = openat(at, path,
		    (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
			(alone && S_ISBLK(status.st_mode) && !read_only ? O_EXCL : 0));
	if (fd < 0 && errno == EBUSY)
		return error_set(err, EBUSY, "`%s` is in use on this host", path);
	if (fd < 0)
		return error_set_errno(err, "open `%s`", path);
	if (S_ISREG(status.st_mode) && lock_image(fd, path, read_only, err) < 0)
		return -1;
	return take_fd(&fd);
}

/* --- where they are named ---------------------------------------------------------------------------------------- */

static bool has_option(const json_t *mount, const char *name)
{
	const json_t *option;
	size_t index;

	json_array_foreach(json_object_get(mount, "options"), index, option)
	{
		if (strcmp(json_string_value(option), name) == 0)
			return true;
	}
	return false;
}

static int open_rootfs(const struct spec *spec, int bundle, struct disks *disks, struct error *err)
{
	const char *path = spec_root_path(spec);
	cleanup_close int found = openat(bundle, path, O_PATH | O_CLOEXEC);
	/* Images that are only read can be shared. */
	bool read_only = json_is_true(json_object_get(json_object_get(spec->json, "root"), "readonly"));
	int fd;

	if (found < 0 || !disk_is_image(found))
		return 0;
	fd = open_image(bundle, path, read_only, true, err);
	if (fd < 0)
		return error_prefix(err, "invalid rootfs");
	return add(disks, DISK_ROOTFS, 0, fd, read_only, err);
}

static int open_mount(const json_t *mount, size_t index, int bundle, struct disks *disks, struct error *err)
{
	const char *type = json_string_value(json_object_get(mount, "type"));
	const char *source = json_string_value(json_object_get(mount, "source"));
	bool read_only;
	int fd;

	if (!type || spec_mount_is_bind(mount) || !spec_is_disk_type(type))
		return 0;
	if (!source || !*source)
		return error_set(err, EINVAL, "mounts[%zu].source: a file system of type %s must have one", index,
				 type);
	read_only = has_option(mount, "ro") || strcmp(type, "erofs") == 0;
	fd = open_image(bundle, source, read_only, true, err);
	if (fd < 0)
		return error_prefix(err, "mounts[%zu].source", index);
	return add(disks, DISK_MOUNT, index, fd, read_only, err);
}

static int open_mounts(const struct spec *spec, int bundle, struct disks *disks, struct error *err)
{
	const json_t *mount;
	size_t index;

	json_array_foreach(json_object_get(spec->json, "mounts"), index, mount)
	{
		if (open_mount(mount, index, bundle, disks, err) < 0)
			return -1;
	}
	return 0;
}

/* The device's name below /dev, as the kernel gives it. */
static int find_name(unsigned number_major, unsigned number_minor, char name[128])
{
	cleanup_free char *text = NULL;
	char path[64], *line;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/uevent", number_major, number_minor);
	if (read_file_at(AT_FDCWD, path, 65536, &text, NULL, NULL) < 0)
		return -1;
	line = strstr(text, "DEVNAME=");
	return line && sscanf(line + 8, "%127[^\n]", name) == 1 ? 0 : -1;
}

/* Returns a descriptor, or -1 where there is no such device, nobody may use it, or nothing is in it: the node is then
 * made all the same, as one that cannot be opened. */
static int open_device(unsigned number_major, unsigned number_minor, bool *read_only)
{
	char name[128], path[160];
	cleanup_close int fd = -1;
	struct stat status;
	uint64_t size = 0;

	if (find_name(number_major, number_minor, name) < 0)
		return -1;
	snprintf(path, sizeof(path), "/dev/%s", name);
	*read_only = false;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && (errno == EROFS || errno == EACCES || errno == EPERM)) {
		*read_only = true;
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	}
	if (fd < 0 || fstat(fd, &status) < 0 || !S_ISBLK(status.st_mode) ||
	    status.st_rdev != makedev(number_major, number_minor))
		return -1;
	if (ioctl(fd, BLKGETSIZE64, &size) < 0 || size == 0)
		return -1;
	return take_fd(&fd);
}

static int open_devices(const struct spec *spec, struct disks *disks, struct error *err)
{
	const json_t *list = json_object_get(json_object_get(spec->json, "linux"), "devices"), *device;
	size_t index;

	json_array_foreach(list, index, device)
	{
		const char *type = json_string_value(json_object_get(device, "type"));
		bool read_only;
		int fd;

		if (!type || strcmp(type, "b") != 0)
			continue;
		fd = open_device((unsigned)json_integer_value(json_object_get(device, "major")),
				 (unsigned)json_integer_value(json_object_get(device, "minor")), &read_only);
		if (fd >= 0 && add(disks, DISK_DEVICE, index, fd, read_only, err) < 0)
			return error_prefix(err, "linux.devices[%zu]", index);
	}
	return 0;
}

static int open_named(const char *name, const char *value, int bundle, struct disks *disks, struct error *err)
{
	char path[PATH_MAX];
	size_t length = strlen(value);
	bool read_only = length > 3 && strcmp(value + length - 3, ",ro") == 0;
	int fd;

	if (read_only)
		length -= 3;
	if (*name == '\0' || strlen(name) > NAME_MAX_BYTES || name[strspn(name, NAME_CHARACTERS)] != '\0')
		return error_set(err, EINVAL, "`%s` is not a name for a device", name);
	if (length == 0 || length >= sizeof(path))
		return error_set(err, EINVAL, "the path of a block device or an image file is missing");
	snprintf(path, sizeof(path), "%.*s", (int)length, value);
	fd = open_image(bundle, path, read_only, false, err);
	if (fd < 0 || add(disks, DISK_NAMED, 0, fd, read_only, err) < 0)
		return -1;
	disks->list[disks->n - 1].name = name;
	return 0;
}

static int open_annotations(const struct spec *spec, int bundle, struct disks *disks, struct error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach(json_object_get(spec->json, "annotations"), key, value)
	{
		if (strncmp(key, NAMED_PREFIX, strlen(NAMED_PREFIX)) != 0)
			continue;
		if (open_named(key + strlen(NAMED_PREFIX), json_string_value(value), bundle, disks, err) < 0)
			return error_prefix(err, "annotations.%s", key);
	}
	return 0;
}

int disks_open(const struct spec *spec, int bundle, struct disks *disks, struct error *err)
{
	disks->n = 0;
	if (open_rootfs(spec, bundle, disks, err) == 0 && open_mounts(spec, bundle, disks, err) == 0 &&
	    open_devices(spec, disks, err) == 0 && open_annotations(spec, bundle, disks, err) == 0)
		return 0;
	disks_release(disks);
	return error_prefix(err, SPEC_FILE);
}
