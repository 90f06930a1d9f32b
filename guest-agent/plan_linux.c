#include "guest-agent/plan_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "common/spec_fields.h"

#define RW (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)
#define RWM (RW | BPF_DEVCG_ACC_MKNOD)

/* What every container may do whatever its rules say, as in runc: make any node, use the default devices. */
static const struct device_rule default_rules[] = {
    {true, 'c', BPF_DEVCG_ACC_MKNOD, -1, -1},
    {true, 'b', BPF_DEVCG_ACC_MKNOD, -1, -1},
    {true, 'c', RWM, 1, 3},    /* null */
    {true, 'c', RWM, 1, 5},    /* zero */
    {true, 'c', RWM, 1, 7},    /* full */
    {true, 'c', RWM, 1, 8},    /* random */
    {true, 'c', RWM, 1, 9},    /* urandom */
    {true, 'c', RWM, 5, 0},    /* tty */
    {true, 'c', RWM, 5, 2},    /* ptmx */
    {true, 'c', RWM, 136, -1}, /* pts */
    {true, 'c', RWM, 10, 200}, /* net/tun */
};

#define N_DEFAULT_RULES (sizeof(default_rules) / sizeof(default_rules[0]))

static int read_access(const char *text, uint32_t *access)
{
	for (*access = 0; *text; text++) {
		if (*text == 'r')
			*access |= BPF_DEVCG_ACC_READ;
		else if (*text == 'w')
			*access |= BPF_DEVCG_ACC_WRITE;
		else if (*text == 'm')
			*access |= BPF_DEVCG_ACC_MKNOD;
		else
			return -1;
	}
	return 0;
}

static int read_device_number(const json_t *rule, const char *name, int64_t *number)
{
	*number = -1;
	if (spec_get_i64(json_object_get(rule, name), number) < 0)
		return 0; /* absent: any */
	return *number >= -1 && *number <= UINT32_MAX ? 0 : -1;
}

static int read_device_rule(struct device_rule *rule, const json_t *json, size_t index, struct error *err)
{
	const char *type = plan_text(json, "type", "a");

	rule->allow = json_is_true(json_object_get(json, "allow"));
	if (strlen(type) != 1 || !strchr("abcu", *type))
		return error_set(err, EINVAL, "linux.resources.devices[%zu].type must be a, b or c, not `%s`", index,
				 type);
	rule->type = *type == 'u' ? 'c' : *type;
	if (read_device_number(json, "major", &rule->major) < 0 || read_device_number(json, "minor", &rule->minor) < 0)
		return error_set(err, EINVAL, "linux.resources.devices[%zu]: no such device number", index);
	if (read_access(plan_text(json, "access", ""), &rule->access) < 0)
		return error_set(err, EINVAL, "linux.resources.devices[%zu].access must be made of r, w and m", index);
	return 0;
}

static int read_device_rules(struct plan *plan, const json_t *array, struct error *err)
{
	const json_t *element;
	size_t i;

	if (json_array_size(array) > DEVICE_RULES_MAX)
		return error_set(err, EINVAL, "linux.resources.devices: more than %d rules", DEVICE_RULES_MAX);
	plan->device_rules = plan_array(json_array_size(array) + N_DEFAULT_RULES, sizeof(struct device_rule));
	if (!plan->device_rules)
		return plan_out_of_memory(err);
	json_array_foreach(array, i, element)
	{
		if (read_device_rule(&plan->device_rules[plan->n_device_rules++], element, i, err) < 0)
			return -1;
	}
	memcpy(plan->device_rules + plan->n_device_rules, default_rules, sizeof(default_rules));
	plan->n_device_rules += N_DEFAULT_RULES;
	return 0;
}

static int read_propagation(struct plan *plan, const char *text, struct error *err)
{
	struct mount_options options = {0};

	if (*text == '\0')
		return 0;
	if (mount_options_apply(&options, text) != MOUNT_OPTION_TAKEN || options.propagate == 0)
		return error_set(err, EINVAL, "linux.rootfsPropagation: `%s` does not exist", text);
	plan->propagate = options.propagate;
	return 0;
}

int plan_linux(struct plan *plan, const json_t *json, const json_t *shared, struct error *err)
{
	if (namespaces_read(&plan->namespaces, json_object_get(json, "namespaces"), shared, err) < 0 ||
	    read_device_rules(plan, json_object_get(json_object_get(json, "resources"), "devices"), err) < 0 ||
	    read_propagation(plan, plan_text(json, "rootfsPropagation", ""), err) < 0 ||
	    plan_texts(json_object_get(json, "maskedPaths"), &plan->masked, &plan->n_masked, err) < 0)
		return -1;
	return plan_texts(json_object_get(json, "readonlyPaths"), &plan->read_only_paths, &plan->n_read_only_paths,
			  err);
}
