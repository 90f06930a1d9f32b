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
	DEVICE = BPF_REG_6, /* type, major and minor in one */
	SCRATCH = BPF_REG_7,
};

/* Every branch costs the kernel's verifier some ten thousand instructions, more than all else about starting a
 * container in a cgroup. So most rules are one comparison of one number, and what allows jumps to one common end.
 *
 * The kernel's device numbers have 12 and 20 bits. */
#define MAJOR_BITS 12
#define MINOR_BITS 20

struct program {
	struct bpf_insn *code;
	size_t n;
};

/* BPF_LD | BPF_DW | BPF_IMM: a constant of 64 bits, in two instructions. */
#define LOAD_64 0x18

/* Jump offsets that are filled in when the common ends are placed. */
#define TO_ALLOW 0x7fff
#define TO_DENY 0x7ffe

static void emit(struct program *program, uint8_t code, unsigned to, unsigned from, int offset, int32_t immediate)
{
	program->code[program->n++] = (struct bpf_insn){
	    .code = code, .dst_reg = to & 0xf, .src_reg = from & 0xf, .off = (int16_t)offset, .imm = immediate};
}

static void load(struct program *program, unsigned to, size_t offset)
{
	emit(program, BPF_LDX | BPF_W | BPF_MEM, to, CONTEXT, (int)offset, 0);
}

static void compile_prologue(struct program *program)
{
	load(program, TYPE, offsetof(struct bpf_cgroup_dev_ctx, access_type));
	emit(program, BPF_ALU | BPF_MOV | BPF_X, WANTED, TYPE, 0, 0);
	emit(program, BPF_ALU | BPF_AND | BPF_K, TYPE, 0, 0, 0xffff);
	emit(program, BPF_ALU | BPF_RSH | BPF_K, WANTED, 0, 0, 16);
	load(program, MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major));
	load(program, MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor));
	emit(program, BPF_ALU64 | BPF_MOV | BPF_X, DEVICE, TYPE, 0, 0);
	emit(program, BPF_ALU64 | BPF_LSH | BPF_K, DEVICE, 0, 0, MAJOR_BITS);
	emit(program, BPF_ALU64 | BPF_OR | BPF_X, DEVICE, MAJOR, 0, 0);
	emit(program, BPF_ALU64 | BPF_LSH | BPF_K, DEVICE, 0, 0, MINOR_BITS);
	emit(program, BPF_ALU64 | BPF_OR | BPF_X, DEVICE, MINOR, 0, 0);
}

static int32_t type_of(const struct device_rule *rule)
{
	return rule->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
}

static bool names_one_device(const struct device_rule *rule)
{
	return rule->type != 'a' && rule->major >= 0 && rule->minor >= 0;
}

static bool is_possible(const struct device_rule *rule)
{
	return rule->major < 1 << MAJOR_BITS && rule->minor < 1 << MINOR_BITS && rule->access != 0;
}

/* SCRATCH = the rule's device, as in DEVICE. */
static void load_device(struct program *program, const struct device_rule *rule)
{
	uint64_t device =
	    ((uint64_t)type_of(rule) << MAJOR_BITS | (uint64_t)rule->major) << MINOR_BITS | (uint64_t)rule->minor;

	emit(program, LOAD_64, SCRATCH, 0, 0, (int32_t)device);
	emit(program, 0, 0, 0, 0, (int32_t)(device >> 32));
}

/* Jumps over the body of `body` instructions unless the device is the rule's. */
static void compile_match(struct program *program, const struct device_rule *rule, int body)
{
	int tests = (rule->type != 'a') + (rule->major >= 0) + (rule->minor >= 0);

	if (names_one_device(rule)) {
		load_device(program, rule);
		emit(program, BPF_JMP | BPF_JNE | BPF_X, DEVICE, SCRATCH, body, 0);
		return;
	}
	if (rule->type != 'a')
		emit(program, BPF_JMP32 | BPF_JNE | BPF_K, TYPE, 0, --tests + body, type_of(rule));
	if (rule->major >= 0)
		emit(program, BPF_JMP32 | BPF_JNE | BPF_K, MAJOR, 0, --tests + body, (int32_t)rule->major);
	if (rule->minor >= 0)
		emit(program, BPF_JMP32 | BPF_JNE | BPF_K, MINOR, 0, --tests + body, (int32_t)rule->minor);
}

/* An allowing rule settles its kinds of access, and ends the search when nothing is left to settle. */
static void compile_allow(struct program *program, const struct device_rule *rule)
{
	if (rule->access != ALL_ACCESS) {
		compile_match(program, rule, 2);
		emit(program, BPF_ALU | BPF_AND | BPF_K, WANTED, 0, 0, (int32_t)(~rule->access & ALL_ACCESS));
		emit(program, BPF_JMP32 | BPF_JEQ | BPF_K, WANTED, 0, TO_ALLOW, 0);
	} else if (names_one_device(rule)) {
		load_device(program, rule);
		emit(program, BPF_JMP | BPF_JEQ | BPF_X, DEVICE, SCRATCH, TO_ALLOW, 0);
	} else {
		compile_match(program, rule, 1);
		emit(program, BPF_JMP | BPF_JA, 0, 0, TO_ALLOW, 0);
	}
}

/* A denying rule ends the search when it names a kind of access that is not settled. */
static void compile_deny(struct program *program, const struct device_rule *rule)
{
	compile_match(program, rule, 1);
	emit(program, BPF_JMP32 | BPF_JSET | BPF_K, WANTED, 0, TO_DENY, (int32_t)rule->access);
}

static void emit_end(struct program *program, int result)
{
	emit(program, BPF_ALU | BPF_MOV | BPF_K, RESULT, 0, 0, result);
	emit(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static bool is_jump(const struct bpf_insn *insn)
{
	unsigned class = BPF_CLASS(insn->code);

	return class == BPF_JMP || class == BPF_JMP32;
}

/* Places a common end and lets the jumps to it find it. Without any it must not be there: the kernel refuses what
 * cannot be reached. */
static void place_end(struct program *program, int label, int result)
{
	size_t end = program->n;
	bool used = false;

	for (size_t i = 0; i < end; i++) {
		if (!is_jump(&program->code[i]) || program->code[i].off != label)
			continue;
		program->code[i].off = (int16_t)(end - i - 1);
		used = true;
	}
	if (used)
		emit_end(program, result);
}

static bool is_everything(const struct device_rule *rule)
{
	return rule->type == 'a' && rule->major < 0 && rule->minor < 0 && rule->access == ALL_ACCESS;
}

size_t device_filter_compile(const struct device_rule *rules, size_t n_rules, struct bpf_insn *code)
{
	struct program program = {.code = code};
	int otherwise = 0;

	compile_prologue(&program);
	for (size_t i = n_rules; i-- > 0;) {
		if (!is_possible(&rules[i]))
			continue;
		/* Nothing before this rule can matter. */
		if (is_everything(&rules[i])) {
			otherwise = rules[i].allow;
			break;
		}
		if (rules[i].allow)
			compile_allow(&program, &rules[i]);
		else
			compile_deny(&program, &rules[i]);
	}
	emit_end(&program, otherwise);
	place_end(&program, TO_ALLOW, 1);
	place_end(&program, TO_DENY, 0);
	return program.n;
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
