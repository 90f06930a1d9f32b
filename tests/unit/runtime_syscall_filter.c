/* What the compiled filters decide, by running them: a small interpreter of classic BPF stands for the kernel. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "common/spec_fields.h"
#include "runtime/syscall_filter.h"

#define X32 0x40000000

static uint32_t load(const struct seccomp_data *data, uint32_t offset)
{
	uint32_t word;

	assert_true(offset % 4 == 0 && offset + 4 <= sizeof(*data));
	memcpy(&word, (const char *)data + offset, sizeof(word));
	return word;
}

static bool holds(uint16_t op, uint32_t a, uint32_t k)
{
	switch (op) {
	case BPF_JEQ:
		return a == k;
	case BPF_JGT:
		return a > k;
	case BPF_JGE:
		return a >= k;
	case BPF_JSET:
		return a & k;
	default:
		fail_msg("jump %#x", op);
		return false;
	}
}

static uint32_t run(const struct syscall_filter *filter, uint32_t arch, int nr, uint64_t first, uint64_t second)
{
	struct seccomp_data data = {.nr = nr, .arch = arch, .args = {first, second}};
	uint32_t a = 0;

	for (size_t pc = 0; pc < filter->n; pc++) {
		const struct sock_filter *code = &filter->code[pc];

		if (code->code == (BPF_LD | BPF_W | BPF_ABS))
			a = load(&data, code->k);
		else if (code->code == (BPF_ALU | BPF_AND | BPF_K))
			a &= code->k;
		else if (code->code == (BPF_JMP | BPF_JA))
			pc += code->k;
		else if (BPF_CLASS(code->code) == BPF_JMP)
			pc += holds(BPF_OP(code->code), a, code->k) ? code->jt : code->jf;
		else if (code->code == (BPF_RET | BPF_K))
			return code->k;
		else
			fail_msg("instruction %#x", code->code);
	}
	fail_msg("no end");
	return 0;
}

static uint32_t native(const struct syscall_filter *filter, int nr, uint64_t first)
{
	return run(filter, AUDIT_ARCH_X86_64, nr, first, 0);
}

static int compile(const char *text, struct syscall_filter *filter, struct error *err)
{
	json_t *json = spec_parse(text, strlen(text), err);
	int status;

	assert_non_null(json);
	status = syscall_filter_compile(json, filter, err);
	json_decref(json);
	return status;
}

static void compile_or_fail(const char *text, struct syscall_filter *filter)
{
	struct error err = {0};

	if (compile(text, filter, &err) < 0)
		fail_msg("%s", err.message);
}

static void expect_error(const char *text, const char *words)
{
	struct syscall_filter filter;
	struct error err = {0};

	assert_int_equal(compile(text, &filter, &err), -1);
	syscall_filter_release(&filter);
	if (!strstr(err.message, words))
		fail_msg("`%s` is not in `%s`", words, err.message);
}

static void test_nothing(void **state)
{
	struct syscall_filter filter;
	struct error err;

	(void)state;
	assert_int_equal(syscall_filter_compile(NULL, &filter, &err), 0);
	assert_int_equal(filter.n, 0);
	compile_or_fail("{\"architectures\":[\"SCMP_ARCH_X86\"]}", &filter);
	assert_int_equal(filter.n, 0);
	syscall_filter_release(&filter);
}

static void test_actions(void **state)
{
	static const struct {
		const char *name;
		uint32_t result;
	} cases[] = {
	    {"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD},
	    {"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD},
	    {"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS},
	    {"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},
	    {"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO | EPERM},
	    {"SCMP_ACT_TRACE", SECCOMP_RET_TRACE | EPERM},
	    {"SCMP_ACT_LOG", SECCOMP_RET_LOG},
	};
	struct syscall_filter filter;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[256];

		snprintf(text, sizeof(text),
			 "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\",\"no_such_call\"],"
			 "\"action\":\"%s\"}]}",
			 cases[i].name);
		compile_or_fail(text, &filter);
		assert_int_equal(native(&filter, SYS_mkdir, 0), cases[i].result);
		assert_int_equal(native(&filter, SYS_read, 0), SECCOMP_RET_ALLOW);
		assert_int_equal(native(&filter, 100000, 0), SECCOMP_RET_ALLOW);
		syscall_filter_release(&filter);
	}
}

static void test_errno(void **state)
{
	struct syscall_filter filter;

	(void)state;
	compile_or_fail(
	    "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":7,\"architectures\":[\"SCMP_ARCH_X86_64\"],"
	    "\"syscalls\":[{\"names\":[\"read\",\"close_range\"],\"action\":\"SCMP_ACT_ALLOW\"},"
	    "{\"names\":[\"mkdir\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":0},"
	    "{\"names\":[\"rmdir\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38}]}",
	    &filter);
	assert_int_equal(native(&filter, SYS_read, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(native(&filter, SYS_mkdir, 0), SECCOMP_RET_ERRNO);
	assert_int_equal(native(&filter, SYS_rmdir, 0), SECCOMP_RET_ERRNO | ENOSYS);
	assert_int_equal(native(&filter, SYS_write, 0), SECCOMP_RET_ERRNO | 7);
	/* newer than the newest that the profile names */
	assert_int_equal(native(&filter, SYS_close_range + 1, 0), SECCOMP_RET_ERRNO | ENOSYS);
	assert_int_equal(native(&filter, SYS_close_range - 1, 0), SECCOMP_RET_ERRNO | 7);
	/* the other architectures are not in the profile */
	assert_int_equal(run(&filter, AUDIT_ARCH_I386, 3, 0, 0), SECCOMP_RET_KILL_THREAD);
	syscall_filter_release(&filter);
}

