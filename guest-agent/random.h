/*
 * The guest kernel's random generator. A machine that was forked has the state of the template's, as all its siblings
 * have: before anything of a container is made, the host's random bytes have to go into it.
 */
#pragma once

#include "common/agent_protocol.h"
#include "common/error.h"

/* At boot: keeps what random_seed needs. */
int random_open(struct error *err);

/* Mixes them in, counts them as random, and has every generator of the kernel begin anew with them. */
int random_seed(const unsigned char seed[AGENT_SEED_SIZE], struct error *err);
