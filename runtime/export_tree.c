#include "runtime/export_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
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

/* First what holds for all of them. */
static int protect(int fd, bool read_only, bool read_only_below, bool recursive)
{
	struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};

	if (set_attributes(fd, read_only_below || (read_only && !recursive), recursive) < 0)
		return -1;
	if (!read_only || !recursive || read_only_below)
		return 0;
	return (int)syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attributes, sizeof(attributes));
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

int export_tree_clone(int *fd, bool read_only, bool read_only_below, bool recursive, const struct idmap *idmap,
		      struct error *err)
{
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
	cleanup_close int tree = -1;

	if (is_procfs(*fd))
		return error_set(err, EACCES, "on procfs, which is not exported");
	tree = (int)syscall(SYS_open_tree, *fd, "", flags);
	if (tree < 0 && errno == EPERM && !read_only && !read_only_below && !idmap->users) {
		report_debug("no privilege to clone mounts: an export is served as it is");
		return 0;
	}
	if (tree < 0)
		return error_set_errno(err, "clone the mount");
	if (protect(tree, read_only, read_only_below, recursive) < 0)
		return error_set_errno(err, "set the mount's attributes");
	if (map_ids(tree, idmap, err) < 0)
		return -1;
	close(*fd);
	*fd = take_fd(&tree);
	return 0;
}

/* --- mounts below ------------------------------------------------------------------------------------------------ */

#define MOUNTINFO_MAX (16u << 20)

/* Blanks and their like are octal numbers in mountinfo (proc(5)). */
static void decode(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		unsigned value;

		if (*from == '\\' && sscanf(from + 1, "%3o", &value) == 1) {
			*to = (char)value;
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

/* The fifth field is the mount's place, the sixth has its options. */
static int add_if_writable_below(char *line, const char *place, json_t *paths)
{
	char *fields[6], *rest = NULL, *word = strtok_r(line, " ", &rest);
	size_t length = strcmp(place, "/") == 0 ? 0 : strlen(place);
	json_t *path;

	for (int i = 0; i < 6; i++, word = strtok_r(NULL, " ", &rest)) {
		if (!word)
			return 0;
		fields[i] = word;
	}
	if (strncmp(fields[5], "ro", 2) == 0 && (fields[5][2] == ',' || fields[5][2] == '\0'))
		return 0;
	decode(fields[4]);
	if (strncmp(fields[4], place, length) != 0 || fields[4][length] != '/' || fields[4][length + 1] == '\0')
		return 0;
	path = json_string(fields[4] + length + 1);
	return path ? json_array_append_new(paths, path) : 0;
}

json_t *export_tree_writable_below(int fd, struct error *err)
{
	cleanup_free char *text = NULL;
	char link[32], place[PATH_MAX];
	json_t *paths = json_array();
	char *rest = NULL;
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, place, sizeof(place) - 1);
	if (length < 0 || !paths) {
		error_set_errno(err, "find the path of an export");
		json_decref(paths);
		return NULL;
	}
	place[length] = '\0';
	if (read_file_at(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL, err) < 0) {
		json_decref(paths);
		return NULL;
	}
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (add_if_writable_below(line, place, paths) < 0) {
			error_set(err, ENOMEM, "out of memory");
			json_decref(paths);
			return NULL;
		}
	}
	return paths;
}
