#include "runtime/container.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "runtime/sandbox.h"
#include "runtime/cgroup.h"
#include "runtime/hooks.h"
#include "runtime/network.h"

#define STATE_SIZE_MAX (8u << 20)
#define END_TIMEOUT_MS 10000
#define LOCK_POLL_NS 10000000

static void forget_state(struct container *container)
{
	if (container->has_state)
		state_release(&container->state);
	container->has_state = false;
}

void container_close(struct container *container)
{
	if (container->folder >= 0)
		close(container->folder);
	if (container->root >= 0)
		close(container->root);
	free(container->id);
	forget_state(container);
	*container = CONTAINER_NONE;
}

/* Like mkdir -p. */
static int make_folders(const char *path, struct error *err)
{
	char copy[PATH_MAX];

	if ((size_t)snprintf(copy, sizeof(copy), "%s", path) >= sizeof(copy))
		return error_set(err, ENAMETOOLONG, "--root `%s`: name too long", path);
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return error_set_errno(err, "create folder `%s`", copy);
		*slash = '/';
	}
	/* What is in it is nobody else's business: the state names host paths and holds the control sockets. */
	if (mkdir(copy, 0700) < 0 && errno != EEXIST)
		return error_set_errno(err, "create folder `%s`", copy);
	return 0;
}

static int open_root(const char *path, bool make, struct error *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT && make) {
		if (make_folders(path, err) < 0)
			return -1;
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return error_set_errno(err, "open --root `%s`", path);
	return fd;
}

static int read_state(struct container *container, struct error *err)
{
	cleanup_free char *text = NULL;
	size_t size;

	forget_state(container);
	if (read_file_at(container->folder, CONTAINER_STATE_FILE, STATE_SIZE_MAX, &text, &size, err) < 0)
		return err && err->code == ENOENT ? 0 : -1;
	if (state_parse(text, size, &container->state, err) < 0)
		return error_prefix(err, "state of container %s", container->id);
	container->has_state = true;
	return 0;
}

