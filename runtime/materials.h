/*
 * What a launch is made from: the bundle with all that its config.json names on the host, opened and checked before
 * anything is made, so that most of what can be wrong leaves nothing to undo.
 */
#pragma once

#include "common/error.h"
#include "runtime/cgroup.h"
#include "runtime/config.h"
#include "runtime/disks.h"
#include "runtime/exports.h"
#include "runtime/join.h"
#include "runtime/launch_options.h"
#include "runtime/limits.h"
#include "runtime/machine.h"
#include "runtime/network.h"
#include "runtime/preserve.h"
#include "runtime/spec.h"
#include "runtime/streams.h"
#include "runtime/template.h"
#include "runtime/vm_size.h"

/* What a launch needs only until it is done. */
struct materials {
	int bundle;
	char *bundle_path;
	struct spec spec;
	struct config config;
	struct limits limits; /* points into the spec */
	struct vm_size size;
	struct cgroup_place place;
	struct exports exports;
	struct disks disks;
	struct resources resources;
	struct template_key key;  /* of the template that the machine could be forked from; no name: of none */
	struct template template; /* that one, where there is one */
	bool makes_template;	  /* when one is missing it is made */
	bool wants_template;	  /* there is none, and it is to be made */
	struct stdio stdio;
	struct preserved preserved; /* taken before the rest is gathered */
	int terminal;		    /* the caller's, or -1 */
	int control, fsd_control;   /* listening */
	int cgroup;
	bool keeps_console;
	int console; /* file for the guest kernel's messages, or -1 */
	int signals;
	const char *sandbox; /* id of the one to be joined, or NULL; belongs to the spec */
	bool lingers;	     /* the machine ends with the last container in it */
	struct join join;
	struct network_plan network;
};

#define MATERIALS_NONE                                                                                                 \
	((struct materials){.bundle = -1,                                                                              \
			    .resources = RESOURCES_NONE,                                                               \
			    .template = TEMPLATE_NONE,                                                                 \
			    .stdio = {.fds = {-1, -1, -1}},                                                            \
			    .terminal = -1,                                                                            \
			    .control = -1,                                                                             \
			    .fsd_control = -1,                                                                         \
			    .cgroup = -1,                                                                              \
			    .console = -1,                                                                             \
			    .signals = -1,                                                                             \
			    .join = JOIN_NONE,                                                                         \
			    .network = NETWORK_PLAN_NONE})

/* config has been loaded; what is only opened while the machine is made stays as MATERIALS_NONE has it. Release them in
 * either case. */
int materials_gather(const struct launch_options *options, struct materials *materials, struct error *err);

void materials_release(struct materials *materials);
#define cleanup_materials __attribute__((cleanup(materials_release)))
