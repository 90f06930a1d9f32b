/*
 * The elements of "mounts" (config.md "Mounts") carried out inside a container's new root, and what rootfs.c needs for
 * its own mounts. Everything is mounted by descriptor.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "guest-agent/plan.h"

/* Mounts that can become read-only only when everything in them has been made. */
struct late_mounts {
	int *fds; /* room for one for each of the plan's mounts */
	size_t n;
};

void late_mounts_close(struct late_mounts *late);

/* Makes all mounts of the plan below root, in their order. */
int mounts_make(int root, const struct plan *plan, struct late_mounts *late, struct error *err);

/* A detached mount of an export of the host, with what is mounted below it if recursive. Returns a descriptor or -1. */
int mount_open_export(const char *name, bool recursive, struct error *err);

/* These return 0, or -1 with errno. flags: AT_RECURSIVE or 0. */
int mount_set_attributes(int mount, unsigned flags, uint64_t set, uint64_t clear, uint64_t propagation);
int mount_set_flags(int mount, unsigned long flags);  /* MS_* that are a mount's own */
int mount_keep_flags(int mount, unsigned long flags); /* those that the host's mount has */
int mount_propagate(int mount, unsigned long propagation);
int mount_attach(int mount, int target);
