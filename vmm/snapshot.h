/*
 * Saving a machine and restoring it, as many times as wanted: its state (vmm/state.h), and its memory
 * (vmm/memory_image.h). Each part saves and restores itself, in the file that implements it; here is the one table of
 * them, and what stops the machine meanwhile.
 *
 * A state is refused, with the reason, when it is truncated or corrupt, of another version of the format or of hull, of
 * another machine (size of memory, number of CPUs, devices, identity: the runtime's word for kernel, initramfs and
 * command line), of another CPU, of another user, or when it belongs to another memory file.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "vmm/state.h"
#include "vmm/x86_64/vcpu_state.h"

#define SNAPSHOT_IDENTITY_MAX 255

struct machine;
struct save_request;

/* The machine's own part in it. */
struct snapshot {
	struct msr_list msrs;
	struct save_request *request; /* the machine is to be saved for it */
	pthread_mutex_t lock;
	pthread_cond_t resumed;
	bool stopped;	 /* the vCPUs are to stand still; changed with the loop's lock and this one held */
	unsigned parked; /* how many do */
	void *data;	 /* the file, while the machine is restored */
	struct state state;
};

/* Lets the control socket save the machine. Its vCPUs' MSRs must be listed. */
void snapshot_serve(struct machine *machine);
/* On a vCPU's thread: it has left the guest. Returns when it may go on. */
void snapshot_interrupted(void *machine);

/* Restoring, in two steps. First, with nothing but the machine's memory there: checks the state, maps the memory. */
int snapshot_load(struct machine *machine, struct error *err);
/* How many virtio devices the state, which was loaded, has. */
uint32_t snapshot_devices(const struct machine *machine);
/* Second, when vCPUs and devices are there, with their first state. */
int snapshot_restore(struct machine *machine, struct error *err);
