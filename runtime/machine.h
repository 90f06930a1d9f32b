/*
 * A virtual machine: hull-vmm, and hull-fsd where there is something to export. What they use is opened here and handed
 * over as descriptors; see vmm/main.c and vmm/fsd/main.c for their command lines.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "runtime/disks.h"
#include "runtime/exports.h"
#include "runtime/parts.h"
#include "runtime/preserve.h"
#include "runtime/spawn.h"
#include "runtime/streams.h"
#include "runtime/vm_size.h"

/* What every machine needs, opened. */
struct resources {
	struct parts parts;
	int kvm, kernel, initramfs;
	int console; /* -1, or the file that HULL_CONSOLE names, for the guest kernel's messages */
};

#define RESOURCES_NONE ((struct resources){.kvm = -1, .kernel = -1, .initramfs = -1, .console = -1})

int resources_open(struct resources *resources, struct error *err);
void resources_release(struct resources *resources);
#define cleanup_resources __attribute__((cleanup(resources_release)))

/* What a machine is forked from (runtime/template.h): the two files that the VMM saved. */
struct template
{
	int state, memory;
};

#define TEMPLATE_NONE ((struct template){.state = -1, .memory = -1})

void template_release(struct template *template);
#define cleanup_template __attribute__((cleanup(template_release)))

struct machine_plan {
	const struct resources *resources;
	const struct template *template; /* NULL: boots */
	const char *identity;		 /* what template and machine have to have in common; NULL without one */
	bool savable;			 /* VMM_SAVE is served */
	bool trace;			 /* the VMM logs the steps of its start */
	struct vm_size size;
	const struct exports *exports;	   /* NULL: no file server */
	const struct disks *disks;	   /* NULL: none */
	const struct stdio *stdio;	   /* NULL: no streams */
	const struct preserved *preserved; /* numbered; NULL: none */
	int control;			   /* listening socket, common/vmm_control.h */
	int fsd_control;		   /* listening socket, common/fsd_control.h; -1: exports stay as they are */
	int result;			   /* regular file that the VMM's last word goes to */
	int log;
	int network;  /* descriptor of the network namespace for the VMM; 0: it makes its own */
	int cgroup;   /* descriptor of the cgroup for both, or -1 */
	uint64_t oom; /* bytes within which that cgroup's limit is reached when the guest is out of memory; 0: it has
			 none. See vmm/oom.h */
	int console;  /* where the guest kernel's messages go, or -1 */
};

struct machine {
	struct child vmm, fsd;
	struct lifeline lifeline;
};

#define MACHINE_NONE ((struct machine){.vmm = {0, -1}, .fsd = {0, -1}, .lifeline = {-1, -1}})

/* Starts the programs; does not wait for the guest. On failure nothing is left running. */
int machine_start(const struct machine_plan *plan, struct machine *machine, struct error *err);

/* Kills what is left of the machine and reaps it. */
void machine_end(struct machine *machine);
#define cleanup_machine __attribute__((cleanup(machine_end)))

/* From now on the machine lives on when this process ends. The children are not ours to reap any more, unless we
 * stay. */
int machine_let_go(struct machine *machine, struct error *err);

/* The port of a stdio stream, or 0 where /dev/null serves it. stdout and stderr have the same one when merged. */
unsigned machine_stream_port(const struct stdio *stdio, int stream);

/* What the VMM wrote when it ended. */
enum result_kind {
	RESULT_NONE, /* nothing, or nothing sensible: it was killed */
	RESULT_EXITED,
	RESULT_PANIC,
	RESULT_FAILED,
};

struct result {
	enum result_kind kind;
	int status;	/* RESULT_EXITED: the container's exit status */
	char text[512]; /* RESULT_PANIC, RESULT_FAILED: why */
};

/* The exit status of hull-vmm, and of `hull run`, when the machine failed under its container. */
#define MACHINE_FAILURE_STATUS 125

void result_read(int fd, struct result *result);
void result_parse(const char *text, struct result *result);

/* Whether the machine has ended because its container's process has: a connection to the guest may break just then.
 * Waits a moment for it to end. */
bool machine_has_exited(int vmm_pidfd, int result_file);

/* The last line in the log, without its newline; "" when there is none. */
void machine_last_words(int log, char *text, size_t size);
