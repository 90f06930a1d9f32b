#include "guest-agent/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/path.h"
#include "common/spec_values.h"
#include "guest-agent/path.h"

#define MAJOR_MAX ((1u << 12) - 1) /* of the kernel's device numbers */
#define MINOR_MAX ((1u << 20) - 1)

static const struct {
	const char *path;
	unsigned major, minor;
} defaults[] = {{"/dev/null", 1, 3}, {"/dev/random", 1, 8}, {"/dev/full", 1, 7},
		{"/dev/tty", 5, 0},  {"/dev/zero", 1, 5},   {"/dev/urandom", 1, 9}};

#define N_DEFAULTS (sizeof(defaults) / sizeof(defaults[0]))

/* --- reading ----------------------------------------------------------------------------------------------------- */

bool devices_named(const json_t *array, const char *path)
{
	const json_t *element;
	size_t i;

	json_array_foreach(array, i, element)
	{
		if (strcmp(spec_text(element, "path", ""), path) == 0)
			return true;
	}
	return false;
}

static int add_defaults(const json_t *array, struct devices *devices, struct error *err)
{
	for (size_t i = 0; i < N_DEFAULTS; i++) {
		struct device *device = &devices->list[devices->n];

		if (devices_named(array, defaults[i].path))
			continue;
		*device = (struct device){.path = strdup(defaults[i].path),
					  .mode = S_IFCHR | 0666,
					  .number = makedev(defaults[i].major, defaults[i].minor)};
		if (!device->path)
			return error_set(err, ENOMEM, "out of memory");
		devices->n++;
	}
	return 0;
}

static int read_type(const char *text, mode_t *type)
{
	if (strcmp(text, "c") == 0 || strcmp(text, "u") == 0)
		*type = S_IFCHR;
	else if (strcmp(text, "b") == 0)
		*type = S_IFBLK;
	else if (strcmp(text, "p") == 0)
		*type = S_IFIFO;
	else
		return -1;
	return 0;
}

static int read_device(const json_t *json, size_t index, struct device *device, struct error *err)
{
	int64_t major = spec_i64(json, "major", 0), minor = spec_i64(json, "minor", 0);
	mode_t type;

	if (read_type(spec_text(json, "type", ""), &type) < 0)
		return error_set(err, EINVAL, "linux.devices[%zu].type: invalid device type \"%s\"", index,
				 spec_text(json, "type", ""));
	if (*spec_text(json, "path", "") == '\0')
		return error_set(err, EINVAL, "linux.devices[%zu].path must not be empty", index);
	if (type != S_IFIFO && (major < 0 || major > MAJOR_MAX || minor < 0 || minor > MINOR_MAX))
		return error_set(err, EINVAL, "linux.devices[%zu]: no such device number", index);
	*device = (struct device){.path = path_clean(spec_text(json, "path", "")),
				  .mode = type | (mode_t)(spec_u64(json, "fileMode", 0666) & 07777),
				  .number = type == S_IFIFO ? 0 : makedev((unsigned)major, (unsigned)minor),
				  .uid = (uid_t)spec_u64(json, "uid", 0),
				  .gid = (gid_t)spec_u64(json, "gid", 0)};
	return device->path ? 0 : error_set(err, ENOMEM, "out of memory");
}

int devices_read(const json_t *array, struct devices *devices, struct error *err)
{
	const json_t *element;
	size_t i;

	*devices = (struct devices){.list = calloc(json_array_size(array) + N_DEFAULTS, sizeof(struct device))};
	if (!devices->list)
		return error_set(err, ENOMEM, "out of memory");
	if (add_defaults(array, devices, err) < 0)
		return -1;
	json_array_foreach(array, i, element)
	{
		if (!json_is_object(element))
			return error_set(err, EINVAL, "linux.devices[%zu] must be an object", i);
		if (read_device(element, i, &devices->list[devices->n], err) < 0)
			return -1;
		devices->n++;
	}
	return 0;
}

void devices_release(struct devices *devices)
{
	for (size_t i = 0; i < devices->n; i++)
		free(devices->list[i].path);
	free(devices->list);
	*devices = (struct devices){0};
}

/* --- making ------------------------------------------------------------------------------------------------------ */

/* The directory that the device's name is in, made where it is missing. */
static int open_parent(int root, const char *path, struct error *err)
{
	char directory[PATH_MAX];
	size_t length = (size_t)(strrchr(path, '/') - path);

	if (length >= sizeof(directory))
		return error_set(err, ENAMETOOLONG, "%s: name too long", path);
	memcpy(directory, path, length);
	directory[length] = '\0';
	return path_make_directory(root, length ? directory : "/", false, err);
}

static int make_node(int root, const struct device *device, struct error *err)
{
	const char *name = strrchr(device->path, '/') + 1;
	cleanup_close int parent = open_parent(root, device->path, err);

	if (parent < 0)
		return -1;
	if (mknodat(parent, name, device->mode, device->number) < 0)
		return errno == EEXIST ? 0 : error_set_errno(err, "mknod %s", device->path);
	if ((device->uid != 0 || device->gid != 0) &&
	    fchownat(parent, name, device->uid, device->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set_errno(err, "chown %s", device->path);
	return 0;
}

static int bind_node(int root, const struct device *device, int source, size_t index, struct error *err)
{
	cleanup_close int target = path_make_file(root, device->path, err);
	cleanup_close int tree = -1;
	char name[24];

	if (target < 0)
		return -1;
	snprintf(name, sizeof(name), "%zu", index);
	tree = open_tree(source, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return error_set_errno(err, "bind %s", device->path);
	return 0;
}

int devices_make(int root, const struct devices *devices, int source, struct error *err)
{
	for (size_t i = 0; i < devices->n; i++) {
		const struct device *device = &devices->list[i];
		int status;

		/* Always the multiplexer of the container's own devpts. */
		if (strcmp(device->path, "/dev/ptmx") == 0)
			continue;
		status = source >= 0 && !S_ISFIFO(device->mode) ? bind_node(root, device, source, i, err)
								: make_node(root, device, err);
		if (status < 0)
			return error_prefix(err, "error creating device nodes");
	}
	return 0;
}

static int make_source(int directory, const struct device *device, size_t index, const struct id_maps *maps)
{
	uint32_t uid, gid;
	char name[24];

	snprintf(name, sizeof(name), "%zu", index);
	if (mknodat(directory, name, device->mode, device->number) < 0)
		return -1;
	if ((device->uid == 0 && device->gid == 0) || id_map_outside(&maps->users, device->uid, &uid) < 0 ||
	    id_map_outside(&maps->groups, device->gid, &gid) < 0)
		return 0;
	return fchownat(directory, name, uid, gid, AT_SYMLINK_NOFOLLOW);
}

int devices_make_sources(int directory, const struct devices *devices, const struct id_maps *maps, struct error *err)
{
	for (size_t i = 0; i < devices->n; i++) {
		const struct device *device = &devices->list[i];

		if (!S_ISFIFO(device->mode) && make_source(directory, device, i, maps) < 0)
			return error_set_errno(err, "make device node %s", device->path);
	}
	return 0;
}
