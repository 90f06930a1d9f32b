/*
 * linux.resources from a bundle and from an engine's update, and the configuration file: read, merged, converted.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/spec_fields.h"
#include "runtime/config.h"
#include "runtime/limits.h"
#include "runtime/update.h"
#include "runtime/vm_size.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_limits(const json_t *resources)
{
	cleanup_settings struct settings settings = {0};
	struct error err = {0};
	struct limits limits;

	if (limits_read(resources, &limits, &err) < 0 ||
	    limits_settings(&limits, 512u << 20, json_object_size(resources) % 2 == 1, &settings, &err) < 0) {
		if (err.message[0] == '\0')
			abort();
		return;
	}
	for (size_t i = 0; i < settings.n; i++)
		if (strchr(settings.list[i].value, '\n'))
			abort();
	if (vm_size_for_cpus(&limits, 8) > 8)
		abort();
	if (limits.memory > 0 && (vm_size_for_limit((uint64_t)limits.memory, 1ull << 34) < VM_MEMORY_MIN ||
				  vm_size_for_limit((uint64_t)limits.memory, 1ull << 34) > 1ull << 34))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t half = size / 2;
	struct config config;
	json_t *before, *asked, *merged;
	struct error err = {0};

	if (config_parse((const char *)data, size, &config, &err) == 0 &&
	    (config.memory < VM_MEMORY_MIN || config.vcpus < 1 || config.vcpus > VM_VCPUS_MAX))
		abort();
	before = spec_parse((const char *)data, half, NULL);
	asked = spec_parse((const char *)data + half, size - half, NULL);
	merged = asked ? update_merge(before, asked, &err) : NULL;
	if (merged)
		try_limits(merged);
	if (asked)
		try_limits(asked);
	json_decref(before);
	json_decref(asked);
	json_decref(merged);
	return 0;
}
