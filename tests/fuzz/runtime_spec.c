/*
 * config.json: any bytes are either refused with a message or give a spec that the rest of the runtime can rely on.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/exports.h"
#include "runtime/spec.h"
#include "runtime/vm_size.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct error err = {0};
	struct config config = config_defaults();
	struct limits limits;
	struct vm_size vm_size;
	struct spec spec;

	memcpy(text, data, size);
	text[size] = '\0';
	if (spec_take_text(text, size, &spec, &err) < 0) {
		if (err.message[0] == '\0' || strchr(err.message, '\n'))
			abort();
		return 0;
	}
	if (spec_root_path(&spec)[0] == '\0')
		abort();
	spec_terminal(&spec);
	if (limits_read(json_object_get(json_object_get(spec.json, "linux"), "resources"), &limits, &err) == 0 &&
	    vm_size_from_spec(&spec, &limits, &config, &vm_size, &err) == 0 &&
	    (vm_size.memory < VM_MEMORY_MIN || vm_size.memory > VM_MEMORY_MAX || vm_size.vcpus < 1))
		abort();
	spec_release(&spec);
	return 0;
}
