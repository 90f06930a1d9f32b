/*
 * Copies the content of a directory: for tmpfs mounts that begin with what they cover (option tmpcopyup).
 */
#pragma once

#include "common/error.h"

#define COPY_TREE_DEPTH_MAX 200 /* directories in one another */

/* Copies everything below the directory `from` to `to` (descriptors, O_PATH will do), which is empty: files,
 * directories, links and nodes with their owners, modes, times and file capabilities; and the two directories' own.
 * Symbolic links are copied, never followed. Returns 0, or -1 with an error that names the entry. */
int copy_tree(int from, int to, struct error *err);
