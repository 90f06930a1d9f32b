/*
 * The debug console: the transmitting half of an 8250 serial port, for the guest kernel's early messages. Off in
 * production; then there is nothing at its ports.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/state.h"

#define CONSOLE_PORT 0x3f8
#define CONSOLE_PORTS 8

/* Has a lock of its own: a descriptor that takes nothing more stops the vCPU that writes, and no other part of the
 * machine. */
struct console {
	int fd; /* -1: off */
	pthread_mutex_t lock;
	bool divisor_latch; /* line control, bit 7: the first two registers set the speed */
	size_t used;
	char line[256]; /* what has been written since the last end of line */
};

/* fd stays the caller's. */
void console_init(struct console *console, int fd);
bool console_has_port(const struct console *console, uint16_t port);
uint8_t console_read(struct console *console, uint16_t port);
void console_write(struct console *console, uint16_t port, uint8_t value);
void console_save(struct console *console, struct state_writer *writer);
int console_restore(struct console *console, struct state_reader *reader, struct error *err);
/* Writes what is left of a line, unless a vCPU is stuck in a write. */
void console_flush(struct console *console);
