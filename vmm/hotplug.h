/*
 * Devices that come to the running machine and go again, as the control socket says: booted or restored, it makes no
 * difference. The guest's part is in vmm/pci.h.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"

struct machine;
struct virtio_device;

/* Lets the control socket add and remove devices. */
void hotplug_serve(struct machine *machine);

/* Puts a device on the bus of a machine that runs or is about to. The device is taken over, also when this fails; the
 * guest finds it in *slot. */
int hotplug_add(struct machine *machine, struct virtio_device *device, uint32_t *slot, struct error *err);
