#include "runtime/options.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/io.h"
#include "common/words.h"

static const struct flag *find_flag(const struct flag *flags, const char *name, size_t length)
{
	for (const struct flag *flag = flags; flag->name; flag++) {
		if (strlen(flag->name) == length && memcmp(flag->name, name, length) == 0)
			return flag;
		if (flag->letter && length == 1 && *name == flag->letter)
			return flag;
	}
	return NULL;
}

static int parse_switch(const char *text, bool *value)
{
	static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True", NULL};
	static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False", NULL};

	*value = is_one_of(yes, text);
	return *value || is_one_of(no, text) ? 0 : -1;
}

static int append(struct flag_list *list, const char *text)
{
	const char **larger = realloc(list->items, (list->n + 1) * sizeof(*larger));

	if (!larger)
		return -1;
	list->items = larger;
	larger[list->n++] = text;
	return 0;
}

static int store(const struct flag *flag, const char *text, void *values, struct error *err)
{
	void *place = (char *)values + flag->offset;
	uint64_t number;

	switch (flag->kind) {
	case FLAG_SWITCH:
		if (parse_switch(text, place) < 0)
			return error_set(err, EINVAL, "invalid boolean value \"%s\" for -%s: parse error", text,
					 flag->name);
		return 0;
	case FLAG_TEXT:
		*(const char **)place = text;
		return 0;
	case FLAG_NUMBER:
		if (parse_u64(text, 0, INT_MAX, &number) < 0)
			return error_set(err, EINVAL, "invalid value \"%s\" for flag -%s: parse error", text,
					 flag->name);
		*(unsigned *)place = (unsigned)number;
		return 0;
	case FLAG_LIST:
		return append(place, text) < 0 ? error_set_errno(err, "flag -%s", flag->name) : 0;
	}
	return error_set(err, EINVAL, "flag -%s has no kind", flag->name);
}

/* Those of runc, and crun's. */
static const char *const help_names[] = {"help", "h", "usage", "?", NULL};

/* Parses the flag at argv[*index] and moves *index to its last word. */
static int parse_flag(const struct flag *flags, int argc, char **argv, int *index, void *values, bool *help,
		      struct error *err)
{
	const char *name = argv[*index] + (argv[*index][1] == '-' ? 2 : 1);
	size_t length = strcspn(name, "=");
	const struct flag *flag = find_flag(flags, name, length);
	const char *text = name[length] == '=' ? name + length + 1 : NULL;

	if (length == 0 || *name == '-')
		return error_set(err, EINVAL, "bad flag syntax: %s", argv[*index]);
	if (!flag && !text && is_one_of(help_names, name)) {
		*help = true;
		return 0;
	}
	if (!flag)
		return error_set(err, EINVAL, "flag provided but not defined: -%.*s", (int)length, name);
	if (!text && flag->kind == FLAG_SWITCH)
		text = "true";
	if (!text) {
		if (*index + 1 >= argc)
			return error_set(err, EINVAL, "flag needs an argument: -%.*s", (int)length, name);
		text = argv[++*index];
	}
	return store(flag, text, values, err);
}

int options_parse(const struct flag *flags, enum options_order order, int *argc, char **argv, void *values, bool *help,
		  struct error *err)
{
	int kept = 0, index;

	for (index = 0; index < *argc; index++) {
		/* "-" alone is an argument: it commonly names standard input. */
		bool is_flag = argv[index][0] == '-' && argv[index][1] != '\0';

		if (strcmp(argv[index], "--") == 0) {
			index++;
			break;
		}
		if (!is_flag && order == OPTIONS_FIRST)
			break;
		if (!is_flag)
			argv[kept++] = argv[index];
		else if (parse_flag(flags, *argc, argv, &index, values, help, err) < 0)
			return -1;
	}
	while (index < *argc)
		argv[kept++] = argv[index++];
	argv[kept] = NULL;
	*argc = kept;
	return 0;
}
