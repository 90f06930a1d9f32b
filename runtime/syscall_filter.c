#include "runtime/syscall_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/spec_fields.h"
#include "common/spec_values.h"
#include "common/words.h"

#define X32_BIT 0x40000000u
#define API_LEVEL 6 /* of libseccomp, for the guest's kernel (6.1): not what it finds out about this one */
#define ARGUMENTS 6

/* --- names ------------------------------------------------------------------------------------------------------- */

static const struct word actions[] = {
    {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
    {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
    {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)},
    {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)},
    {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
    {"SCMP_ACT_LOG", SCMP_ACT_LOG},
    {"SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY},
    {NULL, 0},
};

static const struct word operators[] = {
    {"SCMP_CMP_NE", SCMP_CMP_NE},
    {"SCMP_CMP_LT", SCMP_CMP_LT},
    {"SCMP_CMP_LE", SCMP_CMP_LE},
    {"SCMP_CMP_EQ", SCMP_CMP_EQ},
    {"SCMP_CMP_GE", SCMP_CMP_GE},
    {"SCMP_CMP_GT", SCMP_CMP_GT},
    {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
    {NULL, 0},
};

static const struct word architectures[] = {
    {"SCMP_ARCH_X86", SCMP_ARCH_X86},
    {"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},
    {"SCMP_ARCH_X32", SCMP_ARCH_X32},
    {"SCMP_ARCH_ARM", SCMP_ARCH_ARM},
    {"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64},
    {"SCMP_ARCH_MIPS", SCMP_ARCH_MIPS},
    {"SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64},
    {"SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32},
    {"SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL},
    {"SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64},
    {"SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32},
    {"SCMP_ARCH_PPC", SCMP_ARCH_PPC},
    {"SCMP_ARCH_PPC64", SCMP_ARCH_PPC64},
    {"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE},
    {"SCMP_ARCH_S390", SCMP_ARCH_S390},
    {"SCMP_ARCH_S390X", SCMP_ARCH_S390X},
    {"SCMP_ARCH_PARISC", SCMP_ARCH_PARISC},
    {"SCMP_ARCH_PARISC64", SCMP_ARCH_PARISC64},
    {"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64},
    {NULL, 0},
};

/* The one that is missing belongs to the listener. */
static const struct word flags[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
    {NULL, 0},
};

/* --- values ------------------------------------------------------------------------------------------------------ */

/* config-linux.md: errnoRet is for ERRNO and TRACE, EPERM when it is not given. */
static int read_action(const json_t *object, const char *member, const char *errno_member, const char *where,
		       uint32_t *action, struct error *err)
{
	uint64_t code = EPERM;

	if (word_value(actions, spec_text(object, member, ""), action) < 0)
		return error_set(err, EINVAL, "%s.%s: string %s is not a valid action for seccomp", where, member,
				 spec_text(object, member, ""));
	if (*action == SCMP_ACT_NOTIFY)
		return error_set(
		    err, ENOTSUP,
		    "%s.%s: SCMP_ACT_NOTIFY is not supported: a listener is a process of the host, and the "
		    "calls are made in another kernel",
		    where, member);
	spec_get_u64(json_object_get(object, errno_member), &code);
	if (*action == SCMP_ACT_ERRNO(0))
		*action = SCMP_ACT_ERRNO(code);
	else if (*action == SCMP_ACT_TRACE(0))
		*action = SCMP_ACT_TRACE(code);
	return 0;
}

#define TWO_TO_53 9007199254740992.0

/* A number that became a real because it, or another one in the file, is above 2^63 may have been rounded. */
static int read_operand(const json_t *arg, const char *member, const char *where, scmp_datum_t *value,
			struct error *err)
{
	const json_t *number = json_object_get(arg, member);
	uint64_t exact = 0;

	if (json_is_real(number) && json_real_value(number) > TWO_TO_53)
		return error_set(err, ENOTSUP, "%s.%s: the number cannot be read exactly", where, member);
	spec_get_u64(number, &exact);
	*value = exact;
	return 0;
}

static int read_comparison(const json_t *arg, const char *where, struct scmp_arg_cmp *comparison, struct error *err)
{
	uint32_t op;
	uint64_t index = 0;

	if (word_value(operators, spec_text(arg, "op", ""), &op) < 0)
		return error_set(err, EINVAL, "%s.op: string %s is not a valid operator for seccomp", where,
				 spec_text(arg, "op", ""));
	spec_get_u64(json_object_get(arg, "index"), &index);
	if (index >= ARGUMENTS)
		return error_set(err, EINVAL, "%s.index: a system call has %d arguments", where, ARGUMENTS);
	comparison->arg = (unsigned)index;
	comparison->op = (enum scmp_compare)op;
	if (read_operand(arg, "value", where, &comparison->datum_a, err) < 0)
		return -1;
	return read_operand(arg, "valueTwo", where, &comparison->datum_b, err);
}

/* --- rules ------------------------------------------------------------------------------------------------------- */

#define COMPARISONS_MAX 64 /* in one rule; engines write three */

struct rule {
	uint32_t action;
	struct scmp_arg_cmp comparisons[COMPARISONS_MAX];
	unsigned n;
	bool one_by_one; /* two look at one argument: then each is a rule of its own, as in runc */
};

static int read_rule(const json_t *call, size_t index, struct rule *rule, struct error *err)
{
	const json_t *args = json_object_get(call, "args"), *arg;
	unsigned seen[ARGUMENTS] = {0};
	char where[64];
	size_t i;

	snprintf(where, sizeof(where), "linux.seccomp.syscalls[%zu]", index);
	if (read_action(call, "action", "errnoRet", where, &rule->action, err) < 0)
		return -1;
	if (json_array_size(args) > COMPARISONS_MAX)
		return error_set(err, EINVAL, "%s.args: more than %d", where, COMPARISONS_MAX);
	rule->one_by_one = false;
	rule->n = 0;
	json_array_foreach(args, i, arg)
	{
		struct scmp_arg_cmp *comparison = &rule->comparisons[rule->n++];

		snprintf(where, sizeof(where), "linux.seccomp.syscalls[%zu].args[%zu]", index, i);
		if (read_comparison(arg, where, comparison, err) < 0)
			return -1;
		rule->one_by_one |= seen[comparison->arg]++ > 0;
	}
	return 0;
}

static int add_rule(scmp_filter_ctx context, int number, const struct rule *rule)
{
	int status = 0;

	if (!rule->one_by_one)
		return seccomp_rule_add_array(context, rule->action, number, rule->n, rule->comparisons);
	for (unsigned i = 0; i < rule->n && status == 0; i++)
		status = seccomp_rule_add_array(context, rule->action, number, 1, &rule->comparisons[i]);
	return status;
}

static int add_call(scmp_filter_ctx context, const json_t *call, size_t index, uint32_t default_action,
		    struct error *err)
{
	const json_t *element;
	struct rule rule;
	size_t i;

	if (read_rule(call, index, &rule, err) < 0)
		return -1;
	json_array_foreach(json_object_get(call, "names"), i, element)
	{
		const char *name = json_string_value(element);
		int number, status;

		if (!name || *name == '\0')
			return error_set(err, EINVAL,
					 "linux.seccomp.syscalls[%zu]: empty string is not a valid syscall", index);
		number = seccomp_syscall_resolve_name(name);
		/* What this library does not know the guest's kernel does not have, and a rule that repeats the
		 * default adds nothing. */
		if (number == __NR_SCMP_ERROR || rule.action == default_action)
			continue;
		status = add_rule(context, number, &rule);
		if (status < 0)
			return error_set(err, -status,
					 "linux.seccomp.syscalls[%zu]: error adding seccomp rule for syscall %s: %s",
					 index, name, strerror(-status));
	}
	return 0;
}

static int add_architectures(scmp_filter_ctx context, const json_t *array, struct error *err)
{
	const json_t *element;
	size_t i;

	json_array_foreach(array, i, element)
	{
		const char *name = json_string_value(element);
		uint32_t token;
		int status;

		if (!name || word_value(architectures, name, &token) < 0)
			return error_set(err, EINVAL,
					 "linux.seccomp.architectures[%zu]: string %s is not a valid arch for seccomp",
					 i, name ? name : "null");
		status = seccomp_arch_add(context, token);
		if (status < 0 && status != -EEXIST)
			return error_set(err, -status,
					 "linux.seccomp.architectures[%zu]: error adding architecture %s: %s", i, name,
					 strerror(-status));
	}
	return 0;
}

static int read_flags(const json_t *array, unsigned *set, struct error *err)
{
	const json_t *element;
	size_t i;

	json_array_foreach(array, i, element)
	{
		const char *name = json_string_value(element);
		uint32_t flag;

		if (!name || word_value(flags, name, &flag) < 0)
			return error_set(err, ENOTSUP, "linux.seccomp.flags[%zu]: %s is not supported", i,
					 name ? name : "null");
		*set |= flag;
	}
	return 0;
}

/* --- system calls that are newer than the profile ---------------------------------------------------------------- */

/* Those that a guest on x86-64 can make. */
static const struct {
	uint32_t token;
	uint32_t audit;
} modes[] = {
    {SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64},
    {SCMP_ARCH_X32, AUDIT_ARCH_X86_64},
    {SCMP_ARCH_X86, AUDIT_ARCH_I386},
};

#define PROLOGUE_MAX 24

static bool names_architecture(const json_t *array, uint32_t token)
{
	const json_t *element;
	uint32_t value;
	size_t i;

	json_array_foreach(array, i, element)
	{
		if (word_value(architectures, json_string_value(element), &value) == 0 && value == token)
			return true;
	}
	return false;
}

/* The largest number that the profile names for this architecture, or 0. */
static uint32_t last_call(const json_t *calls, uint32_t token)
{
	const json_t *call, *name;
	int last = 0;
	size_t i, k;

	json_array_foreach(calls, i, call)
	{
		json_array_foreach(json_object_get(call, "names"), k, name)
		{
			int number = seccomp_syscall_resolve_name_arch(token, json_string_value(name));

			if (number > last)
				last = number;
		}
	}
	return (uint32_t)last;
}

#define LOAD(field) ((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field)))
#define JUMP(op, value, yes, no) ((struct sock_filter)BPF_JUMP(BPF_JMP | (op) | BPF_K, value, yes, no))
#define RETURN(value) ((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, value))

/* if (arch == audit && x32 bit as in this mode && nr > last) return ENOSYS; */
static size_t write_mode(uint32_t token, uint32_t audit, uint32_t last, struct sock_filter *code)
{
	bool x86_64 = audit == AUDIT_ARCH_X86_64;
	bool x32 = token == SCMP_ARCH_X32;
	size_t n = 0;

	code[n++] = LOAD(arch);
	code[n++] = JUMP(BPF_JEQ, audit, 0, x86_64 ? 4 : 3);
	code[n++] = LOAD(nr);
	if (x86_64)
		code[n++] = JUMP(BPF_JSET, X32_BIT, x32 ? 0 : 2, x32 ? 2 : 0);
	code[n++] = JUMP(BPF_JGT, last, 0, 1);
	code[n++] = RETURN(SCMP_ACT_ERRNO(ENOSYS));
	return n;
}

static size_t write_prologue(const json_t *seccomp, uint32_t default_action, struct sock_filter *code)
{
	const json_t *listed = json_object_get(seccomp, "architectures");
	size_t n = 0;

	/* One that allows or a tracer that decides has no need of it. */
	if (default_action == SCMP_ACT_ALLOW || default_action == SCMP_ACT_LOG ||
	    (default_action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_TRACE)
		return 0;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		uint32_t last = names_architecture(listed, modes[i].token)
				    ? last_call(json_object_get(seccomp, "syscalls"), modes[i].token)
				    : 0;

		if (last)
			n += write_mode(modes[i].token, modes[i].audit, last, code + n);
	}
	return n;
}

/* --- compiling --------------------------------------------------------------------------------------------------- */

/* Writes the program to the file; libseccomp writes its part by itself. */
static int export_program(scmp_filter_ctx context, const json_t *seccomp, uint32_t default_action, int program,
			  struct error *err)
{
	struct sock_filter prologue[PROLOGUE_MAX];
	size_t n = write_prologue(seccomp, default_action, prologue);
	int status;

	if (write_exactly(program, prologue, n * sizeof(struct sock_filter)) < 0)
		return error_set_errno(err, "write the system call filter");
	status = seccomp_export_bpf(context, program);
	return status < 0 ? error_set(err, -status, "linux.seccomp: compile the filter: %s", strerror(-status)) : 0;
}

static int compile(scmp_filter_ctx context, const json_t *seccomp, uint32_t default_action, int program,
		   struct error *err)
{
	const json_t *call;
	size_t i;

	if (add_architectures(context, json_object_get(seccomp, "architectures"), err) < 0)
		return -1;
	json_array_foreach(json_object_get(seccomp, "syscalls"), i, call)
	{
		if (add_call(context, call, i, default_action, err) < 0)
			return -1;
	}
	return export_program(context, seccomp, default_action, program, err);
}

/* --- the compiler's process -------------------------------------------------------------------------------------- */

/* Some profiles of a few rules keep libseccomp busy for ever (2.5.4: several LE, LT and NE on the same arguments of one
 * system call). It cannot be interrupted, so it works in a process of its own that may use this much CPU time; the
 * profiles of engines take some hundredths of a second. */
#define COMPILER_SECONDS 5

struct compiler_report {
	bool done;
	int status;
	struct error err;
};

static void limit_compiler(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	setrlimit(RLIMIT_CPU, &(struct rlimit){COMPILER_SECONDS, COMPILER_SECONDS});
}

static void run_compiler(const json_t *seccomp, uint32_t default_action, int program, struct compiler_report *report)
{
	scmp_filter_ctx context;

	seccomp_api_set(API_LEVEL);
	context = seccomp_init(default_action);
	report->status = context
			     ? compile(context, seccomp, default_action, program, &report->err)
			     : error_set(&report->err, EINVAL, "linux.seccomp.defaultAction: %s cannot be a default",
					 spec_text(seccomp, "defaultAction", ""));
	report->done = true;
}

static int wait_for_compiler(pid_t pid, const struct compiler_report *report, struct error *err)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_set_errno(err, "wait for the compiler of linux.seccomp");
	if (!report->done && WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGXCPU))
		return error_set(err, ETIME, "linux.seccomp: the profile cannot be compiled within %d seconds",
				 COMPILER_SECONDS);
	if (!report->done)
		return error_set(err, EIO, "linux.seccomp: the compiler ended with status %#x", (unsigned)status);
	if (report->status < 0)
		*err = report->err;
	return report->status;
}

static int compile_apart(const json_t *seccomp, uint32_t default_action, int program, struct error *err)
{
	struct compiler_report *report =
	    mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int result;
	pid_t pid;

	if (report == MAP_FAILED)
		return error_set_errno(err, "make room for the compiler of linux.seccomp");
	pid = fork();
	if (pid == 0) {
		limit_compiler();
		run_compiler(seccomp, default_action, program, report);
		_exit(0);
	}
	result =
	    pid < 0 ? error_set_errno(err, "start the compiler of linux.seccomp") : wait_for_compiler(pid, report, err);
	munmap(report, sizeof(*report));
	return result;
}

/* --- the whole --------------------------------------------------------------------------------------------------- */

static int read_program(int program, struct syscall_filter *filter, struct error *err)
{
	struct stat status;

	if (fstat(program, &status) < 0 || lseek(program, 0, SEEK_SET) < 0)
		return error_set_errno(err, "read the system call filter");
	filter->n = (size_t)status.st_size / sizeof(struct sock_filter);
	if (filter->n > BPF_MAXINSNS)
		return error_set(err, E2BIG, "linux.seccomp: the filter has more than %d instructions", BPF_MAXINSNS);
	filter->code = calloc(filter->n, sizeof(struct sock_filter));
	if (!filter->code)
		return error_set(err, ENOMEM, "out of memory");
	if (read_exactly(program, filter->code, filter->n * sizeof(struct sock_filter)) < 0)
		return error_set_errno(err, "read the system call filter");
	return 0;
}

int syscall_filter_compile(const json_t *seccomp, struct syscall_filter *filter, struct error *err)
{
	uint32_t default_action = SCMP_ACT_KILL_PROCESS;
	cleanup_close int program = -1;

	*filter = (struct syscall_filter){0};
	if (*spec_text(seccomp, "defaultAction", "") == '\0' &&
	    json_array_size(json_object_get(seccomp, "syscalls")) == 0)
		return 0;
	if (read_action(seccomp, "defaultAction", "defaultErrnoRet", "linux.seccomp", &default_action, err) < 0 ||
	    read_flags(json_object_get(seccomp, "flags"), &filter->flags, err) < 0)
		return -1;
	program = memfd_create("filter", MFD_CLOEXEC);
	if (program < 0)
		return error_set_errno(err, "memfd_create");
	if (compile_apart(seccomp, default_action, program, err) < 0)
		return -1;
	return read_program(program, filter, err);
}

void syscall_filter_release(struct syscall_filter *filter)
{
	free(filter->code);
	*filter = (struct syscall_filter){0};
}

void syscall_filter_write(const struct syscall_filter *filter, FILE *out)
{
	fputs("{\"filter\":\"", out);
	for (size_t i = 0; i < filter->n; i++)
		fprintf(out, "%04x%02x%02x%08x", filter->code[i].code, filter->code[i].jt, filter->code[i].jf,
			filter->code[i].k);
	fprintf(out, "\",\"flags\":%u}", filter->flags);
}
