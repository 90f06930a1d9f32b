/*
 * Processes that are started in a container beside its own one: the exec order and what follows it.
 *
 * Such a process belongs to the connection that ordered it: when that ends, the process is killed. What is left when it
 * has ended is kept until somebody has waited for it, or until the connection ends.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"
#include "guest-agent/connection.h"
#include "guest-agent/order.h"

struct exec;

/* Those of one container. Zeroed: none. */
struct execs {
	struct exec *first;
	/* One of them is over: see execs_are_over. */
	void (*changed)(struct execs *execs);
};

/* The container to join: its first process, its cgroup (a directory), and its plan. */
struct exec_place {
	const char *id;
	pid_t pid;
	int pidfd;
	int cgroup;
	const struct plan *plan;
};

/* Carries out one order of its kind; see container.h for what they return. exec takes the order's plan. */
int exec_start(struct execs *execs, const struct exec_place *place, struct order *order, struct answer *answer,
	       struct error *err);
int exec_wait(struct execs *execs, const struct order *order, struct answer *answer, struct error *err);
int exec_kill(struct execs *execs, const struct order *order, struct answer *answer, struct error *err);
int exec_resize(struct execs *execs, const struct order *order, struct answer *answer, struct error *err);

/* True when the process was one of them. */
bool execs_reaped(struct execs *execs, pid_t pid, int status);

/* Whether all of them have ended and their output is delivered. */
bool execs_are_over(const struct execs *execs);

/* The container has ended: nobody waits long for readers any more. */
void execs_lose_patience(struct execs *execs);

/* Forgets them all; they are over. */
void execs_free(struct execs *execs);
