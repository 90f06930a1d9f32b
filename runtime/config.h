/*
 * The configuration file of hull: defaults for what a bundle does not say. A JSON object; every member may be absent,
 * an unknown one is an error that names file and member.
 *
 *   "memory"         memory of a machine whose container has no memory limit: bytes, or text like "512M"
 *   "vcpus"          CPUs of a machine whose container has no CPU quota and no list of CPUs
 *   "cgroupManager"  "cgroupfs" (default), "systemd" (as with --systemd-cgroup), or "disabled": limits hold in the
 *                    guest only
 *   "console"        true: the messages of the guest's kernel are kept with the container, for `hull logs --kernel`
 *   "startTimeout"   seconds that a guest may take to come up and answer
 *   "template"       "auto" (default): machines are forked from templates, and the first of a shape has its template
 *                    made; "manual": forked from templates that `hull template create` has made; "off": they boot
 *   "templateAge"    seconds after which a template is made anew (default: a day), so that machines do not share the
 *                    places of things in memory forever
 *
 * The annotations hull.memory, hull.vcpus, hull.console and hull.template of a bundle go before the members of the same
 * name.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "runtime/cgroup.h"

#ifndef HULL_SYSCONFDIR
#define HULL_SYSCONFDIR "/etc"
#endif
#define CONFIG_FILE HULL_SYSCONFDIR "/hull/config.json"

enum template_use {
	TEMPLATE_AUTO,
	TEMPLATE_MANUAL,
	TEMPLATE_OFF,
};

#define TEMPLATE_AGE_DEFAULT 86400

struct config {
	uint64_t memory; /* bytes, a multiple of 1 MiB */
	unsigned vcpus;
	enum cgroup_manager manager;
	bool console;
	unsigned start_timeout; /* seconds */
	enum template_use template;
	unsigned template_age; /* seconds */
};

/* Reads the file that is named (--config), else that of HULL_CONFIG, else CONFIG_FILE, which need not be there. */
int config_load(const char *named, struct config *config, struct error *err);

/* By its name. Returns 0 or -1. */
int config_parse_template(const char *text, enum template_use *use);

int config_parse(const char *text, size_t size, struct config *config, struct error *err);

/* What holds without a file. */
struct config config_defaults(void);
