/*
 * Making a container in the guest of a sandbox that runs: what bring_up (launch.c) does for one that gets a machine of
 * its own.
 */
#pragma once

#include "common/error.h"
#include "runtime/exports.h"
#include "runtime/launch.h"
#include "runtime/network.h"
#include "runtime/preserve.h"
#include "runtime/sandbox.h"
#include "runtime/spec.h"
#include "runtime/streams.h"

struct join {
	struct container sandbox;
	struct joined joined;
	char group[EXPORT_GROUP_SIZE];
	int fsd; /* connection; what is added over it goes with it until it is kept */
};

#define JOIN_NONE ((struct join){.sandbox = CONTAINER_NONE, .fsd = -1})

void join_release(struct join *join);

/* Before anything is made: opens the sandbox, finds the namespaces that are joined, names the exports. */
int join_prepare(const char *root, const char *sandbox, const struct spec *spec, struct exports *exports,
		 struct join *join, struct error *err);

/* Fills in what the container's record says of the sandbox. */
int join_describe(const struct join *join, struct state *state, struct error *err);

struct join_materials {
	const struct spec *spec;
	const struct exports *exports;
	const struct stdio *stdio;
	struct preserved *preserved;
	const char *id;
	int cgroup; /* of the proxy */
	const struct network_plan *network;
};

/* Makes the container in the guest, and its proxy, which becomes launch->machine.vmm; launch->agent is a connection to
 * the sandbox. Nothing of it survives this process before join_keep and the lifeline's release. */
int join_create(struct join *join, const struct join_materials *materials, struct launch *launch, struct error *err);
int join_keep(struct join *join, struct error *err);
