/*
 * virtio-fs (virtio 1.2, section 5.11): FUSE requests of the guest, answered by hull-fsd over a socket
 * (common/fs_protocol.h), except READ and WRITE on handles whose open file hull-fsd has handed over: those move between
 * the file and guest memory here, without a copy in between.
 *
 * Nothing of a request is believed: its length is checked against the chain, the guest's `unique` is only ever given
 * back, never used as an index, and an answer can only be written into the chain of its own request. hull-fsd is not
 * believed either: a message that breaks the protocol ends it.
 */
#pragma once

#include "common/error.h"
#include "vmm/loop.h"
#include "vmm/virtio/device.h"

/* Makes the device. socket is the VMM's end of the socketpair; the device owns it from now on, also when it fails (then
 * NULL). tag is what the guest mounts, at most 36 bytes. */
struct virtio_device *fs_new(int socket, const char *tag, struct loop *loop, struct error *err);

/* Calls ended(owner) once, on the loop's thread, when the file server has gone or broke the protocol. */
void fs_on_end(struct virtio_device *device, void (*ended)(void *owner), void *owner);
