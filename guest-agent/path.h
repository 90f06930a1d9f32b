/*
 * Paths inside a container's root file system, whose content is hostile: whatever symbolic links say, nothing here
 * leaves the tree below root (openat2, RESOLVE_IN_ROOT), and links of /proc that jump elsewhere are not followed.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"

/* openat2 within root; flags as for open, O_CLOEXEC is added. Return a descriptor or -1 with errno. */
int path_open(int root, const char *path, int flags);

/* As path_open, but a path that leads out of the directory is an error, and so is every link. */
int path_open_beneath(int directory, const char *path, int flags);

/* Opens (O_PATH) the directory at a clean path, and makes what is missing of it with mode 0755, also where symbolic
 * links lead to what is not there, as runc does. With no_links a link on the way is an error. Return a descriptor or -1
 * with err. */
int path_make_directory(int root, const char *path, bool no_links, struct error *err);

/* Opens (O_PATH) whatever is at a clean path; makes an empty file with mode 0755 when there is nothing. */
int path_make_file(int root, const char *path, struct error *err);
