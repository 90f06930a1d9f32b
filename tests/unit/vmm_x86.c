/* What the guest is told of its CPUs: CPUID and the MP table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdint.h>
#include <string.h>

#include "vmm/x86_64/boot.h"
#include "vmm/x86_64/cpuid.h"
#include "vmm/x86_64/mptable.h"

static struct cpuid cpuid;

static void add(uint32_t leaf, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	cpuid.entries[cpuid.count++] =
	    (struct kvm_cpuid_entry2){.function = leaf, .index = index, .eax = eax, .ebx = ebx, .ecx = ecx, .edx = edx};
}

static const struct kvm_cpuid_entry2 *get(uint32_t leaf, uint32_t index)
{
	for (unsigned i = 0; i < cpuid.count; i++)
		if (cpuid.entries[i].function == leaf && cpuid.entries[i].index == index)
			return &cpuid.entries[i];
	fail_msg("no leaf %x.%u", leaf, index);
	return NULL;
}

/* A host with many CPUs, as KVM describes it. */
static int setup(void **state)
{
	(void)state;
	memset(&cpuid, 0, sizeof(cpuid));
	add(0x1, 0, 0x306f2, 0x35400800, 0x00000020, 0x1fabfbff);
	add(0x4, 0, 0xfc1fc121, 0x1c0003f, 63, 0);
	add(0x4, 2, 0xfc1fc143, 0x1c0003f, 1023, 0);
	add(0x4, 3, 0xfc1fc163, 0x4c0003f, 0xbfff, 6);
	add(0x4, 4, 0, 0, 0, 0);
	add(0xa, 0, 0x07300404, 0, 0, 0x603);
	add(0xb, 0, 1, 2, 0x100, 53);
	add(0xb, 1, 5, 24, 0x201, 53);
	add(0xb, 2, 6, 48, 0x502, 53);
	add(0xd, 0, 0x21f, 0xa88, 0xa88, 0);
	add(0xd, 1, 0xf, 0x3c8, 0, 0);
	add(0xd, 2, 256, 576, 0, 0);
	add(0xd, 9, 8, 2688, 0, 0);
	add(0x80000001, 0, 0, 0, 0x77, 0);
	add(0x80000008, 0, 0x3028, 0, 0x70ff, 0);
	add(0x8000001d, 3, 0x0c1fc163, 0, 0, 0);
	add(0x8000001e, 0, 53, 0x17, 1, 0);
	return 0;
}

static void test_features(void **state)
{
	(void)state;
	cpuid_fit(&cpuid, 1);
	cpuid_set_apic_id(&cpuid, 0);
	assert_int_equal(get(1, 0)->ecx, 1u << 31 | 1u << 24 | 1u << 21); /* and no VMX */
	assert_int_equal(get(1, 0)->edx, 0x0fabfbff);			  /* no HTT */
	assert_int_equal(get(1, 0)->ebx, 0x00010800);
	assert_int_equal(get(0x80000001, 0)->ecx & 0x6, 0); /* neither SVM nor CmpLegacy */
	assert_int_equal(get(0xa, 0)->eax, 0);
	assert_int_equal(get(0xb, 0)->ebx, 1);
	assert_int_equal(get(0xb, 1)->ebx, 1);
	assert_int_equal(get(0xb, 1)->eax, 0);
	assert_int_equal(get(4, 3)->eax, 0x00000163);
}

