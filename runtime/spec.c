#include "runtime/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/spec_fields.h"
#include "common/spec_values.h"
#include "runtime/report.h"

void spec_release(struct spec *spec)
{
	free(spec->text);
	json_decref(spec->json);
	*spec = (struct spec){0};
}

/* The major version says what the fields mean; minor versions only add some. */
static int check_version(const json_t *json, struct error *err)
{
	const char *version = spec_text(json, "ociVersion", "");

	if (*version == '\0')
		return error_set(err, EINVAL, "ociVersion must be there");
	if (strncmp(version, "1.", 2) != 0 || version[2] < '0' || version[2] > '9')
		return error_set(err, EINVAL, "ociVersion \"%s\" is not supported: it must be 1.x", version);
	return 0;
}

static int check_process(const json_t *process, struct error *err)
{
	const json_t *args = json_object_get(process, "args"), *word;
	size_t index;

	if (!json_is_object(process))
		return error_set(err, EINVAL, "process must be there");
	if (json_array_size(args) == 0)
		return error_set(err, EINVAL, "process.args must name a program");
	json_array_foreach(args, index, word)
	{
		if (!json_is_string(word))
			return error_set(err, EINVAL, "process.args[%zu] must be a string", index);
	}
	if (*json_string_value(json_array_get(args, 0)) == '\0')
		return error_set(err, EINVAL, "process.args[0] must not be empty");
	if (*spec_text(process, "cwd", "") != '/')
		return error_set(err, EINVAL, "process.cwd must be an absolute path");
	return 0;
}

static int check_mounts(const json_t *mounts, struct error *err)
{
	const json_t *mount, *option;
	size_t index, n;

	json_array_foreach(mounts, index, mount)
	{
		if (*spec_text(mount, "destination", "") == '\0')
			return error_set(err, EINVAL, "mounts[%zu].destination must be there", index);
		json_array_foreach(json_object_get(mount, "options"), n, option)
		{
			if (!json_is_string(option))
				return error_set(err, EINVAL, "mounts[%zu].options[%zu] must be a string", index, n);
		}
	}
	return 0;
}

static int check(const json_t *json, struct error *err)
{
	/* The version comes first: it says what the rest means. */
	if (json_is_string(json_object_get(json, "ociVersion")) && check_version(json, err) < 0)
		return -1;
	if (spec_fields_check(json, err) < 0 || check_version(json, err) < 0 ||
	    check_process(json_object_get(json, "process"), err) < 0)
		return -1;
	if (*spec_text(json_object_get(json, "root"), "path", "") == '\0')
		return error_set(err, EINVAL, "root.path must be there");
	return check_mounts(json_object_get(json, "mounts"), err);
}

int spec_take_text(char *text, size_t size, struct spec *spec, struct error *err)
{
	*spec = (struct spec){.text = text, .size = size};
	spec->json = spec_parse(text, size, err);
	if (!spec->json || check(spec->json, err) < 0) {
		spec_release(spec);
		return error_prefix(err, SPEC_FILE);
	}
	return 0;
}

int spec_load(int bundle, const char *file, struct spec *spec, struct error *err)
{
	const char *name = file ? file : SPEC_FILE;
	cleanup_close int fd = openat(bundle, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat status;
	size_t size;
	char *text;

	*spec = (struct spec){0};
	if (fd < 0 && errno == ENOENT)
		return error_set(err, ENOENT, "JSON specification file %s not found", name);
	if (fd < 0)
		return error_set_errno(err, "open %s", name);
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return error_set(err, EINVAL, "%s is not a regular file", name);
	if (read_stream(fd, SPEC_SIZE_MAX, &text, &size, err) < 0)
		return error_prefix(err, "%s", name);
	return spec_take_text(text, size, spec, err);
}

static int note_ignored(const struct spec_field *field, const char *path, const json_t *value, void *context)
{
	(void)context;
	if (field->party == SPEC_IGNORED && value && !spec_value_says_nothing(field, value))
		report_notice("%s is ignored: %s", path, field->note);
	return 0;
}

void spec_note_ignored(const json_t *config)
{
	spec_fields_walk(config, note_ignored, NULL);
}

const char *spec_root_path(const struct spec *spec)
{
	return spec_text(json_object_get(spec->json, "root"), "path", "");
}

bool spec_terminal(const struct spec *spec)
{
	return json_is_true(json_object_get(json_object_get(spec->json, "process"), "terminal"));
}

const char *spec_annotation(const struct spec *spec, const char *name)
{
	return json_string_value(json_object_get(json_object_get(spec->json, "annotations"), name));
}
