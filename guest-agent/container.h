/*
 * The containers of this machine: one struct each, and what the host's orders do to them.
 */
#pragma once

#include <sys/types.h>

#include "common/error.h"
#include "guest-agent/connection.h"
#include "guest-agent/order.h"

/* Each carries out one order of its kind and sees to the answer, at once or when it is known. create takes the plan. */
void container_create(struct order *order, struct answer *answer);
void container_start(struct order *order, struct answer *answer);
void container_kill(struct order *order, struct answer *answer);
void container_state(struct order *order, struct answer *answer);
void container_delete(struct order *order, struct answer *answer);

/* Called for every process that the agent has reaped; status as from waitpid(2). */
void container_reaped(pid_t pid, int status);
