/*
 * Transient scopes of systemd, for `--systemd-cgroup`: the cgroup is then made, known and removed by systemd (see
 * systemd.resource-control(5) and org.freedesktop.systemd1(5), StartTransientUnit). Orders go over systemd's private
 * socket: the system's as root, the user's own otherwise.
 */
#pragma once

#include <sys/types.h>

#include "common/error.h"
#include "runtime/limits.h"

/* Starts a delegated scope below a slice, with the limits that systemd has properties for, and waits until it is there.
 * *holder becomes a process in it that does nothing but keep it, and that dies with this one. */
int systemd_start_scope(const char *slice, const char *scope, const struct limits *limits, uint64_t machine_memory,
			pid_t *holder, struct error *err);

void systemd_release_holder(pid_t holder);

int systemd_set_limits(const char *scope, const struct limits *limits, uint64_t machine_memory, struct error *err);

/* Stops it if it is still there. */
int systemd_stop_scope(const char *scope, struct error *err);

/* A list of CPUs like 0-3,7 as the bit mask that AllowedCPUs takes; returns the bytes used, 0 when it does not fit. */
size_t systemd_cpu_mask(const char *list, unsigned char *mask, size_t room);
