/*
 * The host's side of common/fsd_control.h: exports of a file server that runs already.
 *
 * The file server answers as fast as its disks do; it is waited for no longer than FSD_TIMEOUT_MS, since a guest may
 * have taken it over.
 */
#pragma once

#include "common/error.h"
#include "runtime/exports.h"

#define FSD_TIMEOUT_MS 10000

/* Connects to the control socket `name` in a container's folder. Returns a descriptor or -1; ECONNREFUSED when the file
 * server has gone. What is added over it goes with it, until fsd_keep. */
int fsd_connect(int folder, const char *name, struct error *err);

int fsd_add(int fsd, const struct export *export, struct error *err);
int fsd_keep(int fsd, struct error *err);
/* Takes back all exports of a group: those whose names begin with it and a dot. None is no error. */
int fsd_remove_group(int fsd, const char *group, struct error *err);
