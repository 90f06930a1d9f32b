#include "runtime/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/path.h"
#include "common/words.h"
#include "runtime/report.h"
#include "runtime/systemd.h"

#define FILE_SIZE_MAX 65536
#define REMOVE_TIMEOUT_MS 20000 /* an overloaded host takes its time to let a killed process go */
#define POLL_NS 5000000
#define POLL_MS 5

void cgroup_place_release(struct cgroup_place *place)
{
	free(place->path);
	free(place->slice);
	free(place->scope);
	*place = (struct cgroup_place){0};
}

int cgroup_parse_manager(const char *text, enum cgroup_manager *manager)
{
	static const struct word managers[] = {
	    {"cgroupfs", CGROUP_CGROUPFS}, {"systemd", CGROUP_SYSTEMD}, {"disabled", CGROUP_DISABLED}, {NULL, 0}};
	uint32_t value;

	if (word_value(managers, text, &value) < 0)
		return -1;
	*manager = (enum cgroup_manager)value;
	return 0;
}

/* --- where ------------------------------------------------------------------------------------------------------- */

static char *last_slash(char *text, size_t length)
{
	while (length > 0 && text[length - 1] != '/')
		length--;
	return text + (length > 0 ? length - 1 : 0);
}

/* The path after "0::" of /proc/PID/cgroup, without its newline; allocated. */
static char *find_unified(const char *text, struct error *err)
{
	while (text && strncmp(text, "0::", 3) != 0) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	if (!text || text[3] != '/') {
		error_set(err, ENOTSUP, "this host has no cgroup v2 hierarchy");
		return NULL;
	}
	return strndup(text + 3, strcspn(text + 3, "\n"));
}

static char *cgroup_of(pid_t pid, struct error *err)
{
	cleanup_free char *text = NULL;
	char file[40];

	snprintf(file, sizeof(file), pid ? "/proc/%d/cgroup" : "/proc/self/cgroup", (int)pid);
	if (read_file_at(AT_FDCWD, file, FILE_SIZE_MAX, &text, NULL, err) < 0)
		return NULL;
	return find_unified(text, err);
}

/* Hull's own cgroup has processes in it, and so can have no children with controllers: its parent is the place. What
 * leads up in path ends at the parent. */
static int locate_relative(const char *path, struct cgroup_place *place, struct error *err)
{
	cleanup_free char *own = cgroup_of(0, err);
	char *below = path_clean(path), *joined = NULL;

	if (own && below) {
		*last_slash(own, strlen(own)) = '\0';
		if (asprintf(&joined, "%s%s", own, below) < 0)
			joined = NULL;
	}
	free(below);
	free(place->path);
	place->path = joined;
	if (!own)
		return -1;
	return joined ? 0 : error_set(err, ENOMEM, "copy a path");
}

static int locate_in_files(const char *path, const char *id, struct cgroup_place *place, struct error *err)
{
	if (!path)
		return locate_relative(id, place, err);
	if (strlen(path) + sizeof(CGROUP_MOUNT) >= PATH_MAX)
		return error_set(err, ENAMETOOLONG, "linux.cgroupsPath: too long");
	place->path = path_clean(path);
	if (!place->path)
		return error_set(err, ENOMEM, "copy a path");
	if (strcmp(place->path, "/") == 0)
		return error_set(err, EINVAL, "linux.cgroupsPath: \"%s\" is the root of all cgroups", path);
	return *path == '/' ? 0 : locate_relative(path, place, err);
}

