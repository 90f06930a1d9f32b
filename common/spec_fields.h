/*
 * Every field of config.json (OCI runtime specification 1.1, config.md and config-linux.md), and who carries it out.
 *
 * One table, used three ways: the runtime and the agent refuse what nobody carries out (rule: a field is done or
 * refused by name, never dropped), they find values of the wrong type before anything is started, and `hull explain`
 * prints it. Members that the specification does not know are ignored, as it demands ("Extensibility"), and so is null.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SPEC_VERSION "1.0.2" /* ociVersion of the states that the runtime and the agent write */

enum spec_party {
	SPEC_HOST,    /* the runtime, the VMM or the file server */
	SPEC_GUEST,   /* the agent */
	SPEC_BOTH,    /* each its part */
	SPEC_NO_NEED, /* means nothing inside a virtual machine of its own; the note says why */
	SPEC_IGNORED, /* not done, and said so in the log: engines send it unasked, and the machine isolates without it
		       */
	SPEC_REFUSED, /* not done: an error, unless the value says nothing (null, false, 0, "", [] or {}) */
};

enum spec_type {
	SPEC_STRING,
	SPEC_BOOL,
	SPEC_INT64,
	SPEC_UINT64,
	SPEC_INT32,
	SPEC_UINT32,
	SPEC_OBJECT,
	SPEC_ARRAY,
	SPEC_ANY,
};

struct spec_field {
	const char *path; /* "mounts[].options[]", "linux.sysctl.*": [] is any element, * any member */
	enum spec_type type;
	enum spec_party party;
	const char *note; /* a reason or a hint for people, or NULL */
	bool also_zero;	  /* refused even when the value is 0, "" or false, because these mean something here */
};

extern const struct spec_field spec_fields[];
extern const size_t n_spec_fields;

#define SPEC_PATH_MAX 512 /* bytes of a full path as reported; longer ones are cut */
#define SPEC_DEPTH_MAX 64 /* nesting of brackets in a config.json or an order */

/* Parses config.json (or an order that holds it). On top of jansson's rules: at most SPEC_DEPTH_MAX levels, and
 * integers that do not fit 64 bits signed (a limit of 18446744073709551615) become reals; spec_get_u64 understands
 * both. Returns a new reference to an object, or NULL with err: invalid JSON, not an object. */
json_t *spec_parse(const char *text, size_t size, struct error *err);

/* Finds the first field that is present with a wrong type, or present and refused. The error names the full path:
 * "linux.seccomp is not supported yet", "process.args[1] must be a string". Returns 0 or -1. */
int spec_fields_check(const json_t *config, struct error *err);

/* Calls visit for every present value that a row of the table names, with its full path ("mounts[3].type"), in the
 * table's order. A negative return of visit ends the walk and is returned. Values that cannot be reached because
 * something above them has the wrong type are passed with value == NULL and path naming what is wrong. */
typedef int spec_visit(const struct spec_field *field, const char *path, const json_t *value, void *context);
int spec_fields_walk(const json_t *config, spec_visit *visit, void *context);

/* Whether the value of a field that is not done asks for nothing, so that nothing needs to be said about it. */
bool spec_value_says_nothing(const struct spec_field *field, const json_t *value);

/* Whether an element of "mounts" is a bind mount: bind or rbind is among its options, whatever type it names, or its
 * type is bind (config.md "Mounts"). Not one of /proc on /proc, see below. */
bool spec_mount_is_bind(const json_t *mount);

/* Whether it is what rootless engines write for a container that shares the runtime's pid namespace, where mounting
 * proc is not allowed: a bind mount of /proc at the same place. To a machine that is its own proc. */
bool spec_mount_is_own_proc(const json_t *mount);

/* Whether it is a type of file system on a disk that the guest's kernel can mount. */
bool spec_is_disk_type(const char *type);
