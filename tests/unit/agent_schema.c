/*
 * The JSON schema of the specification, leaf by leaf: each must be in the table of fields, or below an object that the
 * table refuses as a whole. The schema comes from Debian's golang-github-opencontainers-specs-dev.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/spec_fields.h"

#define SCHEMA "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema/"
#define DEPTH_MAX 40

/* Files of the schema, each read once. */
static json_t *files;

static const json_t *load(const char *name)
{
	char path[256];
	json_error_t problem;
	json_t *file = json_object_get(files, name);

	if (file)
		return file;
	snprintf(path, sizeof(path), SCHEMA "%s", name);
	file = json_load_file(path, JSON_DECODE_INT_AS_REAL, &problem);
	if (!file)
		fail_msg("%s: %s", path, problem.text);
	json_object_set_new(files, name, file);
	return file;
}

/* "defs.json#/definitions/uint32", relative to a file. *file becomes the one that it points into. */
static const json_t *resolve(const char *reference, const char **file)
{
	static char names[64][64];
	static size_t n_names;
	const char *hash = strchr(reference, '#');
	size_t length = hash ? (size_t)(hash - reference) : strlen(reference);
	const json_t *node;

	if (length > 0) {
		assert_true(n_names < 64 && length < 64);
		snprintf(names[n_names], 64, "%.*s", (int)length, reference);
		/* Whatever was loaded under this name stays. */
		node = load(names[n_names]);
		*file = names[n_names];
		for (size_t i = 0; i < n_names; i++)
			if (strcmp(names[i], names[n_names]) == 0)
				*file = names[i];
		if (*file == names[n_names])
			n_names++;
	} else {
		node = load(*file);
	}
	for (const char *part = hash ? hash + 1 : ""; *part;) {
		size_t size;

		part += *part == '/';
		size = strcspn(part, "/");
		if (size > 0)
			node = json_object_getn(node, part, size);
		if (!node)
			fail_msg("%s: no %s", *file, reference);
		part += size;
	}
	return node;
}

/* --- matching ---------------------------------------------------------------------------------------------------- */

/* Whether the pattern of a row describes the path, or (prefix) something above it. Both are made of names, "*" and
 * "[]"; a "*" of the pattern is any name. */
static bool matches(const char *pattern, const char *path, bool prefix)
{
	while (*pattern && *path) {
		if (*pattern == '*') {
			pattern++;
			path += strcspn(path, ".[");
		} else if (*pattern++ != *path++) {
			return false;
		}
	}
	return *pattern == '\0' && (*path == '\0' || (prefix && (*path == '.' || *path == '[')));
}

static bool is_covered(const char *path)
{
	for (size_t i = 0; i < n_spec_fields; i++) {
		if (matches(spec_fields[i].path, path, false))
			return true;
		if (spec_fields[i].party == SPEC_REFUSED && spec_fields[i].type == SPEC_OBJECT &&
		    matches(spec_fields[i].path, path, true))
			return true;
	}
	return false;
}

/* --- walking ----------------------------------------------------------------------------------------------------- */

static int n_leaves, n_missing;

static void leaf(const char *path)
{
	n_leaves++;
	if (is_covered(path))
		return;
	n_missing++;
	print_error("not in the table: %s\n", path);
}

static void walk(const json_t *node, const char *path, const char *file, int depth);

static void walk_member(const json_t *node, const char *path, const char *name, const char *file, int depth)
{
	char longer[SPEC_PATH_MAX];

	snprintf(longer, sizeof(longer), "%s%s%s", path, *path && *name != '[' ? "." : "", name);
	walk(node, longer, file, depth + 1);
}

static bool walk_alternatives(const json_t *node, const char *path, const char *file, int depth)
{
	static const char *const words[] = {"allOf", "anyOf", "oneOf"};
	const json_t *element;
	bool any = false;
	size_t k;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		json_array_foreach(json_object_get(node, words[i]), k, element)
		{
			walk(element, path, file, depth + 1);
			any = true;
		}
	}
	return any;
}

static bool walk_members(const json_t *node, const char *path, const char *file, int depth)
{
	const json_t *additional = json_object_get(node, "additionalProperties");
	const char *name;
	json_t *member;
	bool any = false;

	json_object_foreach(json_object_get(node, "properties"), name, member)
	{
		walk_member(member, path, name, file, depth);
		any = true;
	}
	json_object_foreach(json_object_get(node, "patternProperties"), name, member)
	{
		walk_member(member, path, "*", file, depth);
		any = true;
	}
	if (json_is_object(additional)) {
		walk_member(additional, path, "*", file, depth);
		any = true;
	}
	return any;
}

static void walk(const json_t *node, const char *path, const char *file, int depth)
{
	const char *reference = json_string_value(json_object_get(node, "$ref"));
	const json_t *items = json_object_get(node, "items");
	bool inner;

	assert_true(depth < DEPTH_MAX);
	if (reference) {
		node = resolve(reference, &file);
		walk(node, path, file, depth + 1);
		return;
	}
	inner = walk_alternatives(node, path, file, depth);
	inner |= walk_members(node, path, file, depth);
	if (items)
		walk_member(items, path, "[]", file, depth);
	if (!inner && !items)
		leaf(path);
}

static void test_every_leaf(void **state)
{
	(void)state;
	files = json_object();
	walk(load("config-schema.json"), "", "config-schema.json", 0);
	print_message("%d leaves\n", n_leaves);
	json_decref(files);
	assert_true(n_leaves > 150);
	assert_int_equal(n_missing, 0);
}

static void test_matching(void **state)
{
	(void)state;
	assert_true(matches("a.b[]", "a.b[]", false));
	assert_false(matches("a.b[]", "a.b", false));
	assert_false(matches("a.b", "a.bc", true));
	assert_true(matches("a.*[].c", "a.x[].c", false));
	assert_true(matches("a", "a.x[].c", true));
	assert_false(matches("a", "a.x[].c", false));
	assert_false(is_covered("linux.nothing"));
	assert_true(is_covered("windows.whatever[].x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_matching), cmocka_unit_test(test_every_leaf)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
