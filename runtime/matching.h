/*
 * Verbs that take, with --regex, a pattern in the place of an id, as crun's do.
 */
#pragma once

#include "common/error.h"

/* Carries a verb out for one container. */
typedef int matching_act(const char *id, void *context, struct error *err);

/* Calls act for each container below root whose id matches pattern, an extended regular expression of POSIX. What fails
 * for one is a warning, and the others have their turn. Returns -1 when the pattern is wrong or root cannot be read. */
int matching_each(const char *root, const char *pattern, matching_act *act, void *context, struct error *err);
