/*
 * The options of an element of "mounts" (config.md "Linux mount options"), told apart by one table: flags of the mount,
 * flags of the file system, attributes of the whole tree below it, propagation, and what is left for the file system.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define MOUNT_PROPAGATIONS_MAX 8

struct mount_options {
	unsigned long flags; /* MS_RDONLY, MS_NOSUID, ..., MS_BIND, MS_REC, MS_REMOUNT as mount(2) would have them */
	uint64_t tree_set;   /* MOUNT_ATTR_* of mount_setattr(2) for this mount and all below it */
	uint64_t tree_clear; /* MOUNT_ATTR_* likewise */
	unsigned long propagate[MOUNT_PROPAGATIONS_MAX]; /* MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with
							    MS_REC for all below it; one after the other */
	unsigned n_propagate;
	bool copy_up; /* a tmpfs begins with what it covers */
};

enum mount_option_result {
	MOUNT_OPTION_TAKEN,   /* now part of the struct */
	MOUNT_OPTION_DATA,    /* not a generic option: the file system's own */
	MOUNT_OPTION_REFUSED, /* more kinds of propagation than there is room for */
};

/* Applies one option; a later one overrides an earlier one. */
enum mount_option_result mount_options_apply(struct mount_options *options, const char *option);

/* The MOUNT_ATTR_* that fsmount(2) or mount_setattr(2) take for these flags. The time mode is one of several values:
 * *clear gets what must be cleared with it (0 when the flags say nothing about times). */
uint64_t mount_options_attributes(unsigned long flags, uint64_t *clear);
