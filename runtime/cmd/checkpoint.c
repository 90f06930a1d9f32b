/*
 * hull checkpoint and hull restore: the verbs and their flags are there, what they would do is not.
 */
#include <errno.h>

#include "runtime/command.h"

/* Those of runc; nobody looks at the values. */
struct checkpoint_options {
	const char *text;
	bool yes;
};

static const struct checkpoint_options defaults = {0};

#define TEXT(name, letter, value)                                                                                      \
	{                                                                                                              \
		name, letter, FLAG_TEXT, offsetof(struct checkpoint_options, text), value, "as of runc"                \
	}
#define SWITCH(name, letter)                                                                                           \
	{                                                                                                              \
		name, letter, FLAG_SWITCH, offsetof(struct checkpoint_options, yes), NULL, "as of runc"                \
	}
#define COMMON                                                                                                         \
	TEXT("image-path", 0, "DIR"), TEXT("work-path", 0, "DIR"), TEXT("manage-cgroups-mode", 0, "MODE"),             \
	    TEXT("empty-ns", 0, "TYPE"), SWITCH("tcp-established", 0), SWITCH("ext-unix-sk", 0),                       \
	    SWITCH("shell-job", 0), SWITCH("lazy-pages", 0), SWITCH("file-locks", 0), SWITCH("auto-dedup", 0)

static const struct flag checkpoint_flags[] = {
    COMMON,
    TEXT("parent-path", 0, "DIR"),
    TEXT("status-fd", 0, "FD"),
    TEXT("page-server", 0, "ADDRESS"),
    SWITCH("leave-running", 0),
    SWITCH("pre-dump", 0),
    {0},
};

static const struct flag restore_flags[] = {
    COMMON,
    TEXT("bundle", 'b', "DIR"),
    TEXT("console-socket", 0, "PATH"),
    TEXT("pid-file", 0, "FILE"),
    TEXT("lsm-profile", 0, "TEXT"),
    TEXT("lsm-mount-context", 0, "TEXT"),
    SWITCH("detach", 'd'),
    SWITCH("no-subreaper", 0),
    SWITCH("no-pivot", 0),
    {0},
};

static int refuse(const struct invocation *invocation, struct error *err)
{
	(void)invocation;
	return error_set(err, ENOTSUP,
			 "checkpoint and restore are not supported yet: the state of a virtual machine "
			 "cannot be saved");
}

const struct command command_checkpoint = {
    .name = "checkpoint",
    .summary = "not supported yet",
    .arguments = "[flags] ID",
    .description = "Would save a running container. Not supported yet: always an error.",
    .flags = checkpoint_flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 1,
    .run = refuse,
};

const struct command command_restore = {
    .name = "restore",
    .summary = "not supported yet",
    .arguments = "[flags] ID",
    .description = "Would bring a saved container back. Not supported yet: always an error.",
    .flags = restore_flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 1,
    .run = refuse,
};
