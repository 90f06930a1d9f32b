/*
 * Changing linux.resources of a container: what is asked is merged into what holds, and the whole is then applied, on
 * the host and in the guest.
 */
#pragma once

#include <jansson.h>

#include "common/error.h"

/* Merges: members that say something replace those of before; what is absent, 0, "" or [] stays as it was. Neither
 * argument is changed; device rules of an update are left out, as by runc. Returns a new reference, or NULL. Messages
 * name the field. */
json_t *update_merge(const json_t *before, const json_t *asked, struct error *err);
