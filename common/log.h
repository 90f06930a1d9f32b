/*
 * Diagnostics of the programs that serve a sandbox (hull-vmm, hull-fsd): one line a message to one descriptor, opened
 * by the runtime. Never formats more than a line, never blocks the caller for long, does not allocate.
 */
#pragma once

/* Where messages go: a descriptor that stays open, or -1 for nowhere. name stands at the head of each line. */
void log_to(int fd, const char *name);

/* Writes "name: message\n". */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* As log_line, but at most a handful of lines a second from each call site is let through: for what a guest can
 * provoke. */
#define log_guest(...)                                                                                                 \
	do {                                                                                                           \
		static struct log_budget budget_;                                                                      \
		if (log_allowed(&budget_))                                                                             \
			log_line(__VA_ARGS__);                                                                         \
	} while (0)

struct log_budget {
	long second;
	unsigned used;
};

int log_allowed(struct log_budget *budget);
