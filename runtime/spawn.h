/*
 * Starting hull-vmm, hull-fsd and proxies: a session of their own, /dev/null for stdin, stdout and stderr, no
 * descriptor but those meant for them.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"

/* The words of a command line. */
struct arguments {
	char **words; /* ended by NULL */
	size_t n;
	int failed; /* an allocation failed: checked once, by spawn */
};

void arguments_release(struct arguments *arguments);
#define cleanup_arguments __attribute__((cleanup(arguments_release)))
void arguments_add(struct arguments *arguments, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Descriptors that a program inherits, under their own numbers (all above 2). */
struct descriptors {
	int *list;
	size_t n;
	int failed; /* as above */
};

void descriptors_release(struct descriptors *descriptors);
#define cleanup_descriptors __attribute__((cleanup(descriptors_release)))
void descriptors_add(struct descriptors *descriptors, int fd);

/*
 * Ties a program to the process that starts it, for as long as that wants: when the starter ends, for whatever reason,
 * the kernel kills the program. It is a pipe of which the starter holds the writing end and the program the reading
 * end, set to signal its owner (the program) with SIGKILL when something happens on it. PR_SET_PDEATHSIG would not do:
 * the program changes its uid, which clears it, and the starter could not take it back.
 */
struct lifeline {
	int reader, writer;
};

#define LIFELINE_NONE ((struct lifeline){-1, -1})

int lifeline_make(struct lifeline *lifeline, struct error *err);

/* From now on the program survives its starter. */
int lifeline_release(struct lifeline *lifeline, struct error *err);

/* Closes it; what still hangs on it is killed. */
void lifeline_cut(struct lifeline *lifeline);

/* Uids and gids of VMMs: each has its own while it lives, far from those that people and user namespaces use. */
#define SPAWN_ID_BASE 0x70000000
#define SPAWN_ID_SIZE 16

struct spawn {
	const char *program;
	const struct arguments *arguments;
	const struct descriptors *keep;
	const struct lifeline *lifeline; /* or NULL */
	const sigset_t *blocked;	 /* signals that are blocked from its first moment on, or NULL: none */
	int terminal;			 /* becomes its controlling terminal; 0: none */
	int network;			 /* descriptor of the network namespace it begins in; 0: ours */
	bool own_network;		 /* or a new one */
	int cgroup;			 /* descriptor of the cgroup it begins in, or -1: ours */
	char *own_id[2]; /* words of arguments, SPAWN_ID_SIZE bytes, that become SPAWN_ID_BASE + its pid; or NULL */
};

struct child {
	pid_t pid; /* 0: none */
	int pidfd;
};

#define CHILD_NONE ((struct child){0, -1})

int spawn(const struct spawn *spawn, struct child *child, struct error *err);

/* Kills the child if it lives, and reaps it. Safe on CHILD_NONE and after child_wait. */
void child_end(struct child *child);

/* Waits for the end of the child and reaps it. Returns its exit status, or 128 + the signal that ended it. */
int child_wait(struct child *child);
