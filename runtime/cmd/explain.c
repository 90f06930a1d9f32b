/*
 * hull explain: field by field, what a bundle asks for and who carries it out.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/spec_fields.h"
#include "runtime/command.h"
#include "runtime/output.h"
#include "runtime/spec.h"

struct explain_options {
	const char *format;
};

static const struct explain_options defaults = {.format = "text"};

static const struct flag flags[] = {
    {"format", 'f', FLAG_TEXT, offsetof(struct explain_options, format), "FORMAT", "text (default) or json"},
    {0},
};

#define VALUE_MAX 60 /* bytes of a value in the text form */

static const char *party_name(enum spec_party party)
{
	static const char *const names[] = {
	    [SPEC_HOST] = "host",	[SPEC_GUEST] = "guest",	    [SPEC_BOTH] = "both",
	    [SPEC_NO_NEED] = "no need", [SPEC_IGNORED] = "ignored", [SPEC_REFUSED] = "refused"};

	return names[party];
}

/* Values, not the objects and arrays that hold them. */
static bool is_leaf(const json_t *value)
{
	return !json_is_object(value) && !json_is_array(value);
}

static int add_field(const struct spec_field *field, const char *path, const json_t *value, void *context)
{
	bool undone = field->party == SPEC_REFUSED || field->party == SPEC_IGNORED;
	bool asked = undone && value && !spec_value_says_nothing(field, value);
	json_t *entry;

	/* Of what is refused as a whole, the whole is named. */
	if (value && !is_leaf(value) && !asked)
		return 0;
	entry =
	    json_pack("{s:s, s:s, s:s*}", "field", path, "by", undone && !asked ? "no need" : party_name(field->party),
		      "note", value ? field->note : "wrong type");
	if (entry && value)
		json_object_set(entry, "value", (json_t *)value);
	return json_array_append_new(context, entry);
}

static void format_value(const json_t *value, char *text, size_t room)
{
	cleanup_free char *dump = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	snprintf(text, room, "%s", dump ? dump : "");
	if (dump && strlen(dump) >= room)
		snprintf(text + room - 4, 4, "...");
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
			*c = '?';
}

static int print_text(const json_t *entries, struct error *err)
{
	cleanup_free char *text = NULL;
	size_t size, i;
	FILE *out = open_memstream(&text, &size);
	const json_t *entry;

	if (!out)
		return error_set_errno(err, "format a table");
	json_array_foreach(entries, i, entry)
	{
		const char *note = json_string_value(json_object_get(entry, "note"));
		char value[VALUE_MAX];

		format_value(json_object_get(entry, "value"), value, sizeof(value));
		fprintf(out, "%-8s %s = %s%s%s%s\n", json_string_value(json_object_get(entry, "by")),
			json_string_value(json_object_get(entry, "field")), value, note ? "  (" : "", note ? note : "",
			note ? ")" : "");
	}
	if (fclose(out) != 0)
		return error_set_errno(err, "format a table");
	return output_text(text, err);
}

static json_t *read_config(const char *bundle, struct error *err)
{
	cleanup_close int folder = open(bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_free char *text = NULL;
	json_t *config = NULL;
	size_t size;

	if (folder < 0)
		error_set_errno(err, "open bundle `%s`", bundle);
	else if (read_file_at(folder, SPEC_FILE, SPEC_SIZE_MAX, &text, &size, err) == 0 &&
		 !(config = spec_parse(text, size, err)))
		error_prefix(err, SPEC_FILE);
	return config;
}

static int run(const struct invocation *invocation, struct error *err)
{
	const struct explain_options *options = invocation->options;
	bool json = strcmp(options->format, "json") == 0;
	json_t *config, *entries;
	int result;

	if (!json && strcmp(options->format, "text") != 0)
		return error_set(err, EINVAL, "invalid format option");
	config = read_config(invocation->argc > 0 ? invocation->argv[0] : ".", err);
	if (!config)
		return -1;
	entries = json_array();
	if (!entries || spec_fields_walk(config, add_field, entries) < 0)
		result = error_set(err, ENOMEM, "list the fields");
	else if (json)
		result = output_json(json_incref(entries), JSON_INDENT(2), "\n", err);
	else
		result = print_text(entries, err);
	/* What would be refused at create is said here too, after the table. */
	if (result == 0)
		result = spec_fields_check(config, err) < 0 ? error_prefix(err, SPEC_FILE) : 0;
	json_decref(entries);
	json_decref(config);
	return result;
}

const struct command command_explain = {
    .name = "explain",
    .summary = "say who carries out each field of a bundle",
    .arguments = "[flags] [BUNDLE]",
    .description = "Prints every field that the bundle's config.json has, with its value: host, guest, both, no need,\n"
		   "ignored, or refused, and why. Fails when `hull create` would refuse one.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .max_arguments = 1,
    .run = run,
};
