/*
 * What `hull ps ID OPTION...` prints. runc passes the options on to ps(1) and leaves the container's processes over;
 * here they are read, since no ps of the host knows the guest's processes: which columns, with or without titles.
 *
 *   nothing, -f        UID PID PPID C STIME TTY TIME CMD
 *   -e, -A, -a         PID TTY TIME CMD
 *   x, -x, ax          PID TTY STAT TIME COMMAND
 *   u, aux             USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND
 *   -j                 PID PGID SID TTY TIME CMD
 *   -o LIST, o LIST    those named, each with =TITLE where it shall have another one
 *
 * Options that choose processes may only choose all; w is understood, and h for no titles.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "common/error.h"

#define PS_COLUMNS_MAX 32

struct ps_column {
	const struct ps_kind *kind;
	const char *title; /* not terminated: of title_length bytes */
	int title_length;
};

struct ps_format {
	struct ps_column columns[PS_COLUMNS_MAX];
	size_t n;
	bool no_titles;
};

/* Reads the options, which end with NULL; titles stay in them. What is not done is refused by its name. */
int ps_format_parse(char *const *options, struct ps_format *format, struct error *err);

/* The titles, and a line for each process of the agent's answer (NULL: none). */
void ps_format_write(const struct ps_format *format, const json_t *answer, FILE *out);
