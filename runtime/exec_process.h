/*
 * The process of `hull exec`: a process.json, or the container's own process changed by flags.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "runtime/options.h"

struct exec_flags {
	const char *process; /* a file, or NULL: then the rest counts */
	const char *cwd, *user, *process_label, *apparmor;
	struct flag_list env, groups, capabilities;
	bool tty, no_new_privs;
	char *const *args; /* ended by NULL */
};

struct exec_process {
	char *text; /* JSON: what the agent gets */
	size_t size;
	bool terminal;
};

void exec_process_release(struct exec_process *process);
#define cleanup_exec_process __attribute__((cleanup(exec_process_release)))

/* bundle is the path of the container's, config as for spec_load. */
int exec_process_make(const struct exec_flags *flags, const char *bundle, const char *config,
		      struct exec_process *process, struct error *err);

/* The same for the text of a process.json, of which the result takes possession (also on failure). */
int exec_process_take_text(char *text, size_t size, struct exec_process *process, struct error *err);

/* Changes a process of a config.json, in place. */
int exec_process_apply(const struct exec_flags *flags, json_t *process, struct error *err);
