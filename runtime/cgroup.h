/*
 * The host's cgroup of a container: hull-vmm, hull-fsd and whatever else serves it run in the one that
 * linux.cgroupsPath names (OCI runtime specification, config-linux.md "Cgroups Path"), where engines look for it.
 * cgroup v2 only.
 *
 *   cgroupfs   an absolute path counts from the root of the hierarchy, a relative one from the parent of hull's own
 *              cgroup; without a path it is the container's id, relative. Parents are made, and controllers enabled in
 *              them, as far as they are missing.
 *   systemd    "slice:prefix:name" (default "system.slice:hull:<id>"): a transient scope prefix-name.scope, made by
 *              systemd, see systemd.h
 *   disabled   none: everything stays in the caller's cgroup; limits hold in the guest only
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"
#include "runtime/limits.h"

#define CGROUP_MOUNT "/sys/fs/cgroup"

enum cgroup_manager { CGROUP_CGROUPFS, CGROUP_SYSTEMD, CGROUP_DISABLED };

/* Where a cgroup is to be. */
struct cgroup_place {
	enum cgroup_manager manager;
	char *path;	     /* from the root of the hierarchy, "/docker/<id>"; of a scope: known when it is made */
	char *slice, *scope; /* of systemd */
	bool optional;	     /* nobody asked for it, and an ordinary user may have no right to make one */
	pid_t holder;	     /* a process that keeps a new scope until others are in it, or 0 */
};

void cgroup_place_release(struct cgroup_place *place);

/* Reads "cgroupfs", "systemd" or "disabled". Returns 0 or -1. */
int cgroup_parse_manager(const char *text, enum cgroup_manager *manager);

/* Reads path (linux.cgroupsPath, or NULL); makes nothing. Messages name the field. */
int cgroup_locate(enum cgroup_manager manager, const char *path, const char *id, bool rootless,
		  struct cgroup_place *place, struct error *err);

/* Makes it, empty, and sets the limits for a machine with that much memory. Fails when it exists and is not empty, or
 * is frozen. *fd becomes its descriptor, for placing processes in it (spawn.h), or -1 where there is none. On failure
 * nothing is left. */
int cgroup_make(struct cgroup_place *place, const struct limits *limits, uint64_t machine_memory, int *fd,
		struct error *err);

/* To be called when processes have been placed in it. */
void cgroup_occupied(struct cgroup_place *place);

/* Changes the limits of an existing one, given by its path. */
int cgroup_update(const char *path, const char *scope, const struct limits *limits, uint64_t machine_memory,
		  struct error *err);

/* Removes a cgroup, those below it, and its scope (NULL: none), waiting a moment for processes that are just ending.
 * That it is not there is no error. */
int cgroup_remove(const char *path, const char *scope, struct error *err);
