#include "runtime/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

int output_text(const char *text, struct error *err)
{
	if (write_exactly(STDOUT_FILENO, text, strlen(text)) < 0)
		return error_set_errno(err, "write to stdout");
	return 0;
}

int output_json(json_t *value, size_t flags, const char *tail, struct error *err)
{
	cleanup_free char *text = value ? json_dumps(value, flags) : NULL;

	json_decref(value);
	if (!text)
		return error_set(err, ENOMEM, "format JSON");
	if (output_text(text, err) < 0)
		return -1;
	return output_text(tail, err);
}
