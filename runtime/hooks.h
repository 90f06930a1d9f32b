/*
 * Hooks that run on the host (OCI runtime specification, config.md "POSIX-platform Hooks", runtime.md "Lifecycle"), in
 * the namespaces of hull: prestart, createRuntime and createContainer while a container is created, when its machine is
 * there and has its namespaces, and before its root file system is set up; poststart after its process has been
 * started; poststop after it has been deleted. startContainer belongs to the guest.
 *
 * A hook gets the container's state on stdin, its environment (hull's where it names none), and no other descriptor. It
 * runs in the bundle, createContainer in the root file system, as with runc. What it writes is shown when it fails.
 */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "common/error.h"

/* Looks at every hook before anything is made: paths, timeouts, arguments. hooks may be NULL. Messages name the field.
 */
int hooks_check(const json_t *hooks, struct error *err);

/* What a hook is told of a container. */
struct hook_subject {
	const char *id, *bundle;
	const char *rootfs; /* or NULL */
	const char *status;
	pid_t pid; /* 0: none any more */
	json_t *annotations;
};

/* Runs the hooks of one kind, "prestart" or the like, in their order until one fails. signals (-1: none) is a signalfd:
 * a signal that arrives there ends the hook and is a failure. */
int hooks_run(const json_t *hooks, const char *kind, const struct hook_subject *subject, int signals,
	      struct error *err);

/* Runs them all; failures are warnings, as the specification wants for poststart and poststop. */
void hooks_run_all(const json_t *hooks, const char *kind, const struct hook_subject *subject);

/* Of the hooks of a spec, those that run later and have to be remembered; a new reference, or NULL. */
json_t *hooks_to_remember(const json_t *hooks);
