/*
 * Where the time of a start goes (--trace-start): steps with the moment that they were reached, of hull itself, of
 * hull-vmm and of the agent in the guest, printed in one list when the container runs.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/* From now on steps are remembered; without it everything here does nothing. */
void trace_begin(void);
bool trace_wanted(void);

/* This process has reached a step. name must stay. */
void trace_step(const char *name);

/* The agent's answer to create, taken just now, holds its steps (common/agent_protocol.h). */
void trace_add_guest(const json_t *answer);

/* Adds what hull-vmm has written to its log, and prints all on standard error. */
void trace_print(int log);
