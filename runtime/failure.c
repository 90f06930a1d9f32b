#include "runtime/failure.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "runtime/machine.h"
#include "runtime/signals.h"

static void append(struct error *err, const char *words)
{
	size_t used = strlen(err->message);

	snprintf(err->message + used, sizeof(err->message) - used, " (%s)", words);
}

void failure_explain(int result, int log, int vmm_status, struct error *err)
{
	struct result last;
	char words[512];

	result_read(result, &last);
	machine_last_words(log, words, sizeof(words));
	if (last.kind == RESULT_PANIC)
		error_set(err, EIO, "the guest kernel panicked%s%s", *last.text ? ": " : "", last.text);
	else if (last.kind == RESULT_FAILED)
		error_set(err, EIO, "the virtual machine failed: %s", last.text);
	else if (last.kind == RESULT_EXITED)
		error_set(err, EIO, "the container's process ended with status %d", last.status);
	else if (vmm_status > 128)
		error_set(err, EIO, "hull-vmm was killed by signal %s", signal_name(vmm_status - 128));
	else if (vmm_status >= 0)
		error_set(err, EIO, "hull-vmm ended with status %d", vmm_status);
	else
		error_set(err, EIO, "hull-vmm ended");
	if (last.kind != RESULT_PANIC && *words && !strstr(err->message, words) &&
	    (last.kind != RESULT_FAILED || !strstr(words, last.text)))
		append(err, words);
}

static int open_file_of(const struct container *container, const char *sandbox, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", sandbox, name);
	return openat(container->root, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

bool failure_explain_sandbox(const struct container *container, struct error *err)
{
	const char *sandbox = container->state.sandbox;
	cleanup_close int result = open_file_of(container, sandbox, CONTAINER_RESULT_FILE);
	cleanup_close int log = open_file_of(container, sandbox, CONTAINER_LOG_FILE);
	struct result last = {.kind = RESULT_NONE};

	if (result >= 0 && log >= 0)
		result_read(result, &last);
	if (last.kind != RESULT_PANIC && last.kind != RESULT_FAILED)
		return false;
	failure_explain(result, log, -1, err);
	error_prefix(err, "sandbox %s", sandbox);
	return true;
}
