#include "guest-agent/processes.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/io.h"
#include "guest-agent/places.h"

#define STATUS_MAX (64u << 10)
#define COMMAND_MAX 4096 /* bytes; a longer one is cut */
#define TTY_MAJOR_PTS 136
#define SIGNAL_ROUNDS 100

static char *read_about(pid_t pid, const char *name, size_t limit)
{
	char path[64], *text;

	snprintf(path, sizeof(path), PLACE_PROC "/%d/%s", (int)pid, name);
	return read_file_at(AT_FDCWD, path, limit, &text, NULL, NULL) == 0 ? text : NULL;
}

/* "0::/container-7" or "0::/container-7/below". */
static bool is_in_cgroup(pid_t pid, const char *cgroup)
{
	cleanup_free char *text = read_about(pid, "cgroup", STATUS_MAX);
	const char *line = text ? strstr(text, "0::/") : NULL;
	size_t length = strlen(cgroup);

	return line && strncmp(line + 4, cgroup, length) == 0 && (line[4 + length] == '\n' || line[4 + length] == '/');
}

int processes_each(unsigned container, void (*visit)(pid_t pid, void *context), void *context, struct error *err)
{
	DIR *directory = opendir(PLACE_PROC);
	const struct dirent *entry;
	char cgroup[32];

	if (!directory)
		return error_set_errno(err, "open " PLACE_PROC);
	snprintf(cgroup, sizeof(cgroup), "container-%u", container);
	while ((entry = readdir(directory))) {
		pid_t pid = (pid_t)atoi(entry->d_name);

		if (pid > 1 && is_in_cgroup(pid, cgroup))
			visit(pid, context);
	}
	closedir(directory);
	return 0;
}

/* --- ps ---------------------------------------------------------------------------------------------------------- */

/* The number after "Name:" in /proc/PID/status; the last one of several: that of the innermost namespace. */
static long status_number(const char *status, const char *name, bool last)
{
	const char *line = strstr(status, name);
	const char *end, *at;

	if (!line)
		return -1;
	line += strlen(name);
	end = line + strcspn(line, "\n");
	if (!last)
		return strtol(line, NULL, 10);
	for (at = end; at > line && isdigit((unsigned char)at[-1]); at--)
		;
	return strtol(at, NULL, 10);
}

struct stat_figures {
	char state[2];
	int tty;
	bool foreground; /* its group is that of the terminal */
	long nice;
	unsigned long threads;
	unsigned long size; /* of its memory, in bytes */
	unsigned long resident;
	unsigned long long ticks; /* used */
	unsigned long long start; /* ticks after boot */
};

/* The fields of /proc/PID/stat after the name, which may hold anything: the third and on (proc(5)). */
static int read_stat(pid_t pid, struct stat_figures *figures)
{
	enum {
		STATE = 3,
		GROUP = 5,
		TTY = 7,
		TTY_GROUP = 8,
		USER = 14,
		SYSTEM = 15,
		NICE = 19,
		THREADS = 20,
		START = 22,
		SIZE = 23,
		RESIDENT = 24,
		END
	};
	cleanup_free char *text = read_about(pid, "stat", STATUS_MAX);
	char *rest = text ? strrchr(text, ')') : NULL;
	unsigned long long fields[END] = {0};
	int field = STATE;
	char state = '?';

	for (char *word = rest ? strtok(rest + 1, " ") : NULL; word && field < END; word = strtok(NULL, " ")) {
		if (field == STATE)
			state = *word;
		fields[field++] = strtoull(word, NULL, 10);
	}
	if (field < END)
		return -1;
	*figures = (struct stat_figures){
	    .state = {state},
	    .tty = (int)fields[TTY],
	    .foreground = fields[TTY] != 0 && fields[GROUP] == fields[TTY_GROUP],
	    .nice = (long)fields[NICE],
	    .threads = (unsigned long)fields[THREADS],
	    .size = (unsigned long)fields[SIZE],
	    .resident = (unsigned long)fields[RESIDENT] * (unsigned long)sysconf(_SC_PAGESIZE),
	    .ticks = fields[USER] + fields[SYSTEM],
	    .start = fields[START],
	};
	return 0;
}

static void format_tty(int device, char *text, size_t room)
{
	int major = device >> 8 & 0xfff, minor = (device & 0xff) | (device >> 12 & 0xfff00);

	*text = '\0';
	if (major >= TTY_MAJOR_PTS && major < TTY_MAJOR_PTS + 8)
		snprintf(text, room, "pts/%d", minor + (major - TTY_MAJOR_PTS) * 256);
}

/* What is not valid text becomes question marks: the answer must be JSON. */
static json_t *valid_text(char *text, size_t length)
{
	json_t *value = json_stringn(text, length);

	for (size_t i = 0; !value && i < length; i++)
		if ((unsigned char)text[i] >= 0x80)
			text[i] = '?';
	return value ? value : json_stringn(text, length);
}

