#include "common/spec_values.h"

#define TWO_TO_63 9223372036854775808.0

int spec_get_i64(const json_t *value, int64_t *number)
{
	double real;

	if (json_is_integer(value)) {
		*number = json_integer_value(value);
		return 0;
	}
	if (!json_is_real(value))
		return -1;
	real = json_real_value(value);
	if (real < -TWO_TO_63 || real >= TWO_TO_63 || (double)(int64_t)real != real)
		return -1;
	*number = (int64_t)real;
	return 0;
}

int spec_get_u64(const json_t *value, uint64_t *number)
{
	int64_t small;

	if (json_is_real(value) && json_real_value(value) >= TWO_TO_63 && json_real_value(value) <= 2 * TWO_TO_63) {
		*number = UINT64_MAX;
		return 0;
	}
	if (spec_get_i64(value, &small) < 0 || small < 0)
		return -1;
	*number = (uint64_t)small;
	return 0;
}

const char *spec_text(const json_t *object, const char *name, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : otherwise;
}

uint64_t spec_u64(const json_t *object, const char *name, uint64_t otherwise)
{
	uint64_t number;

	return spec_get_u64(json_object_get(object, name), &number) == 0 ? number : otherwise;
}

int64_t spec_i64(const json_t *object, const char *name, int64_t otherwise)
{
	int64_t number;

	return spec_get_i64(json_object_get(object, name), &number) == 0 ? number : otherwise;
}
