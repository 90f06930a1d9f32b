/*
 * Leaves are described in the Intel SDM, volume 2, CPUID, and in the AMD APM, volume 3, appendix E. The topology is the
 * plainest there is: one package of vcpu_count cores with one thread each, APIC ids from 0 on.
 */
#include "vmm/x86_64/cpuid.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

/* Leaf 1 */
#define ECX_VMX (1u << 5)
#define ECX_PDCM (1u << 15)
#define ECX_X2APIC (1u << 21)
#define ECX_TSC_DEADLINE (1u << 24)
#define ECX_HYPERVISOR (1u << 31)
#define EDX_HTT (1u << 28)
/* Leaf 0x80000001 */
#define ECX_CMP_LEGACY (1u << 1)
#define ECX_SVM (1u << 2)
#define ECX_PERFCTR_CORE (1u << 23)

static int find_index(const struct cpuid *cpuid, uint32_t leaf, uint32_t index)
{
	for (unsigned i = 0; i < cpuid->count; i++)
		if (cpuid->entries[i].function == leaf && cpuid->entries[i].index == index)
			return (int)i;
	return -1;
}

static struct kvm_cpuid_entry2 *find(struct cpuid *cpuid, uint32_t leaf, uint32_t index)
{
	int i = find_index(cpuid, leaf, index);

	return i < 0 ? NULL : &cpuid->entries[i];
}

/* Adds an entry that is to depend on its index, unless there is one; NULL when the table is full. */
static struct kvm_cpuid_entry2 *find_or_add(struct cpuid *cpuid, uint32_t leaf, uint32_t index)
{
	struct kvm_cpuid_entry2 *entry = find(cpuid, leaf, index);

