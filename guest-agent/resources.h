/*
 * linux.resources (config-linux.md "Control groups") as what has to be written to files of a container's cgroup
 * (version 2). Conversions from the fields, which are those of version 1, and the words of errors are runc's.
 *
 * What belongs to the host is left out here: processor numbers (cpuset) and device numbers (throttling, weights of
 * single devices) are the host's, and its cgroup of the virtual machine is where they take effect. Device rules are in
 * device_filter.h.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct resource {
	char *file;	 /* in the directory of the cgroup */
	char *value;	 /* what is written to it */
	bool is_unified; /* named by the spec itself, in linux.resources.unified */
};

struct resources {
	struct resource *list; /* in the order in which they are written */
	size_t n;
	int64_t not_below_usage; /* a memory limit that must not be less than what is used; 0: none */
};

/* Reads linux.resources of a checked spec, or of an update (NULL: nothing). Touches nothing but memory. The caller
 * releases it in either case. Returns 0, or -1 with an error that names the field. */
int resources_read(const json_t *json, struct resources *resources, struct error *err);
void resources_release(struct resources *resources);

/* Writes them. cgroup is the descriptor of its directory. Stops at the first error; what was written stays. */
int resources_apply(int cgroup, const struct resources *resources, struct error *err);
