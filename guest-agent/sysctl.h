/*
 * linux.sysctl (config-linux.md "Sysctl"): kernel parameters of the container's namespaces. Only those that belong to a
 * namespace of its own are taken, as runc does it: the others would be the whole sandbox's.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

struct sysctl {
	char *path; /* below /proc/sys: "net/ipv4/ip_forward" */
	const char *value;
};

struct sysctls {
	struct sysctl *list;
	size_t n;
};

/* Which namespaces the container has to itself. */
struct sysctl_scope {
	bool ipc;
	bool network;
	bool uts;
};

/* Reads an object of names and values, which stays the owner of the values. The caller releases the list in either
 * case. Returns 0, or -1 with an error that names the parameter. */
int sysctls_read(const json_t *object, struct sysctl_scope scope, struct sysctls *sysctls, struct error *err);
void sysctls_release(struct sysctls *sysctls);

/* Sets them in the caller's namespaces. proc is the directory of a mounted procfs. */
int sysctls_apply(const char *proc, const struct sysctls *sysctls, struct error *err);
