/*
 * process.rlimits and process.oomScoreAdj (config.md "POSIX process", "Linux Process"). pid 0 is the caller; with
 * another process's id they can be set from outside by somebody who may.
 */
#pragma once

#include <sys/types.h>

#include "common/error.h"
#include "guest-agent/plan.h"

/* Sets the limits of the plan, and defaults for those that an engine's service would have raised. */
int limits_apply(const struct plan_process *process, pid_t pid, struct error *err);

/* Does nothing when the plan has none. */
int limits_set_oom_score(const struct plan_process *process, pid_t pid, struct error *err);
