/*
 * The system call filters of the jailed programs, as tables. They are compiled when hull is built (main.c here writes a
 * header of BPF programs), because compiling one costs each start of a container millions of instructions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum filter_check {
	FILTER_ANY,
	FILTER_EQUAL,  /* argument == value */
	FILTER_MASKED, /* (argument & mask) == value */
};

/* One allowed system call, with at most one condition on one argument. The same call may appear several times. */
struct filter_rule {
	int call;
	unsigned filters; /* which of a set's filters it is in: a bit each */
	enum filter_check check;
	unsigned argument;
	uint64_t value;
	uint64_t mask;
};

/* The filters of one program. What is not allowed ends the process. */
struct filter_set {
	const char *program;
	const char *const *names; /* of its filters, NULL after the last */
	const struct filter_rule *rules;
	size_t n;
	bool tree; /* calls are found by bisection rather than in the order of the table */
};

extern const struct filter_set vmm_filters, fsd_filters;
