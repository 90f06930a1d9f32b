/*
 * On the loop's thread, with its lock held: no vCPU is in a register of any device meanwhile, except one that waits for
 * this thread (loop_call); vmm/pci.h says what that means for a function that goes.
 *
 * System calls at run time: eventfd2, ioctl (KVM_IOEVENTFD), fstat, fcntl, close, epoll_ctl; mmap, munmap, brk.
 */
#include "vmm/hotplug.h"

#include <errno.h>
#include <linux/virtio_ids.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/vmm_control.h"
#include "vmm/machine_parts.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/pci.h"

int hotplug_add(struct machine *machine, struct virtio_device *device, uint32_t *slot, struct error *err)
{
	struct virtio_pci *transport = virtio_pci_add(&machine->bus, device, machine->memory, machine->loop, err);

	if (!transport) {
		device->operations->free(device);
		return -1;
	}
	*slot = virtio_pci_slot(transport);
	machine->plugged[*slot] = device;
	return 0;
}

static void unplug(struct machine *machine, uint32_t slot)
{
	struct virtio_device *device = machine->plugged[slot];

	machine->plugged[slot] = NULL;
	virtio_pci_remove(device->transport);
	device->operations->free(device);
}

static int add_net(void *owner, int *fd, const struct vmm_net *net, uint32_t *slot)
{
	struct machine *machine = owner;
	struct error err = {0};
	struct virtio_device *device = net_new(*fd, net->mac, net->mtu, machine->loop, &err);

	if (device) {
		take_fd(fd);
		if (hotplug_add(machine, device, slot, &err) == 0)
			return 0;
	}
	log_line("not added: %s", err.message);
	return err.code ? err.code : EINVAL;
}

static int remove_net(void *owner, uint32_t slot)
{
	struct machine *machine = owner;

	if (slot >= PCI_SLOTS || !machine->plugged[slot] || machine->plugged[slot]->operations->id != VIRTIO_ID_NET)
		return ENOENT;
	unplug(machine, slot);
	return 0;
}

void hotplug_serve(struct machine *machine)
{
	const struct control_plugger plugger = {.add_net = add_net, .remove_net = remove_net, .machine = machine};

	control_on_plug(machine->control, &plugger);
}