	if (entry || cpuid->count == CPUID_ENTRIES_MAX)
		return entry;
	entry = &cpuid->entries[cpuid->count++];
	*entry = (struct kvm_cpuid_entry2){.function = leaf, .index = index, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
	return entry;
}

/* Bits that an APIC id needs for this many CPUs. */
static unsigned id_bits(unsigned count)
{
	unsigned bits = 0;

	while (1u << bits < count)
		bits++;
	return bits;
}

static void set_features(struct cpuid *cpuid, unsigned vcpu_count)
{
	struct kvm_cpuid_entry2 *leaf = find(cpuid, 1, 0);

	if (leaf) {
		leaf->ecx |= ECX_HYPERVISOR | ECX_TSC_DEADLINE | ECX_X2APIC;
		/* No virtual machines inside this one, and no performance counters: less of the host to reach, less
		 * state to save. */
		leaf->ecx &= ~(ECX_VMX | ECX_PDCM);
		leaf->edx = vcpu_count > 1 ? leaf->edx | EDX_HTT : leaf->edx & ~EDX_HTT;
		leaf->ebx = (leaf->ebx & 0xff00ffffu) | 1u << id_bits(vcpu_count) << 16;
	}
	leaf = find(cpuid, 0x80000001, 0);
	if (leaf) {
		leaf->ecx &= ~(ECX_SVM | ECX_PERFCTR_CORE | ECX_CMP_LEGACY);
		if (vcpu_count > 1)
			leaf->ecx |= ECX_CMP_LEGACY;
	}
	leaf = find(cpuid, 0xa, 0);
	if (leaf)
		leaf->eax = leaf->ebx = leaf->ecx = leaf->edx = 0;
}

/* Leaf 4 (Intel) and 0x8000001d (AMD): each core has its own caches but for the third level, which all share. */
static void set_cache_sharing(struct cpuid *cpuid, unsigned vcpu_count)
{
	for (unsigned i = 0; i < cpuid->count; i++) {
		struct kvm_cpuid_entry2 *leaf = &cpuid->entries[i];
		unsigned level = leaf->eax >> 5 & 7, sharing = level >= 3 ? (1u << id_bits(vcpu_count)) - 1 : 0;

		if ((leaf->function != 4 && leaf->function != 0x8000001d) || (leaf->eax & 0x1f) == 0)
			continue;
		leaf->eax = (leaf->eax & 0x3fff) | sharing << 14;
		if (leaf->function == 4)
			leaf->eax |= (vcpu_count > 64 ? 63 : (1u << id_bits(vcpu_count)) - 1) << 26;
	}
}

/* Leaves 0xb and 0x1f: one thread a core (level 0), vcpu_count cores a package (level 1). */
static void set_extended_topology(struct cpuid *cpuid, uint32_t number, unsigned vcpu_count)
{
	struct kvm_cpuid_entry2 *leaf;

	if (!find(cpuid, number, 0))
		return;
	/* First, since what KVM passes on describes the host: levels 2 and up are not there. */
	for (uint32_t level = 2; (leaf = find(cpuid, number, level)); level++)
		leaf->eax = leaf->ebx = leaf->ecx = 0;
	leaf = find(cpuid, number, 0);
	leaf->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	leaf->eax = 0;
	leaf->ebx = 1;
	leaf->ecx = 1 << 8;
	leaf = find_or_add(cpuid, number, 1);
	if (!leaf)
		return;
	leaf->eax = id_bits(vcpu_count);
	leaf->ebx = vcpu_count;
	leaf->ecx = 2 << 8 | 1;
	leaf = find_or_add(cpuid, number, 2);
	if (leaf)
		leaf->ecx = 2;
}

/* Leaves of AMD: the size of the package, and that a core has one thread. */
static void set_amd_topology(struct cpuid *cpuid, unsigned vcpu_count)
{
	struct kvm_cpuid_entry2 *leaf = find(cpuid, 0x80000008, 0);

	if (leaf)
		leaf->ecx = (leaf->ecx & ~0xf0ffu) | id_bits(vcpu_count) << 12 | (vcpu_count - 1);
	leaf = find(cpuid, 0x8000001e, 0);
	if (leaf)
		leaf->ebx = leaf->ecx = 0;
}

/* --- leaf 0xd: XSAVE -------------------------------------------------------------------------------------------------
 */

#define XSAVE_LEGACY_SIZE 576u /* x87 and SSE with the header */
#define XCR0_X87_SSE 3ull
#define EAX_XSAVEC (1u << 1)
#define EAX_XSAVES (1u << 3)
#define ECX_ALIGNED (1u << 1)

/* The components that are described by a subleaf of their own, each with a size. */
static uint64_t described_components(struct cpuid *cpuid, uint64_t components)
{
	uint64_t described = components & XCR0_X87_SSE;

	for (unsigned i = 2; i < 63; i++) {
		const struct kvm_cpuid_entry2 *leaf = find(cpuid, 0xd, i);

		if ((components >> i & 1) && leaf && leaf->eax != 0)
			described |= 1ull << i;
	}
	return described;
}

static uint32_t standard_size(struct cpuid *cpuid, uint64_t components)
{
	uint32_t size = XSAVE_LEGACY_SIZE;

	for (unsigned i = 2; i < 63; i++) {
		const struct kvm_cpuid_entry2 *leaf = find(cpuid, 0xd, i);

		if ((components >> i & 1) && leaf->ebx + leaf->eax > size)
			size = leaf->ebx + leaf->eax;
	}
	return size;
}

static uint32_t compacted_size(struct cpuid *cpuid, uint64_t components)
{
	uint32_t size = XSAVE_LEGACY_SIZE;

	for (unsigned i = 2; i < 63; i++) {
		const struct kvm_cpuid_entry2 *leaf = find(cpuid, 0xd, i);

		if (!(components >> i & 1))
			continue;
		if (leaf->ecx & ECX_ALIGNED)
			size = (size + 63) & ~63u;
		size += leaf->eax;
	}
	return size;
}

/*
 * A host that is itself emulated may offer components without describing them, or sizes that do not fit; a guest kernel
 * that adds them up itself then gives up XSAVE. So only components that are described are offered, and the sums are
 * made of them. KVM replaces the sizes for the present XCR0 (EBX) each time the guest changes it.
 */
static void set_xsave(struct cpuid *cpuid)
{
	struct kvm_cpuid_entry2 *user = find(cpuid, 0xd, 0), *extended = find(cpuid, 0xd, 1);
	uint64_t components, supervisor = 0;

	if (!user)
		return;
	components = described_components(cpuid, user->eax | (uint64_t)user->edx << 32);
	user->eax = (uint32_t)components;
	user->edx = (uint32_t)(components >> 32);
	user->ebx = XSAVE_LEGACY_SIZE;
	user->ecx = standard_size(cpuid, components);
	if (!extended)
		return;
	if (extended->eax & EAX_XSAVES)
		supervisor = described_components(cpuid, extended->ecx | (uint64_t)extended->edx << 32);
	extended->ecx = (uint32_t)supervisor;
	extended->edx = (uint32_t)(supervisor >> 32);
	extended->ebx = extended->eax & (EAX_XSAVEC | EAX_XSAVES) ? compacted_size(cpuid, components | supervisor) : 0;
	for (unsigned i = 2; i < 63; i++) {
		struct kvm_cpuid_entry2 *leaf = find(cpuid, 0xd, i);

		if (leaf && !((components | supervisor) >> i & 1))
			leaf->eax = leaf->ebx = leaf->ecx = leaf->edx = 0;
	}
}

void cpuid_fit(struct cpuid *cpuid, unsigned vcpu_count)
{
	set_features(cpuid, vcpu_count);
	set_cache_sharing(cpuid, vcpu_count);
	set_extended_topology(cpuid, 0xb, vcpu_count);
	set_extended_topology(cpuid, 0x1f, vcpu_count);
	set_amd_topology(cpuid, vcpu_count);
	set_xsave(cpuid);
}

int cpuid_get(struct cpuid *cpuid, const struct kvm *kvm, unsigned vcpu_count, struct error *err)
{
	cpuid->count = CPUID_ENTRIES_MAX - 8; /* room for what is added here */
	if (ioctl(kvm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		return error_set_errno(err, "ask KVM for the CPU's features");
	cpuid_fit(cpuid, vcpu_count);
	return 0;
}

void cpuid_set_apic_id(struct cpuid *cpuid, unsigned id)
{
	for (unsigned i = 0; i < cpuid->count; i++) {
		struct kvm_cpuid_entry2 *leaf = &cpuid->entries[i];

		switch (leaf->function) {
		case 1:
			leaf->ebx = (leaf->ebx & 0x00ffffffu) | id << 24;
			break;
		case 0xb:
		case 0x1f:
			leaf->edx = id;
			break;
		case 0x8000001e:
			leaf->eax = id;
			leaf->ebx = (leaf->ebx & ~0xffu) | id;
			break;
		}
	}
}

bool cpuid_equal(const struct cpuid *a, const struct cpuid *b)
{
	return a->count == b->count && memcmp(a->entries, b->entries, a->count * sizeof(a->entries[0])) == 0;
}

uint64_t cpuid_xsave_components(const struct cpuid *cpuid)
{
	int i = find_index(cpuid, 0xd, 0);

	return i < 0 ? 0 : cpuid->entries[i].eax | (uint64_t)cpuid->entries[i].edx << 32;
}

_Static_assert(offsetof(struct cpuid, count) == offsetof(struct kvm_cpuid2, nent) &&
		   offsetof(struct cpuid, entries) == offsetof(struct kvm_cpuid2, entries),
	       "handed to KVM as a struct kvm_cpuid2");
