/*
 * Tables of words.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct word {
	const char *text; /* NULL ends the table */
	uint32_t value;
};

/* Finds what a word means. text may be NULL. Returns 0, or -1 when it is not in the table. */
int word_value(const struct word *words, const char *text, uint32_t *value);

/* Whether text is one of words, which end with NULL. */
bool is_one_of(const char *const *words, const char *text);
