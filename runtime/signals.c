#include "runtime/signals.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/io.h"

/* The guest's kernel numbers signals as the host's does, 1 to 64, and keeps the first real-time ones for its C library
 * as well. */
#define SIGNAL_MAX 64

static const struct {
	const char *name;
	int number;
} aliases[] = {
    {"IOT", SIGIOT},
    {"CLD", SIGCHLD},
    {"POLL", SIGPOLL},
    {"UNUSED", SIGSYS},
};

static int parse_realtime(const char *name)
{
	uint64_t offset = 0;
	bool from_max = strncasecmp(name, "RTMAX", 5) == 0;

	if (!from_max && strncasecmp(name, "RTMIN", 5) != 0)
		return -1;
	if (name[5] != '\0' &&
	    (name[5] != (from_max ? '-' : '+') || parse_u64(name + 6, 0, (uint64_t)(SIGRTMAX - SIGRTMIN), &offset) < 0))
		return -1;
	return from_max ? SIGRTMAX - (int)offset : SIGRTMIN + (int)offset;
}

static int parse_name(const char *name)
{
	if (strncasecmp(name, "SIG", 3) == 0)
		name += 3;
	for (int signal = 1; signal < SIGRTMIN; signal++) {
		const char *known = sigabbrev_np(signal);

		if (known && strcasecmp(known, name) == 0)
			return signal;
	}
	for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
		if (strcasecmp(aliases[i].name, name) == 0)
			return aliases[i].number;
	return parse_realtime(name);
}

int signal_parse(const char *text, struct error *err)
{
	uint64_t number;
	int signal;

	if (parse_u64(text, 0, SIGNAL_MAX, &number) == 0)
		return (int)number;
	signal = parse_name(text);
	if (signal < 0)
		return error_set(err, EINVAL, "unknown signal \"%s\"", text);
	return signal;
}

const char *signal_name(int signal)
{
	static char number[16];
	const char *name = sigabbrev_np(signal);

	if (name)
		return name;
	snprintf(number, sizeof(number), "%d", signal);
	return number;
}

void signals_interrupting(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGQUIT);
}

void signals_forwarded(sigset_t *set)
{
	/* Faults concern hull itself; the rest are notices of the kernel to hull about its own children, terminal
	 * size and sockets. */
	static const int kept[] = {SIGSEGV, SIGBUS,  SIGFPE, SIGILL,   SIGTRAP, SIGABRT,
				   SIGSYS,  SIGCHLD, SIGURG, SIGWINCH, SIGPIPE};

	sigfillset(set);
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		sigdelset(set, kept[i]);
}
