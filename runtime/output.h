/*
 * Results on stdout.
 */
#pragma once

#include <jansson.h>

#include "common/error.h"

/* Writes all of it, or fails: a full disk or a closed pipe must not look like success. */
int output_text(const char *text, struct error *err);

/* Writes value with these jansson flags, then tail; releases value, which may be NULL (out of memory). */
int output_json(json_t *value, size_t flags, const char *tail, struct error *err);
