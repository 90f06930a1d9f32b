/*
 * Finding the program that process.args[0] means, with the rules and the words of Go's exec.LookPath, on which engines
 * depend (they turn them into exit statuses 126 and 127).
 */
#pragma once

#include <stddef.h>

#include "common/error.h"

/* name without a slash is looked for in the directories of PATH (env), else taken as it is; relative to the caller's
 * root and working directory, with the caller's rights. Fills path. Errors, with errno as code: exec: "foo": executable
 * file not found in $PATH exec: "/foo": stat /foo: no such file or directory exec: "/foo": permission denied */
int lookup_program(const char *name, char *const *env, char *path, size_t room, struct error *err);

/* The value of a variable in env, or NULL. */
const char *lookup_variable(char *const *env, const char *name);

/* The text of an errno value in Go's spelling: "no such file or directory". */
const char *lookup_reason(int code);
