/*
 * The host's wall clock: the agent is told when it was set, or has jumped because the host slept. How the agent asks
 * for the time itself: AGENT_REPORT_TIME, vmm/virtio/vsock.c.
 */
#pragma once

#include "common/error.h"
#include "vmm/loop.h"
#include "vmm/virtio/device.h"

struct clock_watch {
	struct loop_source source; /* a timerfd that never fires, but is cancelled when the clock is set */
	struct virtio_device *vsock;
};

/* To be called once. */
int clock_watch(struct clock_watch *watch, struct virtio_device *vsock, struct loop *loop, struct error *err);