static int locate_scope(const char *path, const char *id, bool rootless, struct cgroup_place *place, struct error *err)
{
	const char *prefix = path ? strchr(path, ':') : NULL, *name = prefix ? strchr(prefix + 1, ':') : NULL;
	const char *fallback = rootless ? "user.slice" : "system.slice";
	int made;

	if (path && (!name || strchr(name + 1, ':')))
		return error_set(err, EINVAL,
				 "linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for "
				 "systemd cgroups, got \"%s\" instead",
				 path);
	if (path && name[1] == '\0')
		return error_set(err, EINVAL, "linux.cgroupsPath: \"%s\" names no scope", path);
	place->slice = path && prefix != path ? strndup(path, (size_t)(prefix - path)) : strdup(fallback);
	made = path ? asprintf(&place->scope, "%.*s-%s.scope", (int)(name - prefix - 1), prefix + 1, name + 1)
		    : asprintf(&place->scope, "hull-%s.scope", id);
	if (made < 0)
		place->scope = NULL;
	return place->slice && place->scope ? 0 : error_set(err, ENOMEM, "copy the name of a scope");
}

int cgroup_locate(enum cgroup_manager manager, const char *path, const char *id, bool rootless,
		  struct cgroup_place *place, struct error *err)
{
	int result = 0;

	*place = (struct cgroup_place){.manager = manager, .optional = rootless && !(path && *path)};
	if (path && *path == '\0')
		path = NULL;
	if (manager == CGROUP_SYSTEMD)
		result = locate_scope(path, id, rootless, place, err);
	else if (manager == CGROUP_CGROUPFS)
		result = locate_in_files(path, id, place, err);
	if (result < 0)
		cgroup_place_release(place);
	return result;
}

/* --- making ------------------------------------------------------------------------------------------------------ */

static int open_mount(struct error *err)
{
	cleanup_close int fd = open(CGROUP_MOUNT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs status;

	if (fd < 0)
		return error_set_errno(err, "open " CGROUP_MOUNT);
	if (fstatfs(fd, &status) < 0 || status.f_type != CGROUP2_SUPER_MAGIC)
		return error_set(err, ENOTSUP, CGROUP_MOUNT " is not cgroup v2, which hull needs (see hull doctor)");
	return take_fd(&fd);
}

static int write_file(int cgroup, const char *name, const char *text)
{
	cleanup_close int fd = openat(cgroup, name, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -1 : 0;
}

static bool has_word(const char *text, const char *word, size_t length)
{
	for (const char *found = strstr(text, word); found; found = strstr(found + 1, word))
		if ((found == text || found[-1] == ' ') && strchr(" \n", found[length]))
			return true;
	return false;
}

/* Enables in a parent what it has to give and does not give yet. A controller that cannot be enabled is found missing
 * when a limit needs it, which is the better message. */
static void enable_controllers(int cgroup)
{
	cleanup_free char *available = NULL, *enabled = NULL;
	char *rest = NULL;

	if (read_file_at(cgroup, "cgroup.controllers", FILE_SIZE_MAX, &available, NULL, NULL) < 0 ||
	    read_file_at(cgroup, "cgroup.subtree_control", FILE_SIZE_MAX, &enabled, NULL, NULL) < 0)
		return;
	for (char *name = strtok_r(available, " \n", &rest); name; name = strtok_r(NULL, " \n", &rest)) {
		char order[64];

		if (has_word(enabled, name, strlen(name)))
			continue;
		snprintf(order, sizeof(order), "+%s", name);
		if (write_file(cgroup, "cgroup.subtree_control", order) < 0)
			report_debug("cgroup controller %s cannot be enabled: %s", name, strerror(errno));
	}
}

/* Goes down path from the mount, making what is missing. *new_from becomes how much of path existed before, in bytes.
 */
static int make_directories(int mount, const char *path, size_t *new_from, struct error *err)
{
	cleanup_close int at = fcntl(mount, F_DUPFD_CLOEXEC, 0);
	const char *end = path;
	char name[NAME_MAX + 1];

	*new_from = 0;
	while (at >= 0 && *end == '/') {
		const char *start = end + 1;
		int next;

		end = start + strcspn(start, "/");
		if ((size_t)snprintf(name, sizeof(name), "%.*s", (int)(end - start), start) >= sizeof(name))
			return error_set(err, ENAMETOOLONG, "make cgroup `%s`", path);
		enable_controllers(at);
		if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
			return error_set_errno(err, "make cgroup `%.*s`", (int)(end - path), path);
		else if (errno == EEXIST && *new_from == (size_t)(start - 1 - path))
			*new_from = (size_t)(end - path);
		errno = 0;
		next = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(at);
		at = next;
	}
	return at < 0 ? error_set_errno(err, "open cgroup `%s`", path) : take_fd(&at);
}

/* Removes the directories of path beyond its first `keep` bytes, the deepest first. */
static void remove_new(int mount, const char *path, size_t keep)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof(copy), "%s", path);
	while (strlen(copy) > keep) {
		unlinkat(mount, copy + 1, AT_REMOVEDIR);
		*last_slash(copy, strlen(copy)) = '\0';
	}
}

