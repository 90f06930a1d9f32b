#include "runtime/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/spec_fields.h"
#include "common/spec_values.h"
#include "runtime/report.h"
#include "runtime/signals.h"
#include "runtime/state.h"

#define OUTPUT_MAX 400 /* bytes of each stream that a message shows */

/* --- checking ---------------------------------------------------------------------------------------------------- */

static int check_texts(const json_t *hook, const char *member, const char *kind, size_t index, struct error *err)
{
	const json_t *text;
	size_t i;

	json_array_foreach(json_object_get(hook, member), i, text)
	{
		if (!json_is_string(text))
			return error_set(err, EINVAL, "hooks.%s[%zu].%s[%zu] must be a string", kind, index, member, i);
	}
	return 0;
}

static int check_hook(const json_t *hook, const char *kind, size_t index, struct error *err)
{
	const char *path = json_string_value(json_object_get(hook, "path"));
	const json_t *timeout = json_object_get(hook, "timeout");
	int64_t seconds;

	if (!path || *path != '/')
		return error_set(err, EINVAL, "hooks.%s[%zu].path must be an absolute path", kind, index);
	if (timeout && !json_is_null(timeout) &&
	    (spec_get_i64(timeout, &seconds) < 0 || seconds <= 0 || seconds > INT_MAX / 1000))
		return error_set(err, EINVAL, "hooks.%s[%zu].timeout must be a number of seconds above 0", kind, index);
	return check_texts(hook, "args", kind, index, err) < 0 ? -1 : check_texts(hook, "env", kind, index, err);
}

int hooks_check(const json_t *hooks, struct error *err)
{
	const json_t *list, *hook;
	const char *kind;
	size_t index;

	json_object_foreach((json_t *)hooks, kind, list)
	{
		json_array_foreach(list, index, hook)
		{
			if (check_hook(hook, kind, index, err) < 0)
				return -1;
		}
	}
	return 0;
}

json_t *hooks_to_remember(const json_t *hooks)
{
	static const char *const later[] = {"poststart", "poststop"};
	json_t *kept = NULL;

	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
		json_t *list = json_object_get(hooks, later[i]);

		if (json_array_size(list) == 0)
			continue;
		if (!kept)
			kept = json_object();
		json_object_set(kept, later[i], list);
	}
	return kept;
}

/* --- running one ------------------------------------------------------------------------------------------------- */

struct running {
	pid_t pid;
	int pidfd;
	int in, out, err; /* our ends of its streams; -1 when done with */
	const char *input;
	size_t input_left;
	char output[2][OUTPUT_MAX + 1];
	size_t used[2];
	int64_t deadline; /* CLOCK_MONOTONIC milliseconds, 0: none */
};

static void release_running(struct running *running)
{
	cleanup_close_fd(&running->in);
	cleanup_close_fd(&running->out);
	cleanup_close_fd(&running->err);
	cleanup_close_fd(&running->pidfd);
}

/* A list of words that ends with NULL; the words belong to the JSON. */
static char **make_words(const json_t *list, const char *only)
{
	size_t n = json_array_size(list), i;
	char **words = calloc(n + 2, sizeof(*words));
	const json_t *word;

	if (!words)
		return NULL;
	if (n == 0)
		words[0] = (char *)only;
	json_array_foreach(list, i, word)
	{
		words[i] = (char *)json_string_value(word);
	}
	return words;
}

/* Everything but the three streams is closed, and no signal is blocked or ignored. folder is where it runs; NULL: here.
 */
