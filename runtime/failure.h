/*
 * Why a virtual machine has ended, for a person: from the result file, the log, and the exit status of hull-vmm.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "runtime/container.h"

/* As one line. vmm_status -1: unknown. */
void failure_explain(int result, int log, int vmm_status, struct error *err);

/* For a container that has joined a sandbox: false when the sandbox's machine has not failed, and err is what it was.
 */
bool failure_explain_sandbox(const struct container *container, struct error *err);