static void test_topology(void **state)
{
	(void)state;
	cpuid_fit(&cpuid, 6);
	cpuid_set_apic_id(&cpuid, 5);
	assert_int_equal(get(1, 0)->ebx, 0x05080800);
	assert_true(get(1, 0)->edx & 1u << 28);
	/* Six CPUs need three bits of APIC id. */
	assert_int_equal(get(4, 0)->eax, 7u << 26 | 0x121);
	assert_int_equal(get(4, 3)->eax, 7u << 26 | 7 << 14 | 0x163);
	assert_int_equal(get(4, 4)->eax, 0);
	assert_int_equal(get(0xb, 0)->eax, 0);
	assert_int_equal(get(0xb, 0)->ecx, 0x100);
	assert_int_equal(get(0xb, 1)->eax, 3);
	assert_int_equal(get(0xb, 1)->ebx, 6);
	assert_int_equal(get(0xb, 1)->ecx, 0x201);
	assert_int_equal(get(0xb, 2)->ebx, 0);
	assert_int_equal(get(0xb, 2)->ecx & 0xff00, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(get(0xb, i)->edx, 5);
	assert_int_equal(get(0x80000008, 0)->ecx & 0xf0ff, 0x3005);
	assert_int_equal(get(0x8000001d, 3)->eax, 7 << 14 | 0x163);
	assert_int_equal(get(0x8000001e, 0)->eax, 5);
	assert_int_equal(get(0x8000001e, 0)->ebx, 5);
	assert_true(get(0x80000001, 0)->ecx & 2);
}

/* Components 3 and 4 are offered, but have no leaf that describes them. */
static void test_xsave(void **state)
{
	(void)state;
	cpuid_fit(&cpuid, 1);
	assert_int_equal(get(0xd, 0)->eax, 0x207);
	assert_int_equal(get(0xd, 0)->ebx, 576);
	assert_int_equal(get(0xd, 0)->ecx, 2696);
	assert_int_equal(get(0xd, 1)->ebx, 576 + 256 + 8);
	assert_int_equal(cpuid_xsave_components(&cpuid), 0x207);
}

static void test_nothing_there(void **state)
{
	(void)state;
	memset(&cpuid, 0, sizeof(cpuid));
	cpuid_fit(&cpuid, 64);
	cpuid_set_apic_id(&cpuid, 63);
	assert_int_equal(cpuid.count, 0);
	assert_int_equal(cpuid_xsave_components(&cpuid), 0);
}

static void test_table_full(void **state)
{
	(void)state;
	cpuid.count = 0;
	add(0xb, 0, 0, 0, 0, 0);
	while (cpuid.count < CPUID_ENTRIES_MAX)
		add(0x40000000 + cpuid.count, 0, 0, 0, 0, 0);
	cpuid_fit(&cpuid, 4);
	assert_int_equal(cpuid.count, CPUID_ENTRIES_MAX);
}

static uint8_t sum(const uint8_t *bytes, size_t size)
{
	uint8_t total = 0;

	while (size-- > 0)
		total = (uint8_t)(total + *bytes++);
	return total;
}

static void test_mp_table(void **state)
{
	uint8_t pointer[16], table[44 + 64 * 20 + 8];
	struct error err;
	struct guest_memory *memory = guest_memory_new(1u << 20, &err);
	uint32_t address;
	uint16_t length, entries;

	(void)state;
	assert_int_equal(mptable_write(memory, 0, &err), -1);
	assert_int_equal(mptable_write(memory, 65, &err), -1);
	assert_int_equal(mptable_write(memory, 64, &err), 0);
	assert_true(guest_read(memory, BOOT_MP_POINTER, pointer, sizeof(pointer)));
	assert_memory_equal(pointer, "_MP_", 4);
	assert_int_equal(sum(pointer, sizeof(pointer)), 0);
	memcpy(&address, pointer + 4, sizeof(address));
	assert_true(guest_read(memory, address, table, sizeof(table)));
	memcpy(&length, table + 4, sizeof(length));
	memcpy(&entries, table + 34, sizeof(entries));
	assert_memory_equal(table, "PCMP", 4);
	assert_int_equal(length, sizeof(table));
	assert_int_equal(entries, 65);
	assert_int_equal(sum(table, sizeof(table)), 0);
	for (unsigned i = 0; i < 64; i++) {
		const uint8_t *processor = table + 44 + (size_t)i * 20;

		assert_int_equal(processor[0], 0);
		assert_int_equal(processor[1], i);
		assert_int_equal(processor[3], i == 0 ? 3 : 1);
	}
	assert_memory_equal(table + 44 + 64 * 20, "\1\0PCI   ", 8);
	guest_memory_free(memory);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_features),      TEST(test_topology),   TEST(test_xsave),
	    TEST(test_nothing_there), TEST(test_table_full), TEST(test_mp_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
