/*
 * hull template: what new machines are forked from.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/cleanup.h"
#include "runtime/command.h"
#include "runtime/config.h"
#include "runtime/output.h"
#include "runtime/template.h"
#include "runtime/vm_size.h"

struct template_options {
	const char *memory;
	unsigned vcpus;
	bool all;
};

static const struct template_options defaults;

static const struct flag flags[] = {
    {"memory", 0, FLAG_TEXT, offsetof(struct template_options, memory), "SIZE",
     "create: memory of the machine, like 512M (default: the configuration's)"},
    {"vcpus", 0, FLAG_NUMBER, offsetof(struct template_options, vcpus), "N",
     "create: CPUs of the machine (default: the configuration's)"},
    {"all", 'a', FLAG_SWITCH, offsetof(struct template_options, all), NULL, "rm: remove all of them"},
    {0},
};

static int read_size(const struct invocation *invocation, struct vm_size *size, struct error *err)
{
	const struct template_options *options = invocation->options;
	struct config config;

	if (config_load(invocation->global->config, &config, err) < 0)
		return -1;
	*size = (struct vm_size){.memory = config.memory, .vcpus = options->vcpus ? options->vcpus : config.vcpus};
	if (options->memory && (vm_size_parse_memory(options->memory, &size->memory) < 0 ||
				size->memory < VM_MEMORY_MIN || size->memory > VM_MEMORY_MAX))
		return error_set(err, EINVAL, "--memory: \"%s\" is not a size between 64M and 1T", options->memory);
	size->memory &= ~((1ull << 20) - 1);
	if (size->vcpus > VM_VCPUS_MAX)
		return error_set(err, EINVAL, "--vcpus: not more than %d", VM_VCPUS_MAX);
	return 0;
}

static int create(const struct invocation *invocation, struct error *err)
{
	cleanup_resources struct resources resources = RESOURCES_NONE;
	cleanup_close int lock = -1;
	struct template_key key;
	struct vm_size size;
	char line[64];

	if (read_size(invocation, &size, err) < 0 || resources_open(&resources, err) < 0 ||
	    template_identify(&resources, &size, &key, err) < 0)
		return -1;
	lock = template_lock(true, err);
	if (lock < 0 || template_make(&resources, &size, &key, err) < 0)
		return -1;
	snprintf(line, sizeof(line), "%s\n", key.name);
	return output_text(line, err);
}

static void print_entry(FILE *out, const struct template_entry *entry)
{
	time_t made = (time_t)entry->made;
	struct tm parts;
	char text[32] = "";

	if (gmtime_r(&made, &parts))
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
	fprintf(out, "%-19s%-12llu%-8u%-12llu%s\n", entry->name, (unsigned long long)(entry->size.memory >> 20),
		entry->size.vcpus, (unsigned long long)((entry->bytes + (1u << 20) - 1) >> 20), text);
}

static int list(const struct invocation *invocation, struct error *err)
{
	cleanup_free struct template_entry *entries = NULL;
	cleanup_free char *text = NULL;
	size_t n, length;
	FILE *out;

	(void)invocation;
	if (template_list(&entries, &n, err) < 0)
		return -1;
	out = open_memstream(&text, &length);
	if (!out)
		return error_set_errno(err, "format a table");
	fprintf(out, "%-19s%-12s%-8s%-12s%s\n", "NAME", "MEMORY MIB", "VCPUS", "SIZE MIB", "MADE");
	for (size_t i = 0; i < n; i++)
		print_entry(out, &entries[i]);
	if (fclose(out) != 0)
		return error_set_errno(err, "format a table");
	return output_text(text, err);
}

/* Whether machines of today would still be forked from it, and whether it then works. */
static int verify_entry(const struct resources *resources, const struct template_entry *entry, struct error *err)
{
	struct template_key key;

	if (template_identify(resources, &entry->size, &key, err) < 0)
		return -1;
	if (strcmp(key.name, entry->name) != 0)
		return error_set(err, ESTALE, "template %s: is of another kernel, initramfs or hull: not used any more",
				 entry->name);
	return template_verify(resources, &entry->size, &key, err) < 0 ? error_prefix(err, "template %s", entry->name)
								       : 0;
}

static int verify(const struct invocation *invocation, struct error *err)
{
	cleanup_resources struct resources resources = RESOURCES_NONE;
	cleanup_free struct template_entry *entries = NULL;
	const char *wanted = invocation->argc > 1 ? invocation->argv[1] : NULL;
	cleanup_close int lock = -1;
	size_t n, found = 0;

	if (resources_open(&resources, err) < 0 || template_list(&entries, &n, err) < 0)
		return -1;
	if (n > 0) {
		lock = template_lock(true, err);
		if (lock < 0)
			return -1;
	}
	for (size_t i = 0; i < n; i++) {
		char line[64];

		if (wanted && strcmp(wanted, entries[i].name) != 0)
			continue;
		found++;
		if (verify_entry(&resources, &entries[i], err) < 0)
			return -1;
		snprintf(line, sizeof(line), "%s ok\n", entries[i].name);
		if (output_text(line, err) < 0)
			return -1;
	}
	return wanted && found == 0 ? error_set(err, ENOENT, "template %s does not exist", wanted) : 0;
}

static int remove_all(struct error *err)
{
	cleanup_free struct template_entry *entries = NULL;
	size_t n;

	if (template_list(&entries, &n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (template_remove(entries[i].name, err) < 0 && err->code != ENOENT)
			return -1;
	return 0;
}

static int rm(const struct invocation *invocation, struct error *err)
{
	const struct template_options *options = invocation->options;

	if (options->all == (invocation->argc > 1))
		return error_set(err, EINVAL, "hull: \"template rm\" requires either names or --all");
	if (options->all)
		return remove_all(err);
	for (int i = 1; i < invocation->argc; i++)
		if (template_remove(invocation->argv[i], err) < 0)
			return -1;
	return 0;
}

static const struct {
	const char *name;
	int max_arguments; /* with the name */
	int (*run)(const struct invocation *invocation, struct error *err);
} verbs[] = {{"create", 1, create}, {"list", 1, list}, {"verify", 2, verify}, {"rm", 1 << 16, rm}};

static int run(const struct invocation *invocation, struct error *err)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(invocation->argv[0], verbs[i].name) != 0)
			continue;
		if (invocation->argc > verbs[i].max_arguments)
			return error_set(err, EINVAL, "hull: \"template %s\": too many arguments", verbs[i].name);
		return verbs[i].run(invocation, err);
	}
	return error_set(err, EINVAL, "hull: \"template\" knows create, list, verify and rm, not \"%s\"",
			 invocation->argv[0]);
}

const struct command command_template = {
    .name = "template",
    .summary = "manage what new machines are forked from",
    .arguments = "create | list | verify [NAME] | rm NAME...",
    .description =
	"A template is the frozen state of a machine that has booted. Machines of its size are forked from it\n"
	"instead of booting. create makes one now, list shows all, verify forks a machine from each (or from\n"
	"one) and has its agent answer, rm removes them; containers that run are not touched by that.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .min_arguments = 1,
    .max_arguments = 1 << 16,
    .run = run,
};
