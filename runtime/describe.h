/*
 * What hull tells about a container, as `state` and `list` print it.
 */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "runtime/container.h"

/* The container's process as its engine knows it: hull-vmm's, or 0 when it has stopped. */
pid_t container_pid(const struct container *container, enum container_status status);

/* OCI runtime specification, runtime.md "State", with the further members that runc prints. A new reference or NULL. */
json_t *container_describe(const struct container *container, const char *owner);

/* The name of the user who owns the container's folder, or "#UID"; size is that of name. */
void container_owner(const struct container *container, char *name, size_t size);

/* The name of a user of this host, or the number. */
void user_name(uid_t uid, char *name, size_t size);
