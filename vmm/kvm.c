#include "vmm/kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/log.h"

struct extension {
	int number;
	const char *name;
};

static int check_extensions(struct kvm *kvm, struct error *err)
{
	static const struct extension needed[] = {
	    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	    {KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP"},
	    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
	    {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
	    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
	    {KVM_CAP_TSC_DEADLINE_TIMER, "KVM_CAP_TSC_DEADLINE_TIMER"},
	    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
	};

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (ioctl(kvm->vm, KVM_CHECK_EXTENSION, needed[i].number) <= 0)
			return error_set(err, EOPNOTSUPP, "this host's KVM has no %s", needed[i].name);
	return 0;
}

static int create_machine(struct kvm *kvm, struct error *err)
{
	int version = ioctl(kvm->kvm, KVM_GET_API_VERSION, 0);
	int run_size;

	if (version < 0)
		return error_set_errno(err, "the KVM device given is none");
	if (version != KVM_API_VERSION)
		return error_set(err, EOPNOTSUPP, "KVM has API version %d, not %d", version, KVM_API_VERSION);
	run_size = ioctl(kvm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (run_size < (int)sizeof(struct kvm_run))
		return error_set_errno(err, "KVM_GET_VCPU_MMAP_SIZE");
	kvm->run_size = (size_t)run_size;
	/* Interrupted by a signal, creation may fail with EINTR and is simply to be tried again. */
	do
		kvm->vm = ioctl(kvm->kvm, KVM_CREATE_VM, 0);
	while (kvm->vm < 0 && errno == EINTR);
	if (kvm->vm < 0)
		return error_set_errno(err, "create a virtual machine");
	return 0;
}

static int add_memory(struct kvm *kvm, const struct guest_memory *memory, struct error *err)
{
	uint64_t address, size;
	void *host;

	for (unsigned i = 0; guest_memory_region(memory, i, &address, &size, &host); i++) {
		struct kvm_userspace_memory_region slot = {.slot = i,
							   .guest_phys_addr = address,
							   .memory_size = size,
							   .userspace_addr = (uint64_t)(uintptr_t)host};

		if (ioctl(kvm->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return error_set_errno(err, "give the virtual machine its memory");
	}
	return 0;
}

static int add_interrupt_controller(struct kvm *kvm, struct error *err)
{
	struct kvm_enable_cap split = {.cap =
					   KVM_CAP_SPLIT_IRQCHIP}; /* with 0 IOAPIC pins to be served by this process */
	struct kvm_enable_cap x2apic = {
	    .cap = KVM_CAP_X2APIC_API, .args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK}};

	if (ioctl(kvm->vm, KVM_ENABLE_CAP, &split) < 0)
		return error_set_errno(err, "make the interrupt controller");
	if (ioctl(kvm->vm, KVM_ENABLE_CAP, &x2apic) < 0)
		return error_set_errno(err, "enable x2APIC");
	return 0;
}

int kvm_open(struct kvm *kvm, int kvm_fd, const struct guest_memory *memory, struct error *err)
{
	*kvm = (struct kvm){.kvm = kvm_fd, .vm = -1};
	if (create_machine(kvm, err) < 0 || check_extensions(kvm, err) < 0)
		return -1;
	if (add_memory(kvm, memory, err) < 0)
		return -1;
	return add_interrupt_controller(kvm, err);
}

void kvm_send_msi(struct kvm *kvm, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = {.address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};

	if (ioctl(kvm->vm, KVM_SIGNAL_MSI, &msi) < 0)
		log_guest("interrupt to address 0x%llx: %s", (unsigned long long)address, strerror(errno));
}

static int set_doorbell(struct kvm *kvm, uint64_t address, int eventfd, uint32_t flags)
{
	struct kvm_ioeventfd doorbell = {.addr = address, .len = 2, .fd = eventfd, .flags = flags};

	return ioctl(kvm->vm, KVM_IOEVENTFD, &doorbell);
}

int kvm_add_doorbell(struct kvm *kvm, uint64_t address, int eventfd, struct error *err)
{
	if (set_doorbell(kvm, address, eventfd, 0) < 0)
		return error_set_errno(err, "watch the doorbell at 0x%llx", (unsigned long long)address);
	return 0;
}

void kvm_remove_doorbell(struct kvm *kvm, uint64_t address, int eventfd)
{
	set_doorbell(kvm, address, eventfd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
