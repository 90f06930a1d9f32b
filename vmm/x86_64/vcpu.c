#include "vmm/x86_64/vcpu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* Far less than the C library's 8 MiB, whose first use would have the kernel zero a large page. */
#define STACK_SIZE (256u << 10)

#define CR0_PROTECTED 0x1u
#define CR0_EXTENSION 0x10u
#define CR0_NUMERIC_ERROR 0x20u
#define CR0_WRITE_PROTECT 0x10000u
#define CR0_PAGING 0x80000000u
#define CR4_PHYSICAL_ADDRESS_EXTENSION 0x20u
#define EFER_LONG_MODE_ENABLE 0x100u
#define EFER_LONG_MODE_ACTIVE 0x400u
#define RFLAGS_RESERVED 0x2u

#define MSR_MISC_ENABLE 0x1a0u
#define MISC_ENABLE_FAST_STRING 0x1u
#define MSR_MTRR_DEFAULT_TYPE 0x2ffu
#define MTRR_ENABLED_WRITE_BACK 0x806u

/* --- first state -----------------------------------------------------------------------------------------------------
 */

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){.base = 0,
				    .limit = 0xffffffff,
				    .selector = selector,
				    .type = type,
				    .present = 1,
				    .db = !code,
				    .s = 1,
				    .l = code,
				    .g = 1};
}

static int set_segments(const struct vcpu *vcpu, struct error *err)
{
	struct kvm_segment data = segment(BOOT_DATA_SELECTOR, 3, false);
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return error_set_errno(err, "KVM_GET_SREGS");
	sregs.cs = segment(BOOT_CODE_SELECTOR, 11, true);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.tr = (struct kvm_segment){.limit = 0x67, .selector = BOOT_TASK_SELECTOR, .type = 11, .present = 1};
	sregs.gdt.base = BOOT_GDT;
	sregs.gdt.limit = BOOT_GDT_ENTRIES * sizeof(uint64_t) - 1;
	sregs.idt.base = sregs.idt.limit = 0;
	sregs.cr0 = CR0_PROTECTED | CR0_EXTENSION | CR0_NUMERIC_ERROR | CR0_WRITE_PROTECT | CR0_PAGING;
	sregs.cr3 = BOOT_PAGE_TABLES;
	sregs.cr4 = CR4_PHYSICAL_ADDRESS_EXTENSION;
	sregs.efer = EFER_LONG_MODE_ENABLE | EFER_LONG_MODE_ACTIVE;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0)
		return error_set_errno(err, "KVM_SET_SREGS");
	return 0;
}

static int set_registers(const struct vcpu *vcpu, const struct boot_image *image, struct error *err)
{
	struct kvm_regs regs = {.rip = image->entry, .rsi = BOOT_PARAMS, .rflags = RFLAGS_RESERVED};

	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		return error_set_errno(err, "KVM_SET_REGS");
	return 0;
}

/* What firmware would have set: without the first, Linux avoids fast string copies on Intel CPUs. */
static int set_msrs(const struct vcpu *vcpu, struct error *err)
{
	/* A struct kvm_msrs with its entries. */
	struct {
		uint32_t count, padding;
		struct kvm_msr_entry entries[2];
	} msrs = {.count = 2,
		  .entries = {{.index = MSR_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRING},
			      {.index = MSR_MTRR_DEFAULT_TYPE, .data = MTRR_ENABLED_WRITE_BACK}}};

	/* Returns how many it has set. */
	if (ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) != 2)
		return error_set_errno(err, "KVM_SET_MSRS");
	return 0;
}

/* With all components on from the start: a host whose virtualisation is itself emulated does not tell KVM when the
 * guest turns them on, and KVM would then go on telling the guest the size of the state without them. */
static int set_xcr0(const struct vcpu *vcpu, const struct cpuid *cpuid, struct error *err)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = cpuid_xsave_components(cpuid)}}};

	if (xcrs.xcrs[0].value != 0 && ioctl(vcpu->fd, KVM_SET_XCRS, &xcrs) < 0)
		return error_set_errno(err, "KVM_SET_XCRS");
	return 0;
}

static int set_state(struct vcpu *vcpu, struct cpuid *cpuid, const struct boot_image *image, struct error *err)
{
	cpuid_set_apic_id(cpuid, vcpu->index);
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0)
		return error_set_errno(err, "KVM_SET_CPUID2");
	if (set_xcr0(vcpu, cpuid, err) < 0 || set_msrs(vcpu, err) < 0)
		return -1;
	if (vcpu->index > 0)
		return 0; /* waits for the first CPU's start-up message, as after a reset */
	if (set_segments(vcpu, err) < 0)
		return -1;
	return set_registers(vcpu, image, err);
}

int vcpu_boot(struct vcpu *vcpu, struct cpuid *cpuid, const struct boot_image *image, struct error *err)
{
	return set_state(vcpu, cpuid, image, err) < 0 ? error_prefix(err, "CPU %u", vcpu->index) : 0;
}

