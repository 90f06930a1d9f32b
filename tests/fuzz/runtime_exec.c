/*
 * process.json as `hull exec` reads it, and a process of a config.json that its flags change.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/spec_fields.h"
#include "runtime/exec_process.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *copy(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

static void apply_flags(const uint8_t *data, size_t size, const char *value)
{
	const char *values[] = {value};
	char *args[] = {(char *)(uintptr_t)value, NULL};
	const struct exec_flags flags = {
	    .cwd = value,
	    .user = value,
	    .process_label = value,
	    .env = {values, 1},
	    .groups = {values, 1},
	    .capabilities = {values, 1},
	    .args = args,
	};
	struct error err;
	json_t *process = spec_parse((const char *)data, size, &err);

	if (process)
		exec_process_apply(&flags, process, &err);
	json_decref(process);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct exec_process process;
	struct error err = {0};
	size_t split = size ? data[0] % (size < 16 ? size : 16) : 0;
	char *value = copy(data, split);

	if (exec_process_take_text(copy(data, size), size, &process, &err) == 0)
		exec_process_release(&process);
	else if (err.message[0] == '\0')
		abort();
	apply_flags(data + split, size - split, value);
	free(value);
	return 0;
}
