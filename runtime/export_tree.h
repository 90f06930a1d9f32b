/*
 * A tree of the host as the file server gets it: a clone of its mount that is attached nowhere. Made here because a
 * mount can be cloned only in one's own mount namespace and with CAP_SYS_ADMIN, which the file server does not keep.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "runtime/idmap.h"

/* Replaces *fd (an O_PATH descriptor) by one of a private clone of the tree there, with the mounts below it where
 * recursive. Nothing on it can be executed, set ids or be opened as a device, and no symbolic link on it is followed,
 * on the host's side. Refused on procfs, whose files reach into whoever opens them. Without privilege the descriptor
 * stays as it is; a read-only tree, or one with mapped ids, is then refused. read_only_below: so are the mounts below
 * it. */
int export_tree_clone(int *fd, bool read_only, bool read_only_below, bool recursive, const struct idmap *idmap,
		      struct error *err);

/* The mounts below the place that fd is open at which can be written to: an array of relative paths, or NULL. Those
 * whose path is no UTF-8 are left out. */
json_t *export_tree_writable_below(int fd, struct error *err);
