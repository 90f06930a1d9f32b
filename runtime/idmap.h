/*
 * Ids of a bind mount that are others than those of its files: mounts[].uidMappings and gidMappings, and the options
 * idmap and ridmap (config.md "Linux mount options"); and crun's option that holds mappings itself, which Podman passes
 * on: idmap=uids=FILE-HOST-SIZE#...;gids=..., where @ before FILE makes HOST an id of the container's user namespace.
 * The host's kernel maps them, on the clone of the mount that is exported (MOUNT_ATTR_IDMAP, mount_setattr(2)): an id
 * of the file system that is a mapping's containerID is its hostID on the mount. The guest sees the mount's ids.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"

struct idmap {
	const json_t *users, *groups; /* arrays of the specification's mappings; NULL: the ids are those of the files */
	bool recursive;		      /* also of the mounts below it */
};

/* Reads what mounts[index] of config.json says. A mount without mappings of its own takes those of the container's user
 * namespace; those of crun's option are put where the specification has them. Mappings of what is no bind mount, of one
 * kind of id only, or with no mappings to be found, are errors that name the field. */
int idmap_read(json_t *config, size_t index, struct idmap *idmap, struct error *err);

/* A user namespace with these mappings, which is what the kernel wants them as: a descriptor. Refused by the kernel:
 * mappings that overlap, that are empty, or too many. */
int idmap_namespace(const struct idmap *idmap, struct error *err);
