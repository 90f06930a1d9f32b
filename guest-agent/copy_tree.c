#include "guest-agent/copy_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/cleanup.h"

#define CHUNK (1u << 20)	 /* bytes copied with one call */
#define FILE_CAPABILITIES_MAX 64 /* bytes of security.capability; it has 24 at most today */

/* The directories that the copy is in, from the top to the present one. The content is hostile: no recursion. */
struct level {
	DIR *from;
	int to;
};

struct stack {
	struct level levels[COPY_TREE_DEPTH_MAX];
	size_t n;
};

static int copy_owner_and_times(int to, const struct stat *status)
{
	const struct timespec times[2] = {status->st_atim, status->st_mtim};

	/* The mode last: a change of the owner clears bits of it. */
	if (fchown(to, status->st_uid, status->st_gid) < 0 || fchmod(to, status->st_mode & 07777) < 0)
		return -1;
	return futimens(to, times);
}

static int push(struct stack *stack, int from, int to, struct error *err)
{
	DIR *directory = from < 0 || to < 0 || stack->n == COPY_TREE_DEPTH_MAX ? NULL : fdopendir(from);

	if (directory) {
		stack->levels[stack->n++] = (struct level){directory, to};
		return 0;
	}
	if (stack->n == COPY_TREE_DEPTH_MAX)
		error_set(err, ELOOP, "more than %d directories in one another", COPY_TREE_DEPTH_MAX);
	else
		error_set_errno(err, "open directory");
	cleanup_close_fd(&from);
	cleanup_close_fd(&to);
	return -1;
}

/* Its content is there: nothing changes the directory's times any more. */
static int pop(struct stack *stack, struct error *err)
{
	struct level *level = &stack->levels[--stack->n];
	struct stat status;
	int result = fstat(dirfd(level->from), &status);

	if (result == 0)
		result = copy_owner_and_times(level->to, &status);
	if (result < 0)
		error_set_errno(err, "copy a directory's owner, mode and times");
	closedir(level->from);
	close(level->to);
	return result;
}

static int copy_content(int from, int to)
{
	ssize_t n;

	do
		n = sendfile(to, from, NULL, CHUNK);
	while (n > 0);
	return n < 0 ? -1 : 0;
}

/* Most files have none, and a tmpfs may not take them. */
static void copy_capabilities(int from, int to)
{
	char value[FILE_CAPABILITIES_MAX];
	ssize_t size = fgetxattr(from, "security.capability", value, sizeof(value));

	if (size > 0)
		fsetxattr(to, "security.capability", value, (size_t)size, 0);
}

static int copy_file(const struct level *level, const char *name, const struct stat *status)
{
	cleanup_close int from = openat(dirfd(level->from), name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	cleanup_close int to = openat(level->to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (from < 0 || to < 0 || copy_content(from, to) < 0 || copy_owner_and_times(to, status) < 0)
		return -1;
	copy_capabilities(from, to);
	return 0;
}

static int set_link_attributes(const struct level *level, const char *name, const struct stat *status)
{
	const struct timespec times[2] = {status->st_atim, status->st_mtim};

	if (fchownat(level->to, name, status->st_uid, status->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -1;
	return utimensat(level->to, name, times, AT_SYMLINK_NOFOLLOW);
}

static int copy_link(const struct level *level, const char *name, const struct stat *status)
{
	char target[PATH_MAX];
	ssize_t length = readlinkat(dirfd(level->from), name, target, sizeof(target) - 1);

	if (length < 0)
		return -1;
	target[length] = '\0';
	if (symlinkat(target, level->to, name) < 0)
		return -1;
	return set_link_attributes(level, name, status);
}

static int copy_node(const struct level *level, const char *name, const struct stat *status)
{
	mode_t mask = umask(0);
	int result = mknodat(level->to, name, status->st_mode, status->st_rdev);

	umask(mask);
	return result < 0 ? -1 : set_link_attributes(level, name, status);
}

static int enter(struct stack *stack, const char *name, struct error *err)
{
	const struct level *level = &stack->levels[stack->n - 1];
	int from = openat(dirfd(level->from), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int to = -1;

	if (mkdirat(level->to, name, 0700) == 0)
		to = openat(level->to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return push(stack, from, to, err);
}

static int copy_entry(struct stack *stack, const char *name, struct error *err)
{
	const struct level *level = &stack->levels[stack->n - 1];
	struct stat status;
	int result;

	if (fstatat(dirfd(level->from), name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set_errno(err, "stat");
	if (S_ISDIR(status.st_mode))
		return enter(stack, name, err);
	if (S_ISREG(status.st_mode))
		result = copy_file(level, name, &status);
	else if (S_ISLNK(status.st_mode))
		result = copy_link(level, name, &status);
	else
		result = copy_node(level, name, &status);
	return result < 0 ? error_set_errno(err, "copy") : 0;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int copy_next(struct stack *stack, struct error *err)
{
	const struct dirent *entry;

	errno = 0;
	entry = readdir(stack->levels[stack->n - 1].from);
	if (!entry && errno != 0)
		return error_set_errno(err, "read directory");
	if (!entry)
		return pop(stack, err);
	if (is_dots(entry->d_name))
		return 0;
	if (copy_entry(stack, entry->d_name, err) < 0)
		return error_prefix(err, "`%s`", entry->d_name);
	return 0;
}

int copy_tree(int from, int to, struct error *err)
{
	struct stack *stack = calloc(1, sizeof(*stack));
	int status;

	if (!stack)
		return error_set(err, ENOMEM, "out of memory");
	status = push(stack, openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		      openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err);
	while (status == 0 && stack->n > 0)
		status = copy_next(stack, err);
	while (stack->n > 0) {
		stack->n--;
		closedir(stack->levels[stack->n].from);
		close(stack->levels[stack->n].to);
	}
	free(stack);
	return status;
}
