/*
 * Values of config.json and of what is built like it. The members of JSON objects are read with a value for the case
 * that they are absent (or have another type, which spec_fields_check finds before).
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

/* Reads a JSON number as an unsigned or signed 64-bit value. A real of 2^63 or more gives UINT64_MAX. Returns 0, or -1
 * when it is no whole number in range. */
int spec_get_u64(const json_t *value, uint64_t *number);
int spec_get_i64(const json_t *value, int64_t *number);

/* The member of object (which may be NULL) with that name. A text belongs to the JSON. */
const char *spec_text(const json_t *object, const char *name, const char *otherwise);
uint64_t spec_u64(const json_t *object, const char *name, uint64_t otherwise);
int64_t spec_i64(const json_t *object, const char *name, int64_t otherwise);
