/*
 * linux.uidMappings and linux.gidMappings (config-linux.md "User namespace mappings"). "Host" ids are those of the
 * guest's kernel, which are also those of the files that the host shares: a file of user 100000 in the root file system
 * belongs to root inside when 0 is mapped to 100000, as with runc.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

#define ID_MAPPINGS_MAX 340 /* of the kernel */

struct id_mapping {
	uint32_t inside;
	uint32_t outside;
	uint32_t size;
};

struct id_map {
	struct id_mapping *list;
	size_t n;
};

struct id_maps {
	struct id_map users, groups;
};

/* Reads both from the object "linux" of a container with a user namespace: they must be there, unless they may be those
 * of another container's (may_lack), and map root. The caller releases them in either case. Returns 0, or -1 with err.
 */
int id_maps_read(const json_t *json, bool may_lack, struct id_maps *maps, struct error *err);
void id_maps_release(struct id_maps *maps);

/* Returns 0, or -1 without memory; the caller releases the copy in either case. */
int id_maps_copy(const struct id_maps *maps, struct id_maps *copy);

bool id_maps_equal(const struct id_maps *a, const struct id_maps *b);

/* The id outside that stands for an id inside; with no mappings it is the same. Returns 0, or -1 when none does. */
int id_map_outside(const struct id_map *map, uint32_t inside, uint32_t *outside);

/* Gives them to the user namespace that the process is in; from a process outside that may. */
int id_maps_write(const struct id_maps *maps, pid_t pid, struct error *err);
