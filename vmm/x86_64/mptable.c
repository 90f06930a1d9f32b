#include "vmm/x86_64/mptable.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "vmm/x86_64/boot.h"

#define LOCAL_APIC_ADDRESS 0xfee00000u
#define SPECIFICATION 4 /* 1.4 */

struct mp_pointer {
	char signature[4]; /* "_MP_" */
	uint32_t table;
	uint8_t length; /* in 16 bytes */
	uint8_t specification;
	uint8_t checksum;
	uint8_t features[5];
} __attribute__((packed));

struct mp_header {
	char signature[4]; /* "PCMP" */
	uint16_t length;   /* bytes, with the entries */
	uint8_t specification;
	uint8_t checksum;
	char oem[8];
	char product[12];
	uint32_t oem_table;
	uint16_t oem_size;
	uint16_t entry_count;
	uint32_t local_apic;
	uint16_t extended_length;
	uint8_t extended_checksum;
	uint8_t reserved;
} __attribute__((packed));

#define MP_PROCESSOR 0
#define MP_BUS 1
#define MP_CPU_ENABLED 1
#define MP_CPU_BOOT 2

struct mp_processor {
	uint8_t type;
	uint8_t apic_id;
	uint8_t apic_version;
	uint8_t flags;
	uint32_t signature;
	uint32_t features;
	uint32_t reserved[2];
} __attribute__((packed));

struct mp_bus {
	uint8_t type;
	uint8_t id;
	char name[6];
} __attribute__((packed));

struct mp_table {
	struct mp_header header;
	struct mp_processor processors[MPTABLE_VCPUS_MAX];
	struct mp_bus bus; /* moves up behind the last processor */
} __attribute__((packed));

_Static_assert(sizeof(struct mp_table) <= BOOT_MP_POINTER - BOOT_MP_TABLE, "table and pointer share one kilobyte page");

/* All bytes of a table add up to 0. */
static uint8_t checksum(const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	while (size-- > 0)
		sum = (uint8_t)(sum + *bytes++);
	return (uint8_t)-sum;
}

static size_t fill_table(struct mp_table *table, unsigned vcpu_count)
{
	static const struct mp_bus bus = {.type = MP_BUS, .id = 0, .name = "PCI   "};
	size_t size = sizeof(struct mp_header) + vcpu_count * sizeof(struct mp_processor) + sizeof(bus);

	memset(table, 0, sizeof(*table));
	table->header = (struct mp_header){.signature = "PCMP",
					   .length = (uint16_t)size,
					   .specification = SPECIFICATION,
					   .oem = "HULL    ",
					   .product = "HULL        ",
					   .entry_count = (uint16_t)(vcpu_count + 1),
					   .local_apic = LOCAL_APIC_ADDRESS};
	for (unsigned i = 0; i < vcpu_count; i++)
		table->processors[i] =
		    (struct mp_processor){.type = MP_PROCESSOR,
					  .apic_id = (uint8_t)i,
					  .apic_version = 0x14,
					  .flags = (uint8_t)(MP_CPU_ENABLED | (i == 0 ? MP_CPU_BOOT : 0))};
	memcpy(&table->processors[vcpu_count], &bus, sizeof(bus));
	table->header.checksum = checksum(table, size);
	return size;
}

int mptable_write(struct guest_memory *memory, unsigned vcpu_count, struct error *err)
{
	struct mp_pointer pointer = {
	    .signature = "_MP_", .table = BOOT_MP_TABLE, .length = 1, .specification = SPECIFICATION};
	struct mp_table table;
	size_t size;

	if (vcpu_count == 0 || vcpu_count > MPTABLE_VCPUS_MAX)
		return error_set(err, EINVAL, "%u CPUs: 1 to %d are possible", vcpu_count, MPTABLE_VCPUS_MAX);
	size = fill_table(&table, vcpu_count);
	pointer.checksum = checksum(&pointer, sizeof(pointer));
	if (!guest_write(memory, BOOT_MP_TABLE, &table, size) ||
	    !guest_write(memory, BOOT_MP_POINTER, &pointer, sizeof(pointer)))
		return error_set(err, ENOMEM, "guest memory is too small");
	return 0;
}
