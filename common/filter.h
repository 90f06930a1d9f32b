/*
 * Loading a system call filter that was compiled when hull was built (vmm/filter).
 */
#pragma once

#include <linux/filter.h>
#include <stddef.h>

#include "common/error.h"

#define FILTER_MAX 512 /* instructions */

/* Stands in a program where the id of the process that loads it belongs. */
#define FILTER_OWN_PID 0x7ee1dca9u

/* For the calling thread, which must have no_new_privs. Returns 0 or -1. */
int filter_load(const struct sock_filter *program, size_t n, struct error *err);
