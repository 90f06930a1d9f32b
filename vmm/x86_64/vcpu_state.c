/*
 * The order matters, in both directions.
 *
 * Saving: MP_STATE first, since reading it may change the local APIC; VCPU_EVENTS last, since reading other state may
 * change what is pending.
 *
 * Restoring: CPUID first, on which what may be set depends; SREGS (which hold the APIC's base and mode) before the
 * local APIC; that before the MSRs, since TSC_DEADLINE counts only when the timer is in that mode; VCPU_EVENTS after
 * REGS, the setting of which drops a pending exception; the time-stamp counters at the very end, and TSC_DEADLINE after
 * them, since it arms a timer by what they show.
 *
 * System calls at run time: ioctl (KVM_GET_*, KVM_KVMCLOCK_CTRL).
 */
#include "vmm/x86_64/vcpu_state.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <x86intrin.h>

#define MSR_TSC 0x10u
#define MSR_TSC_DEADLINE 0x6e0u
#define LAPIC_TIMER_VECTOR 0x320u
#define TIMER_MASKED (1u << 16)
#define TIMER_MODE(entry) ((entry) >> 17 & 3)
#define TIMER_MODE_DEADLINE 2u

/* Structs kvm_msrs with their entries. */
struct msrs {
	uint32_t count, padding;
	struct kvm_msr_entry entries[MSRS_MAX];
};

int msr_list_get(struct msr_list *list, const struct kvm *kvm, struct error *err)
{
	list->count = MSRS_MAX;
	if (ioctl(kvm->kvm, KVM_GET_MSR_INDEX_LIST, list) < 0)
		return error_set_errno(err, "KVM_GET_MSR_INDEX_LIST");
	return 0;
}

/* --- what KVM keeps in structs ---------------------------------------------------------------------------------------
 */

struct vcpu_structs {
	struct kvm_mp_state mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint32_t xsave[1024]; /* a struct kvm_xsave; KVM refuses where that is too small */
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
};

#define STRUCT(call, field)                                                                                            \
	{                                                                                                              \
		call, #call, offsetof(struct vcpu_structs, field)                                                      \
	}

struct transfer {
	unsigned long call;
	const char *name;
	size_t offset;
};

static const struct transfer saves[] = {
    STRUCT(KVM_GET_MP_STATE, mp_state), STRUCT(KVM_GET_REGS, regs), STRUCT(KVM_GET_SREGS, sregs),
    STRUCT(KVM_GET_XSAVE, xsave),	STRUCT(KVM_GET_XCRS, xcrs), STRUCT(KVM_GET_DEBUGREGS, debugregs),
    STRUCT(KVM_GET_LAPIC, lapic),
};

static const struct transfer restores[] = {
    STRUCT(KVM_SET_REGS, regs),	  STRUCT(KVM_SET_SREGS, sregs),		STRUCT(KVM_SET_XCRS, xcrs),
    STRUCT(KVM_SET_XSAVE, xsave), STRUCT(KVM_SET_DEBUGREGS, debugregs), STRUCT(KVM_SET_LAPIC, lapic),
};

