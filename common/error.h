/*
 * Errors for people.
 *
 * A function that can fail takes a struct error as its last parameter and returns a negative value on failure, with
 * the error filled in. Callers add context on the way up (error_prefix), and the program prints it once, at the top.
 */
#pragma once

#include <stdarg.h>

struct error {
	int code;	    /* a positive errno value, or 0 where no errno fits */
	char message[1024]; /* one line, no newline at its end */
};

/* Fills err with a formatted message and an errno value (0 where none fits). Returns -1, so that callers can
 * `return error_set(...)`. err may be NULL: then only the return value counts. */
int error_set(struct error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Like error_set with the present errno, and appends ": " and its text. */
int error_set_errno(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " before the message already in err. Returns -1. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
