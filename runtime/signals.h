/*
 * Signals by name, and which of them `hull run` hands on.
 */
#pragma once

#include <signal.h>

#include "common/error.h"

/* "9", "KILL", "SIGKILL", "sigkill", "RTMIN+3", "SIGRTMAX-1": a signal number (0 too, when given as a number), or -1
 * with the error set. */
int signal_parse(const char *text, struct error *err);

/* "TERM", or a number for signals without a name; points to static memory. */
const char *signal_name(int signal);

/* Those that end the making of a container. */
void signals_interrupting(sigset_t *set);

/* Those that a foreground `hull run` passes on to the container's process. */
void signals_forwarded(sigset_t *set);
