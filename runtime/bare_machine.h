/*
 * A machine without a container: one that is booted to see whether it can be, or to be saved. What its VMM has to say
 * goes to files without a name, so that nothing can be left.
 */
#pragma once

#include "common/error.h"
#include "runtime/machine.h"
#include "runtime/watch.h"

struct bare_machine {
	int control;	 /* listening, made by the user of this */
	int result, log; /* memfds */
	int signals;	 /* those that interrupt hull are blocked and read from here */
	struct machine machine;
	struct watch watch;
};

#define BARE_MACHINE_NONE                                                                                              \
	((struct bare_machine){                                                                                        \
	    .control = -1, .result = -1, .log = -1, .signals = -1, .machine = MACHINE_NONE, .watch = WATCH_NONE})

/* Starts it, without waiting for the guest, which gets `timeout` seconds from now on. plan says what resources, size,
 * template and so on are; the rest of it is filled in here. */
int bare_machine_start(struct bare_machine *bare, struct machine_plan *plan, unsigned timeout, struct error *err);

/* Replaces err by what the machine itself says, where it has ended. */
void bare_machine_explain(struct bare_machine *bare, struct error *err);

/* Ends what is left of it. */
void bare_machine_release(struct bare_machine *bare);
#define cleanup_bare_machine __attribute__((cleanup(bare_machine_release)))
