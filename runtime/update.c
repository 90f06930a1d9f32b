#include "runtime/update.h"

#include <errno.h>
#include <string.h>

#include "common/spec_fields.h"
#include "common/spec_values.h"

static bool says_nothing(const json_t *value)
{
	return !value || json_is_null(value) || json_is_false(value) ||
	       (json_is_integer(value) && json_integer_value(value) == 0) ||
	       (json_is_string(value) && *json_string_value(value) == '\0') ||
	       (json_is_array(value) && json_array_size(value) == 0) ||
	       (json_is_object(value) && json_object_size(value) == 0);
}

/* cpu.idle is the one number that is told by 0. */
static bool is_told(const char *group, const char *name, const json_t *value)
{
	if (strcmp(group, "cpu") == 0 && strcmp(name, "idle") == 0)
		return value && !json_is_null(value);
	return !says_nothing(value);
}

static void merge_group(json_t *all, const char *group, const json_t *asked)
{
	json_t *merged = json_object_get(all, group), *value;
	const char *name;

	if (!json_is_object(merged)) {
		merged = json_object();
		json_object_set_new(all, group, merged);
	}
	json_object_foreach((json_t *)asked, name, value)
	{
		if (is_told(group, name, value))
			json_object_set(merged, name, value);
	}
}

/* memory.swap counts memory and swap. Where only the memory limit is changed, the room for swap stays. */
static void keep_swap(json_t *merged, const json_t *before, const json_t *asked)
{
	int64_t old_limit = spec_i64(before, "limit", 0), old_swap = spec_i64(before, "swap", 0);
	int64_t limit = spec_i64(asked, "limit", 0);

	if (limit == 0 || spec_i64(asked, "swap", 0) != 0 || old_swap <= 0)
		return;
	if (limit > 0 && old_limit > 0 && limit <= INT64_MAX - (old_swap - old_limit))
		json_object_set_new(merged, "swap", json_integer(limit + (old_swap - old_limit)));
	else
		json_object_del(merged, "swap");
}

static json_t *check(json_t *resources, struct error *err)
{
	json_t *spec = json_pack("{s:{s:O}}", "linux", "resources", resources);
	int result = spec ? spec_fields_check(spec, err) : error_set(err, ENOMEM, "check the resources");

	json_decref(spec);
	if (result == 0)
		return resources;
	json_decref(resources);
	return NULL;
}

json_t *update_merge(const json_t *before, const json_t *asked, struct error *err)
{
	json_t *all = before ? json_deep_copy(before) : json_object(), *value;
	const char *group;

	if (!json_is_object(all) || !json_is_object(asked)) {
		json_decref(all);
		error_set(err, EINVAL, "the resources are not a JSON object");
		return NULL;
	}
	json_object_foreach((json_t *)asked, group, value)
	{
		if (strcmp(group, "devices") == 0 || says_nothing(value))
			continue;
		if (json_is_object(value))
			merge_group(all, group, value);
		else
			json_object_set(all, group, value);
	}
	keep_swap(json_object_get(all, "memory"), json_object_get(before, "memory"), json_object_get(asked, "memory"));
	return check(all, err);
}
