/*
 * Making a container: from a bundle to a process in a guest that waits for `start`, or runs. The steps of `hull create`
 * and `hull run`.
 *
 * A launch that fails, is interrupted or is killed leaves nothing: what fails is undone here; when this process is
 * killed, the lifeline takes the machine along and the folder is recognised as left over (container.h).
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "runtime/container.h"
#include "runtime/launch_options.h"
#include "runtime/machine.h"
#include "runtime/network.h"
#include "runtime/terminal.h"
#include "runtime/watch.h"

struct launch {
	struct container container; /* locked */
	struct machine machine;
	struct network_process network;
	int result, log;  /* files in the container's folder */
	int control;	  /* connection to the VMM */
	int agent;	  /* connection to the agent */
	bool hooks_began; /* those of create */
	int terminal;	  /* the caller's, in raw mode, when the process has one in the foreground; else -1 */
	struct raw_terminal raw;
	struct watch watch;
};

void launch_release(struct launch *launch);
#define cleanup_launch __attribute__((cleanup(launch_release)))

/* On success the machine no longer depends on this process. */
int launch(const struct launch_options *options, struct launch *launch, struct error *err);
