#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINES_PER_SECOND 5

static int log_fd = -1;
static const char *log_name = "hull";

void log_to(int fd, const char *name)
{
	log_fd = fd;
	log_name = name;
}

void log_line(const char *format, ...)
{
	char line[1024];
	int used, body;
	va_list args;

	if (log_fd < 0)
		return;
	used = snprintf(line, sizeof(line), "%s: ", log_name);
	va_start(args, format);
	body = vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, args);
	va_end(args);
	if (body < 0)
		return;
	used = (int)strlen(line);
	for (int i = 0; i < used; i++)
		if (line[i] == '\n' || line[i] == '\r')
			line[i] = ' ';
	line[used++] = '\n';
	/* A log that cannot be written must not stop the machine that it describes. */
	if (write(log_fd, line, (size_t)used) < 0)
		return;
}

int log_allowed(struct log_budget *budget)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (now.tv_sec != budget->second) {
		budget->second = now.tv_sec;
		budget->used = 0;
	}
	return budget->used++ < LINES_PER_SECOND;
}
