/*
 * What a person or an engine reads when something fails: one line on stderr, and one in the file of --log, in the
 * format of --log-format, as runc and its log library write them.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"

enum report_format {
	REPORT_TEXT, /* time="..." level=error msg="..." */
	REPORT_JSON, /* {"level":"error","msg":"...","time":"..."} */
};

/* Sets the format; path (NULL or "": none) is opened for appending. With a log file, stderr gets only the message. */
int report_open(const char *path, enum report_format format, bool debug, struct error *err);

void report_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void report_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A warning for the log file alone: what is no news for a person each time, nor for a container whose stderr this
 * process holds. Without a log file, written only with --debug. */
void report_notice(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Written only with --debug. */
void report_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
