#include "runtime/config.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/spec_fields.h"
#include "common/spec_values.h"
#include "runtime/vm_size.h"
#include "runtime/watch.h"

#define FILE_SIZE_MAX (1u << 20)
#define TIMEOUT_MAX 86400

static int read_memory(const json_t *value, struct config *config, struct error *err)
{
	uint64_t bytes;

	if (json_is_string(value) ? vm_size_parse_memory(json_string_value(value), &bytes) < 0
				  : spec_get_u64(value, &bytes) < 0)
		return error_set(err, EINVAL, "memory must be a size (like 536870912, \"512M\", \"2G\")");
	if (bytes < VM_MEMORY_MIN || bytes > VM_MEMORY_MAX)
		return error_set(err, ERANGE, "memory must be between 64M and 1T");
	config->memory = bytes & ~((1ull << 20) - 1);
	return 0;
}

static int read_vcpus(const json_t *value, struct config *config, struct error *err)
{
	uint64_t number;

	if (spec_get_u64(value, &number) < 0 || number < 1 || number > VM_VCPUS_MAX)
		return error_set(err, EINVAL, "vcpus must be a number between 1 and %d", VM_VCPUS_MAX);
	config->vcpus = (unsigned)number;
	return 0;
}

static int read_manager(const json_t *value, struct config *config, struct error *err)
{
	if (!json_is_string(value) || cgroup_parse_manager(json_string_value(value), &config->manager) < 0)
		return error_set(err, EINVAL, "cgroupManager must be \"cgroupfs\", \"systemd\" or \"disabled\"");
	return 0;
}

static int read_console(const json_t *value, struct config *config, struct error *err)
{
	if (!json_is_boolean(value))
		return error_set(err, EINVAL, "console must be true or false");
	config->console = json_is_true(value);
	return 0;
}

static int read_timeout(const json_t *value, struct config *config, struct error *err)
{
	uint64_t number;

	if (spec_get_u64(value, &number) < 0 || number < 1 || number > TIMEOUT_MAX)
		return error_set(err, EINVAL, "startTimeout must be a number of seconds between 1 and %d", TIMEOUT_MAX);
	config->start_timeout = (unsigned)number;
	return 0;
}

int config_parse_template(const char *text, enum template_use *use)
{
	static const char *const names[] = {
	    [TEMPLATE_AUTO] = "auto", [TEMPLATE_MANUAL] = "manual", [TEMPLATE_OFF] = "off"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i], text) == 0) {
			*use = (enum template_use)i;
			return 0;
		}
	}
	return -1;
}

static int read_template(const json_t *value, struct config *config, struct error *err)
{
	if (!json_is_string(value) || config_parse_template(json_string_value(value), &config->template) < 0)
		return error_set(err, EINVAL, "template must be \"auto\", \"manual\" or \"off\"");
	return 0;
}

static int read_template_age(const json_t *value, struct config *config, struct error *err)
{
	uint64_t number;

	if (spec_get_u64(value, &number) < 0 || number < 1 || number > UINT32_MAX)
		return error_set(err, EINVAL, "templateAge must be a number of seconds from 1 on");
	config->template_age = (unsigned)number;
	return 0;
}

static const struct {
	const char *name;
	int (*read)(const json_t *value, struct config *config, struct error *err);
} members[] = {
    {"memory", read_memory},
    {"vcpus", read_vcpus},
    {"cgroupManager", read_manager},
    {"console", read_console},
    {"startTimeout", read_timeout},
    {"template", read_template},
    {"templateAge", read_template_age},
};

static int read_member(const char *name, const json_t *value, struct config *config, struct error *err)
{
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (strcmp(members[i].name, name) == 0)
			return members[i].read(value, config, err);
	return error_set(err, EINVAL, "unknown member \"%.100s\"", name);
}

struct config config_defaults(void)
{
	return (struct config){.memory = VM_MEMORY_DEFAULT,
			       .vcpus = VM_VCPUS_DEFAULT,
			       .manager = CGROUP_CGROUPFS,
			       .start_timeout = WATCH_START_TIMEOUT,
			       .template = TEMPLATE_AUTO,
			       .template_age = TEMPLATE_AGE_DEFAULT};
}

int config_parse(const char *text, size_t size, struct config *config, struct error *err)
{
	json_t *object = spec_parse(text, size, err), *value;
	const char *name;
	int result = 0;

	*config = config_defaults();
	if (!object)
		return -1;
	json_object_foreach(object, name, value)
	{
		if (result == 0)
			result = read_member(name, value, config, err);
	}
	json_decref(object);
	return result;
}

int config_load(const char *named, struct config *config, struct error *err)
{
	const char *path = named ? named : getenv("HULL_CONFIG");
	bool must_exist = path && *path;
	cleanup_free char *text = NULL;
	size_t size;

	*config = config_defaults();
	if (!must_exist)
		path = CONFIG_FILE;
	if (read_file_at(AT_FDCWD, path, FILE_SIZE_MAX, &text, &size, err) < 0) {
		if (!must_exist && err->code == ENOENT)
			return 0;
		return error_prefix(err, "configuration file");
	}
	if (config_parse(text, size, config, err) < 0)
		return error_prefix(err, "configuration file `%s`", path);
	return 0;
}