static int open_folder(struct container *container, struct error *err)
{
	container->folder = openat(container->root, container->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (container->folder < 0 && (errno == ENOENT || errno == ENOTDIR))
		return error_set(err, ENOENT, "container does not exist");
	if (container->folder < 0)
		return error_set_errno(err, "open the folder of container %s", container->id);
	return 0;
}

/* After the lock was waited for, the folder may have been removed by its holder. */
static bool is_removed(int folder)
{
	struct stat status;

	return fstat(folder, &status) < 0 || status.st_nlink == 0;
}

static int take_name(const char *root, const char *id, bool make, struct container *container, struct error *err)
{
	*container = CONTAINER_NONE;
	if (state_check_id(id, err) < 0)
		return -1;
	container->id = strdup(id);
	if (!container->id)
		return error_set_errno(err, "copy id");
	container->root = open_root(root, make, err);
	if (container->root < 0 && !make && err && err->code == ENOENT)
		error_set(err, ENOENT, "container does not exist");
	return container->root < 0 ? -1 : 0;
}

/* An existing folder may be taken over only when its creation was killed halfway; whoever made it or works on it holds
 * the lock. */
static int take_over(struct container *container, struct error *err)
{
	if (open_folder(container, err) < 0)
		return err->code == ENOENT ? 0 : -1;
	if (flock(container->folder, LOCK_EX | LOCK_NB) < 0 || is_removed(container->folder) ||
	    read_state(container, err) < 0 || (container->has_state && container->state.stage != STATE_CREATING))
		return error_set(err, EEXIST, "container with given ID already exists");
	if (container_end_processes(container, err) < 0 || container_remove(container, err) < 0)
		return -1;
	forget_state(container);
	return 0;
}

static int make_folder(struct container *container, struct error *err)
{
	for (int attempt = 0; attempt < 10; attempt++) {
		if (mkdirat(container->root, container->id, 0700) == 0) {
			if (open_folder(container, err) < 0)
				return -1;
			if (flock(container->folder, LOCK_EX) < 0)
				return error_set_errno(err, "lock the folder of container %s", container->id);
			if (!is_removed(container->folder))
				return 0;
		} else if (errno != EEXIST) {
			return error_set_errno(err, "create the folder of container %s", container->id);
		} else if (take_over(container, err) < 0) {
			return -1;
		}
		if (container->folder >= 0)
			close(container->folder);
		container->folder = -1;
	}
	return error_set(err, EBUSY, "the folder of container %s is made and removed by others", container->id);
}

int container_make(const char *root, const char *id, struct container *container, struct error *err)
{
	if (take_name(root, id, true, container, err) < 0 || make_folder(container, err) < 0) {
		container_close(container);
		return -1;
	}
	return 0;
}

int container_open_unread(const char *root, const char *id, struct container *container, struct error *err)
{
	if (take_name(root, id, false, container, err) < 0 || open_folder(container, err) < 0) {
		container_close(container);
		return -1;
	}
	return 0;
}

int container_open(const char *root, const char *id, struct container *container, struct error *err)
{
	if (container_open_unread(root, id, container, err) < 0)
		return -1;
	if (read_state(container, err) < 0) {
		container_close(container);
		return -1;
	}
	return 0;
}

int container_lock(struct container *container, int timeout_ms, struct error *err)
{
	struct timespec pause = {.tv_nsec = LOCK_POLL_NS};

	/* Polled: flock itself knows no time-out, and its holder may be waiting for a guest that never answers. */
	while (flock(container->folder, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_set_errno(err, "lock container %s", container->id);
		if (timeout_ms <= 0)
			return error_set(err, EBUSY, "container %s is being changed by another hull process",
					 container->id);
		nanosleep(&pause, NULL);
		timeout_ms -= LOCK_POLL_NS / 1000000;
	}
	if (is_removed(container->folder))
		return error_set(err, ENOENT, "container does not exist");
	return read_state(container, err);
}

int container_save(struct container *container, struct error *err)
{
	cleanup_free char *text = state_format(&container->state);

	if (!text)
		return error_set(err, ENOMEM, "format the state of container %s", container->id);
	if (write_file_atomically_at(container->folder, CONTAINER_STATE_FILE, text, strlen(text), 0600, err) < 0)
		return error_prefix(err, "state of container %s", container->id);
	container->has_state = true;
	return 0;
}

/* Without a state, only the lock tells whether the creation is still under way. */
static enum container_status status_without_state(const struct container *container)
{
	if (flock(container->folder, LOCK_SH | LOCK_NB) < 0)
		return CONTAINER_CREATING;
	flock(container->folder, LOCK_UN);
	return CONTAINER_STOPPED;
}

enum container_status container_status(const struct container *container)
{
	const struct state *state = &container->state;

	if (!container->has_state)
		return status_without_state(container);
	if (state->stage == STATE_CREATING)
		return process_alive(&state->creator) ? CONTAINER_CREATING : CONTAINER_STOPPED;
	if (!process_alive(&state->vmm))
		return CONTAINER_STOPPED;
	if (state->paused)
		return CONTAINER_PAUSED;
	return state->stage == STATE_CREATED ? CONTAINER_CREATED : CONTAINER_RUNNING;
}

enum container_status container_settled_status(struct container *container, int timeout_ms)
{
	enum container_status status = container_status(container);
	struct error err;

	/* Whoever makes it holds the lock until it is made. */
	if (status != CONTAINER_CREATING || container_lock(container, timeout_ms, &err) < 0)
		return status;
	flock(container->folder, LOCK_UN);
	return container_status(container);
}

const char *container_status_name(enum container_status status)
{
	static const char *const names[] = {
	    [CONTAINER_CREATING] = "creating", [CONTAINER_CREATED] = "created", [CONTAINER_RUNNING] = "running",
	    [CONTAINER_PAUSED] = "paused",     [CONTAINER_STOPPED] = "stopped",
	};

	return names[status];
}

int container_end_processes(struct container *container, struct error *err)
{
	struct state *state = &container->state;
	cleanup_close int network = -1;

	if (!container->has_state)
		return 0;
	network = network_find(state);
	/* A creation under way takes its machine with it: see the lifeline in spawn.h. */
	if (state->stage == STATE_CREATING && state->creator.pid != getpid() &&
	    process_end(&state->creator, END_TIMEOUT_MS, err) < 0)
		return -1;
	if (process_end(&state->vmm, END_TIMEOUT_MS, err) < 0)
		return error_prefix(err, "hull-vmm");
	if (process_end(&state->fsd, END_TIMEOUT_MS, err) < 0)
		return error_prefix(err, "hull-fsd");
	if (process_end(&state->relay, END_TIMEOUT_MS, err) < 0)
		return error_prefix(err, "hull-relay");
	/* It takes the container's cards out of a machine that goes on. */
	if (state->sandbox)
		process_wait(&state->network, END_TIMEOUT_MS);
	if (process_end(&state->network, END_TIMEOUT_MS, err) < 0)
		return error_prefix(err, "hull-net");
	if (network >= 0 && network_clear(network, state, err) < 0)
		return error_prefix(err, "network");
	return state->sandbox ? sandbox_leave(container, err) : 0;
}

static int remove_files(int folder, struct error *err)
{
	int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *entry;
	int result = 0;

	if (!directory) {
		if (copy >= 0)
			close(copy);
		return error_set_errno(err, "read container folder");
	}
	while (result == 0 && (entry = readdir(directory))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (unlinkat(folder, entry->d_name, 0) < 0 && errno != ENOENT)
			result = error_set_errno(err, "remove `%s`", entry->d_name);
	}
	closedir(directory);
	return result;
}

int container_remove(struct container *container, struct error *err)
{
	const struct state *state = &container->state;

	if (container->has_state && cgroup_remove(state->cgroup, state->scope, err) < 0)
		return error_prefix(err, "container %s", container->id);
	if (remove_files(container->folder, err) < 0)
		return error_prefix(err, "container %s", container->id);
	if (unlinkat(container->root, container->id, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_set_errno(err, "remove the folder of container %s", container->id);
	if (container->has_state)
		container_run_hooks(container, "poststop", "stopped", 0);
	return 0;
}

void container_run_hooks(const struct container *container, const char *kind, const char *status, pid_t pid)
{
	const struct state *state = &container->state;
	struct hook_subject subject = {.id = container->id,
				       .bundle = state->bundle,
				       .status = status,
				       .pid = pid,
				       .annotations = state->annotations};

	hooks_run_all(state->hooks, kind, &subject);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int append_name(char ***names, size_t *n, const char *name)
{
	char **larger = realloc(*names, (*n + 1) * sizeof(**names));

	if (!larger)
		return -1;
	*names = larger;
	larger[*n] = strdup(name);
	if (!larger[*n])
		return -1;
	(*n)++;
	return 0;
}

int container_list(const char *root, char ***ids, size_t *n, struct error *err)
{
	DIR *directory = opendir(root);
	struct dirent *entry;
	int result = 0;

	*ids = NULL;
	*n = 0;
	if (!directory && errno == ENOENT)
		return 0;
	if (!directory)
		return error_set_errno(err, "open --root `%s`", root);
	while (result == 0 && (entry = readdir(directory))) {
		if ((entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) || state_check_id(entry->d_name, NULL) < 0)
			continue;
		if (append_name(ids, n, entry->d_name) < 0)
			result = error_set_errno(err, "list containers");
	}
	closedir(directory);
	if (*ids)
		qsort(*ids, *n, sizeof(**ids), compare_names);
	return result;
}
