/*
 * Tries to get at files outside of its container, with whatever privileges it has; prints how each attempt went.
 *
 *   outside mount TYPE SOURCE      mounts a file system on /mnt: "mounted", or why not
 *   outside handles                opens files by made-up handles: "none", "own" (files of its own root file system) or
 *                                  "outside"
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODES 4096

/* A file handle of FUSE (fs/fuse/inode.c): the upper and the lower half of the node's number, its generation. */
#define PARTS 3
union handle {
	struct file_handle head;
	char room[sizeof(struct file_handle) + PARTS * sizeof(uint32_t)];
};

static const char *try_mount(const char *type, const char *source)
{
	if (mount(source, "/mnt", type, 0, NULL) < 0)
		return strerror(errno);
	umount("/mnt");
	return "mounted";
}

/* A handle that this file system gives itself, with another number. */
static int open_node(int root, const union handle *own, uint32_t node)
{
	union handle handle = *own;
	uint32_t parts[PARTS];

	memcpy(parts, handle.head.f_handle, sizeof(parts));
	parts[0] = 0;
	parts[1] = node;
	memcpy(handle.head.f_handle, parts, sizeof(parts));
	return open_by_handle_at(root, &handle.head, O_PATH);
}

static const char *try_handles(void)
{
	union handle handle = {.head = {.handle_bytes = PARTS * sizeof(uint32_t)}};
	int mount_id, root = open("/", O_RDONLY | O_DIRECTORY);
	const char *found = "none";
	struct stat own, status;

	if (root < 0 || fstat(root, &own) < 0 ||
	    name_to_handle_at(root, "", &handle.head, &mount_id, AT_EMPTY_PATH) < 0)
		return strerror(errno);
	for (uint32_t node = 0; node < NODES; node++) {
		int fd = open_node(root, &handle, node);

		if (fd < 0 && errno != ESTALE)
			return strerror(errno);
		if (fd < 0)
			continue;
		if (fstat(fd, &status) < 0 || status.st_dev != own.st_dev)
			return "outside";
		found = "own";
		close(fd);
	}
	return found;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "mount") == 0)
		puts(try_mount(argv[2], argv[3]));
	else if (argc == 2 && strcmp(argv[1], "handles") == 0)
		puts(try_handles());
	else
		return 2;
	return 0;
}
