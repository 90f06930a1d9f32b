#include "runtime/vm_size.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "common/cgroup_values.h"
#include "common/io.h"

#define MEMORY_UNIT (1ull << 20)

int vm_size_parse_memory(const char *text, uint64_t *bytes)
{
	static const char suffixes[] = "KMGT";
	size_t digits = strspn(text, "0123456789");
	const char *suffix;
	uint64_t number;
	char copy[24];
	int shift;

	if (digits == 0 || digits >= sizeof(copy))
		return -1;
	snprintf(copy, sizeof(copy), "%.*s", (int)digits, text);
	if (parse_u64(copy, 0, UINT64_MAX, &number) < 0)
		return -1;
	*bytes = number;
	if (text[digits] == '\0')
		return 0;
	suffix = strchr(suffixes, toupper((unsigned char)text[digits]));
	if (!suffix || text[digits + 1] != '\0')
		return -1;
	shift = 10 * (int)(suffix - suffixes + 1);
	if (number > UINT64_MAX >> shift)
		return -1;
	*bytes = number << shift;
	return 0;
}

static int read_memory(const char *text, uint64_t *memory, struct error *err)
{
	uint64_t bytes;

	if (vm_size_parse_memory(text, &bytes) < 0)
		return error_set(err, EINVAL,
				 SPEC_FILE ": annotation " VM_MEMORY_ANNOTATION
					   ": \"%s\" is not a size (like 536870912, 512M, 2G)",
				 text);
	if (bytes < VM_MEMORY_MIN || bytes > VM_MEMORY_MAX)
		return error_set(err, ERANGE,
				 SPEC_FILE ": annotation " VM_MEMORY_ANNOTATION ": \"%s\" is not between 64M and 1T",
				 text);
	*memory = bytes / MEMORY_UNIT * MEMORY_UNIT;
	return 0;
}

static int read_vcpus(const char *text, unsigned *vcpus, struct error *err)
{
	uint64_t number;

	if (parse_u64(text, 1, VM_VCPUS_MAX, &number) < 0)
		return error_set(err, EINVAL,
				 SPEC_FILE ": annotation " VM_VCPUS_ANNOTATION
					   ": \"%s\" is not a number between 1 and %d",
				 text, VM_VCPUS_MAX);
	*vcpus = (unsigned)number;
	return 0;
}

uint64_t vm_size_for_limit(uint64_t limit, uint64_t host_memory)
{
	uint64_t memory = limit > VM_MEMORY_MAX ? VM_MEMORY_MAX : limit + VM_GUEST_OVERHEAD(limit);

	/* A limit beyond what there is cannot be reached anyhow; the guest would only pay for its page tables. */
	if (memory > host_memory)
		memory = host_memory;
	if (memory < VM_MEMORY_MIN)
		memory = VM_MEMORY_MIN;
	if (memory > VM_MEMORY_MAX)
		memory = VM_MEMORY_MAX;
	return memory / MEMORY_UNIT * MEMORY_UNIT;
}

unsigned vm_size_for_cpus(const struct limits *limits, unsigned host_cpus)
{
	uint64_t period = limits->period ? limits->period : CGROUP_CPU_PERIOD;
	uint64_t quota = limits->quota > 0 ? ((uint64_t)limits->quota + period - 1) / period : 0;
	uint64_t listed = limits->cpus ? limits_count_cpus(limits->cpus) : 0;
	uint64_t vcpus = quota && (!listed || quota < listed) ? quota : listed;

	if (vcpus > host_cpus)
		vcpus = host_cpus;
	return vcpus > VM_VCPUS_MAX ? VM_VCPUS_MAX : (unsigned)vcpus;
}

static void size_from_limits(const struct limits *limits, struct vm_size *size)
{
	unsigned vcpus = 0;

	if (limits->quota > 0 || limits->cpus)
		vcpus = vm_size_for_cpus(limits, (unsigned)get_nprocs());
	if (vcpus)
		size->vcpus = vcpus;
	if (limits->memory > 0) {
		struct sysinfo host = {0};

		sysinfo(&host);
		size->memory = vm_size_for_limit((uint64_t)limits->memory, (uint64_t)host.totalram * host.mem_unit);
	}
}

int vm_size_from_spec(const struct spec *spec, const struct limits *limits, const struct config *config,
		      struct vm_size *size, struct error *err)
{
	const char *memory = spec_annotation(spec, VM_MEMORY_ANNOTATION);
	const char *vcpus = spec_annotation(spec, VM_VCPUS_ANNOTATION);

	*size = (struct vm_size){.memory = config->memory, .vcpus = config->vcpus};
	size_from_limits(limits, size);
	if (memory && read_memory(memory, &size->memory, err) < 0)
		return -1;
	return vcpus ? read_vcpus(vcpus, &size->vcpus, err) : 0;
}
