/*
 * config.json against the table of its fields, and a plan made from it: the input is the text of a spec, put into a
 * create order as the runtime would.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/spec_fields.h"
#include "guest-agent/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int touch(const struct spec_field *field, const char *path, const json_t *value, void *context)
{
	size_t *length = context;

	*length += strlen(path);
	if (value && spec_value_says_nothing(field, value))
		(*length)++;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err;
	json_t *spec = spec_parse((const char *)data, size, &err);
	json_t *order, *mount;
	size_t length = 0, i;

	if (!spec)
		return 0;
	spec_fields_walk(spec, touch, &length);
	json_array_foreach(json_object_get(spec, "mounts"), i, mount) spec_mount_is_bind(mount);
	order = json_pack("{s:s, s:s, s:o, s:{s:s}, s:{s:{s:s}, s:{s:s}}}", "order", "create", "id", "x", "spec", spec,
			  "rootfs", "export", "rootfs", "mounts", "0", "export", "m0", "1", "export", "m1");
	if (!order)
		return 0;
	plan_free(plan_new(order, &err));
	json_decref(order);
	return 0;
}
