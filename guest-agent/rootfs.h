/*
 * A container's file tree, made from a plan inside the container's new mount namespace (config.md "Root" and "Mounts",
 * config-linux.md "Default Devices", "Default Filesystems", "Masked Paths", "Readonly Paths").
 *
 * Everything is mounted by descriptor: a target is opened once, within the new root, and that object gets the mount,
 * whatever the path means a moment later.
 */
#pragma once

#include "common/error.h"
#include "guest-agent/plan.h"
#include "guest-agent/terminal.h"

/* Puts the tree over "/" of this mount namespace without moving the caller into it: the agent's own tree is still at
 * its paths. With process.terminal, makes that as well, and the container's console of it. Returns a descriptor
 * (O_PATH) of the new root, or -1. */
int rootfs_build(const struct plan *plan, struct terminal *terminal, struct error *err);

/* Takes the agent's mounts out of this mount namespace and makes the new root the caller's root and working directory.
 * (pivot_root(2) cannot replace the initramfs: that one is no mount that could be moved away.) locked: they are those
 * of another user namespace, and stay, out of sight below the new root. */
int rootfs_enter(int root, bool locked, struct error *err);