static void test_architectures(void **state)
{
	struct syscall_filter filter;

	(void)state;
	compile_or_fail(
	    "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"architectures\":[\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X86\","
	    "\"SCMP_ARCH_X32\"],\"syscalls\":[{\"names\":[\"read\",\"openat2\",\"socketcall\"],"
	    "\"action\":\"SCMP_ACT_ALLOW\"}]}",
	    &filter);
	assert_int_equal(native(&filter, SYS_read, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(native(&filter, SYS_openat2, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(native(&filter, SYS_openat2 + 1, 0), SECCOMP_RET_ERRNO | ENOSYS);
	assert_int_equal(native(&filter, SYS_write, 0), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(native(&filter, X32 | SYS_read, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(native(&filter, X32 | SYS_write, 0), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(native(&filter, X32 | (SYS_openat2 + 1), 0), SECCOMP_RET_ERRNO | ENOSYS);
	assert_int_equal(run(&filter, AUDIT_ARCH_I386, 3, 0, 0), SECCOMP_RET_ALLOW);   /* read */
	assert_int_equal(run(&filter, AUDIT_ARCH_I386, 102, 0, 0), SECCOMP_RET_ALLOW); /* socketcall */
	assert_int_equal(run(&filter, AUDIT_ARCH_I386, 4, 0, 0), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(run(&filter, AUDIT_ARCH_I386, 438, 0, 0), SECCOMP_RET_ERRNO | ENOSYS);
	assert_int_equal(run(&filter, AUDIT_ARCH_AARCH64, 63, 0, 0), SECCOMP_RET_KILL_THREAD);
	syscall_filter_release(&filter);
}

static void test_arguments(void **state)
{
	static const struct {
		const char *op;
		uint64_t value, two;
		bool below, equal, above; /* whether 9, 10, 11 match */
	} cases[] = {
	    {"SCMP_CMP_EQ", 10, 0, false, true, false},	      {"SCMP_CMP_NE", 10, 0, true, false, true},
	    {"SCMP_CMP_LT", 10, 0, true, false, false},	      {"SCMP_CMP_LE", 10, 0, true, true, false},
	    {"SCMP_CMP_GE", 10, 0, false, true, true},	      {"SCMP_CMP_GT", 10, 0, false, false, true},
	    {"SCMP_CMP_MASKED_EQ", 3, 2, false, true, false},
	};
	struct syscall_filter filter;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[320];

		snprintf(text, sizeof(text),
			 "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"personality\"],\"action\":"
			 "\"SCMP_ACT_ERRNO\",\"args\":[{\"index\":0,\"op\":\"%s\",\"value\":%d,\"valueTwo\":%d}]}]}",
			 cases[i].op, (int)cases[i].value, (int)cases[i].two);
		compile_or_fail(text, &filter);
		for (unsigned k = 0; k < 3; k++) {
			bool match = k == 0 ? cases[i].below : k == 1 ? cases[i].equal : cases[i].above;

			assert_int_equal(native(&filter, SYS_personality, 9 + k),
					 match ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_ALLOW);
		}
		syscall_filter_release(&filter);
	}
}

/* All comparisons of a rule must hold; but two on one argument are rules of their own, as runc has it. */
static void test_several_arguments(void **state)
{
	struct syscall_filter filter;

	(void)state;
	compile_or_fail("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":["
			"{\"names\":[\"dup2\"],\"action\":\"SCMP_ACT_ERRNO\",\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_"
			"EQ\",\"value\":1},"
			"{\"index\":1,\"op\":\"SCMP_CMP_EQ\",\"value\":2}]},"
			"{\"names\":[\"kill\"],\"action\":\"SCMP_ACT_ERRNO\",\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_"
			"EQ\",\"value\":1},"
			"{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":4503599627370497}]}]}",
			&filter);
	assert_int_equal(run(&filter, AUDIT_ARCH_X86_64, SYS_dup2, 1, 2), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(run(&filter, AUDIT_ARCH_X86_64, SYS_dup2, 1, 3), SECCOMP_RET_ALLOW);
	assert_int_equal(native(&filter, SYS_kill, 1), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(native(&filter, SYS_kill, 4503599627370497), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(native(&filter, SYS_kill, 2), SECCOMP_RET_ALLOW);
	syscall_filter_release(&filter);
}

static void test_flags(void **state)
{
	struct syscall_filter filter;

	(void)state;
	compile_or_fail("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\","
			"\"SECCOMP_FILTER_FLAG_SPEC_ALLOW\",\"SECCOMP_FILTER_FLAG_TSYNC\"]}",
			&filter);
	assert_int_equal(filter.flags,
			 SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_TSYNC);
	syscall_filter_release(&filter);
}

static void test_written(void **state)
{
	struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4), BPF_JUMP(0x15, 0xc000003e, 1, 255)};
	struct syscall_filter filter = {.code = code, .n = 2, .flags = 2};
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	syscall_filter_write(&filter, out);
	fclose(out);
	assert_string_equal(text, "{\"filter\":\"0020000000000004001501ffc000003e\",\"flags\":2}");
	free(text);
}

static void test_errors(void **state)
{
	(void)state;
	expect_error("{\"defaultAction\":\"SCMP_ACT_OTHER\"}",
		     "string SCMP_ACT_OTHER is not a valid action for seccomp");
	expect_error("{\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}]}",
		     "linux.seccomp.defaultAction");
	expect_error("{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", "SCMP_ACT_NOTIFY is not supported");
	expect_error("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_"
		     "NOTIFY\"}]}",
		     "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY is not supported");
	expect_error(
	    "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"\"],\"action\":\"SCMP_ACT_ERRNO\"}]}",
	    "empty string is not a valid syscall");
	expect_error("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_PDP11\"]}",
		     "string SCMP_ARCH_PDP11 is not a valid arch for seccomp");
	expect_error("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"SECCOMP_FILTER_FLAG_NEW_LISTENER\"]}",
		     "linux.seccomp.flags[0]: SECCOMP_FILTER_FLAG_NEW_LISTENER is not supported");
	expect_error(
	    "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ERRNO\","
	    "\"args\":[{\"index\":6,\"op\":\"SCMP_CMP_EQ\",\"value\":1}]}]}",
	    "args[0].index: a system call has 6 arguments");
	expect_error(
	    "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ERRNO\","
	    "\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_LIKE\",\"value\":1}]}]}",
	    "args[0].op: string SCMP_CMP_LIKE is not a valid operator for seccomp");
	expect_error(
	    "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ERRNO\","
	    "\"args\":[{\"index\":0,\"op\":\"SCMP_CMP_EQ\",\"value\":18446744073709551615}]}]}",
	    "args[0].value: the number cannot be read exactly");
}

/* Two rules on which libseccomp 2.5.4 does not end. Either it is refused in time or a later library can do it. */
static void test_endless(void **state)
{
	struct syscall_filter filter;
	struct error err = {0};
	int status = compile(
	    "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":["
	    "{\"names\":[\"semop\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":["
	    "{\"index\":0,\"value\":0,\"op\":\"SCMP_CMP_LE\"},{\"index\":2,\"value\":9,\"op\":\"SCMP_CMP_LE\"}]},"
	    "{\"names\":[\"semop\"],\"action\":\"SCMP_ACT_LOG\",\"args\":["
	    "{\"index\":2,\"value\":9,\"op\":\"SCMP_CMP_NE\"},{\"index\":0,\"value\":0,\"op\":\"SCMP_CMP_LE\"}]}]}",
	    &filter, &err);

	(void)state;
	if (status < 0)
		assert_string_equal(err.message, "linux.seccomp: the profile cannot be compiled within 5 seconds");
	else
		assert_int_equal(native(&filter, __NR_semop, 1), SECCOMP_RET_ERRNO | EPERM);
	syscall_filter_release(&filter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_nothing),   cmocka_unit_test(test_actions),
	    cmocka_unit_test(test_errno),     cmocka_unit_test(test_architectures),
	    cmocka_unit_test(test_arguments), cmocka_unit_test(test_several_arguments),
	    cmocka_unit_test(test_flags),     cmocka_unit_test(test_written),
	    cmocka_unit_test(test_errors),    cmocka_unit_test(test_endless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
