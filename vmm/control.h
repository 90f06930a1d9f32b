/*
 * The control socket (common/vmm_control.h): accepts the runtime's requests and hands their descriptors to the vsock
 * device. A few clients at a time; a further one is closed at once.
 */
#pragma once

#include "common/error.h"
#include "vmm/loop.h"
#include "vmm/virtio/device.h"

struct control;

/* Takes listen_fd over when it succeeds. The vsock device must outlive it. */
struct control *control_new(int listen_fd, struct virtio_device *vsock, struct loop *loop, struct error *err);

/* Answers what still waits with ECONNRESET and closes everything. */
void control_free(struct control *control);
