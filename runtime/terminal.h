/*
 * Terminals of the host: the caller's own, which a process with a terminal in the foreground uses, and pseudo-terminals
 * whose master is handed to an engine (--console-socket). The process's own terminal is in the guest, and edits lines,
 * echoes and makes signals of keys; that of the host only carries bytes.
 */
#pragma once

#include <stdbool.h>
#include <termios.h>

#include "common/error.h"
#include "runtime/streams.h"

/* The caller's terminal: stderr, stdout or stdin if one of them is one, else /dev/tty. Returns a descriptor or -1. */
int terminal_find(struct error *err);

/* A terminal of the caller in raw mode, until the end of the scope. */
struct raw_terminal {
	int fd; /* stays the owner's */
	bool raw;
	struct termios before;
};

#define RAW_TERMINAL_NONE ((struct raw_terminal){.fd = -1})

int raw_terminal_begin(struct raw_terminal *terminal, int fd, struct error *err);
void raw_terminal_end(struct raw_terminal *terminal);
#define cleanup_raw_terminal __attribute__((cleanup(raw_terminal_end)))

/* The window's size; zeros when it is not known. */
struct window terminal_window(int fd);

/* stdin, stdout and stderr of the caller as those of a process with a terminal: the terminal has one output. */
int terminal_take_stdio(int terminal, struct stdio *stdio, struct error *err);

/* Makes a pseudo-terminal, sends its master to the unix socket at path (docs/terminals.md of runc: a message that holds
 * the name, with the descriptor attached), and makes its other end the process's one stream. */
int terminal_hand_over(const char *path, struct stdio *stdio, struct error *err);
