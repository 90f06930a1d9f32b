/*
 * Containers that share one virtual machine. The first one, the sandbox container, brings the machine and takes it
 * along when it ends; others name it and join.
 *
 * The sandbox container may ask for the machine to go on without it, until the last container in it has ended:
 *
 *   hull.sandbox.ends-with                "last", or "container" (default). The sandbox container counts as running for
 *                                         as long, and its exit status stays what it was
 *
 * A container joins when its annotations say so:
 *
 *   hull.sandbox                          the sandbox container's id; "" for none, whatever the others say
 *   io.kubernetes.cri.container-type      "container": io.kubernetes.cri.sandbox-id is the id (containerd's CRI)
 *   io.kubernetes.cri-o.ContainerType     "container": io.kubernetes.cri-o.SandboxID (CRI-O, pods of Podman)
 *
 * Its folder on the host refers to the sandbox's by hard links to the two control sockets; the process that stands for
 * it on the host is a proxy, whose end means the container's, either way. Nothing of the sandbox's record changes, so
 * nobody ever holds two locks.
 */
#pragma once

#include "common/error.h"
#include "runtime/container.h"
#include "runtime/create_order.h"
#include "runtime/spec.h"

#define SANDBOX_ANNOTATION "hull.sandbox"
#define SANDBOX_END_ANNOTATION "hull.sandbox.ends-with"

/* The id of the sandbox to be joined, or NULL: it gets a machine of its own. It belongs to the spec. */
int sandbox_wanted(const struct spec *spec, const char *own_id, const char **id, struct error *err);

/* Whether the machine of a container that makes its own (sandbox is NULL) ends with the last container in it. For one
 * that joins, it is an error to ask for that. */
int sandbox_lingers(const struct spec *spec, const char *sandbox, bool *lingers, struct error *err);

/* Opens the sandbox container and makes sure that it lives. */
int sandbox_open(const char *root, const char *id, struct container *sandbox, struct error *err);

/* Ids of the containers whose namespaces are joined, by kind; allocated, or NULL. */
struct joined {
	char *ids[SHARED_KINDS];
};

void joined_release(struct joined *joined);
#define cleanup_joined __attribute__((cleanup(joined_release)))

/* Finds out what the paths in linux.namespaces mean: /proc/PID/ns/KIND of a host process that stands for a container of
 * the sandbox, or any other name for the same namespace. A path that is nothing of the kind is an error that names it;
 * so is every path when there is no sandbox (NULL). But a network namespace that is no container's is left alone: it is
 * this one's own. */
int sandbox_find_joined(const char *root, const struct container *sandbox, const struct spec *spec,
			struct joined *joined, struct error *err);

/* Gives a new container's folder its links to the sandbox's sockets. */
int sandbox_link(const struct container *sandbox, const struct container *container, struct error *err);

/* Takes a container out of the sandbox that it has joined: its processes in the guest, its exports. A guest that does
 * not answer is not waited for long; a sandbox that has ended has nothing left of it. */
int sandbox_leave(const struct container *container, struct error *err);
