/*
 * config.json of a bundle (OCI runtime specification 1.0, config.md and config-linux.md), read and checked as far as
 * the host can: every field has its type and somebody who carries it out (common/spec_fields.h), and the fields that
 * every container needs are there.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

#define SPEC_FILE "config.json"
#define SPEC_SIZE_MAX (4u << 20) /* bytes; the largest that engines write have some hundred thousand */

struct spec {
	char *text; /* as it is in the file: what the agent gets */
	size_t size;
	json_t *json; /* the same, parsed */
};

void spec_release(struct spec *spec);
#define cleanup_spec __attribute__((cleanup(spec_release)))

/* Reads the specification from a file of the bundle folder, config.json where file is NULL (an absolute path is taken
 * as it is). Messages begin with the file's name and name the field. */
int spec_load(int bundle, const char *file, struct spec *spec, struct error *err);

/* The same for size bytes of allocated, NUL-terminated text, which the spec then owns (also on failure). */
int spec_take_text(char *text, size_t size, struct spec *spec, struct error *err);

/* Says in the log what of a checked config (or of {"process":...}) is not done, though it is accepted. */
void spec_note_ignored(const json_t *config);

/* Not empty in a checked spec. */
const char *spec_root_path(const struct spec *spec);

bool spec_terminal(const struct spec *spec);

/* The value of an annotation, or NULL. */
const char *spec_annotation(const struct spec *spec, const char *name);