static json_t *name_of(const char *status)
{
	const char *name = strstr(status, "Name:\t");
	size_t length = name ? strcspn(name + 6, "\n") : 0;
	char text[64];

	if (length >= sizeof(text))
		length = sizeof(text) - 1;
	memcpy(text, name ? name + 6 : "", length);
	return valid_text(text, length);
}

/* Arguments end with NUL bytes each. */
static json_t *command_of(pid_t pid, const char *status)
{
	char text[COMMAND_MAX];
	char path[64];
	cleanup_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), PLACE_PROC "/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text));
	while (n > 0 && text[n - 1] == '\0')
		n--;
	if (n <= 0) {
		const char *name = strstr(status, "Name:\t");

		n = snprintf(text, sizeof(text), "[%.*s]", name ? (int)strcspn(name + 6, "\n") : 0,
			     name ? name + 6 : "");
	}
	for (ssize_t i = 0; i < n; i++)
		if (text[i] == '\0')
			text[i] = ' ';
	return valid_text(text, (size_t)n);
}

struct listing {
	json_t *array;
	long long now, boot; /* milliseconds after 1970 */
	long ticks;	     /* a second */
};

static void add_process(pid_t pid, void *context)
{
	struct listing *listing = context;
	cleanup_free char *status = read_about(pid, "status", STATUS_MAX);
	struct stat_figures figures;
	char tty[16];

	/* One that has just ended. */
	if (!status || read_stat(pid, &figures) < 0)
		return;
	format_tty(figures.tty, tty, sizeof(tty));
	json_array_append_new(
	    listing->array,
	    json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s, s:s, s:o, s:o}",
		      "agentPid", (int)pid, "agentParent", (json_int_t)status_number(status, "\nPPid:", false), "pid",
		      (json_int_t)status_number(status, "\nNSpid:", true), "uid",
		      (json_int_t)status_number(status, "\nUid:", false), "cpu",
		      (json_int_t)(figures.ticks * 1000 / (unsigned long)listing->ticks), "start",
		      (json_int_t)(listing->boot + (long long)(figures.start * 1000 / (unsigned long)listing->ticks)),
		      "now", (json_int_t)listing->now, "pgid", (json_int_t)status_number(status, "\nNSpgid:", true),
		      "sid", (json_int_t)status_number(status, "\nNSsid:", true), "gid",
		      (json_int_t)status_number(status, "\nGid:", false), "nice", (json_int_t)figures.nice, "threads",
		      (json_int_t)figures.threads, "size", (json_int_t)figures.size, "resident",
		      (json_int_t)figures.resident, "foreground", (int)figures.foreground, "state", figures.state,
		      "tty", tty, "name", name_of(status), "command", command_of(pid, status)));
}

/* A parent is named by the number that the container has for it, where it is one of the container's. */
static void name_parents(json_t *array)
{
	json_t *process, *other;
	size_t i, k;

	json_array_foreach(array, i, process)
	{
		json_int_t parent = json_integer_value(json_object_get(process, "agentParent")), number = 0;

		json_array_foreach(array, k, other)
		{
			if (json_integer_value(json_object_get(other, "agentPid")) == parent)
				number = json_integer_value(json_object_get(other, "pid"));
		}
		json_object_set_new(process, "ppid", json_integer(number));
	}
	json_array_foreach(array, i, process)
	{
		json_object_del(process, "agentPid");
		json_object_del(process, "agentParent");
	}
}

json_t *processes_list(unsigned container, struct error *err)
{
	struct listing listing = {
	    .array = json_array(),
	    .now = clock_ms(CLOCK_REALTIME),
	    .ticks = sysconf(_SC_CLK_TCK),
	};

	listing.boot = listing.now - clock_ms(CLOCK_BOOTTIME);
	if (!listing.array || processes_each(container, add_process, &listing, err) < 0) {
		json_decref(listing.array);
		return NULL;
	}
	name_parents(listing.array);
	return json_pack("{s:o, s:I}", "processes", listing.array, "memory",
			 (json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
}

/* --- signals ----------------------------------------------------------------------------------------------------- */

struct signalled {
	pid_t *pids; /* those that have had it */
	size_t n, fresh;
	int signal;
	bool failed;
};

static void signal_once(pid_t pid, void *context)
{
	struct signalled *signalled = context;
	pid_t *larger;

	for (size_t i = 0; i < signalled->n; i++)
		if (signalled->pids[i] == pid)
			return;
	larger = realloc(signalled->pids, (signalled->n + 1) * sizeof(*larger));
	if (!larger) {
		signalled->failed = true;
		return;
	}
	signalled->pids = larger;
	larger[signalled->n++] = pid;
	signalled->fresh++;
	kill(pid, signalled->signal);
}

int processes_signal(unsigned container, int signal, struct error *err)
{
	struct signalled signalled = {.signal = signal};
	int status = 0;

	for (int round = 0; round < SIGNAL_ROUNDS && status == 0; round++) {
		signalled.fresh = 0;
		status = processes_each(container, signal_once, &signalled, err);
		if (signalled.failed)
			status = error_set(err, ENOMEM, "out of memory");
		if (signalled.fresh == 0)
			break;
	}
	free(signalled.pids);
	return status;
}
