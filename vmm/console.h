/*
 * The guest kernel's console: the transmitting half of an 8250 serial port. The last of what comes is kept, so that
 * there is something to say when the kernel has panicked: without a reader that is all the kernel writes here.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/state.h"

#define CONSOLE_PORT 0x3f8
#define CONSOLE_PORTS 8
#define CONSOLE_TAIL 4096 /* an oops with its registers and its stack */

/* Has a lock of its own: a descriptor that takes nothing more stops the vCPU that writes, and no other part of the
 * machine. */
struct console {
	int fd; /* -1: nobody reads it */
	pthread_mutex_t lock;
	bool divisor_latch; /* line control, bit 7: the first two registers set the speed */
	size_t used;
	char line[256]; /* what has been written since the last end of line */
	size_t written; /* in all; tail is filled again and again */
	char tail[CONSOLE_TAIL];
};

/* fd stays the caller's. */
void console_init(struct console *console, int fd);
bool console_has_port(uint16_t port);
uint8_t console_read(struct console *console, uint16_t port);
void console_write(struct console *console, uint16_t port, uint8_t value);
void console_save(struct console *console, struct state_writer *writer);
int console_restore(struct console *console, struct state_reader *reader, struct error *err);
/* Writes what is left of a line, unless a vCPU is stuck in a write. */
void console_flush(struct console *console);

/* The last lines that were written, printable, as one text: at most CONSOLE_TAIL characters and the final zero. */
void console_last(struct console *console, char text[CONSOLE_TAIL + 1]);

/* Why the kernel has panicked, in one line, from its last words: what it says itself, and where that was. Empty when it
 * has said nothing of the kind. */
void console_panic(const char *last, char *why, size_t room);

/* The last line of all, without its time. */
void console_last_line(const char *last, char *line, size_t room);
