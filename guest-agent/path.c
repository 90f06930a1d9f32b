#include "guest-agent/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
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

/* --- links that lead to nothing ---------------------------------------------------------------------------------- */

#define LINKS_MAX 40 /* the kernel's */

/* A path being followed: where it has led to so far, without links, and what is still to be done. */
struct journey {
	char place[PATH_MAX]; /* "" is the root, else "/a/b" */
	char rest[2 * PATH_MAX];
	int links;
};

/* Puts a link's content in front of what is still to be done. */
static int follow(struct journey *journey, int link)
{
	char rest[sizeof(journey->rest)], target[PATH_MAX];
	ssize_t length = readlinkat(link, "", target, sizeof(target) - 1);

	if (length < 0)
		return -1;
	target[length] = '\0';
	errno = ++journey->links > LINKS_MAX ? ELOOP : ENAMETOOLONG;
	if (journey->links > LINKS_MAX ||
	    (size_t)snprintf(rest, sizeof(rest), "%s/%s", target, journey->rest) >= sizeof(rest))
		return -1;
	memcpy(journey->rest, rest, strlen(rest) + 1);
	if (*target == '/')
		*journey->place = '\0';
	return 0;
}

static int take_step(struct journey *journey, int root, const char *name)
{
	size_t before = strlen(journey->place);
	cleanup_close int fd = -1;
	struct stat status;

	if (strcmp(name, ".") == 0 || *name == '\0')
		return 0;
	if (strcmp(name, "..") == 0) {
		char *slash = strrchr(journey->place, '/');

		if (slash)
			*slash = '\0';
		return 0;
	}
	if ((size_t)snprintf(journey->place + before, sizeof(journey->place) - before, "/%s", name) >=
	    sizeof(journey->place) - before) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = open_resolved(root, journey->place, O_PATH | O_NOFOLLOW, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
	if (fstat(fd, &status) < 0)
		return -1;
	if (!S_ISLNK(status.st_mode))
		return 0;
	journey->place[before] = '\0';
	return follow(journey, fd);
}

/* Where path leads to, also through links to what does not exist: something without links. */
static int find_place(int root, const char *path, struct journey *journey)
{
	*journey = (struct journey){0};
	if ((size_t)snprintf(journey->rest, sizeof(journey->rest), "%s", path) >= sizeof(journey->rest)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	while (*journey->rest) {
		size_t length = strcspn(journey->rest, "/"), used = length + (journey->rest[length] == '/');
		char name[NAME_MAX + 1];

		if (length > NAME_MAX) {
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(name, journey->rest, length);
		name[length] = '\0';
		memmove(journey->rest, journey->rest + used, strlen(journey->rest + used) + 1);
		if (take_step(journey, root, name) < 0)
			return -1;
	}
	return 0;
}

/* --- making what is missing -------------------------------------------------------------------------------------- */

static int make_through_links(int root, const char *path, bool no_links)
{
	struct journey journey;

	if (no_links)
		return make_directory(root, path, true);
	if (find_place(root, path, &journey) < 0)
		return -1;
	return make_directory(root, *journey.place ? journey.place : "/", true);
}

int path_make_directory(int root, const char *path, bool no_links, struct error *err)
{
	int fd = make_through_links(root, path, no_links);

	if (fd < 0)
		return error_set_errno(err, "mkdir %s", path);
	return fd;
}

int path_make_file(int root, const char *path, struct error *err)
{
	cleanup_close int parent = -1;
	cleanup_close int made = -1;
	struct journey journey;
	int fd = path_open(root, path, O_PATH);
	char *name;

	if (fd >= 0)
		return fd;
	if (errno != ENOENT || find_place(root, path, &journey) < 0 || *journey.place == '\0')
		return error_set_errno(err, "open %s", path);
	name = strrchr(journey.place, '/');
	*name++ = '\0';
	parent = make_directory(root, *journey.place ? journey.place : "/", true);
	if (parent < 0)
		return error_set_errno(err, "mkdir %s", journey.place);
	made = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, MADE_MODE);
	if (made < 0 && errno != EEXIST)
		return error_set_errno(err, "create %s", path);
	fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? error_set_errno(err, "open %s", path) : fd;
}
