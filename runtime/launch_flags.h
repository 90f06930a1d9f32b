/*
 * The flags that create and run have in common.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "runtime/launch.h"
#include "runtime/options.h"

struct launch_flags {
	const char *bundle, *config, *console_socket, *pid_file, *pidfd_socket;
	bool no_pivot, no_new_keyring, no_subreaper;
	bool trace_start;
	unsigned preserve_fds;
};

#define LAUNCH_FLAGS_DEFAULT                                                                                           \
	{                                                                                                              \
		.bundle = "."                                                                                          \
	}

/* Their entries in a verb's table; member is the struct launch_flags in the verb's structure `type`. */
#define LAUNCH_FLAG(type, member, field) offsetof(type, member) + offsetof(struct launch_flags, field)
#define LAUNCH_FLAGS(type, member)                                                                                     \
	{"bundle",  'b',                                                                                               \
	 FLAG_TEXT, LAUNCH_FLAG(type, member, bundle),                                                                 \
	 "DIR",	    "the bundle: a folder with config.json (default: the current one)"},                               \
	    {"config",	'f',                                                                                           \
	     FLAG_TEXT, LAUNCH_FLAG(type, member, config),                                                             \
	     "FILE",	"the specification, a file of the bundle (default: config.json)"},                             \
	    {"console-socket", 0,                                                                                      \
	     FLAG_TEXT,	       LAUNCH_FLAG(type, member, console_socket),                                              \
	     "PATH",	       "unix socket that gets the terminal"},                                                  \
	    {"pid-file", 0, FLAG_TEXT, LAUNCH_FLAG(type, member, pid_file), "FILE", "write the process id to FILE"},   \
	    {"pidfd-socket", 0,                                                                                        \
	     FLAG_TEXT,	     LAUNCH_FLAG(type, member, pidfd_socket),                                                  \
	     "PATH",	     "unix socket that gets a descriptor of the process"},                                     \
	    {"no-pivot",  0,                                                                                           \
	     FLAG_SWITCH, LAUNCH_FLAG(type, member, no_pivot),                                                         \
	     NULL,	  "accepted; a guest's root is its own"},                                                      \
	    {"no-new-keyring",                                                                                         \
	     0,                                                                                                        \
	     FLAG_SWITCH,                                                                                              \
	     LAUNCH_FLAG(type, member, no_new_keyring),                                                                \
	     NULL,                                                                                                     \
	     "accepted; a guest has its own keyrings"},                                                                \
	    {"no-subreaper", 0,                                                                                        \
	     FLAG_SWITCH,    LAUNCH_FLAG(type, member, no_subreaper),                                                  \
	     NULL,	     "accepted; hull is no subreaper"},                                                        \
	    {"trace-start", 0,                                                                                         \
	     FLAG_SWITCH,   LAUNCH_FLAG(type, member, trace_start),                                                    \
	     NULL,	    "print on standard error where the time of the start goes"},                               \
	{                                                                                                              \
		"preserve-fds", 0, FLAG_NUMBER, LAUNCH_FLAG(type, member, preserve_fds), "N",                          \
		    "relay this many further descriptors, from 3 on"                                                   \
	}

/* What they ask of a launch. */
static inline struct launch_options launch_options_of(const struct launch_flags *flags)
{
	return (struct launch_options){
	    .bundle = flags->bundle,
	    .config = flags->config,
	    .pid_file = flags->pid_file,
	    .pidfd_socket = flags->pidfd_socket,
	    .console_socket = flags->console_socket,
	    .preserve_fds = flags->preserve_fds,
	    .trace = flags->trace_start,
	};
}
