/*
 * The device filter, run by a small interpreter of the few BPF instructions that it uses, against a plain evaluation of
 * the rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "guest-agent/device_filter.h"

#define R BPF_DEVCG_ACC_READ
#define W BPF_DEVCG_ACC_WRITE
#define M BPF_DEVCG_ACC_MKNOD

struct device {
	char type;
	uint32_t major, minor, access;
};

static int run(const struct bpf_insn *code, size_t n, const struct bpf_cgroup_dev_ctx *context)
{
	uint64_t registers[11] = {0};
	size_t at = 0;

	for (int steps = 0; steps < 100000; steps++) {
		const struct bpf_insn *i = &code[at++];
		uint64_t *to = &registers[i->dst_reg], from = registers[i->src_reg];
		uint32_t immediate = (uint32_t)i->imm, value;

		assert_true(at <= n);
		switch (i->code) {
		case BPF_LDX | BPF_W | BPF_MEM:
			memcpy(&value, (const char *)context + i->off, sizeof(value));
			*to = value;
			break;
		case 0x18: /* BPF_LD | BPF_DW | BPF_IMM */
			*to = (uint64_t)(uint32_t)code[at++].imm << 32 | immediate;
			break;
		case BPF_ALU | BPF_MOV | BPF_K:
			*to = immediate;
			break;
		case BPF_ALU | BPF_MOV | BPF_X:
			*to = (uint32_t)from;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			*to = (uint32_t)*to & immediate;
			break;
		case BPF_ALU | BPF_RSH | BPF_K:
			*to = (uint32_t)*to >> immediate;
			break;
		case BPF_ALU64 | BPF_MOV | BPF_X:
			*to = from;
			break;
		case BPF_ALU64 | BPF_LSH | BPF_K:
			*to <<= immediate;
			break;
		case BPF_ALU64 | BPF_OR | BPF_X:
			*to |= from;
			break;
		case BPF_JMP | BPF_JNE | BPF_X:
			at += *to != from ? (size_t)i->off : 0;
			break;
		case BPF_JMP | BPF_JEQ | BPF_X:
			at += *to == from ? (size_t)i->off : 0;
			break;
		case BPF_JMP32 | BPF_JNE | BPF_K:
			at += (uint32_t)*to != immediate ? (size_t)i->off : 0;
			break;
		case BPF_JMP32 | BPF_JEQ | BPF_K:
			at += (uint32_t)*to == immediate ? (size_t)i->off : 0;
			break;
		case BPF_JMP32 | BPF_JSET | BPF_K:
			at += (uint32_t)*to & immediate ? (size_t)i->off : 0;
			break;
		case BPF_JMP | BPF_JA:
			at += (size_t)i->off;
			break;
		case BPF_JMP | BPF_EXIT:
			return (int)registers[0];
		default:
			fail_msg("instruction %x", i->code);
		}
	}
	fail_msg("no end");
	return -1;
}

static int filtered(const struct device_rule *rules, size_t n, const struct device *device)
{
	struct bpf_insn *code = calloc(DEVICE_PROGRAM_MAX(n), sizeof(*code));
	struct bpf_cgroup_dev_ctx context = {
	    .access_type = device->access << 16 |
			   (device->type == 'b' ? (uint32_t)BPF_DEVCG_DEV_BLOCK : (uint32_t)BPF_DEVCG_DEV_CHAR),
	    .major = device->major,
	    .minor = device->minor,
	};
	size_t size = device_filter_compile(rules, n, code);
	int result;

	assert_true(size <= DEVICE_PROGRAM_MAX(n));
	result = run(code, size, &context);
	free(code);
	return result;
}

/* For each kind of access the last rule that fits decides. */
static int expected(const struct device_rule *rules, size_t n, const struct device *device)
{
	for (uint32_t bit = 1; bit <= 4; bit <<= 1) {
		bool allowed = false;

		if (!(device->access & bit))
			continue;
		for (size_t i = 0; i < n; i++)
			if ((rules[i].type == 'a' || rules[i].type == device->type) &&
			    (rules[i].major < 0 || rules[i].major == device->major) &&
			    (rules[i].minor < 0 || rules[i].minor == device->minor) && rules[i].access & bit)
				allowed = rules[i].allow;
		if (!allowed)
			return 0;
	}
	return 1;
}

static void test_examples(void **state)
{
	const struct device_rule rules[] = {{false, 'a', R | W | M, -1, -1},
					    {true, 'c', R | W | M, 1, 3},
					    {true, 'b', R, 8, -1},
					    {false, 'b', R, 8, 1},
					    {true, 'c', R, 4095, 0xfffff}};
	const struct device null = {'c', 1, 3, R | W}, block = {'b', 8, 0, R}, write = {'b', 8, 0, R | W},
			    first = {'b', 8, 1, R}, large = {'c', 4095, 0xfffff, R}, other = {'c', 9, 9, M};

	(void)state;
	assert_int_equal(filtered(rules, 5, &null), 1);
	assert_int_equal(filtered(rules, 5, &block), 1);
	assert_int_equal(filtered(rules, 5, &write), 0);
	assert_int_equal(filtered(rules, 5, &first), 0);
	assert_int_equal(filtered(rules, 5, &large), 1);
	assert_int_equal(filtered(rules, 5, &other), 0);
	assert_int_equal(filtered(rules, 0, &null), 0);
}

static void test_random_rules(void **state)
{
	(void)state;
	srandom(1);
	for (int round = 0; round < 20000; round++) {
		struct device_rule rules[8];
		size_t n = (size_t)random() % 9;
		struct device device = {"bc"[random() % 2], (uint32_t)random() % 3, (uint32_t)random() % 3,
					1 + (uint32_t)random() % 7};

		for (size_t i = 0; i < n; i++)
			rules[i] = (struct device_rule){random() % 2, "abc"[random() % 3], (uint32_t)random() % 8,
							random() % 4 - 1, random() % 4 - 1};
		assert_int_equal(filtered(rules, n, &device), expected(rules, n, &device));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_examples), cmocka_unit_test(test_random_rules)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