int vcpu_create(struct vcpu *vcpu, unsigned index, const struct kvm *kvm, struct error *err)
{
	*vcpu = (struct vcpu){.index = index, .run_size = kvm->run_size};
	vcpu->fd = ioctl(kvm->vm, KVM_CREATE_VCPU, (unsigned long)index);
	if (vcpu->fd < 0)
		return error_set_errno(err, "create CPU %u", index);
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED)
		return error_set_errno(err, "map CPU %u", index);
	return 0;
}

/* --- running ---------------------------------------------------------------------------------------------------------
 */

/* KVM says where in the shared page the data lie; several items come from the string instructions. */
static void handle_port(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)vcpu->run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			vcpu->operations->port_read(vcpu->owner, run->io.port, data, run->io.size);
		else
			vcpu->operations->port_write(vcpu->owner, run->io.port, data, run->io.size);
	}
}

static void handle_memory(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->mmio.is_write)
		vcpu->operations->memory_write(vcpu->owner, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		vcpu->operations->memory_read(vcpu->owner, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static bool fail(struct vcpu *vcpu, const char *what, unsigned long long code)
{
	char reason[192];

	snprintf(reason, sizeof(reason), "KVM: CPU %u: %s (%#llx)", vcpu->index, what, code);
	vcpu->operations->failed(vcpu->owner, reason);
	return false;
}

/* A host that only emulates what other hosts run on the CPU gets stuck at instructions that it does not know. */
static bool fail_emulation(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	char what[128] = "this host's KVM cannot emulate an instruction of the guest";
	unsigned size = run->emulation_failure.insn_size;
	size_t used = strlen(what);

	if (run->emulation_failure.ndata == 0 ||
	    !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
		size = 0;
	for (unsigned i = 0; i < size && i < sizeof(run->emulation_failure.insn_bytes); i++)
		used += (size_t)snprintf(what + used, sizeof(what) - used, "%s%02x", i == 0 ? ": " : " ",
					 run->emulation_failure.insn_bytes[i]);
	return fail(vcpu, what, KVM_INTERNAL_ERROR_EMULATION);
}

/* False when the vCPU is not to go on. */
static bool handle_exit(struct vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_port(vcpu);
		return true;
	case KVM_EXIT_MMIO:
		handle_memory(vcpu);
		return true;
	case KVM_EXIT_INTR:
		return true;
	case KVM_EXIT_SHUTDOWN:
	case KVM_EXIT_SYSTEM_EVENT:
	case KVM_EXIT_HLT:
		vcpu->operations->shutdown(vcpu->owner);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		return fail(vcpu, "the hardware refused to enter the guest",
			    run->fail_entry.hardware_entry_failure_reason);
	case KVM_EXIT_INTERNAL_ERROR:
		if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
			return fail_emulation(vcpu);
		return fail(vcpu, "internal error", run->internal.suberror);
	default:
		return fail(vcpu, "unexpected exit", run->exit_reason);
	}
}

/*
 * How a vCPU is stopped. immediate_exit has KVM_RUN complete what the last exit asked for and return at once, but only
 * when it is entered; a vCPU that is in the guest has to be brought out of it by a signal. Both together leave no
 * moment in which the wish is lost.
 */
#define INTERRUPT_SIGNAL SIGUSR1

static void ignore(int signal_number)
{
	(void)signal_number;
}

int vcpu_allow_interrupts(struct error *err)
{
	struct sigaction action = {.sa_handler = ignore, .sa_flags = SA_RESTART};

	if (sigaction(INTERRUPT_SIGNAL, &action, NULL) < 0)
		return error_set_errno(err, "set up the signal that stops CPUs");
	return 0;
}

static void set_immediate_exit(struct vcpu *vcpu, uint8_t value)
{
	__atomic_store_n(&vcpu->run->immediate_exit, value, __ATOMIC_SEQ_CST);
}

void vcpu_interrupt(struct vcpu *vcpu)
{
	set_immediate_exit(vcpu, 1);
	pthread_kill(vcpu->thread, INTERRUPT_SIGNAL);
}

void vcpu_continue(struct vcpu *vcpu)
{
	set_immediate_exit(vcpu, 0);
}

static bool is_interrupted(const struct vcpu *vcpu)
{
	return __atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_SEQ_CST);
}

static void *run_vcpu(void *argument)
{
	struct vcpu *vcpu = argument;
	struct error err;

	if (vcpu->operations->enter(vcpu->owner, &err) < 0) {
		vcpu->operations->failed(vcpu->owner, err.message);
		return NULL;
	}
	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
			if (errno == EINTR || errno == EAGAIN) {
				if (is_interrupted(vcpu))
					vcpu->operations->interrupted(vcpu->owner);
				continue;
			}
			fail(vcpu, strerror(errno), (unsigned long long)errno);
			return NULL;
		}
		if (!handle_exit(vcpu))
			return NULL;
	}
}

int vcpu_start(struct vcpu *vcpu, const struct vcpu_operations *operations, void *owner, struct error *err)
{
	pthread_attr_t attributes;

	vcpu->operations = operations;
	vcpu->owner = owner;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	errno = pthread_create(&vcpu->thread, &attributes, run_vcpu, vcpu);
	pthread_attr_destroy(&attributes);
	if (errno != 0)
		return error_set_errno(err, "start the thread of CPU %u", vcpu->index);
	return 0;
}
