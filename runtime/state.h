/*
 * The record of one container, state.json in its folder ROOT/<id>/, and what `hull state` prints of it (OCI runtime
 * specification, runtime.md "State").
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "runtime/process.h"

#define STATE_EXPORTS_MAX 16 /* bytes of a group's name: hexadecimal digits */

/* How far the container has been brought. Whether it still lives is not recorded but looked up: see container.h. */
enum state_stage {
	STATE_CREATING,
	STATE_CREATED,
	STATE_STARTED,
};

struct state {
	enum state_stage stage;
	char *id;
	char *bundle;	     /* absolute path */
	char *config;	     /* the specification's file in it, or NULL: config.json */
	char *rootfs;	     /* absolute path */
	char *created;	     /* RFC 3339 with nanoseconds, UTC */
	json_t *annotations; /* object of strings, or NULL */
	char *cgroup;	     /* path on the host from the root of the hierarchy, or NULL */
	char *scope;	     /* the unit of systemd that the cgroup belongs to, or NULL */
	uint64_t memory;     /* of the machine, in bytes; 0: not recorded */
	unsigned vcpus;
	bool paused;
	json_t *resources;	/* linux.resources as it holds now, an object, or NULL */
	json_t *hooks;		/* those of the spec that are still to be run, an object, or NULL */
	struct process creator; /* the hull process that makes the container; counts while CREATING */
	struct process vmm;	/* hull-vmm; of a container that has joined a sandbox: its proxy */
	struct process fsd;
	struct process relay; /* of sockets (relay.h) */
	/* The container's network on the host (network.h). */
	bool has_network;	/* a namespace that is not another container's */
	char *netns_path;	/* by which the engine named it, or NULL */
	uint64_t netns;		/* its inode, when there may be something of hull in it; else 0 */
	struct process network; /* hull-net */
	/* Of a container that has joined a sandbox (sandbox.h), else NULL and none. */
	char *sandbox;		/* id */
	char *exports;		/* the group that its exports are in */
	struct process machine; /* the sandbox's hull-vmm */
};

void state_release(struct state *state);
#define cleanup_state __attribute__((cleanup(state_release)))

/* Parses the content of a state.json. Nothing in it is trusted to be there or to have the right type. Returns 0 or -1;
 * on failure state holds nothing. */
int state_parse(const char *text, size_t size, struct state *state, struct error *err);

/* The reverse; allocated text that the caller frees, or NULL. */
char *state_format(const struct state *state);

/* Ids become folder names: letters, digits and _ + - . only, at most 1024 bytes, not "." or "..". */
int state_check_id(const char *id, struct error *err);

/* The present time as state.created wants it; allocated. */
char *state_timestamp(void);
