#include "vmm/console.h"

#include "common/io.h"

/* Registers of the 8250, from CONSOLE_PORT on. */
#define DATA 0
#define LINE_CONTROL 3
#define LINE_CONTROL_DIVISOR_LATCH 0x80
#define LINE_STATUS 5
#define LINE_STATUS_IDLE 0x60 /* the transmitter takes the next character */

void console_init(struct console *console, int fd)
{
	*console = (struct console){.fd = fd};
	pthread_mutex_init(&console->lock, NULL);
}

bool console_has_port(const struct console *console, uint16_t port)
{
	return console->fd >= 0 && port >= CONSOLE_PORT && port < CONSOLE_PORT + CONSOLE_PORTS;
}

uint8_t console_read(struct console *console, uint16_t port)
{
	(void)console;
	return port - CONSOLE_PORT == LINE_STATUS ? LINE_STATUS_IDLE : 0;
}

/* Line by line: a character each would be a system call each. A reader that is gone is no reason to stop. */
static void flush(struct console *console)
{
	if (write_exactly(console->fd, console->line, console->used) < 0)
		console->fd = -1;
	console->used = 0;
}

void console_write(struct console *console, uint16_t port, uint8_t value)
{
	pthread_mutex_lock(&console->lock);
	if (port - CONSOLE_PORT == LINE_CONTROL)
		console->divisor_latch = value & LINE_CONTROL_DIVISOR_LATCH;
	if (port - CONSOLE_PORT == DATA && !console->divisor_latch && console->fd >= 0) {
		console->line[console->used++] = (char)value;
		if (value == '\n' || console->used == sizeof(console->line))
			flush(console);
	}
	pthread_mutex_unlock(&console->lock);
}

void console_flush(struct console *console)
{
	if (pthread_mutex_trylock(&console->lock) != 0)
		return;
	if (console->fd >= 0 && console->used > 0)
		flush(console);
	pthread_mutex_unlock(&console->lock);
}

/* The line that was begun has been seen by the host, but for its end. */
void console_save(struct console *console, struct state_writer *writer)
{
	uint64_t divisor_latch = console->divisor_latch;

	state_put(writer, &divisor_latch, sizeof(divisor_latch));
}

int console_restore(struct console *console, struct state_reader *reader, struct error *err)
{
	uint64_t divisor_latch;

	if (state_take(reader, &divisor_latch, sizeof(divisor_latch), err) < 0)
		return -1;
	console->divisor_latch = divisor_latch != 0;
	return state_end(reader, err);
}
