#include "guest-agent/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"

#define MADE_MODE 0755 /* of mount points that are made, as runc does */

static int open_resolved(int root, const char *path, int flags, uint64_t resolve)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = resolve};

	return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

int path_open(int root, const char *path, int flags)
{
	return open_resolved(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int path_open_beneath(int directory, const char *path, int flags)
{
	return open_resolved(directory, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

static int open_directory(int root, const char *path, bool no_links)
{
	uint64_t links = no_links ? RESOLVE_NO_SYMLINKS : RESOLVE_NO_MAGICLINKS;

	return open_resolved(root, path, O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT | links);
}

/* Makes one directory and opens it, or opens what somebody else has just put there if it is a directory. The name is
 * one part of a clean path, so it cannot lead upwards. */
static int make_step(int parent, const char *name)
{
	if (mkdirat(parent, name, MADE_MODE) < 0 && errno != EEXIST)
		return -1;
	return openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* The first `end` characters of path, which is clean; "" is the root itself. */
static int open_prefix(int root, const char *path, size_t end, bool no_links)
{
	char prefix[PATH_MAX];

	if (end >= sizeof(prefix)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(prefix, path, end);
	prefix[end] = '\0';
	return open_directory(root, end ? prefix : "/", no_links);
}

static int make_below(int parent, const char *rest)
{
	cleanup_close int fd = parent;

	while (*rest) {
		char name[NAME_MAX + 1];
		size_t length = strcspn(++rest, "/");
		int next;

		if (length > NAME_MAX) {
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(name, rest, length);
		name[length] = '\0';
		next = make_step(fd, name);
		if (next < 0)
			return -1;
		close(fd);
		fd = next;
		rest += length;
	}
	return take_fd(&fd);
}

static int make_directory(int root, const char *path, bool no_links)
{
	size_t end = strlen(path);
	int fd = open_directory(root, path, no_links);

	/* Look for the longest part that exists, then make the rest step by step. */
	while (fd < 0 && errno == ENOENT && end > 0) {
		while (path[--end] != '/')
			;
		fd = open_prefix(root, path, end, no_links);
	}
	if (fd < 0 || path[end] == '\0' || strcmp(path, "/") == 0)
		return fd;
	return make_below(fd, path + end);
}

int path_make_directory(int root, const char *path, bool no_links, struct error *err)
{
	int fd = make_directory(root, path, no_links);

	if (fd < 0)
		return error_set_errno(err, "mkdir %s", path);
	return fd;
}

int path_make_file(int root, const char *path, struct error *err)
{
	cleanup_close int parent = -1;
	cleanup_close int made = -1;
	char directory[PATH_MAX];
	size_t length;
	int fd = path_open(root, path, O_PATH);

	if (fd >= 0)
		return fd;
	if (errno != ENOENT)
		return error_set_errno(err, "open %s", path);
	length = (size_t)(strrchr(path, '/') - path);
	if (length >= sizeof(directory))
		return error_set(err, ENAMETOOLONG, "open %s: name too long", path);
	memcpy(directory, path, length);
	directory[length] = '\0';
	parent = path_make_directory(root, length ? directory : "/", false, err);
	if (parent < 0)
		return -1;
	made = openat(parent, path + length + 1, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, MADE_MODE);
	if (made < 0 && errno != EEXIST)
		return error_set_errno(err, "create %s", path);
	fd = openat(parent, path + length + 1, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, "open %s", path);
	return fd;
}