static const struct transfer last_restores[] = {
    STRUCT(KVM_SET_MP_STATE, mp_state),
    STRUCT(KVM_SET_VCPU_EVENTS, events),
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static int run_transfers(const struct vcpu *vcpu, const struct transfer *transfers, size_t count,
			 struct vcpu_structs *structs, struct error *err)
{
	for (size_t i = 0; i < count; i++)
		if (ioctl(vcpu->fd, transfers[i].call, (char *)structs + transfers[i].offset) < 0)
			return error_set_errno(err, "%s", transfers[i].name);
	return 0;
}

/* --- model-specific registers ----------------------------------------------------------------------------------------
 */

/* KVM lists some that this machine does not have; reading stops at the first of those. */
static void read_msrs(const struct vcpu *vcpu, const struct msr_list *list, struct msrs *msrs)
{
	static struct msrs part;
	uint32_t next = 0;

	msrs->count = msrs->padding = 0;
	while (next < list->count) {
		int got;

		part = (struct msrs){.count = list->count - next};
		for (uint32_t i = 0; i < part.count; i++)
			part.entries[i].index = list->indices[next + i];
		got = ioctl(vcpu->fd, KVM_GET_MSRS, &part);
		if (got < 0)
			got = 0;
		memcpy(msrs->entries + msrs->count, part.entries, (size_t)got * sizeof(part.entries[0]));
		msrs->count += (uint32_t)got;
		next += (uint32_t)got + 1;
	}
}

struct one_msr {
	uint32_t count, padding;
	struct kvm_msr_entry entry;
};

static bool set_msr(const struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct one_msr msr = {.count = 1, .entry = {.index = index, .data = value}};

	return ioctl(vcpu->fd, KVM_SET_MSRS, &msr) == 1;
}

static bool get_msr(const struct vcpu *vcpu, uint32_t index, uint64_t *value)
{
	struct one_msr msr = {.count = 1, .entry = {.index = index}};

	if (ioctl(vcpu->fd, KVM_GET_MSRS, &msr) != 1)
		return false;
	*value = msr.entry.data;
	return true;
}

/* Setting stops at the first that KVM refuses: which is no matter where it already has that value. */
static int set_msrs(const struct vcpu *vcpu, struct msrs *msrs, struct error *err)
{
	uint32_t done = 0, count = msrs->count;

	while (done < count) {
		struct kvm_msr_entry *refused;
		uint64_t value;
		int set;

		memmove(msrs->entries, msrs->entries + done, (size_t)(count - done) * sizeof(msrs->entries[0]));
		msrs->count = count -= done;
		set = ioctl(vcpu->fd, KVM_SET_MSRS, msrs);
		if (set < 0)
			return error_set_errno(err, "KVM_SET_MSRS");
		if ((uint32_t)set == count)
			return 0;
		refused = &msrs->entries[set];
		if (!get_msr(vcpu, refused->index, &value) || value != refused->data)
			return error_set(err, EINVAL, "this host's KVM refuses 0x%llx for MSR 0x%x",
					 (unsigned long long)refused->data, refused->index);
		done = (uint32_t)set + 1;
	}
	return 0;
}

/* --- a vCPU ----------------------------------------------------------------------------------------------------------
 */

int vcpu_save(const struct vcpu *vcpu, const struct msr_list *list, struct state_writer *writer, struct error *err)
{
	static struct vcpu_structs structs;
	static struct msrs msrs;

	if (run_transfers(vcpu, saves, COUNT(saves), &structs, err) < 0)
		return -1;
	read_msrs(vcpu, list, &msrs);
	if (ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &structs.events) < 0)
		return error_set_errno(err, "KVM_GET_VCPU_EVENTS");
	state_put(writer, &structs, sizeof(structs));
	state_put(writer, &msrs.count, sizeof(msrs.count));
	state_put(writer, &msrs.padding, sizeof(msrs.padding));
	state_put(writer, msrs.entries, msrs.count * sizeof(msrs.entries[0]));
	return 0;
}

static int take_msrs(struct msrs *msrs, struct state_reader *reader, struct error *err)
{
	if (state_take(reader, &msrs->count, sizeof(msrs->count), err) < 0 ||
	    state_take(reader, &msrs->padding, sizeof(msrs->padding), err) < 0)
		return -1;
	if (msrs->count > MSRS_MAX)
		return error_set(err, EINVAL, "%u MSRs are more than there can be", msrs->count);
	return state_take(reader, msrs->entries, msrs->count * sizeof(msrs->entries[0]), err);
}

/* Those of time are set by clock_restore, when all vCPUs are there. */
static void leave_out_time(struct msrs *msrs)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < msrs->count; i++)
		if (msrs->entries[i].index != MSR_TSC && msrs->entries[i].index != MSR_TSC_DEADLINE)
			msrs->entries[kept++] = msrs->entries[i];
	msrs->count = kept;
}

int vcpu_restore(const struct vcpu *vcpu, struct cpuid *cpuid, struct state_reader *reader, struct error *err)
{
	static struct vcpu_structs structs;
	static struct msrs msrs;

	if (state_take(reader, &structs, sizeof(structs), err) < 0 || take_msrs(&msrs, reader, err) < 0 ||
	    state_end(reader, err) < 0)
		return -1;
	leave_out_time(&msrs);
	cpuid_set_apic_id(cpuid, vcpu->index);
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0)
		return error_set_errno(err, "KVM_SET_CPUID2");
	if (run_transfers(vcpu, restores, COUNT(restores), &structs, err) < 0 || set_msrs(vcpu, &msrs, err) < 0)
		return -1;
	return run_transfers(vcpu, last_restores, COUNT(last_restores), &structs, err);
}

void vcpu_stood_still(const struct vcpu *vcpu)
{
	/* Refused where the guest has not set up its clock: then it does not measure by it. */
	(void)ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
}

/* --- time ------------------------------------------------------------------------------------------------------------
 */

struct vcpu_time {
	uint64_t tsc;	   /* the guest's */
	uint64_t deadline; /* when the timer fires, by tsc; 0: never */
};

struct machine_time {
	uint64_t clock; /* nanoseconds of the guest's clock */
	uint64_t tsc_khz;
};

