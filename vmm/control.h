/*
 * The control socket (common/vmm_control.h): accepts the runtime's requests and hands their descriptors to the vsock
 * device. A few clients at a time; a further one is closed at once.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "vmm/loop.h"
#include "vmm/virtio/device.h"

struct control;
struct vmm_net;

/* A machine to be saved (VMM_SAVE). Embedded in its user; must stay where it is until done was called or it was
 * cancelled. */
struct save_request {
	int state_fd, memory_fd; /* stay the requester's */
	bool end;		 /* the machine is not to go on */
	/* error: 0 or a positive errno value. Called once, never from within save. */
	void (*done)(struct save_request *request, int error);
	void *owner;
};

/* Who saves the machine; both are called on the loop's thread. */
struct control_saver {
	/* Returns 0, or an errno value when there will be no done. */
	int (*save)(void *machine, struct save_request *request);
	/* Harmless when done was called. */
	void (*cancel)(void *machine, struct save_request *request);
	void *machine;
};

/* Who puts devices into the running machine; both are called on the loop's thread and return 0 or an errno value. */
struct control_plugger {
	/* fd is taken over (-1 is left) when it succeeds; *slot is where the guest finds the card. */
	int (*add_net)(void *machine, int *fd, const struct vmm_net *net, uint32_t *slot);
	int (*remove_net)(void *machine, uint32_t slot);
	void *machine;
};

/* Takes listen_fd over when it succeeds. The vsock device must outlive it. */
struct control *control_new(int listen_fd, struct virtio_device *vsock, struct loop *loop, struct error *err);

/* Without a saver VMM_SAVE is refused. */
void control_on_save(struct control *control, const struct control_saver *saver);
/* Without a plugger VMM_NET_ADD and VMM_NET_REMOVE are refused. */
void control_on_plug(struct control *control, const struct control_plugger *plugger);

/* Answers what still waits with ECONNRESET and closes everything. */
void control_free(struct control *control);
