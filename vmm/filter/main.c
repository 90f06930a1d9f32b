/*
 * mkfilters PROGRAM: writes the system call filters of a program as C.
 */
#include <err.h>
#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/filter/rules.h"

static void add_rule(scmp_filter_ctx filter, const struct filter_rule *rule)
{
	struct scmp_arg_cmp condition = SCMP_CMP(rule->argument, SCMP_CMP_EQ, rule->value);
	int result;

	if (rule->check == FILTER_MASKED)
		condition = SCMP_CMP(rule->argument, SCMP_CMP_MASKED_EQ, rule->mask, rule->value);
	result =
	    seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->call, rule->check == FILTER_ANY ? 0 : 1, &condition);
	if (result < 0)
		errx(1, "system call %d: %s", rule->call, strerror(-result));
}

static void print(const char *name, scmp_filter_ctx filter)
{
	struct sock_filter instruction;
	FILE *program = tmpfile();

	if (!program || seccomp_export_bpf(filter, fileno(program)) < 0)
		err(1, "%s", name);
	rewind(program);
	printf("static const struct sock_filter %s[] = {\n", name);
	while (fread(&instruction, sizeof(instruction), 1, program) == 1)
		printf("    {0x%02x, %u, %u, 0x%08x},\n", instruction.code, instruction.jt, instruction.jf,
		       instruction.k);
	printf("};\n");
	fclose(program);
}

static void make(const struct filter_set *set, unsigned index)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);

	if (!filter || (set->tree && seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0))
		errx(1, "%s: no filter", set->names[index]);
	for (size_t i = 0; i < set->n; i++)
		if (set->rules[i].filters & (1u << index))
			add_rule(filter, &set->rules[i]);
	print(set->names[index], filter);
	seccomp_release(filter);
}

int main(int argc, char **argv)
{
	static const struct filter_set *const sets[] = {&vmm_filters, &fsd_filters};

	printf("/* Made from vmm/filter; linux/filter.h comes before it. */\n");
	for (size_t i = 0; argc == 2 && i < sizeof(sets) / sizeof(sets[0]); i++) {
		if (strcmp(argv[1], sets[i]->program) != 0)
			continue;
		for (unsigned index = 0; sets[i]->names[index]; index++)
			make(sets[i], index);
		return fflush(stdout) != 0;
	}
	errx(2, "usage: mkfilters vmm|fsd");
}