/* The offset of a vCPU's time-stamp counter from the host's, where KVM tells it (Linux 5.16). */
static bool access_tsc_offset(const struct vcpu *vcpu, unsigned long call, uint64_t *offset)
{
	struct kvm_device_attr attribute = {
	    .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uint64_t)(uintptr_t)offset};

	return ioctl(vcpu->fd, call, &attribute) == 0;
}

/*
 * `now` is one moment for all vCPUs, by the host's counter, so that they do not drift apart by being asked one after
 * the other.
 *
 * An armed timer that shows 0 may have fired just now, its interrupt being on its way; armed for the present moment it
 * comes once more. One too many is nothing to a guest, one too few stops its time.
 */
static int save_vcpu_time(const struct vcpu *vcpu, uint64_t now, struct state_writer *writer, struct error *err)
{
	struct vcpu_time time = {0};
	struct kvm_lapic_state lapic;
	uint64_t offset;
	uint32_t timer;

	if (access_tsc_offset(vcpu, KVM_GET_DEVICE_ATTR, &offset))
		time.tsc = now + offset;
	else if (!get_msr(vcpu, MSR_TSC, &time.tsc))
		return error_set(err, EIO, "the time-stamp counter of CPU %u cannot be read", vcpu->index);
	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic) < 0)
		return error_set_errno(err, "KVM_GET_LAPIC");
	memcpy(&timer, lapic.regs + LAPIC_TIMER_VECTOR, sizeof(timer));
	if (TIMER_MODE(timer) == TIMER_MODE_DEADLINE && get_msr(vcpu, MSR_TSC_DEADLINE, &time.deadline) &&
	    time.deadline == 0 && !(timer & TIMER_MASKED))
		time.deadline = time.tsc;
	state_put(writer, &time, sizeof(time));
	return 0;
}

int clock_save(const struct kvm *kvm, const struct vcpu *vcpus, unsigned count, struct state_writer *writer,
	       struct error *err)
{
	struct machine_time time = {0};
	struct kvm_clock_data clock;
	int khz = ioctl(vcpus[0].fd, KVM_GET_TSC_KHZ, 0);
	uint64_t now;

	if (khz <= 0)
		return error_set_errno(err, "KVM_GET_TSC_KHZ");
	if (ioctl(kvm->vm, KVM_GET_CLOCK, &clock) < 0)
		return error_set_errno(err, "KVM_GET_CLOCK");
	now = __rdtsc();
	time.clock = clock.clock;
	time.tsc_khz = (uint64_t)khz;
	state_put(writer, &time, sizeof(time));
	for (unsigned i = 0; i < count; i++)
		if (save_vcpu_time(&vcpus[i], now, writer, err) < 0)
			return -1;
	return 0;
}

/* By its offset from the host's counter: setting the counter itself has KVM guess whether several vCPUs are meant to
 * show the same, and a guest that is less than a second old would be set back to 0. */
static int restore_vcpu_time(const struct vcpu *vcpu, const struct vcpu_time *time, uint64_t now, struct error *err)
{
	uint64_t offset = time->tsc - now;

	if (!access_tsc_offset(vcpu, KVM_SET_DEVICE_ATTR, &offset) && !set_msr(vcpu, MSR_TSC, time->tsc))
		return error_set_errno(err, "CPU %u: set the time-stamp counter", vcpu->index);
	if (time->deadline != 0 && !set_msr(vcpu, MSR_TSC_DEADLINE, time->deadline))
		return error_set_errno(err, "CPU %u: set the timer", vcpu->index);
	return 0;
}

int clock_restore(const struct kvm *kvm, const struct vcpu *vcpus, unsigned count, struct state_reader *reader,
		  struct error *err)
{
	struct kvm_clock_data clock = {0};
	struct machine_time machine;
	struct vcpu_time time;
	uint64_t now;
	int khz = ioctl(vcpus[0].fd, KVM_GET_TSC_KHZ, 0);

	if (state_take(reader, &machine, sizeof(machine), err) < 0)
		return -1;
	if (khz <= 0 || (uint64_t)khz != machine.tsc_khz)
		return error_set(err, EINVAL, "its time-stamp counter ran at %llu kHz, here it is %d kHz",
				 (unsigned long long)machine.tsc_khz, khz);
	now = __rdtsc();
	for (unsigned i = 0; i < count; i++)
		if (state_take(reader, &time, sizeof(time), err) < 0 ||
		    restore_vcpu_time(&vcpus[i], &time, now, err) < 0)
			return -1;
	clock.clock = machine.clock;
	if (ioctl(kvm->vm, KVM_SET_CLOCK, &clock) < 0)
		return error_set_errno(err, "KVM_SET_CLOCK");
	for (unsigned i = 0; i < count; i++)
		vcpu_stood_still(&vcpus[i]);
	return state_end(reader, err);
}
