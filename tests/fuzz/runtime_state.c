/*
 * Files that a crash may have damaged: state.json, the VMM's result, /proc/PID/stat. The first byte says which.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/machine.h"
#include "runtime/process.h"
#include "runtime/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is accepted must survive being written and read again. */
static void read_state(const char *text, size_t size)
{
	struct state state, again;
	struct error err;
	char *written;

	if (state_parse(text, size, &state, &err) < 0)
		return;
	written = state_format(&state);
	if (!written || state_parse(written, strlen(written), &again, &err) < 0)
		abort();
	if (again.stage != state.stage || again.vmm.pid != state.vmm.pid || strcmp(again.id, state.id) != 0)
		abort();
	free(written);
	state_release(&again);
	state_release(&state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct result result;
	uint64_t start;
	char letter, *text;

	if (size == 0)
		return 0;
	text = malloc(size);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] % 3 == 0)
		read_state(text, size - 1);
	else if (data[0] % 3 == 1)
		result_parse(text, &result);
	else
		process_parse_stat(text, &letter, &start);
	free(text);
	return 0;
}
