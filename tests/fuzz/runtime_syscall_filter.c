/*
 * linux.seccomp to a program: whatever the profile says, it is refused with a message or gives a program that the
 * kernel would look at.
 *
 * The input is the JSON text of the object; or, when its first byte is below 128, choices from which a profile is made
 * that is nearly right.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/spec_fields.h"
#include "runtime/syscall_filter.h"
#include "tests/fuzz/input.h"

const char *__lsan_default_suppressions(void);

/* libseccomp loses some bytes when it refuses a rule; hull ends then. */
const char *__lsan_default_suppressions(void)
{
	return "leak:libseccomp.so";
}

static const char *const actions[] = {"SCMP_ACT_KILL",	"SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO",
				      "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW",	 "SCMP_ACT_LOG",  "SCMP_ACT_X"};
static const char *const architectures[] = {"SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64",
					    "SCMP_ARCH_S390"};
static const char *const names[] = {"read", "write",   "openat", "socketcall", "clone", "personality",
				    "mmap", "no_such", "",	 "ipc",	       "semop", "futex_waitv"};
static const char *const operators[] = {"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE",	   "SCMP_CMP_EQ",
					"SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"};

#define PICK(list, byte) (list)[(byte) % (sizeof(list) / sizeof((list)[0]))]

static void write_call(struct input *input, FILE *out)
{
	unsigned n = byte(input) % 4;

	fprintf(out, "{\"names\":[\"%s\",\"%s\"],\"action\":\"%s\",\"errnoRet\":%u,\"args\":[",
		PICK(names, byte(input)), PICK(names, byte(input)), PICK(actions, byte(input)), byte(input));
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "%s{\"index\":%u,\"value\":%u,\"valueTwo\":%u,\"op\":\"%s\"}", i ? "," : "",
			byte(input) % 7, byte(input) * 16843009u, byte(input), PICK(operators, byte(input)));
	fputs("]}", out);
}

static char *make_profile(struct input *input, size_t *size)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, size);
	unsigned n = byte(input) % 16;

	fprintf(out,
		"{\"defaultAction\":\"%s\",\"defaultErrnoRet\":%u,\"architectures\":[\"%s\",\"%s\"],\"syscalls\":[",
		PICK(actions, byte(input)), byte(input), PICK(architectures, byte(input)),
		PICK(architectures, byte(input)));
	for (unsigned i = 0; i < n; i++) {
		fputs(i ? "," : "", out);
		write_call(input, out);
	}
	fputs("]}", out);
	fclose(out);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	size_t length = size;
	char *made = size > 0 && data[0] < 128 ? make_profile(&input, &length) : NULL;
	struct error err = {0};
	json_t *json = spec_parse(made ? made : (const char *)data, length, &err);
	struct syscall_filter filter = {0};

	if (json) {
		int status = syscall_filter_compile(json, &filter, &err);

		if (status < 0 && (err.message[0] == '\0' || strchr(err.message, '\n')))
			abort();
		if (status == 0 && filter.n > 0 && (!filter.code || filter.n > BPF_MAXINSNS))
			abort();
	}
	syscall_filter_release(&filter);
	json_decref(json);
	free(made);
	return 0;
}
