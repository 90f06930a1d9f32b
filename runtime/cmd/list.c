/*
 * hull list: all containers below --root.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "runtime/command.h"
#include "runtime/container.h"
#include "runtime/describe.h"
#include "runtime/memory_use.h"
#include "runtime/output.h"
#include "runtime/report.h"

struct list_options {
	const char *format;
	bool quiet, memory;
};

static const struct list_options defaults = {.format = "table"};

static const struct flag flags[] = {
    {"format", 'f', FLAG_TEXT, offsetof(struct list_options, format), "FORMAT", "table (default) or json"},
    {"memory", 0, FLAG_SWITCH, offsetof(struct list_options, memory), NULL,
     "show how much of the host's memory each uses, in MiB (json: bytes)"},
    {"quiet", 'q', FLAG_SWITCH, offsetof(struct list_options, quiet), NULL, "print ids only"},
    {0},
};

#define COLUMNS 8
#define COLUMN_MIN 12
#define COLUMN_GAP 3

/* The last two only with --memory. */
static const char *const titles[COLUMNS] = {"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER", "PRIVATE", "SHARED"};
static const char *const members[COLUMNS] = {"id", "pid", "status", "bundle", "created", "owner", "private", "shared"};
#define COLUMNS_SHOWN(memory) ((size_t)((memory) ? COLUMNS : COLUMNS - 2))

static json_t *describe(const struct container *container, const char *owner, bool memory)
{
	json_t *object = container_describe(container, owner);
	struct memory_use use;

	if (memory && object) {
		use = memory_use_of(&container->state);
		json_object_set_new(object, "private", json_integer((json_int_t)use.private_bytes));
		json_object_set_new(object, "shared", json_integer((json_int_t)use.shared_bytes));
	}
	return object;
}

/* A JSON array of what there is; a container that cannot be read is reported and left out. */
static json_t *collect(const char *root, char **ids, size_t n, bool memory)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < n; i++) {
		cleanup_container struct container container = CONTAINER_NONE;
		char owner[256];
		struct error err;

		if (container_open(root, ids[i], &container, &err) < 0) {
			/* Deleted since its name was read. */
			if (err.code != ENOENT)
				report_error("%s", err.message);
			continue;
		}
		container_owner(&container, owner, sizeof(owner));
		json_array_append_new(array, describe(&container, owner, memory));
	}
	return array;
}

static void format_cell(const json_t *container, size_t column, char *cell, size_t size)
{
	const json_t *value = json_object_get(container, members[column]);

	if (column >= COLUMNS - 2)
		snprintf(cell, size, "%.1f", (double)json_integer_value(value) / (1 << 20));
	else if (json_is_integer(value))
		snprintf(cell, size, "%d", (int)json_integer_value(value));
	else
		snprintf(cell, size, "%s", json_string_value(value));
}

static void measure(const json_t *containers, size_t shown, size_t widths[COLUMNS])
{
	const json_t *container;
	char cell[4096];
	size_t i;

	for (size_t column = 0; column < shown; column++) {
		widths[column] = COLUMN_MIN;
		json_array_foreach(containers, i, container)
		{
			format_cell(container, column, cell, sizeof(cell));
			if (strlen(cell) + COLUMN_GAP > widths[column])
				widths[column] = strlen(cell) + COLUMN_GAP;
		}
	}
}

static void print_row(FILE *out, const json_t *container, size_t shown, const size_t widths[COLUMNS])
{
	char cell[4096];

	for (size_t column = 0; column < shown; column++) {
		if (container)
			format_cell(container, column, cell, sizeof(cell));
		else
			snprintf(cell, sizeof(cell), "%s", titles[column]);
		if (column + 1 < shown)
			fprintf(out, "%-*s", (int)widths[column], cell);
		else
			fprintf(out, "%s\n", cell);
	}
}

static int print_table(const json_t *containers, bool memory, struct error *err)
{
	const size_t shown = COLUMNS_SHOWN(memory);
	cleanup_free char *text = NULL;
	size_t size, widths[COLUMNS], i;
	FILE *out = open_memstream(&text, &size);
	const json_t *container;

	if (!out)
		return error_set_errno(err, "format a table");
	measure(containers, shown, widths);
	print_row(out, NULL, shown, widths);
	json_array_foreach(containers, i, container)
	{
		print_row(out, container, shown, widths);
	}
	if (fclose(out) != 0)
		return error_set_errno(err, "format a table");
	return output_text(text, err);
}

static int print_ids(char **ids, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++)
		if (output_text(ids[i], err) < 0 || output_text("\n", err) < 0)
			return -1;
	return 0;
}

static int print(const struct list_options *options, const char *root, char **ids, size_t n, struct error *err)
{
	json_t *containers;
	int result;

	if (options->quiet)
		return print_ids(ids, n, err);
	containers = collect(root, ids, n, options->memory);
	if (!containers)
		return error_set(err, ENOMEM, "list containers");
	if (strcmp(options->format, "table") == 0)
		result = print_table(containers, options->memory, err);
	else if (json_array_size(containers) == 0)
		/* As runc does, whose language has no empty list there. */
		result = output_text("null\n", err);
	else
		result = output_json(json_incref(containers), JSON_COMPACT, "\n", err);
	json_decref(containers);
	return result;
}

static int run(const struct invocation *invocation, struct error *err)
{
	const struct list_options *options = invocation->options;
	char **ids;
	size_t n;
	int result;

	if (strcmp(options->format, "table") != 0 && strcmp(options->format, "json") != 0)
		return error_set(err, EINVAL, "invalid format option");
	result = container_list(invocation->global->root, &ids, &n, err);
	if (result == 0)
		result = print(options, invocation->global->root, ids, n, err);
	for (size_t i = 0; i < n; i++)
		free(ids[i]);
	free(ids);
	return result;
}

const struct command command_list = {
    .name = "list",
    .summary = "list containers",
    .arguments = "[flags]",
    .description = "Lists all containers below --root.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .run = run,
};
