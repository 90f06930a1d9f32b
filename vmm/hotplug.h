/*
 * Devices that come to the running machine and go again, as the control socket says: booted or restored, it makes no
 * difference. The guest's part is in vmm/pci.h.
 */
#pragma once

struct machine;

/* Lets the control socket add and remove devices. */
void hotplug_serve(struct machine *machine);
