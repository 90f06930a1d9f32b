/*
 * Descriptors of the caller, from number 3 on, that a process of the guest gets under the same numbers beside its
 * stdin, stdout and stderr (--preserve-fds). A descriptor cannot leave its kernel: what the process gets is a pipe or a
 * socket of the guest, and what goes through that is relayed to the caller's and back. So only what is nothing but a
 * stream can be had there.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "runtime/watch.h"

#define PRESERVED_MAX 32

struct preserved {
	struct preserved_stream {
		int fd;		/* close-on-exec, blocking or not; -1: /dev/null, or handed on already */
		uint32_t flags; /* VMM_STREAM_*: its directions */
		uint32_t port;	/* where the guest gets it; 0: /dev/null */
	} list[PRESERVED_MAX];
	size_t n;
	unsigned activating; /* the first of them are what socket activation passes (sd_listen_fds(3)) */
};

/* How many descriptors, from 3 on, this process was started with by socket activation: LISTEN_FDS, when LISTEN_PID is
 * its own. */
unsigned preserved_activation(void);

/* Takes the descriptors 3 to 3 + n - 1, as they were inherited, away from where they are. To be called before any other
 * descriptor is opened. Fails when one is not there, or is nothing that can be relayed; *preserved is for
 * preserved_release in either case. */
int preserved_take(unsigned n, struct preserved *preserved, struct error *err);
/* The same with those of socket activation before them, as runc has it. */
int preserved_take_with_activation(unsigned n, struct preserved *preserved, struct error *err);
void preserved_release(struct preserved *preserved);
#define cleanup_preserved __attribute__((cleanup(preserved_release)))

/* Gives the streams ports from `first` on: for a VMM that is about to start with them. */
void preserved_number(struct preserved *preserved, uint32_t first);

/* Registers them with a VMM that runs (vmm_control_stream), for as long as that connection lives, and closes them. */
int preserved_register(struct preserved *preserved, int control, struct watch *watch, struct error *err);

/* The ports of those that the process may write to: they must be delivered before its end. ports has room for
 * PRESERVED_MAX; returns how many. */
size_t preserved_outputs(const struct preserved *preserved, uint32_t *ports);

/* Their members of "stdio" in an order to the agent (common/agent_protocol.h), with a comma before each; nothing when
 * there are none. */
void preserved_write(const struct preserved *preserved, FILE *out);
