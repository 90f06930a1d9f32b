/*
 * Command line flags, in the syntax that callers of runc use: `--flag value`, `--flag=value`, the same with one dash,
 * `-b value`; a flag that is a switch takes `=true` or `=false` only. Flags may stand before and after other
 * arguments; `--` ends them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

enum flag_kind {
	FLAG_SWITCH, /* bool */
	FLAG_TEXT,   /* const char *, points into argv */
	FLAG_NUMBER, /* unsigned */
	FLAG_LIST,   /* struct flag_list: may be given several times */
};

/* The values of a flag in their order; they point into argv, the array stays until the process ends. */
struct flag_list {
	const char **items;
	size_t n;
};

/* A flag and where its value goes: `offset` bytes into the structure given to options_parse. */
struct flag {
	const char *name;
	char letter; /* one-letter form, or 0 */
	enum flag_kind kind;
	size_t offset;
	const char *value_name; /* for the help text */
	const char *help;
};

enum options_order {
	OPTIONS_ANYWHERE, /* flags may follow other arguments */
	OPTIONS_FIRST,	  /* the first other argument ends the flags */
};

/* Parses argv[0..*argc) against flags (ended by an entry without name) into values, and leaves the other arguments, in
 * their order, in argv[0..*argc). Sets *help when --help or -h is met, or what crun
 * knows besides: --usage, -?. Returns 0 or -1. */
int options_parse(const struct flag *flags, enum options_order order, int *argc, char **argv, void *values, bool *help,
		  struct error *err);