static int spawn_hook(const char *path, char **args, char **env, const char *folder, const int streams[3], pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int result;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawn_file_actions_init(&actions);
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_adddup2(&actions, streams[i], i);
	posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
	if (folder)
		posix_spawn_file_actions_addchdir_np(&actions, folder);
	result = posix_spawn(pid, path, &actions, &attributes, args, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return result;
}

static int make_pipes(int pipes[3][2], struct error *err)
{
	for (int i = 0; i < 3; i++)
		if (pipe2(pipes[i], O_CLOEXEC) < 0)
			return error_set_errno(err, "make a pipe");
	return 0;
}

static void close_pipes(int pipes[3][2])
{
	for (int i = 0; i < 3; i++)
		for (int end = 0; end < 2; end++)
			cleanup_close_fd(&pipes[i][end]);
}

static int start(const json_t *hook, const char *folder, int pipes[3][2], struct running *running, struct error *err)
{
	const char *path = json_string_value(json_object_get(hook, "path"));
	const int streams[3] = {pipes[0][0], pipes[1][1], pipes[2][1]};
	char **args = make_words(json_object_get(hook, "args"), path);
	const json_t *list = json_object_get(hook, "env");
	char **env = make_words(list, NULL);
	int code;

	/* As with runc and crun, one that says nothing of its environment has ours. */
	code = args && env ? spawn_hook(path, args, list ? env : environ, folder, streams, &running->pid) : ENOMEM;
	free(args);
	free(env);
	if (code)
		return error_set(err, code, "fork/exec %s: %s", path, strerror(code));
	running->pidfd = (int)syscall(SYS_pidfd_open, running->pid, 0);
	running->in = take_fd(&pipes[0][1]);
	running->out = take_fd(&pipes[1][0]);
	running->err = take_fd(&pipes[2][0]);
	set_nonblocking(running->in, true);
	set_nonblocking(running->out, true);
	set_nonblocking(running->err, true);
	return 0;
}

/* A hook need not read its input. */
static void feed(struct running *running)
{
	ssize_t n = write(running->in, running->input, running->input_left);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		running->input += n;
		running->input_left -= (size_t)n;
	}
	if (n <= 0 || running->input_left == 0) {
		close(running->in);
		running->in = -1;
	}
}