/* Limits on a cgroup that others live in would hit them, and a frozen one would hold the machine for ever. */
static int check_unused(int cgroup, struct error *err)
{
	cleanup_free char *processes = NULL, *frozen = NULL;
	unsigned n = 0;

	if (read_file_at(cgroup, "cgroup.procs", 1u << 20, &processes, NULL, err) < 0)
		return -1;
	for (const char *c = processes; *c; c++)
		n += *c == '\n';
	if (n > 0)
		return error_set(err, EBUSY, "container's cgroup is not empty: %u process(es) found", n);
	if (read_file_at(cgroup, "cgroup.freeze", FILE_SIZE_MAX, &frozen, NULL, NULL) == 0 && *frozen == '1')
		return error_set(err, EBUSY, "container's cgroup unexpectedly frozen");
	return 0;
}

/* Without swap accounting there is no such file, and then nothing that could be swapped is held back or let through. */
static bool may_be_missing(const struct setting *setting)
{
	return strcmp(setting->file, "memory.swap.max") == 0 &&
	       (strcmp(setting->value, "max") == 0 || strcmp(setting->value, "0") == 0);
}

static int apply(int cgroup, const struct settings *settings, struct error *err)
{
	for (size_t i = 0; i < settings->n; i++) {
		const struct setting *setting = &settings->list[i];

		if (write_file(cgroup, setting->file, setting->value) == 0)
			continue;
		if (errno == ENOENT && may_be_missing(setting))
			continue;
		if (errno == ENOENT)
			return error_set(err, ENOTSUP,
					 "linux.resources.%s: the host's cgroup has no %s: is its controller enabled?",
					 setting->field, setting->file);
		return error_set_errno(err, "linux.resources.%s: write \"%s\" to %s of the host's cgroup",
				       setting->field, setting->value, setting->file);
	}
	return 0;
}

static int set_limits(int cgroup, const struct limits *limits, uint64_t machine_memory, struct error *err)
{
	cleanup_settings struct settings settings = {0};
	bool bfq = faccessat(cgroup, "io.bfq.weight", F_OK, 0) == 0;

	if (limits_settings(limits, machine_memory, bfq, &settings, err) < 0)
		return -1;
	return apply(cgroup, &settings, err);
}

static int prepare(int cgroup, const struct limits *limits, uint64_t machine_memory, struct error *err)
{
	if (check_unused(cgroup, err) < 0)
		return -1;
	return set_limits(cgroup, limits, machine_memory, err);
}

static int make_in_files(int mount, struct cgroup_place *place, const struct limits *limits, uint64_t machine_memory,
			 int *fd, struct error *err)
{
	size_t existed;
	int cgroup = make_directories(mount, place->path, &existed, err);

	if (cgroup < 0) {
		remove_new(mount, place->path, existed);
		return -1;
	}
	if (prepare(cgroup, limits, machine_memory, err) < 0) {
		close(cgroup);
		remove_new(mount, place->path, existed);
		return -1;
	}
	*fd = cgroup;
	return 0;
}

/* A scope needs a process to begin with: one that does nothing holds its place until hull-vmm is there. It goes when
 * its scope is let go of, or with us. */
