#include "guest-agent/id_maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/spec_values.h"
#include "guest-agent/places.h"

/* --- reading ----------------------------------------------------------------------------------------------------- */

static int read_map(const json_t *array, const char *name, struct id_map *map, struct error *err)
{
	const json_t *element;
	size_t i;

	if (json_array_size(array) > ID_MAPPINGS_MAX)
		return error_set(err, EINVAL, "linux.%s: more than %d", name, ID_MAPPINGS_MAX);
	map->list = calloc(json_array_size(array) + 1, sizeof(*map->list));
	if (!map->list)
		return error_set(err, ENOMEM, "out of memory");
	json_array_foreach(array, i, element)
	{
		struct id_mapping *mapping = &map->list[map->n++];

		*mapping = (struct id_mapping){(uint32_t)spec_u64(element, "containerID", 0),
					       (uint32_t)spec_u64(element, "hostID", 0),
					       (uint32_t)spec_u64(element, "size", 0)};
		if (mapping->size == 0)
			return error_set(err, EINVAL, "linux.%s[%zu].size must not be 0", name, i);
		if (mapping->size > UINT32_MAX - mapping->inside || mapping->size > UINT32_MAX - mapping->outside)
			return error_set(err, EINVAL, "linux.%s[%zu] goes beyond the last id", name, i);
	}
	return 0;
}

static int check_map(const struct id_map *map, const char *what, struct error *err)
{
	uint32_t root;

	if (map->n == 0)
		return error_set(err, EINVAL, "user namespaces enabled, but no %s mappings found", what);
	if (id_map_outside(map, 0, &root) < 0)
		return error_set(err, EINVAL, "user namespaces enabled, but no %s mapping found for root", what);
	return 0;
}

int id_maps_read(const json_t *json, bool may_lack, struct id_maps *maps, struct error *err)
{
	*maps = (struct id_maps){0};
	if (read_map(json_object_get(json, "uidMappings"), "uidMappings", &maps->users, err) < 0 ||
	    read_map(json_object_get(json, "gidMappings"), "gidMappings", &maps->groups, err) < 0)
		return -1;
	if (may_lack && maps->users.n == 0 && maps->groups.n == 0)
		return 0;
	return check_map(&maps->users, "uid", err) < 0 ? -1 : check_map(&maps->groups, "gid", err);
}

void id_maps_release(struct id_maps *maps)
{
	free(maps->users.list);
	free(maps->groups.list);
	*maps = (struct id_maps){0};
}

static int copy_map(const struct id_map *map, struct id_map *copy)
{
	copy->list = calloc(map->n + 1, sizeof(*copy->list));
	if (!copy->list)
		return -1;
	if (map->n > 0)
		memcpy(copy->list, map->list, map->n * sizeof(*copy->list));
	copy->n = map->n;
	return 0;
}

int id_maps_copy(const struct id_maps *maps, struct id_maps *copy)
{
	*copy = (struct id_maps){0};
	return copy_map(&maps->users, &copy->users) < 0 ? -1 : copy_map(&maps->groups, &copy->groups);
}

static bool same_map(const struct id_map *a, const struct id_map *b)
{
	return a->n == b->n && (a->n == 0 || memcmp(a->list, b->list, a->n * sizeof(*a->list)) == 0);
}

bool id_maps_equal(const struct id_maps *a, const struct id_maps *b)
{
	return same_map(&a->users, &b->users) && same_map(&a->groups, &b->groups);
}

int id_map_outside(const struct id_map *map, uint32_t inside, uint32_t *outside)
{
	*outside = inside;
	if (map->n == 0)
		return 0;
	for (size_t i = 0; i < map->n; i++) {
		const struct id_mapping *mapping = &map->list[i];

		if (inside >= mapping->inside && inside - mapping->inside < mapping->size) {
			*outside = mapping->outside + (inside - mapping->inside);
			return 0;
		}
	}
	return -1;
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

/* The kernel takes all of a map with one write, and only once. */
static int write_map(const struct id_map *map, const char *file, pid_t pid, struct error *err)
{
	cleanup_free char *text = NULL;
	cleanup_close int fd = -1;
	char path[64];
	size_t size;
	FILE *out = open_memstream(&text, &size);

	for (size_t i = 0; out && i < map->n; i++)
		fprintf(out, "%u %u %u\n", map->list[i].inside, map->list[i].outside, map->list[i].size);
	if (!out || fclose(out) != 0)
		return error_set(err, ENOMEM, "out of memory");
	snprintf(path, sizeof(path), PLACE_PROC "/%d/%s", (int)pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, size) != (ssize_t)size)
		return error_set_errno(err, "write the user namespace's %s", file);
	return 0;
}

int id_maps_write(const struct id_maps *maps, pid_t pid, struct error *err)
{
	if (write_map(&maps->users, "uid_map", pid, err) < 0)
		return -1;
	return write_map(&maps->groups, "gid_map", pid, err);
}
