/*
 * The virtual machine as a whole: puts memory, CPUs, bus and devices together, runs them, and says how it ended.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "vmm/jail.h"
#include "vmm/oom.h"

#define MACHINE_DISKS_MAX 24
#define MACHINE_STREAMS_MAX 40

struct machine_disk {
	int fd;
	bool readonly;
	const char *serial; /* NULL: none */
};

struct machine_stream {
	uint32_t port; /* the host's vsock port */
	int fd;
	unsigned flags; /* VMM_STREAM_* */
	bool window;	/* a terminal, the controlling one of this process: the agent hears of its size */
};

/* Descriptors belong to the machine from machine_run on. -1 where there is none. */
struct machine_options {
	int kvm_fd;
	int kernel_fd; /* to boot: these two and the command line */
	int initramfs_fd;
	int state_fd; /* or to restore: what VMM_SAVE wrote */
	int memory_fd;
	int control_fd;
	int fs_fd;	/* optional */
	int console_fd; /* optional */
	const char *command_line;
	uint64_t memory; /* bytes */
	unsigned vcpu_count;
	unsigned disk_count;
	struct machine_disk disks[MACHINE_DISKS_MAX];
	bool savable;	      /* VMM_SAVE is served */
	bool trace;	      /* steps of the start go to the log, VMM_TRACE_WORD */
	const char *identity; /* what a machine that is restored must have in common with the one that was saved */
	unsigned stream_count;
	struct machine_stream streams[MACHINE_STREAMS_MAX];
	struct jail_options jail;
	struct oom_stand_in *oom; /* owned by the caller */
};

enum machine_end {
	MACHINE_EXITED = 1, /* the agent has reported an exit status */
	MACHINE_PANICKED,   /* the guest kernel has panicked */
	MACHINE_SAVED,	    /* by VMM_SAVE_AND_END */
	MACHINE_FAILED,	    /* anything else */
};

struct machine_result {
	enum machine_end end;
	unsigned status; /* with MACHINE_EXITED: 0 to 255 */
	char text[1024]; /* otherwise: one line for a person */
};

/* Builds the machine, booting or restored, jails the process and runs the guest to its end. The process has to end
 * afterwards: the vCPUs' threads are left where they are, since closing the machine costs more than the caller should
 * wait for. */
void machine_run(const struct machine_options *options, struct machine_result *result);
