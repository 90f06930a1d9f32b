#include "guest-agent/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "guest-agent/places.h"

/* A name that no file of a cgroup directory has, and that says nothing about the container to its neighbours. */
static void name_of(unsigned number, char *path, size_t room)
{
	snprintf(path, room, PLACE_CGROUP "/container-%u", number);
}

static int open_directory(int at, const char *name)
{
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int cgroup_enable_controllers(struct error *err)
{
	cleanup_close int fd = open(PLACE_CGROUP "/cgroup.subtree_control", O_WRONLY | O_CLOEXEC);
	cleanup_free char *controllers = NULL;
	char orders[256] = "";
	size_t used = 0;

	if (read_file_at(AT_FDCWD, PLACE_CGROUP "/cgroup.controllers", sizeof(orders) / 2, &controllers, NULL, err) < 0)
		return -1;
	for (char *name = strtok(controllers, " \n"); name; name = strtok(NULL, " \n"))
		used += (size_t)snprintf(orders + used, sizeof(orders) - used, "+%s ", name);
	if (fd < 0 || write(fd, orders, used) < 0)
		return error_set_errno(err, "enable cgroup controllers");
	return 0;
}

int cgroup_create(unsigned number, struct error *err)
{
	char path[64];
	int fd;

	name_of(number, path, sizeof(path));
	if (mkdir(path, 0755) < 0)
		return error_set_errno(err, "make cgroup %s", path);
	fd = open_directory(AT_FDCWD, path);
	if (fd < 0) {
		error_set_errno(err, "open cgroup %s", path);
		rmdir(path);
	}
	return fd;
}

/* Documentation/admin-guide/cgroup-v2.rst "Model of Delegation", and /sys/kernel/cgroup/delegate */
int cgroup_delegate(int cgroup, uid_t owner, struct error *err)
{
	static const char *const names[] = {".", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control",
					    "memory.oom.group"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (fchownat(cgroup, names[i], owner, (gid_t)-1, 0) < 0 && errno != ENOENT)
			return error_set_errno(err, "give the cgroup to its container");
	return 0;
}

int cgroup_kill(int cgroup, struct error *err)
{
	cleanup_close int fd = openat(cgroup, "cgroup.kill", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1", 1) != 1)
		return error_set_errno(err, "kill the container's processes");
	return 0;
}

/* The name of some directory in it. Returns 1, 0 when there is none, -1. */
static int find_child(int cgroup, char *name, size_t room)
{
	int fd = open_directory(cgroup, ".");
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry = NULL;

	if (!directory) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while ((entry = readdir(directory)) != NULL)
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			break;
	if (entry)
		snprintf(name, room, "%s", entry->d_name);
	closedir(directory);
	return entry != NULL;
}

/* Goes down to a cgroup that has none below it, and removes that. The container decided how deep they are nested, so
 * this neither recurses nor builds a path. */
static int remove_one_below(int cgroup)
{
	cleanup_close int at = open_directory(cgroup, ".");
	char name[256], below[256];
	int found = at < 0 ? -1 : find_child(at, name, sizeof(name));

	while (found == 1) {
		cleanup_close int next = open_directory(at, name);

		found = next < 0 ? -1 : find_child(next, below, sizeof(below));
		if (found == 0)
			return unlinkat(at, name, AT_REMOVEDIR);
		if (found == 1) {
			close(at);
			at = take_fd(&next);
			memcpy(name, below, sizeof(name));
		}
	}
	errno = ENOENT;
	return -1;
}

int cgroup_remove(unsigned number, struct error *err)
{
	char path[64];

	name_of(number, path, sizeof(path));
	while (rmdir(path) < 0) {
		cleanup_close int fd = -1;

		if (errno == ENOENT)
			return 0;
		fd = open_directory(AT_FDCWD, path);
		if (fd < 0 || remove_one_below(fd) < 0)
			return error_set_errno(err, "remove cgroup %s", path);
	}
	return 0;
}
