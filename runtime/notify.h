/*
 * sd_notify(3) for containers, as runc has it: who calls create, run or start with NOTIFY_SOCKET hears there when the
 * container is ready. The container's process gets a socket of the guest (guest-agent/notify.h); hull waits for what it
 * says and passes READY=1 on itself, since systemd asks who a notification comes from.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"
#include "runtime/watch.h"

bool notify_wanted(void);

/* Asks the agent for word of the container; it answers over that connection as soon as there is one. */
int notify_ask(int agent, const char *id, struct watch *watch, struct error *err);

/* Takes the answer, for which it waits, and passes it on. main_pid: the process that is from now on the service's main
 * one, or 0. That the container has ended, or has no socket, is no error. */
int notify_pass_on(int agent, pid_t main_pid, struct watch *watch, struct error *err);
