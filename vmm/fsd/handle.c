#include "vmm/fsd/handle.h"

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fs_protocol.h"

#define TABLE_BYTES ((FS_HANDLE_MAX + 1ul) * sizeof(struct handle))

int handle_table_init(struct handle_table *table, struct error *err)
{
	memset(table, 0, sizeof(*table));
	/* Address space only: pages come as they are touched. */
	table->handles =
	    mmap(NULL, TABLE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table->handles == MAP_FAILED)
		return error_set_errno(err, "reserve memory for handles");
	table->end = 1;
	return 0;
}

void handle_table_free(struct handle_table *table)
{
	handle_close_all(table);
	munmap(table->handles, TABLE_BYTES);
	memset(table, 0, sizeof(*table));
}

uint32_t handle_add(struct handle_table *table, uint64_t node, uint16_t export, int fd, bool directory)
{
	uint32_t number = table->free;

	if (number != 0) {
		table->free = table->handles[number].next;
	} else if (table->end <= FS_HANDLE_MAX) {
		number = table->end++;
	} else {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	table->handles[number] =
	    (struct handle){.node = node, .export = export, .fd = fd, .used = true, .directory = directory};
	return number;
}

struct handle *handle_get_to_release(const struct handle_table *table, uint64_t number, uint64_t node)
{
	struct handle *handle;

	if (number == 0 || number >= table->end)
		return NULL;
	handle = &table->handles[number];
	return handle->used && handle->node == node ? handle : NULL;
}

struct handle *handle_get(const struct handle_table *table, uint64_t number, uint64_t node)
{
	struct handle *handle = handle_get_to_release(table, number, node);

	return handle && !handle->revoked ? handle : NULL;
}

void handle_revoke(struct handle *handle)
{
	if (handle->fd >= 0)
		close(handle->fd);
	handle->fd = -1;
	handle->vmm_writes = false;
	handle->revoked = true;
}

void handle_close(struct handle_table *table, struct handle *handle)
{
	if (handle->fd >= 0)
		close(handle->fd);
	handle->used = false;
	handle->next = table->free;
	table->free = (uint32_t)(handle - table->handles);
}

void handle_close_all(struct handle_table *table)
{
	for (uint32_t i = 1; i < table->end; i++)
		if (table->handles[i].used)
			handle_close(table, &table->handles[i]);
}
