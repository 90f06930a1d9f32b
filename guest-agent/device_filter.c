#include "guest-agent/device_filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"

#define ALL_ACCESS (BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)

enum {
	RESULT = BPF_REG_0,
	CONTEXT = BPF_REG_1,
	TYPE = BPF_REG_2,
	WANTED = BPF_REG_3, /* the kinds of access that no rule has decided yet */
	MAJOR = BPF_REG_4,
	MINOR = BPF_REG_5,
};

static struct bpf_insn instruction(uint8_t code, unsigned to, unsigned from, int offset, int32_t immediate)
{
	return (struct bpf_insn){
	    .code = code, .dst_reg = to & 0xf, .src_reg = from & 0xf, .off = (int16_t)offset, .imm = immediate};
}

static struct bpf_insn load(unsigned to, size_t offset)
{
	return instruction(BPF_LDX | BPF_W | BPF_MEM, to, CONTEXT, (int)offset, 0);
}

static struct bpf_insn set(unsigned to, int32_t value)
{
	return instruction(BPF_ALU | BPF_MOV | BPF_K, to, 0, 0, value);
}

static struct bpf_insn copy(unsigned to, unsigned from)
{
	return instruction(BPF_ALU | BPF_MOV | BPF_X, to, from, 0, 0);
}

static struct bpf_insn and (unsigned to, int32_t mask)
{
	return instruction(BPF_ALU | BPF_AND | BPF_K, to, 0, 0, mask);
}

static struct bpf_insn shift_right(unsigned to, int32_t bits)
{
	return instruction(BPF_ALU | BPF_RSH | BPF_K, to, 0, 0, bits);
}

/* 32-bit comparison: numbers above 2^31 must not be sign-extended. */
static struct bpf_insn jump(uint8_t condition, unsigned left, int32_t right, int offset)
{
	return instruction(BPF_JMP32 | condition | BPF_K, left, 0, offset, right);
}

static struct bpf_insn leave(void)
{
	return instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static size_t compile_prologue(struct bpf_insn *code)
{
	size_t n = 0;

	code[n++] = load(TYPE, offsetof(struct bpf_cgroup_dev_ctx, access_type));
	code[n++] = copy(WANTED, TYPE);
	code[n++] = and(TYPE, 0xffff);
	code[n++] = shift_right(WANTED, 16);
	code[n++] = load(MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major));
	code[n++] = load(MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor));
	return n;
}

/* Jumps over the body of `body` instructions unless the device is the rule's. */
static size_t compile_match(const struct device_rule *rule, size_t body, struct bpf_insn *code)
{
	size_t tests = (rule->type != 'a') + (rule->major >= 0) + (rule->minor >= 0);
	size_t n = 0;

	if (rule->type != 'a') {
		int32_t type = rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;

		code[n++] = jump(BPF_JNE, TYPE, type, (int)(--tests + body));
	}
	if (rule->major >= 0)
		code[n++] = jump(BPF_JNE, MAJOR, (int32_t)rule->major, (int)(--tests + body));
	if (rule->minor >= 0)
		code[n++] = jump(BPF_JNE, MINOR, (int32_t)rule->minor, (int)(--tests + body));
	return n;
}

/* An allowing rule settles its kinds of access, and ends the search when nothing is left to settle. */
static size_t compile_allow(const struct device_rule *rule, struct bpf_insn *code)
{
	size_t n = compile_match(rule, 4, code);

	code[n++] = and(WANTED, (int32_t)(~rule->access & ALL_ACCESS));
	code[n++] = jump(BPF_JNE, WANTED, 0, 2);
	code[n++] = set(RESULT, 1);
	code[n++] = leave();
	return n;
}

/* A denying rule ends the search when it names a kind of access that is not settled. */
static size_t compile_deny(const struct device_rule *rule, struct bpf_insn *code)
{
	size_t n = compile_match(rule, 4, code);

	code[n++] = jump(BPF_JSET, WANTED, (int32_t)rule->access, 1);
	code[n++] = instruction(BPF_JMP | BPF_JA, 0, 0, 2, 0);
	code[n++] = set(RESULT, 0);
	code[n++] = leave();
	return n;
}

static bool is_everything(const struct device_rule *rule)
{
	return rule->type == 'a' && rule->major < 0 && rule->minor < 0 && rule->access == ALL_ACCESS;
}

size_t device_filter_compile(const struct device_rule *rules, size_t n_rules, struct bpf_insn *code)
{
	size_t n = compile_prologue(code);
	int32_t otherwise = 0;

	for (size_t i = n_rules; i-- > 0;) {
		/* Nothing before this rule can matter, and the kernel refuses a program with unreachable parts. */
		if (is_everything(&rules[i])) {
			otherwise = rules[i].allow;
			break;
		}
		n += rules[i].allow ? compile_allow(&rules[i], code + n) : compile_deny(&rules[i], code + n);
	}
	code[n++] = set(RESULT, otherwise);
	code[n++] = leave();
	return n;
}

static int load_program(const struct bpf_insn *code, size_t n)
{
	static const char license[] = "Apache-2.0";
	union bpf_attr attributes = {
	    .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
	    .insns = (uintptr_t)code,
	    .insn_cnt = (uint32_t)n,
	    .license = (uintptr_t)license,
	};

	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof(attributes));
}

int device_filter_attach(int cgroup_fd, const struct device_rule *rules, size_t n_rules, struct error *err)
{
	cleanup_free struct bpf_insn *code = calloc(DEVICE_PROGRAM_MAX(n_rules), sizeof(*code));
	cleanup_close int program = -1;
	union bpf_attr attributes = {
	    .target_fd = (uint32_t)cgroup_fd,
	    .attach_type = BPF_CGROUP_DEVICE,
	    /* A container that manages cgroups of its own may add programs below, never loosen this one. */
	    .attach_flags = BPF_F_ALLOW_MULTI,
	};

	if (!code)
		return error_set_errno(err, "device filter");
	program = load_program(code, device_filter_compile(rules, n_rules, code));
	if (program < 0)
		return error_set_errno(err, "load the device filter");
	attributes.attach_bpf_fd = (uint32_t)program;
	if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attributes, sizeof(attributes)) < 0)
		return error_set_errno(err, "attach the device filter");
	return 0;
}
