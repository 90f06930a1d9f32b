#include "runtime/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/cleanup.h"

const struct kvm_requirement kvm_requirements[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest memory"},
    {KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP", "interrupt controllers without the legacy ones"},
    {KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "interrupts of virtio devices"},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "doorbells of virtio devices"},
    {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI", "message-signalled interrupts"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "stopping a virtual CPU"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "the guest's CPU features"},
    {KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER", "the guest's timer"},
    {KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK", "the guest's clock"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE", "the state of a virtual CPU"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS", "the state of a virtual CPU"},
    {0},
};

bool kvm_has(int kvm, int capability)
{
	return ioctl(kvm, KVM_CHECK_EXTENSION, capability) > 0;
}

static int explain(struct error *err)
{
	switch (errno) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return error_set(err, errno,
				 KVM_DEVICE " does not exist: enable virtualisation in the firmware and load the "
					    "module kvm_intel or kvm_amd (`hull doctor` says more)");
	case EACCES:
	case EPERM:
		return error_set(err, errno,
				 KVM_DEVICE ": permission denied: run as root or join the group that owns it, "
					    "usually kvm");
	default:
		return error_set_errno(err, "open " KVM_DEVICE);
	}
}

int kvm_open(struct error *err)
{
	cleanup_close int fd = open(KVM_DEVICE, O_RDWR | O_CLOEXEC);
	int version;

	if (fd < 0)
		return explain(err);
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return error_set_errno(err, KVM_DEVICE " is not KVM");
	if (version != KVM_API_VERSION)
		return error_set(err, ENOTSUP,
				 KVM_DEVICE ": API version %d, but hull needs %d: update the host's kernel", version,
				 KVM_API_VERSION);
	return take_fd(&fd);
}
