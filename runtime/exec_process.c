#include "runtime/exec_process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/spec_fields.h"
#include "runtime/spec.h"

void exec_process_release(struct exec_process *process)
{
	free(process->text);
	*process = (struct exec_process){0};
}

static int out_of_memory(struct error *err)
{
	return error_set(err, ENOMEM, "out of memory");
}

/* Types and refused fields are found by the table of config.json. */
static int check_fields(json_t *process, struct error *err)
{
	json_t *spec = json_pack("{s:O}", "process", process);
	int result = spec ? spec_fields_check(spec, err) : out_of_memory(err);

	if (result == 0)
		spec_note_ignored(spec);

	json_decref(spec);
	return result;
}

static int check(json_t *process, struct error *err)
{
	const char *cwd = json_string_value(json_object_get(process, "cwd"));

	if (check_fields(process, err) < 0)
		return -1;
	if (!cwd || *cwd == '\0')
		return error_set(err, EINVAL, "Cwd property must not be empty");
	if (*cwd != '/')
		return error_set(err, EINVAL, "Cwd must be an absolute path");
	if (json_array_size(json_object_get(process, "args")) == 0)
		return error_set(err, EINVAL, "args must not be empty");
	return 0;
}

static bool wants_terminal(const json_t *process)
{
	return json_is_true(json_object_get(process, "terminal"));
}

int exec_process_take_text(char *text, size_t size, struct exec_process *process, struct error *err)
{
	json_t *json;
	int result = -1;

	*process = (struct exec_process){.text = text, .size = size};
	json = spec_parse(text, size, err);
	if (json && check(json, err) == 0) {
		process->terminal = wants_terminal(json);
		result = 0;
	}
	json_decref(json);
	if (result < 0)
		exec_process_release(process);
	return result;
}

/* --- flags ------------------------------------------------------------------------------------------------------- */

static int set_text(json_t *object, const char *name, const char *text, struct error *err)
{
	json_t *value;

	if (!text)
		return 0;
	value = json_string(text);
	if (!value)
		return error_set(err, EINVAL, "process.%s: \"%s\" is not valid UTF-8", name, text);
	return json_object_set_new(object, name, value) < 0 ? out_of_memory(err) : 0;
}

/* The array of that name, made when there is none. */
static json_t *array_of(json_t *object, const char *name)
{
	json_t *array = json_object_get(object, name);

	if (!json_is_array(array)) {
		json_object_set_new(object, name, json_array());
		array = json_object_get(object, name);
	}
	return array;
}

static int append_text(json_t *object, const char *name, const char *text, struct error *err)
{
	json_t *value = json_string(text);

	if (!value)
		return error_set(err, EINVAL, "process.%s: \"%s\" is not valid UTF-8", name, text);
	return json_array_append_new(array_of(object, name), value) < 0 ? out_of_memory(err) : 0;
}

static int append_list(json_t *object, const char *name, const struct flag_list *list, struct error *err)
{
	for (size_t i = 0; i < list->n; i++)
		if (append_text(object, name, list->items[i], err) < 0)
			return -1;
	return 0;
}

static int set_args(json_t *process, char *const *args, struct error *err)
{
	json_object_set_new(process, "args", json_array());
	for (; args && *args; args++)
		if (append_text(process, "args", *args, err) < 0)
			return -1;
	return 0;
}

static json_t *object_of(json_t *object, const char *name)
{
	json_t *member = json_object_get(object, name);

	if (!json_is_object(member)) {
		json_object_set_new(object, name, json_object());
		member = json_object_get(object, name);
	}
	return member;
}

static int parse_id(const char *text, size_t length, const char *what, uint64_t *id, struct error *err)
{
	char copy[32];

	snprintf(copy, sizeof(copy), "%.*s", (int)(length < sizeof(copy) ? length : sizeof(copy)), text);
	if (parse_u64(copy, 0, INT32_MAX, id) == 0)
		return 0;
	return error_set(err, EINVAL,
			 "parsing %.*s as int for %s failed: strconv.Atoi: parsing \"%.*s\": invalid syntax",
			 (int)length, text, what, (int)length, text);
}

