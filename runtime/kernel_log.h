/*
 * The messages of a guest's kernel: from its agent while it lives, from the kept file afterwards.
 */
#pragma once

#include "common/error.h"
#include "runtime/container.h"

/* Writes to stdout what the kernel has said; with follow, goes on until the container has ended. */
int kernel_log_print(const struct container *container, bool follow, struct error *err);

/* Writes a file of the container's folder to stdout; ENOENT when it is not there. */
int kernel_log_print_file(const struct container *container, const char *name, struct error *err);
