#include "vmm/console.h"

#include <stdio.h>
#include <string.h>

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

bool console_has_port(uint16_t port)
{
	return port >= CONSOLE_PORT && port < CONSOLE_PORT + CONSOLE_PORTS;
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

static void put(struct console *console, char value)
{
	console->tail[console->written++ % CONSOLE_TAIL] = value;
	if (console->fd < 0)
		return;
	console->line[console->used++] = value;
	if (value == '\n' || console->used == sizeof(console->line))
		flush(console);
}

void console_write(struct console *console, uint16_t port, uint8_t value)
{
	pthread_mutex_lock(&console->lock);
	if (port - CONSOLE_PORT == LINE_CONTROL)
		console->divisor_latch = value & LINE_CONTROL_DIVISOR_LATCH;
	if (port - CONSOLE_PORT == DATA && !console->divisor_latch)
		put(console, (char)value);
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

/* --- last words -------------------------------------------------------------------------------------------------- */

static char printable(char c)
{
	return c == '\n' || (c >= 0x20 && c < 0x7f) ? c : '?';
}

void console_last(struct console *console, char text[CONSOLE_TAIL + 1])
{
	size_t used = 0, from;

	/* A vCPU may be stuck in a write: then what stands there now has to do. */
	bool locked = pthread_mutex_trylock(&console->lock) == 0;
	size_t end = console->written;

	for (from = end > CONSOLE_TAIL ? end - CONSOLE_TAIL : 0; from < end; from++)
		if (console->tail[from % CONSOLE_TAIL] != '\r')
			text[used++] = printable(console->tail[from % CONSOLE_TAIL]);
	text[used] = '\0';
	if (locked)
		pthread_mutex_unlock(&console->lock);
}

/* "[   12.345678] text": text. */
static const char *skip_time(const char *line)
{
	size_t digits = *line == '[' ? strspn(line + 1, " 0123456789.") : 0;

	return digits > 0 && strncmp(line + 1 + digits, "] ", 2) == 0 ? line + digits + 3 : line;
}

static int length_of_line(const char *line)
{
	return (int)strcspn(line, "\n");
}

static const char *find_last(const char *text, const char *end, const char *wanted)
{
	const char *found = NULL, *next = text;

	while ((next = strstr(next, wanted)) != NULL && next < end)
		found = next++;
	return found;
}

void console_panic(const char *last, char *why, size_t room)
{
	static const char panic[] = "Kernel panic - not syncing: ";
	const char *end = last + strlen(last), *reason = find_last(last, end, panic);
	const char *place = reason ? find_last(last, reason, "RIP: ") : NULL;

	why[0] = '\0';
	if (!reason)
		return;
	reason += strlen(panic);
	snprintf(why, room, "%.*s%s%.*s", length_of_line(reason), reason, place ? ", " : "",
		 place ? length_of_line(place) : 0, place ? place : "");
}

void console_last_line(const char *last, char *line, size_t room)
{
	size_t size = strlen(last);
	const char *begin;

	while (size > 0 && last[size - 1] == '\n')
		size--;
	begin = size > 0 ? memrchr(last, '\n', size) : NULL;
	begin = begin ? begin + 1 : last;
	begin = skip_time(begin);
	snprintf(line, room, "%.*s", (int)(last + size - begin), begin);
}
