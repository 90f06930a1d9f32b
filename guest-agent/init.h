/*
 * The first process of a container between its birth and its program: it is forked by the agent into new namespaces,
 * makes its surroundings from the plan, reports that it is ready, waits for the order to start, and executes.
 *
 * From its birth on it shares a process id namespace with nobody but what it starts, unless another container's is
 * joined. It keeps no descriptor of the
 * agent but its streams and one end of a socket (SOCK_SEQPACKET), over which the messages below travel.
 */
#pragma once

#include <stdint.h>

#include "guest-agent/plan.h"
#include "guest-agent/stdio.h"

enum init_stage {
	INIT_READY = 1,	   /* everything is made; a byte from the agent starts the program */
	INIT_FAILED = 2,   /* code and message say why; the process ends with INIT_STATUS_FAILED */
	INIT_TERMINAL = 3, /* the master of the process's terminal is attached */
};

/* From the process to the agent. When the program is executed, the socket closes. */
struct init_report {
	uint32_t stage;
	int32_t code;	    /* errno */
	char message[1024]; /* one line */
};

#define INIT_STATUS_FAILED 1 /* exit status of a process that could not become its program, as runc has it */

/* Runs in the forked process; never returns. fds: its descriptors from 0 on; channel: the socket. */
void init_run(struct plan *plan, const char *id, const struct stdio_fds *fds, int channel) __attribute__((noreturn));

/* A container that a further process joins. */
struct init_place {
	const char *id;
	int pidfd;	/* of the container's first process */
	int namespaces; /* CLONE_NEW*, without the process id namespace, in which the process was born */
	const struct syscall_filter *filter;
};

/* The same for a further process of a container, which executes without waiting for anything. */
void init_run_beside(const struct plan *plan, const struct init_place *place, const struct stdio_fds *fds, int channel)
    __attribute__((noreturn));
