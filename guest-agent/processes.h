/*
 * The processes of a container: those in its cgroup and in the cgroups below.
 */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "common/error.h"

/* Calls visit for each, in the order of their numbers. Returns 0 or -1. */
int processes_each(unsigned container, void (*visit)(pid_t pid, void *context), void *context, struct error *err);

/* What `ps` tells of each: {"processes": [{"pid", "ppid", "pgid", "sid" (as the container numbers them; 0: one
 * outside), "uid", "gid", "cpu" (milliseconds used), "start" (milliseconds after 1970), "now" (the same, of this
 * moment), "nice", "threads", "size", "resident" (bytes), "foreground" (on its terminal), "state" ("S"), "tty"
 * ("pts/0",
 * ""), "name", "command" (its arguments with spaces between them, or its name in brackets)}], "memory" (bytes of the
 * machine)}. A new reference, or NULL. */
json_t *processes_list(unsigned container, struct error *err);

/* Sends a signal to each, new ones too, until there is none that has not had it. */
int processes_signal(unsigned container, int signal, struct error *err);
