#include "guest-agent/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/spec_fields.h"
#include "common/spec_values.h"

#define TIMEOUT_MAX 86400 /* seconds; nobody waits longer */

/* --- reading ----------------------------------------------------------------------------------------------------- */

static char **texts(const json_t *array)
{
	char **list = calloc(json_array_size(array) + 1, sizeof(char *));
	const json_t *element;
	size_t i, n = 0;

	json_array_foreach(array, i, element)
	{
		if (list && json_is_string(element))
			list[n++] = (char *)json_string_value(element);
	}
	return list;
}

static int read_hook(const json_t *json, size_t index, struct hook *hook, struct error *err)
{
	int64_t timeout = 0;

	hook->path = json_string_value(json_object_get(json, "path"));
	if (!hook->path || hook->path[0] != '/')
		return error_set(err, EINVAL, "hooks.startContainer[%zu].path must be an absolute path", index);
	spec_get_i64(json_object_get(json, "timeout"), &timeout);
	if (timeout < 0 || timeout > TIMEOUT_MAX || (timeout == 0 && json_is_number(json_object_get(json, "timeout"))))
		return error_set(err, EINVAL, "hooks.startContainer[%zu].timeout must be from 1 to %d seconds", index,
				 TIMEOUT_MAX);
	hook->timeout = (long)timeout;
	hook->args = texts(json_object_get(json, "args"));
	hook->env = texts(json_object_get(json, "env"));
	if (!hook->args || !hook->env)
		return error_set(err, ENOMEM, "out of memory");
	return 0;
}

/* The process sees itself as process 1. */
static char *state_text(const char *id, const char *bundle, const json_t *annotations)
{
	json_t *state = json_pack("{s:s, s:s, s:s, s:i, s:s}", "ociVersion", SPEC_VERSION, "id", id, "status",
				  "created", "pid", 1, "bundle", bundle);
	char *text = NULL;

	if (state && json_object_size(annotations) > 0 &&
	    json_object_set(state, "annotations", (json_t *)annotations) < 0) {
		json_decref(state);
		return NULL;
	}
	if (state)
		text = json_dumps(state, JSON_COMPACT);
	json_decref(state);
	return text;
}

int hooks_read(const json_t *array, const char *id, const char *bundle, const json_t *annotations, struct hooks *hooks,
	       struct error *err)
{
	const json_t *element;
	size_t i;

	*hooks = (struct hooks){.input = -1, .output = -1};
	if (json_array_size(array) == 0)
		return 0;
	hooks->list = calloc(json_array_size(array), sizeof(struct hook));
	hooks->state = state_text(id, bundle, annotations);
	if (!hooks->list || !hooks->state)
		return error_set(err, ENOMEM, "out of memory");
	json_array_foreach(array, i, element)
	{
		if (read_hook(element, i, &hooks->list[hooks->n++], err) < 0)
			return -1;
	}
	return 0;
}

void hooks_release(struct hooks *hooks)
{
	for (size_t i = 0; i < hooks->n; i++) {
		free(hooks->list[i].args);
		free(hooks->list[i].env);
	}
	free(hooks->list);
	free(hooks->state);
	cleanup_close_fd(&hooks->input);
	cleanup_close_fd(&hooks->output);
	*hooks = (struct hooks){.input = -1, .output = -1};
}

/* --- running ----------------------------------------------------------------------------------------------------- */

static void execute(const struct hook *hook, int input, int output) __attribute__((noreturn));

static void execute(const struct hook *hook, int input, int output)
{
	char *const only_path[] = {(char *)hook->path, NULL};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
		_exit(126);
	close_range(3, ~0U, 0);
	execve(hook->path, hook->args[0] ? hook->args : only_path, hook->env);
	dprintf(2, "fork/exec %s: %s", hook->path, strerror(errno));
	_exit(127);
}

/* Whether the process ended in time; it has been reaped then. */
static bool ends_in_time(pid_t pid, long timeout, int *status)
{
	int64_t end = now_ms() + (int64_t)timeout * 1000;
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	for (;;) {
		int64_t left = end - now_ms();
		struct timespec wait = {.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};

		if (waitpid(pid, status, timeout ? WNOHANG : 0) == pid)
			return true;
		if (timeout && left <= 0)
			return false;
		if (timeout)
			sigtimedwait(&child, NULL, &wait);
	}
}

/* One line of what the hook has written. */
static void read_output(int fd, char *text, size_t room)
{
	ssize_t n = pread(fd, text, room - 1, 0);

	text[n < 0 ? 0 : n] = '\0';
	for (char *c = text; *c; c++)
		if (*c == '\n')
			*c = c[1] ? ' ' : '\0';
}

static int judge(size_t index, int status, int output, struct error *err)
{
	char text[512];

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	read_output(output, text, sizeof(text));
	if (WIFSIGNALED(status)) {
		/* Go's spelling, which engines and people know. */
		const char *name = WTERMSIG(status) == SIGSYS ? "bad system call" : strsignal(WTERMSIG(status));

		return error_set(err, EPERM, "error running hook #%zu: error running hook: signal: %s, output: %s",
				 index, name, text);
	}
	return error_set(err, EPERM, "error running hook #%zu: error running hook: exit status %d, output: %s", index,
			 WEXITSTATUS(status), text);
}

static int run_one(const struct hooks *hooks, size_t index, struct error *err)
{
	const struct hook *hook = &hooks->list[index];
	int status;
	pid_t pid;

	if (lseek(hooks->input, 0, SEEK_SET) < 0 || ftruncate(hooks->output, 0) < 0 ||
	    lseek(hooks->output, 0, SEEK_SET) < 0)
		return error_set_errno(err, "error running hook #%zu", index);
	pid = fork();
	if (pid == 0)
		execute(hook, hooks->input, hooks->output);
	if (pid < 0)
		return error_set_errno(err, "error running hook #%zu: fork", index);
	if (ends_in_time(pid, hook->timeout, &status))
		return judge(index, status, hooks->output, err);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return error_set(err, ETIMEDOUT, "error running hook #%zu: hook ran past specified timeout of %ld.0s", index,
			 hook->timeout);
}

int hooks_open(struct hooks *hooks, struct error *err)
{
	if (hooks->n == 0)
		return 0;
	hooks->input = memfd_create("state", MFD_CLOEXEC);
	hooks->output = memfd_create("output", MFD_CLOEXEC);
	if (hooks->input < 0 || hooks->output < 0 ||
	    write_exactly(hooks->input, hooks->state, strlen(hooks->state)) < 0)
		return error_set_errno(err, "hooks.startContainer: make their streams");
	return 0;
}

int hooks_run(const struct hooks *hooks, struct error *err)
{
	for (size_t i = 0; i < hooks->n; i++)
		if (run_one(hooks, i, err) < 0)
			return -1;
	return 0;
}
