#include "runtime/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/timestamp.h"

#define MESSAGE_MAX 2048

static int log_file = -1;
static enum report_format log_format = REPORT_TEXT;
static bool debugging;

int report_open(const char *path, enum report_format format, bool debug, struct error *err)
{
	log_format = format;
	debugging = debug;
	if (!path || !*path)
		return 0;
	/* crun's form, BACKEND:SPECIFIER. */
	if (strncmp(path, "journald:", 9) == 0 || strncmp(path, "syslog:", 7) == 0)
		return error_set(err, ENOTSUP, "--log %s: messages go to files only", path);
	if (strncmp(path, "file:", 5) == 0)
		path += 5;
	log_file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (log_file < 0)
		return error_set_errno(err, "open log file `%s`", path);
	return 0;
}

/* Bytes of the UTF-8 sequence at text, or 0 when there is none: paths may hold any bytes, JSON may not. */
static size_t sequence_length(const char *text)
{
	unsigned char first = (unsigned char)text[0];
	size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;

	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first > 0xf4)
		return 0;
	for (size_t i = 1; i < length; i++)
		if (((unsigned char)text[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

/* Puts text into out (of size bytes, always terminated) as the inside of a JSON or Go string literal. */
static void quote(char *out, size_t size, const char *text)
{
	size_t used = 0;

	while (*text && used + 7 < size) {
		size_t length = sequence_length(text);

		if (length == 0)
			out[used++] = '?';
		else if (*text == '"' || *text == '\\')
			used += (size_t)snprintf(out + used, size - used, "\\%c", *text);
		else if ((unsigned char)*text < 0x20 || *text == 0x7f)
			used += (size_t)snprintf(out + used, size - used, "\\u%04x", *text);
		else
			used = (size_t)((char *)mempcpy(out + used, text, length) - out);
		text += length ? length : 1;
	}
	out[used] = '\0';
}

static void format_line(char *line, size_t size, const char *level, const char *message)
{
	char when[TIMESTAMP_SIZE], quoted[2 * MESSAGE_MAX];

	timestamp_seconds(time(NULL), when);
	quote(quoted, sizeof(quoted), message);
	if (log_format == REPORT_JSON)
		snprintf(line, size, "{\"level\":\"%s\",\"msg\":\"%s\",\"time\":\"%s\"}\n", level, quoted, when);
	else
		snprintf(line, size, "time=\"%s\" level=%s msg=\"%s\"\n", when, level, quoted);
}

static void emit(int fd, const char *text)
{
	/* There is nowhere left to report a report that cannot be written. */
	if (write(fd, text, strlen(text)) < 0)
		return;
}

static void report(const char *level, const char *message, bool to_stderr)
{
	char line[2 * MESSAGE_MAX + 128];

	format_line(line, sizeof(line), level, message);
	emit(log_file >= 0 ? log_file : STDERR_FILENO, line);
	if (log_file < 0 || !to_stderr)
		return;
	snprintf(line, sizeof(line), "%s\n", message);
	emit(STDERR_FILENO, line);
}

void report_error(const char *format, ...)
{
	char message[MESSAGE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	report("error", message, true);
}

void report_warning(const char *format, ...)
{
	char message[MESSAGE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	report("warning", message, false);
}

void report_notice(const char *format, ...)
{
	char message[MESSAGE_MAX];
	va_list args;

	if (log_file < 0 && !debugging)
		return;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	report("warning", message, false);
}

void report_debug(const char *format, ...)
{
	char message[MESSAGE_MAX];
	va_list args;

	if (!debugging)
		return;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	report("debug", message, false);
}
