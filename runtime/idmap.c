#include "runtime/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/spec_fields.h"
#include "common/spec_values.h"
#include "runtime/spec.h"

static bool has_option(const json_t *mount, const char *name)
{
	const json_t *option;
	size_t index;

	json_array_foreach(json_object_get(mount, "options"), index, option)
	{
		if (strcmp(json_string_value(option), name) == 0)
			return true;
	}
	return false;
}

#define OPTION "idmap="

/* An id of the container's as the host has it. */
static int make_absolute(const json_t *mappings, unsigned long long file_id, unsigned long long *id)
{
	const json_t *mapping;
	size_t i;

	json_array_foreach(mappings, i, mapping)
	{
		uint64_t first = spec_u64(mapping, "containerID", 0);

		if (file_id < first || file_id - first >= spec_u64(mapping, "size", 0))
			continue;
		*id += spec_u64(mapping, "hostID", 0) - first;
		return 0;
	}
	return -1;
}

/* FILE-HOST-SIZE, with others after #. mappings are the container's, of the same kind. */
static int read_triplets(const char *text, const json_t *mappings, json_t *list)
{
	do {
		unsigned long long file_id, id, size;
		bool relative = *text == '@';
		int used;

		if (sscanf(text + relative, "%llu-%llu-%llu%n", &file_id, &id, &size, &used) != 3 ||
		    file_id > UINT32_MAX || id > UINT32_MAX || size > UINT32_MAX ||
		    (relative && make_absolute(mappings, file_id, &id) < 0))
			return -1;
		text += relative + used;
		if (*text == '#' && text[1])
			text++;
		else if (*text)
			return -1;
		json_array_append_new(list, json_pack("{s:I, s:I, s:I}", "containerID", (json_int_t)file_id, "hostID",
						      (json_int_t)id, "size", (json_int_t)size));
	} while (*text);
	return 0;
}

/* uids=... and gids=... in any order, with a semicolon between them. */
static int read_mappings(const char *text, const json_t *linux_part, json_t *mount)
{
	cleanup_free char *copy = NULL;
	char *rest = NULL;

	if (asprintf(&copy, "%s", text) < 0)
		return -1;
	for (char *part = strtok_r(copy, ";", &rest); part; part = strtok_r(NULL, ";", &rest)) {
		const char *name = strncmp(part, "uids=", 5) == 0   ? "uidMappings"
				   : strncmp(part, "gids=", 5) == 0 ? "gidMappings"
								    : NULL;
		json_t *list = name ? json_array() : NULL;

		if (!list || read_triplets(part + 5, json_object_get(linux_part, name), list) < 0) {
			json_decref(list);
			return -1;
		}
		json_object_set_new(mount, name, list);
	}
	return 0;
}

static int take_option(json_t *config, size_t index, struct error *err)
{
	json_t *mount = json_array_get(json_object_get(config, "mounts"), index);
	const json_t *option;
	size_t i;

	json_array_foreach(json_object_get(mount, "options"), i, option)
	{
		const char *text = json_string_value(option);

		if (strncmp(text, OPTION, strlen(OPTION)) != 0)
			continue;
		if (read_mappings(text + strlen(OPTION), json_object_get(config, "linux"), mount) < 0)
			return error_set(err, EINVAL, SPEC_FILE ": mounts[%zu].options: invalid mapping in `%s`", index,
					 text);
	}
	return 0;
}

/* Of the container's own user namespace; none when it has no such, or joins another's. */
static void take_those_of_container(const json_t *config, struct idmap *idmap)
{
	const json_t *linux_part = json_object_get(config, "linux"), *namespace;
	size_t index;

	json_array_foreach(json_object_get(linux_part, "namespaces"), index, namespace)
	{
		const char *type = json_string_value(json_object_get(namespace, "type"));

		if (!type || strcmp(type, "user") != 0 || json_object_get(namespace, "path"))
			continue;
		idmap->users = json_object_get(linux_part, "uidMappings");
		idmap->groups = json_object_get(linux_part, "gidMappings");
	}
}

static int check(const struct idmap *idmap, size_t index, const char *option, struct error *err)
{
	bool users = json_array_size(idmap->users) > 0, groups = json_array_size(idmap->groups) > 0;

	if (!users && !groups)
		return error_set(err, EINVAL,
				 SPEC_FILE ": mounts[%zu].options: %s without mappings, and without a user namespace",
				 index, option);
	if (users != groups)
		return error_set(err, EINVAL, SPEC_FILE ": mounts[%zu]: uidMappings and gidMappings belong together",
				 index);
	return 0;
}

int idmap_read(json_t *config, size_t index, struct idmap *idmap, struct error *err)
{
	const json_t *mount = json_array_get(json_object_get(config, "mounts"), index);
	const json_t *users, *groups;
	bool recursive = has_option(mount, "ridmap"), mapped = recursive || has_option(mount, "idmap");

	*idmap = (struct idmap){.recursive = recursive};
	if (take_option(config, index, err) < 0)
		return -1;
	users = json_object_get(mount, "uidMappings");
	groups = json_object_get(mount, "gidMappings");
	if (json_array_size(users) > 0 || json_array_size(groups) > 0) {
		idmap->users = users;
		idmap->groups = groups;
	} else if (mapped) {
		take_those_of_container(config, idmap);
	} else {
		return 0;
	}
	if (!spec_mount_is_bind(mount))
		return error_set(err, ENOTSUP, SPEC_FILE ": mounts[%zu]: ids can be mapped for bind mounts only",
				 index);
	return check(idmap, index, recursive ? "ridmap" : "idmap", err);
}

/* --- the namespace ----------------------------------------------------------------------------------------------- */

/* The kernel takes all of a map with one write. */
static int write_map(const json_t *mappings, pid_t pid, const char *file, struct error *err)
{
	cleanup_free char *text = NULL;
	cleanup_close int fd = -1;
	const json_t *mapping;
	char path[64];
	size_t index, size;
	FILE *out = open_memstream(&text, &size);

	json_array_foreach(mappings, index, mapping)
	{
		if (out)
			fprintf(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", spec_u64(mapping, "containerID", 0),
				spec_u64(mapping, "hostID", 0), spec_u64(mapping, "size", 0));
	}
	if (!out || fclose(out) != 0)
		return error_set_errno(err, "format mappings");
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, "open `%s`", path);
	if (write(fd, text, size) != (ssize_t)size)
		return error_set_errno(err, "the kernel refuses the %s",
				       file[0] == 'u' ? "uidMappings" : "gidMappings");
	return 0;
}

static int map_and_open(const struct idmap *idmap, pid_t pid, struct error *err)
{
	char path[64];
	int fd;

	if (write_map(idmap->users, pid, "uid_map", err) < 0 || write_map(idmap->groups, pid, "gid_map", err) < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_set_errno(err, "open `%s`", path) : fd;
}

/* A namespace begins with a process in it, and then lives as long as its descriptor. */
int idmap_namespace(const struct idmap *idmap, struct error *err)
{
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
	int fd;

	if (pid == 0) {
		for (;;)
			pause();
	}
	if (pid < 0)
		return error_set_errno(err, "make a user namespace");
	fd = map_and_open(idmap, pid, err);
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	return fd;
}
