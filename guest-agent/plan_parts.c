#include "guest-agent/plan_parts.h"

#include <errno.h>
#include <stdlib.h>

void *plan_array(size_t count, size_t size)
{
	return calloc(count + 1, size);
}

int plan_out_of_memory(struct error *err)
{
	return error_set(err, ENOMEM, "out of memory");
}

int plan_texts(const json_t *array, char ***list, size_t *n, struct error *err)
{
	const json_t *element;
	size_t i;

	*n = 0;
	*list = plan_array(json_array_size(array), sizeof(char *));
	if (!*list)
		return plan_out_of_memory(err);
	json_array_foreach(array, i, element)
	{
		if (json_is_string(element))
			(*list)[(*n)++] = (char *)json_string_value(element);
	}
	return 0;
}
