/*
 * linux.seccomp (config-linux.md "Seccomp") as the program that the guest's kernel runs for each system call.
 *
 * It is compiled here and only loaded in the guest: the compiler's tables and its memory would cost every guest more
 * than the program does. The meaning is that of runc: system calls whose names are unknown are left out; numbers above
 * all those that the profile names give ENOSYS instead of the default action, so that programs fall back when a profile
 * is older than they are.
 */
#pragma once

#include <jansson.h>
#include <linux/filter.h>
#include <stddef.h>
#include <stdio.h>

#include "common/error.h"

struct syscall_filter {
	struct sock_filter *code;
	size_t n;	/* instructions; 0: no filter */
	unsigned flags; /* SECCOMP_FILTER_FLAG_* of seccomp(2) */
};

/* Compiles the object linux.seccomp of a checked spec (NULL, or one that says nothing, gives no filter). The caller
 * releases the filter in either case. Returns 0, or -1 with an error that names the field. */
int syscall_filter_compile(const json_t *seccomp, struct syscall_filter *filter, struct error *err);
void syscall_filter_release(struct syscall_filter *filter);

/* Writes it as the create order has it (common/agent_protocol.h): {"filter": HEX, "flags": N}. */
void syscall_filter_write(const struct syscall_filter *filter, FILE *out);
