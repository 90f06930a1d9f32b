#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* An error is one line: whatever a name or a guest put into it must not break a log into two entries. */
static void flatten(char *text)
{
	for (; *text; text++)
		if (*text == '\n' || *text == '\r')
			*text = ' ';
}

int error_set(struct error *err, int code, const char *format, ...)
{
	va_list args;

	if (!err)
		return -1;
	err->code = code;
	va_start(args, format);
	vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	flatten(err->message);
	return -1;
}

int error_set_errno(struct error *err, const char *format, ...)
{
	int saved = errno;
	size_t used;
	va_list args;

	if (!err)
		return -1;
	err->code = saved;
	va_start(args, format);
	vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	used = strlen(err->message);
	snprintf(err->message + used, sizeof(err->message) - used, ": %s", strerror(saved));
	flatten(err->message);
	return -1;
}

int error_prefix(struct error *err, const char *format, ...)
{
	char old[sizeof(err->message)];
	size_t used;
	va_list args;

	if (!err)
		return -1;
	memcpy(old, err->message, sizeof(old));
	va_start(args, format);
	vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	used = strlen(err->message);
	snprintf(err->message + used, sizeof(err->message) - used, ": %s", old);
	flatten(err->message);
	return -1;
}
