/*
 * What is different for a container with a user namespace of its own: its first process is root inside of it only, so
 * the agent does for it what takes more.
 *
 *   agent                                             first process
 *   user_namespace_prepare: device nodes, sysfs
 *   fork                                              user_namespace_enter: waits
 *   user_namespace_begin: id maps, priorities   --->  becomes root inside, makes its surroundings
 *   user_namespace_finish: limits               <---  ready
 *   user_namespace_forget
 */
#pragma once

#include <sys/types.h>

#include "common/error.h"
#include "guest-agent/plan.h"

bool user_namespace_wanted(const struct plan *plan);

int user_namespace_prepare(struct plan *plan, unsigned number, struct error *err);
int user_namespace_begin(const struct plan *plan, pid_t pid, int channel, struct error *err);
int user_namespace_finish(const struct plan *plan, pid_t pid, struct error *err);
void user_namespace_forget(unsigned number);

/* In the new process; channel is its end of the socket. Its source of device nodes is opened with
 * user_namespace_open_devices: a descriptor, or -1 with err. */
int user_namespace_enter(int channel, struct error *err);
int user_namespace_open_devices(const struct plan *plan, struct error *err);
