/*
 * Device nodes of a container: those that every container has (config-linux.md "Default Devices") and those of
 * linux.devices ("Devices"). A node is made with the numbers that it has on the host; what they mean is up to the
 * guest's kernel.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "guest-agent/id_maps.h"

struct device {
	char *path;  /* clean, absolute */
	mode_t mode; /* S_IFCHR, S_IFBLK or S_IFIFO with permissions */
	dev_t number;
	uid_t uid;
	gid_t gid;
};

struct devices {
	struct device *list;
	size_t n;
};

/* Reads linux.devices (NULL: none) and puts the default ones before them, except where a device of the spec has the
 * same path. The caller releases the list in either case. Returns 0, or -1 with an error that names the field. */
int devices_read(const json_t *array, struct devices *devices, struct error *err);
void devices_release(struct devices *devices);

/* Whether a node of the spec stands at this path (as the spec has it). */
bool devices_named(const json_t *array, const char *path);

/* Makes the nodes below root. One that is there already stays as it is. With bind, files that carry the nodes of
 * `source`, a directory filled by devices_make_sources, take their place: nodes cannot be made in a user namespace. */
int devices_make(int root, const struct devices *devices, int source, struct error *err);

/* Makes a node for each device in a directory of the agent's own, named by its index. Owners that the spec gives are
 * mapped; others are the agent's, which is nobody inside, as are the host's nodes under runc. */
int devices_make_sources(int directory, const struct devices *devices, const struct id_maps *maps, struct error *err);
