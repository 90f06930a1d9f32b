#include "guest-agent/syscall_filter.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/spec_values.h"

#define DIGITS 16 /* of one instruction: code 4, jt 2, jf 2, k 8 */

/* Returns the value of n hexadecimal digits, or -1. */
static int64_t digits(const char *text, size_t n)
{
	int64_t value = 0;

	for (size_t i = 0; i < n; i++) {
		const char *all = "0123456789abcdef";
		const char *digit = text[i] ? strchr(all, text[i]) : NULL;

		if (!digit)
			return -1;
		value = value << 4 | (digit - all);
	}
	return value;
}

static int read_instruction(const char *text, struct sock_filter *instruction)
{
	int64_t code = digits(text, 4), jt = digits(text + 4, 2), jf = digits(text + 6, 2), k = digits(text + 8, 8);

	if (code < 0 || jt < 0 || jf < 0 || k < 0)
		return -1;
	*instruction = (struct sock_filter){(uint16_t)code, (uint8_t)jt, (uint8_t)jf, (uint32_t)k};
	return 0;
}

static int read_program(const char *text, size_t length, struct syscall_filter *filter)
{
	if (length == 0 || length % DIGITS != 0 || length / DIGITS > BPF_MAXINSNS)
		return -1;
	filter->code = calloc(length / DIGITS, sizeof(struct sock_filter));
	if (!filter->code)
		return -1;
	for (; filter->n < length / DIGITS; filter->n++)
		if (read_instruction(text + filter->n * DIGITS, &filter->code[filter->n]) < 0)
			return -1;
	return 0;
}

int syscall_filter_read(const json_t *json, struct syscall_filter *filter, struct error *err)
{
	const json_t *text = json_object_get(json, "filter");
	uint64_t flags = 0;

	*filter = (struct syscall_filter){0};
	if (!json || json_is_null(json))
		return 0;
	if (!json_is_string(text) || read_program(json_string_value(text), json_string_length(text), filter) < 0)
		return error_set(err, EINVAL, "seccomp.filter is no program");
	if (json_object_get(json, "flags") &&
	    (spec_get_u64(json_object_get(json, "flags"), &flags) < 0 || flags > UINT32_MAX))
		return error_set(err, EINVAL, "seccomp.flags must be a number");
	filter->flags = (unsigned)flags;
	return 0;
}

void syscall_filter_release(struct syscall_filter *filter)
{
	free(filter->code);
	*filter = (struct syscall_filter){0};
}

int syscall_filter_load(const struct syscall_filter *filter, struct error *err)
{
	struct sock_fprog program = {.len = (unsigned short)filter->n, .filter = filter->code};

	if (filter->n == 0)
		return 0;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filter->flags, &program) < 0)
		return error_set_errno(err, "error loading seccomp filter");
	return 0;
}