/* UID[:GID] */
static int set_user(json_t *process, const char *text, struct error *err)
{
	json_t *user = object_of(process, "user");
	const char *colon = strchr(text, ':');
	uint64_t uid, gid;

	if (parse_id(text, strcspn(text, ":"), "uid", &uid, err) < 0)
		return -1;
	if (colon && parse_id(colon + 1, strlen(colon + 1), "gid", &gid, err) < 0)
		return -1;
	json_object_set_new(user, "uid", json_integer((json_int_t)uid));
	if (colon)
		json_object_set_new(user, "gid", json_integer((json_int_t)gid));
	return 0;
}

static int add_groups(json_t *process, const struct flag_list *groups, struct error *err)
{
	json_t *list = groups->n ? array_of(object_of(process, "user"), "additionalGids") : NULL;

	for (size_t i = 0; i < groups->n; i++) {
		uint64_t gid;

		if (parse_u64(groups->items[i], 0, INT32_MAX, &gid) < 0)
			return error_set(err, EINVAL, "parsing %s as int for gid failed: invalid syntax",
					 groups->items[i]);
		if (json_array_append_new(list, json_integer((json_int_t)gid)) < 0)
			return out_of_memory(err);
	}
	return 0;
}

/* Not inheritable ones, and so ambient ones only where the container has inheritable ones (CVE-2022-29162). */
static int add_capabilities(json_t *process, const struct flag_list *list, struct error *err)
{
	static const char *const sets[] = {"bounding", "effective", "permitted"};
	json_t *capabilities;

	if (list->n == 0)
		return 0;
	capabilities = object_of(process, "capabilities");
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		if (append_list(capabilities, sets[i], list, err) < 0)
			return -1;
	if (json_is_array(json_object_get(capabilities, "inheritable")))
		return append_list(capabilities, "ambient", list, err);
	return 0;
}

int exec_process_apply(const struct exec_flags *flags, json_t *process, struct error *err)
{
	if (set_args(process, flags->args, err) < 0 || set_text(process, "cwd", flags->cwd, err) < 0 ||
	    set_text(process, "apparmorProfile", flags->apparmor, err) < 0 ||
	    set_text(process, "selinuxLabel", flags->process_label, err) < 0 ||
	    add_capabilities(process, &flags->capabilities, err) < 0 ||
	    append_list(process, "env", &flags->env, err) < 0 || add_groups(process, &flags->groups, err) < 0)
		return -1;
	json_object_set_new(process, "terminal", json_boolean(flags->tty));
	if (flags->no_new_privs)
		json_object_set_new(process, "noNewPrivileges", json_true());
	return flags->user && *flags->user ? set_user(process, flags->user, err) : 0;
}

/* --- the whole --------------------------------------------------------------------------------------------------- */

static int read_process_file(const char *path, struct exec_process *process, struct error *err)
{
	char *text;
	size_t size;

	if (read_file_at(AT_FDCWD, path, SPEC_SIZE_MAX, &text, &size, err) < 0)
		return -1;
	return exec_process_take_text(text, size, process, err) < 0 ? error_prefix(err, "%s", path) : 0;
}

static int change_process(const struct exec_flags *flags, const char *bundle, const char *config,
			  struct exec_process *process, struct error *err)
{
	cleanup_close int folder = open(bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_spec struct spec spec = {0};
	json_t *json;

	if (folder < 0)
		return error_set_errno(err, "open bundle `%s`", bundle);
	if (spec_load(folder, config, &spec, err) < 0)
		return -1;
	json = json_object_get(spec.json, "process");
	if (exec_process_apply(flags, json, err) < 0 || check(json, err) < 0)
		return -1;
	process->terminal = wants_terminal(json);
	process->text = json_dumps(json, JSON_COMPACT);
	if (!process->text)
		return out_of_memory(err);
	process->size = strlen(process->text);
	return 0;
}

int exec_process_make(const struct exec_flags *flags, const char *bundle, const char *config,
		      struct exec_process *process, struct error *err)
{
	*process = (struct exec_process){0};
	if (flags->process)
		return read_process_file(flags->process, process, err);
	return change_process(flags, bundle, config, process, err);
}
