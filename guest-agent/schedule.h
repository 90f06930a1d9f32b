/*
 * How the kernel schedules a process: process.scheduler, process.ioPriority and process.execCPUAffinity of config.json
 * (config.md "Linux Process"), and linux.personality. Reading touches only memory; applying works on
 * the process with the given id, so that it can be done from outside by somebody who may.
 */
#pragma once

#include <jansson.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

/* struct sched_attr of sched_setattr(2), which the C library does not declare. */
struct schedule_attributes {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime; /* these three in nanoseconds */
	uint64_t deadline;
	uint64_t period;
};

struct schedule {
	bool has_attributes;
	struct schedule_attributes attributes;
	bool has_io_priority;
	int io_priority;   /* class and level as ioprio_set(2) takes them */
	bool has_affinity; /* of a process of exec: the final one, or else the initial one */
	cpu_set_t affinity;
};

/* Reads the members of a process object. Returns 0, or -1 with an error that names the field. */
int schedule_read(const json_t *process, struct schedule *schedule, struct error *err);

/* pid 0 is the caller. Does nothing that the spec does not ask for. */
int schedule_apply(const struct schedule *schedule, pid_t pid, struct error *err);

/* Of the caller; for processes of exec. */
int schedule_apply_affinity(const struct schedule *schedule, struct error *err);

/* process.execCPUAffinity is for processes of exec only: "initial" or "final", a list like "0-3,7", as a set. *given is
 * false when it is not there. */
int schedule_read_affinity(const json_t *process, const char *member, cpu_set_t *set, bool *given, struct error *err);

/* Reads linux.personality: the argument of personality(2); *given is false when it is not there. */
int schedule_read_personality(const json_t *json, unsigned long *persona, bool *given, struct error *err);
