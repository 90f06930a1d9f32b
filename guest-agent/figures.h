/*
 * What a container uses, read from its cgroup, in the shape of the "data" that runc's `events --stats` prints: times in
 * nanoseconds, sizes in bytes. A file that the kernel does not have leaves its figures out.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "common/error.h"

/* cgroup is a descriptor of the container's cgroup. Returns a new reference, or NULL with err. Where there is no limit,
 * the figure is a real number, 2^64 - 1 rounded, because a JSON integer ends at 2^63 - 1 here. */
json_t *figures_read(int cgroup, struct error *err);

/* How many processes of the cgroup, and of those below, the kernel has killed for want of memory. */
uint64_t figures_oom_kills(int cgroup);
