#include "guest-agent/disks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "common/spec_values.h"
#include "guest-agent/places.h"

#define PLACE_SYS "/sys"
#define SERIAL_MAX 20

bool disks_is_node(const char *source)
{
	return strncmp(source, PLACE_DISKS "/", strlen(PLACE_DISKS "/")) == 0;
}

static const char *serial_of(const json_t *disk)
{
	const char *serial = json_string_value(json_object_get(disk, "serial"));

	return serial && *serial && strlen(serial) <= SERIAL_MAX && !strchr(serial, '/') && *serial != '.' ? serial
													   : NULL;
}

/* --- what the order says ----------------------------------------------------------------------------------------- */

static int set_source(json_t *object, const char *member, const json_t *disk, struct error *err)
{
	if (json_object_set_new(object, member, json_sprintf(PLACE_DISKS "/%s", serial_of(disk))) < 0)
		return error_set(err, ENOMEM, "out of memory");
	return 0;
}

/* Makes it where it is not there. Borrowed; NULL when there is no memory, or something else in its place. */
static json_t *member_of(json_t *object, const char *name, json_t *(*make)(void))
{
	json_t *member = json_object_get(object, name);

	if (!member || json_is_null(member)) {
		json_object_set_new(object, name, make());
		member = json_object_get(object, name);
	}
	return member;
}

static json_t *rules_of(json_t *spec)
{
	json_t *resources = member_of(member_of(spec, "linux", json_object), "resources", json_object);

	return member_of(resources, "devices", json_array);
}

static bool is_number(const json_t *object, const char *name, int64_t expected)
{
	int64_t number;

	return spec_get_i64(json_object_get(object, name), &number) == 0 && number == expected;
}

/* A rule about the host's device, or about a group of devices that it belongs to. */
static bool is_about(const json_t *rule, dev_t host)
{
	const char *type = json_string_value(json_object_get(rule, "type"));
	const json_t *rule_minor = json_object_get(rule, "minor");

	return type && strcmp(type, "b") == 0 && is_number(rule, "major", major(host)) &&
	       (!rule_minor || json_is_null(rule_minor) || is_number(rule, "minor", -1) ||
		is_number(rule, "minor", minor(host)));
}

static int set_number(json_t *object, dev_t number)
{
	return json_object_set_new(object, "major", json_integer(major(number))) < 0 ||
		       json_object_set_new(object, "minor", json_integer(minor(number))) < 0
		   ? -1
		   : 0;
}

/* What is allowed or denied for the host's device is for the guest's: each such rule is followed by its like. */
static int repeat_rules(json_t *rules, dev_t host, dev_t guest)
{
	for (size_t i = 0; i < json_array_size(rules); i++) {
		json_t *like;

		if (!is_about(json_array_get(rules, i), host))
			continue;
		like = json_deep_copy(json_array_get(rules, i));
		if (!like || set_number(like, guest) < 0 || json_array_insert_new(rules, ++i, like) < 0)
			return -1;
	}
	return 0;
}

static int apply_device(json_t *spec, size_t index, dev_t guest, struct error *err)
{
	json_t *device = json_array_get(json_object_get(json_object_get(spec, "linux"), "devices"), index);
	int64_t host_major, host_minor;

	if (spec_get_i64(json_object_get(device, "major"), &host_major) < 0 ||
	    spec_get_i64(json_object_get(device, "minor"), &host_minor) < 0)
		return error_set(err, EINVAL, "create: disks: no linux.devices[%zu]", index);
	if (repeat_rules(rules_of(spec), makedev((unsigned)host_major, (unsigned)host_minor), guest) < 0 ||
	    set_number(device, guest) < 0)
		return error_set(err, ENOMEM, "out of memory");
	return 0;
}

/* A device of which the spec knows nothing. */
static int apply_name(json_t *spec, const char *name, dev_t guest, struct error *err)
{
	json_t *devices = member_of(member_of(spec, "linux", json_object), "devices", json_array);
	json_t *device = json_pack("{s:s, s:o, s:i, s:i, s:i}", "type", "b", "path", json_sprintf("/dev/%s", name),
				   "fileMode", 0660, "uid", 0, "gid", 0);
	json_t *rule = json_pack("{s:b, s:s, s:s}", "allow", 1, "type", "b", "access", "rwm");
	bool failed = !device || !rule || set_number(device, guest) < 0 || set_number(rule, guest) < 0;

	failed = json_array_append(devices, device) < 0 || json_array_append(rules_of(spec), rule) < 0 || failed;
	json_decref(device);
	json_decref(rule);
	return failed ? error_set(err, ENOMEM, "out of memory") : 0;
}

