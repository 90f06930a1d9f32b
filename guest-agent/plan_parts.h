/*
 * The parts that a plan is read in (plan.c puts them together), and what they share. Types have been checked by the
 * table of fields before; these readers only have to cope with what is absent.
 */
#pragma once

#include "guest-agent/plan.h"

/* Room for count elements and one more that stays zero. */
void *plan_array(size_t count, size_t size);

int plan_out_of_memory(struct error *err);

/* A list of strings, borrowed. null elements are left out. */
int plan_texts(const json_t *array, char ***list, size_t *n, struct error *err);

/* {"export": NAME, "options": ["nosuid", ...]} of a create order. */
int plan_export(const json_t *object, const char **name, unsigned long *flags);

/* spec.mounts, with the order's exports for its bind mounts. */
int plan_mounts(struct plan *plan, const json_t *array, const json_t *exports, struct error *err);
void plan_free_mounts(struct plan *plan);

/* spec.linux, with the order's word on which namespaces are shared. */
int plan_linux(struct plan *plan, const json_t *json, const json_t *shared, struct error *err);