/* Keeps the beginning of what it writes and drops the rest. */
static void take_output(struct running *running, int *fd, int which)
{
	char rest[4096];
	ssize_t n;

	while ((n = read(*fd, rest, sizeof(rest))) > 0) {
		size_t room = OUTPUT_MAX - running->used[which];
		size_t kept = (size_t)n < room ? (size_t)n : room;

		memcpy(running->output[which] + running->used[which], rest, kept);
		running->used[which] += kept;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	close(*fd);
	*fd = -1;
}

static void take_all_output(struct running *running)
{
	if (running->out >= 0)
		take_output(running, &running->out, 0);
	if (running->err >= 0)
		take_output(running, &running->err, 1);
}

enum outcome { HOOK_ENDED, HOOK_TIMED_OUT, HOOK_INTERRUPTED };

/* Serves its streams until the process has ended. That something it started holds them open does not matter. */
static enum outcome serve(struct running *running, int signals)
{
	for (;;) {
		struct pollfd polled[] = {
		    {.fd = running->pidfd, .events = POLLIN}, {.fd = running->in, .events = POLLOUT},
		    {.fd = running->out, .events = POLLIN},   {.fd = running->err, .events = POLLIN},
		    {.fd = signals, .events = POLLIN},
		};
		int64_t left = running->deadline - now_ms();

		if (running->deadline && left <= 0)
			return HOOK_TIMED_OUT;
		if (poll(polled, 5, running->deadline ? (int)left : -1) < 0)
			continue;
		if (polled[1].revents)
			feed(running);
		take_all_output(running);
		if (polled[0].revents)
			return HOOK_ENDED;
		if (polled[4].revents)
			return HOOK_INTERRUPTED;
	}
}

static int reap(const struct running *running)
{
	int status;

	while (waitpid(running->pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

static void make_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = text[1] ? ' ' : '\0';
}

/* In the words of runc. */
static int judge(struct running *running, int status, struct error *err)
{
	char how[64];

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status))
		snprintf(how, sizeof(how), "exit status %d", WEXITSTATUS(status));
	else
		snprintf(how, sizeof(how), "signal: %s", signal_name(WTERMSIG(status)));
	make_line(running->output[0]);
	make_line(running->output[1]);
	return error_set(err, EIO, "%s, stdout: %s, stderr: %s", how, running->output[0], running->output[1]);
}

static int attend(const json_t *hook, struct running *running, int signals, struct error *err)
{
	int64_t seconds = 0;
	enum outcome outcome;
	int status;

	spec_get_i64(json_object_get(hook, "timeout"), &seconds);
	running->deadline = seconds > 0 ? now_ms() + seconds * 1000 : 0;
	outcome = serve(running, signals);
	if (outcome != HOOK_ENDED)
		kill(running->pid, SIGKILL);
	status = reap(running);
	take_all_output(running);
	if (outcome == HOOK_TIMED_OUT)
		return error_set(err, ETIMEDOUT, "hook ran past specified timeout of %.1fs", (double)seconds);
	if (outcome == HOOK_INTERRUPTED)
		return error_set(err, EINTR, "interrupted by a signal");
	return judge(running, status, err);
}

static int run_one(const json_t *hook, const char *input, const char *folder, int signals, struct error *err)
{
	__attribute__((cleanup(release_running))) struct running running = {
	    .pidfd = -1, .in = -1, .out = -1, .err = -1, .input = input, .input_left = strlen(input)};
	int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
	int result = make_pipes(pipes, err);

	if (result == 0)
		result = start(hook, folder, pipes, &running, err);
	/* The hook's ends are its own now. */
	close_pipes(pipes);
	if (result < 0)
		return -1;
	return attend(hook, &running, signals, err);
}

/* --- running them ------------------------------------------------------------------------------------------------ */

/* runtime.md "State"; allocated. */
static char *format_subject(const struct hook_subject *subject)
{
	json_t *state = json_pack("{s:s, s:s, s:s, s:s}", "ociVersion", SPEC_VERSION, "id", subject->id, "status",
				  subject->status, "bundle", subject->bundle);
	char *text;

	if (!state)
		return NULL;
	if (subject->pid > 0)
		json_object_set_new(state, "pid", json_integer(subject->pid));
	if (json_object_size(subject->annotations) > 0)
		json_object_set(state, "annotations", subject->annotations);
	text = json_dumps(state, JSON_COMPACT);
	json_decref(state);
	return text;
}

static bool is_folder(const char *path)
{
	struct stat status;

	return path && stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* The bundle may be gone when a container is deleted. */
static const char *folder_of(const char *kind, const struct hook_subject *subject)
{
	if (strcmp(kind, "createContainer") == 0 && is_folder(subject->rootfs))
		return subject->rootfs;
	return is_folder(subject->bundle) ? subject->bundle : NULL;
}

static int run_list(const json_t *list, const char *kind, const struct hook_subject *subject, int signals, bool go_on,
		    struct error *err)
{
	cleanup_free char *input = format_subject(subject);
	const json_t *hook;
	size_t index;

	if (!input)
		return error_set(err, ENOMEM, "format the state of container %s", subject->id);
	json_array_foreach(list, index, hook)
	{
		report_debug("%s hook #%zu", kind, index);
		if (run_one(hook, input, folder_of(kind, subject), signals, err) == 0)
			continue;
		error_prefix(err, "error running %s hook #%zu", kind, index);
		if (!go_on)
			return -1;
		report_warning("%s", err->message);
	}
	return 0;
}

int hooks_run(const json_t *hooks, const char *kind, const struct hook_subject *subject, int signals, struct error *err)
{
	const json_t *list = json_object_get(hooks, kind);

	return json_array_size(list) == 0 ? 0 : run_list(list, kind, subject, signals, false, err);
}

void hooks_run_all(const json_t *hooks, const char *kind, const struct hook_subject *subject)
{
	const json_t *list = json_object_get(hooks, kind);
	struct error err;

	if (json_array_size(list) > 0 && run_list(list, kind, subject, -1, true, &err) < 0)
		report_warning("%s", err.message);
}