int disks_apply(json_t *order, const json_t *disk, dev_t number, struct error *err)
{
	json_t *spec = json_object_get(order, "spec");
	const char *name = json_string_value(json_object_get(disk, "name"));
	uint64_t index;

	if (!serial_of(disk))
		return error_set(err, EINVAL, "create: disks: a disk without a serial number");
	if (json_is_true(json_object_get(disk, "rootfs")))
		return set_source(member_of(order, "rootfs", json_object), "disk", disk, err);
	if (spec_get_u64(json_object_get(disk, "mount"), &index) == 0) {
		json_t *mount = json_array_get(json_object_get(spec, "mounts"), index);

		return json_is_object(mount) ? set_source(mount, "source", disk, err)
					     : error_set(err, EINVAL, "create: disks: no mounts[%zu]", (size_t)index);
	}
	if (spec_get_u64(json_object_get(disk, "device"), &index) == 0)
		return apply_device(spec, index, number, err);
	if (name)
		return apply_name(spec, name, number, err);
	return error_set(err, EINVAL, "create: disks: a disk that is for nothing");
}

/* --- what the machine has ---------------------------------------------------------------------------------------- */

static int read_text(int block, const char *disk, const char *file, char *text, size_t size)
{
	cleanup_close int fd = -1;
	char path[300];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", disk, file);
	fd = openat(block, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return n < 0 ? -1 : 0;
}

static int read_device(int block, const char *disk, const char *serial, dev_t *number)
{
	char text[64], *end;
	unsigned long major;

	if (read_text(block, disk, "serial", text, sizeof(text)) < 0 || strcmp(text, serial) != 0)
		return -1;
	if (read_text(block, disk, "dev", text, sizeof(text)) < 0)
		return -1;
	/* Not sscanf: it brings a tenth of a megabyte into every guest. */
	major = strtoul(text, &end, 10);
	if (*end != ':')
		return -1;
	*number = makedev((unsigned)major, (unsigned)strtoul(end + 1, NULL, 10));
	return 0;
}

static int find(const char *serial, dev_t *number)
{
	DIR *directory = opendir(PLACE_SYS "/block");
	const struct dirent *entry;
	int found = -1;

	while (directory && found < 0 && (entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			found = read_device(dirfd(directory), entry->d_name, serial, number);
	if (directory)
		closedir(directory);
	return found;
}

static int make_node(const char *serial, dev_t number, struct error *err)
{
	char path[64];

	snprintf(path, sizeof(path), PLACE_DISKS "/%s", serial);
	if ((mkdir(PLACE_DISKS, 0700) < 0 && errno != EEXIST) ||
	    (mknod(path, S_IFBLK | 0600, number) < 0 && errno != EEXIST))
		return error_set_errno(err, "make a node for disk %s", serial);
	return 0;
}

/* A machine that was forked from a template gets its disks before it runs, but behind the guest's back. */
static void look_for_new_ones(void)
{
	cleanup_close int fd = open(PLACE_SYS "/bus/pci/rescan", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1", 1) < 0)
		log_line("look for new disks: %s", strerror(errno));
}

static int resolve_all(json_t *order, const json_t *disks, struct error *err)
{
	bool looked = false;
	const json_t *disk;
	size_t i;

	json_array_foreach(disks, i, disk)
	{
		const char *serial = serial_of(disk);
		dev_t number;

		if (serial && !looked && find(serial, &number) < 0) {
			look_for_new_ones();
			looked = true;
		}
		if (!serial || find(serial, &number) < 0)
			return error_set(err, ENXIO, "create: disks: the machine has no disk `%s`",
					 serial ? serial : "");
		if (make_node(serial, number, err) < 0 || disks_apply(order, disk, number, err) < 0)
			return -1;
	}
	return 0;
}

int disks_resolve(json_t *order, struct error *err)
{
	const json_t *disks = json_object_get(order, "disks");
	int status;

	if (json_array_size(disks) == 0)
		return 0;
	/* For this only: a container's processes are forked from here and must not find it. */
	if ((mkdir(PLACE_SYS, 0755) < 0 && errno != EEXIST) || mount("sysfs", PLACE_SYS, "sysfs", 0, NULL) < 0)
		return error_set_errno(err, "mount sysfs");
	status = resolve_all(order, disks, err);
	umount2(PLACE_SYS, MNT_DETACH);
	return status;
}

/* --- a file system that nobody named ----------------------------------------------------------------------------- */

static int mount_as(const char *node, const char *type, bool read_only)
{
	cleanup_close int fs = fsopen(type, FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", node, 0) < 0)
		return -1;
	if (read_only && fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0)
		return -1;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	return fsmount(fs, FSMOUNT_CLOEXEC, read_only ? MOUNT_ATTR_RDONLY : 0);
}

int disks_mount(const char *node, struct error *err)
{
	static const char *const types[] = {"ext4", "erofs"};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		int mount = mount_as(node, types[i], false);

		if (mount < 0 && (errno == EACCES || errno == EROFS))
			mount = mount_as(node, types[i], true);
		if (mount >= 0)
			return mount;
		if (errno != EINVAL)
			return error_set_errno(err, "mount the disk of the root file system as %s", types[i]);
	}
	return error_set(err, EINVAL, "the disk of the root file system holds neither ext4 nor erofs");
}
