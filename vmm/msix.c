#include "vmm/msix.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

void msix_init(struct msix *msix, struct pci_function *function, unsigned count, unsigned bar, uint32_t table_offset,
	       uint32_t pending_offset)
{
	uint8_t capability[PCI_CAP_MSIX_SIZEOF] = {PCI_CAP_ID_MSIX};
	uint8_t writable[PCI_CAP_MSIX_SIZEOF] = {0};
	uint16_t flags = (uint16_t)(count - 1), flags_writable = PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL;
	uint32_t table = table_offset | bar, pending = pending_offset | bar;

	assert(count >= 1 && count <= MSIX_VECTORS_MAX && table_offset % 8 == 0 && pending_offset % 8 == 0);
	memcpy(capability + PCI_MSIX_FLAGS, &flags, sizeof(flags));
	memcpy(writable + PCI_MSIX_FLAGS, &flags_writable, sizeof(flags_writable));
	memcpy(capability + PCI_MSIX_TABLE, &table, sizeof(table));
	memcpy(capability + PCI_MSIX_PBA, &pending, sizeof(pending));
	*msix = (struct msix){.function = function, .count = count};
	msix->capability = pci_add_capability(function, capability, writable, sizeof(capability));
	for (unsigned i = 0; i < count; i++)
		msix->entries[i].control = PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

static uint16_t flags(const struct msix *msix)
{
	return pci_get16(msix->function, msix->capability + PCI_MSIX_FLAGS);
}

static bool is_masked(const struct msix *msix, unsigned vector)
{
	return (flags(msix) & PCI_MSIX_FLAGS_MASKALL) || (msix->entries[vector].control & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

void msix_signal(struct msix *msix, unsigned vector)
{
	const struct pci_host *host = &msix->function->bus->host;

	if (vector >= msix->count || !(flags(msix) & PCI_MSIX_FLAGS_ENABLE))
		return;
	if (is_masked(msix, vector)) {
		msix->pending |= 1ull << vector;
		return;
	}
	msix->pending &= ~(1ull << vector);
	host->send_msi(host->owner, msix->entries[vector].address, msix->entries[vector].data);
}

static void send_pending(struct msix *msix)
{
	for (unsigned i = 0; i < msix->count; i++)
		if ((msix->pending >> i & 1) && !is_masked(msix, i))
			msix_signal(msix, i);
}

void msix_config_written(struct msix *msix)
{
	send_pending(msix);
}

static bool is_in_table(const struct msix *msix, uint64_t offset, unsigned size)
{
	uint64_t end = (uint64_t)msix->count * MSIX_ENTRY_SIZE;

	return offset < end && size <= end - offset;
}

void msix_table_read(const struct msix *msix, uint64_t offset, void *data, unsigned size)
{
	memset(data, 0, size);
	if (is_in_table(msix, offset, size))
		memcpy(data, (const uint8_t *)msix->entries + offset, size);
}

/* Aligned accesses of four or eight bytes are the only ones that the specification knows; eight may not span entries,
 * which alignment sees to. */
void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned size)
{
	if ((size != 4 && size != 8) || offset % size != 0 || !is_in_table(msix, offset, size))
		return;
	memcpy((uint8_t *)msix->entries + offset, data, size);
	send_pending(msix);
}

void msix_pending_read(const struct msix *msix, uint64_t offset, void *data, unsigned size)
{
	memset(data, 0, size);
	if (offset < sizeof(msix->pending) && size <= sizeof(msix->pending) - offset)
		memcpy(data, (const uint8_t *)&msix->pending + offset, size);
}

void msix_save(const struct msix *msix, struct state_writer *writer)
{
	uint64_t count = msix->count;

	state_put(writer, &count, sizeof(count));
	state_put(writer, msix->entries, msix->count * sizeof(msix->entries[0]));
	state_put(writer, &msix->pending, sizeof(msix->pending));
}

int msix_restore(struct msix *msix, struct state_reader *reader, struct error *err)
{
	uint64_t count;

	if (state_take(reader, &count, sizeof(count), err) < 0)
		return -1;
	if (count != msix->count)
		return error_set(err, EINVAL, "it has %u interrupt vectors, the state %llu", msix->count,
				 (unsigned long long)count);
	if (state_take(reader, msix->entries, msix->count * sizeof(msix->entries[0]), err) < 0)
		return -1;
	/* Bits beyond the last vector are never looked at. */
	return state_take(reader, &msix->pending, sizeof(msix->pending), err);
}

static_assert(sizeof(struct msix_entry) == MSIX_ENTRY_SIZE, "the table is accessed as the guest sees it");
