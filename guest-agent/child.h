/*
 * A process of a container as the agent that forked it sees it: its streams, and the socket over which it reports until
 * it executes its program (init.h). Containers have one as their first process (container.c), and further ones beside
 * it (exec.c).
 *
 *   child_open_channel; fork, with init_run or init_run_beside in the new process; child_watch
 *   terminal, reported ...      as the socket brings it
 *   closed                      the program runs, or the process has died without a word
 *   child_drain                 when it has been reaped: what it said last
 *   child_release
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/error.h"
#include "guest-agent/init.h"
#include "guest-agent/loop.h"
#include "guest-agent/plan.h"
#include "guest-agent/stdio.h"

struct child;

/* What is said over the socket. None of them may free the child. */
struct child_events {
	/* The master of its terminal has come, and is the callee's to close. */
	void (*terminal)(struct child *child, int master);
	void (*reported)(struct child *child, const struct init_report *report);
	/* The socket is closed; there is nothing more to come. */
	void (*closed)(struct child *child);
};

struct child {
	const struct child_events *events;
	pid_t pid; /* 0: not forked yet */
	int pidfd;
	int channel; /* the agent's end of the socket, or -1 */
	struct watch watch;
	struct stdio stdio;
	bool failed; /* it is killed before it becomes its program; failure says why */
	struct error failure;
};

/* The streams are set up by stdio_init. */
void child_init(struct child *child, const struct child_events *events);

/* Closes all that is open. */
void child_release(struct child *child);

/* Makes the socket. Returns the process's end, or -1 with err. */
int child_open_channel(struct child *child, struct error *err);

/* Begins to listen to it. */
int child_watch(struct child *child, struct error *err);

/* Reads all that it has said by now. */
void child_drain(struct child *child);

/* Takes the master of its terminal, when the plan has one and it is the first; window: its size, 0 is unknown. A
 * terminal that cannot be used fails the child. */
void child_take_terminal(struct child *child, const struct plan *plan, const struct plan_window *window, int master);

/* Kills it, for the first reason that is given. */
void child_fail(struct child *child, const struct error *reason);

/* What it reported with INIT_FAILED, as an error. */
void child_reported_error(const struct init_report *report, struct error *err);

/* Returns 0 or -1 with errno. */
int child_signal(const struct child *child, int signal);

/* What a shell would say of a status of waitpid(2). */
int child_exit_status(int status);
