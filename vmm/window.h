/*
 * The window of the terminal that a container's own process has: the engine has the master of a pseudo-terminal of the
 * host, this process the other end as its controlling terminal. The kernel then tells by SIGWINCH that the size has
 * changed, and the agent is told.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"
#include "vmm/loop.h"
#include "vmm/virtio/device.h"

struct window {
	struct loop_source source; /* a signalfd */
	int terminal;		   /* a descriptor of its own */
	uint32_t port;
	uint32_t told;
	struct virtio_device *vsock;
};

/* Watches the terminal that the stream at `port` serves. To be called once, before other threads exist. */
int window_watch(struct window *window, int terminal, uint32_t port, struct virtio_device *vsock, struct loop *loop,
		 struct error *err);
