/*
 * One cgroup (version 2) for each container, below PLACE_CGROUP. The container is born in it.
 */
#pragma once

#include <sys/types.h>

#include "common/error.h"

/* Gives the containers' cgroups every controller that the kernel has, so that programs find the files they look for. */
int cgroup_enable_controllers(struct error *err);

/* Makes the cgroup of container `number`. Returns a descriptor of its directory, or -1. */
int cgroup_create(unsigned number, struct error *err);

/* Gives the directory and the files with which a tree below it is made to a user. */
int cgroup_delegate(int cgroup, uid_t owner, struct error *err);

/* Sends SIGKILL to everything in it and in the cgroups below. */
int cgroup_kill(int cgroup, struct error *err);

/* Removes it with whatever cgroups the container has made below. Nothing may run in them any more. */
int cgroup_remove(unsigned number, struct error *err);
