/*
 * The containers of this machine: one struct each, and what the host's orders do to them.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "guest-agent/connection.h"
#include "guest-agent/order.h"

/* Each carries out one order of its kind. They return 0 when the answer has been given, or will be when it is known; or
 * -1 with err, when the order is refused and that is still to be answered. create takes the plan. */
int container_create(struct order *order, struct answer *answer, struct error *err);
int container_start(struct order *order, struct answer *answer, struct error *err);
int container_kill(struct order *order, struct answer *answer, struct error *err);
int container_state(struct order *order, struct answer *answer, struct error *err);
int container_update(struct order *order, struct answer *answer, struct error *err);
int container_stats(struct order *order, struct answer *answer, struct error *err);
int container_events(struct order *order, struct answer *answer, struct error *err);
int container_sockets(struct order *order, struct answer *answer, struct error *err);
int container_notify(struct order *order, struct answer *answer, struct error *err);
int container_network(struct order *order, struct answer *answer, struct error *err);
int container_delete(struct order *order, struct answer *answer, struct error *err);
int container_exec(struct order *order, struct answer *answer, struct error *err);
int container_pause(struct order *order, struct answer *answer, struct error *err);
int container_resume(struct order *order, struct answer *answer, struct error *err);
int container_ps(struct order *order, struct answer *answer, struct error *err);
int container_wait(struct order *order, struct answer *answer, struct error *err);
int container_resize(struct order *order, struct answer *answer, struct error *err);

/* The host says that the terminal at this port of its has another size now. */
void container_window(uint32_t port, unsigned columns, unsigned rows);

/* Called for every process that the agent has reaped; status as from waitpid(2). */
void container_reaped(pid_t pid, int status);
