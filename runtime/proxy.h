/*
 * The host process that stands for a process of the guest: it lives as long, hands signals and changes of the
 * terminal's size on, and ends with the same exit status. That is `hull exec` itself, or, where that does not stay, a
 * process of its own (`hull proxy`), which is what --pid-file names then.
 *
 * When it is killed, the process in the guest is killed as well: its streams and its order belong to the connections
 * that the proxy holds.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "runtime/preserve.h"
#include "runtime/spawn.h"

#define PROXY_STREAMS_MAX (2 + PRESERVED_MAX)

struct proxy {
	const char *id;			     /* the container */
	const char *exec;		     /* the process's name, or NULL: the container's own */
	int control;			     /* connection to the VMM, over which the streams were registered */
	int agent;			     /* connection to the agent, over which the process was ordered */
	int network;			     /* descriptor of a network namespace for it to live in; 0: ours */
	bool own_network;		     /* or a new one */
	const struct lifeline *lifeline;     /* what ties it to its starter for now, or NULL */
	int terminal;			     /* -1, or a terminal whose size the process's terminal follows */
	uint32_t outputs[PROXY_STREAMS_MAX]; /* ports of streams that must be delivered before the end */
	size_t n_outputs;
};

/* The signals that are handed on: to be blocked before the process in the guest is made. */
void proxy_signals(const struct proxy *proxy, sigset_t *set);

/* Waits for the end of the process. Returns its exit status; 137 when its container or its machine went away under it,
 * which is what becomes of a process then. Or -1: the agent refuses to say. */
int proxy_wait(const struct proxy *proxy, struct error *err);

/* Starts a process that does the same. Its parent goes away soon: it becomes a child of the nearest subreaper. cgroup
 * is a descriptor or -1. */
int proxy_spawn(const struct proxy *proxy, int cgroup, struct child *child, struct error *err);
