/*
 * The system call filter of a container: a program that the host has compiled from linux.seccomp (config-linux.md
 * "Seccomp"), read out of the create order and loaded with seccomp(2).
 */
#pragma once

#include <jansson.h>
#include <linux/filter.h>
#include <stddef.h>

#include "common/error.h"

struct syscall_filter {
	struct sock_filter *code;
	size_t n;	/* instructions; 0: no filter */
	unsigned flags; /* SECCOMP_FILTER_FLAG_* */
};

/* Reads {"filter": HEX, "flags": N}; NULL gives no filter. The caller releases it in either case. The kernel checks the
 * program itself when it is loaded. */
int syscall_filter_read(const json_t *json, struct syscall_filter *filter, struct error *err);
void syscall_filter_release(struct syscall_filter *filter);

/* Puts it in force for the calling process and what it becomes or starts. Needs no_new_privs or CAP_SYS_ADMIN. Does
 * nothing when there is none. */
int syscall_filter_load(const struct syscall_filter *filter, struct error *err);