static int make_scope(int mount, struct cgroup_place *place, const struct limits *limits, uint64_t machine_memory,
		      int *fd, struct error *err)
{
	cleanup_close int cgroup = -1;
	pid_t holder = 0;

	if (systemd_start_scope(place->slice, place->scope, limits, machine_memory, &holder, err) < 0)
		return -1;
	place->path = cgroup_of(holder, err);
	if (place->path)
		cgroup = openat(mount, place->path + 1, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (place->path && cgroup < 0)
		error_set_errno(err, "open cgroup `%s`", place->path);
	if (cgroup < 0 || set_limits(cgroup, limits, machine_memory, err) < 0) {
		systemd_release_holder(holder);
		systemd_stop_scope(place->scope, NULL);
		return -1;
	}
	place->holder = holder;
	*fd = take_fd(&cgroup);
	return 0;
}

static bool asks_for_something(const struct limits *limits)
{
	cleanup_settings struct settings settings = {0};

	return limits_settings(limits, 0, false, &settings, NULL) < 0 || settings.n > 0;
}

static bool is_denial(const struct error *err)
{
	return err->code == EACCES || err->code == EPERM || err->code == EROFS || err->code == ENOTSUP;
}

int cgroup_make(struct cgroup_place *place, const struct limits *limits, uint64_t machine_memory, int *fd,
		struct error *err)
{
	cleanup_close int mount = -1;
	int result;

	*fd = -1;
	if (place->manager == CGROUP_DISABLED)
		return 0;
	mount = open_mount(err);
	if (mount < 0)
		result = -1;
	else if (place->manager == CGROUP_SYSTEMD)
		result = make_scope(mount, place, limits, machine_memory, fd, err);
	else
		result = make_in_files(mount, place, limits, machine_memory, fd, err);
	if (result == 0 || !place->optional || !is_denial(err) || asks_for_something(limits))
		return result;
	/* As runc does for an ordinary user who asks for no limits. */
	report_debug("no cgroup on the host: %s", err->message);
	free(take_pointer(place->path));
	free(take_pointer(place->scope));
	return 0;
}

void cgroup_occupied(struct cgroup_place *place)
{
	if (place->holder > 0)
		systemd_release_holder(place->holder);
	place->holder = 0;
}

int cgroup_update(const char *path, const char *scope, const struct limits *limits, uint64_t machine_memory,
		  struct error *err)
{
	cleanup_close int mount = -1, cgroup = -1;

	if (!path && asks_for_something(limits))
		return error_set(err, ENOTSUP, "the container has no cgroup on this host");
	if (!path)
		return 0;
	mount = open_mount(err);
	if (mount < 0)
		return -1;
	cgroup = openat(mount, path + 1, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup < 0)
		return error_set_errno(err, "open cgroup `%s`", path);
	if (scope && systemd_set_limits(scope, limits, machine_memory, err) < 0)
		return -1;
	return set_limits(cgroup, limits, machine_memory, err);
}

/* --- removing ---------------------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
	(void)status;
	(void)walk;
	if (kind != FTW_DP)
		return 0;
	return rmdir(path) < 0 && errno != ENOENT ? errno : 0;
}

int cgroup_remove(const char *path, const char *scope, struct error *err)
{
	struct timespec pause = {.tv_nsec = POLL_NS};
	char full[PATH_MAX + sizeof(CGROUP_MOUNT)];
	int code = 0;

	if (!path)
		return scope ? systemd_stop_scope(scope, err) : 0;
	snprintf(full, sizeof(full), CGROUP_MOUNT "%s", path);
	/* The usual case: nothing below it, and its processes are gone. */
	for (int waited = 0; rmdir(full) < 0 && errno != ENOENT; waited += POLL_MS) {
		/* FTW_MOUNT and FTW_PHYS: not a step out of the hierarchy. */
		code = nftw(full, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
		if (code == 0)
			break;
		if (code < 0)
			code = errno;
		if (waited >= REMOVE_TIMEOUT_MS)
			return error_set(err, code, "remove cgroup `%s`: %s", path, strerror(code));
		nanosleep(&pause, NULL);
	}
	return scope ? systemd_stop_scope(scope, err) : 0;
}
