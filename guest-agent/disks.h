/*
 * Disks of the machine that a container gets. The order names them by serial number and says what each is for; the spec
 * has the host's names and numbers. Before the order is read as a plan, those are replaced by the guest's.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"

/* Finds the disks that a create order names, makes a node for each in PLACE_DISKS, and changes the order. Does nothing
 * where it names none. Returns 0, or -1 with err. */
int disks_resolve(json_t *order, struct error *err);

/* Whether a mount's source is such a node. */
bool disks_is_node(const char *source);

/* Mounts the file system on a disk, whichever it is, as an unattached mount; read-only where the disk is. Returns its
 * descriptor or -1. */
int disks_mount(const char *node, struct error *err);

/* The second half for one element of order.disks, once it is known which device it is. */
int disks_apply(json_t *order, const json_t *disk, dev_t number, struct error *err);
