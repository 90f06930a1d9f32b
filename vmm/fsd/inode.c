#include "vmm/fsd/inode.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FIRST_BUCKETS 1024u

/* Address space only: pages come as they are touched, and the table never moves. */
static void *reserve(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

int inode_table_init(struct inode_table *table, struct error *err)
{
	struct inode *root;

	memset(table, 0, sizeof(*table));
	table->inodes = reserve(INODES_MAX * sizeof(struct inode));
	table->buckets = reserve(INODES_MAX * sizeof(uint32_t));
	if (!table->inodes || !table->buckets)
		return error_set_errno(err, "reserve memory for inodes");
	table->bucket_count = FIRST_BUCKETS;
	table->end = FUSE_ROOT_ID + 1;
	root = &table->inodes[FUSE_ROOT_ID];
	root->fd = -1;
	root->type = S_IFDIR;
	root->used = root->pinned = true;
	return 0;
}

void inode_table_free(struct inode_table *table)
{
	for (uint32_t i = FUSE_ROOT_ID; i < table->end; i++)
		if (table->inodes[i].used && table->inodes[i].fd >= 0)
			close(table->inodes[i].fd);
	munmap(table->inodes, INODES_MAX * sizeof(struct inode));
	munmap(table->buckets, INODES_MAX * sizeof(uint32_t));
	memset(table, 0, sizeof(*table));
}

struct inode *inode_get(const struct inode_table *table, uint64_t id)
{
	uint32_t index = (uint32_t)id;
	struct inode *inode;

	if (index < FUSE_ROOT_ID || index >= table->end)
		return NULL;
	inode = &table->inodes[index];
	return inode->used && inode->generation == id >> 32 ? inode : NULL;
}

uint64_t inode_id(const struct inode_table *table, const struct inode *inode)
{
	return (uint64_t)inode->generation << 32 | (uint64_t)(inode - table->inodes);
}

static uint32_t *bucket_of(const struct inode_table *table, const struct inode_key *key)
{
	uint64_t hash = key->number * 0x9e3779b97f4a7c15ull ^ (key->device + key->mount) * 0xc2b2ae3d27d4eb4full;

	hash ^= hash >> 32;
	return &table->buckets[hash & (table->bucket_count - 1)];
}

static bool same_key(const struct inode_key *a, const struct inode_key *b)
{
	return a->number == b->number && a->device == b->device && a->mount == b->mount;
}

struct inode *inode_find(const struct inode_table *table, const struct inode_key *key)
{
	uint32_t index = *bucket_of(table, key);

	while (index != 0 && !same_key(&table->inodes[index].key, key))
		index = table->inodes[index].next;
	return index != 0 ? &table->inodes[index] : NULL;
}

static void insert(struct inode_table *table, struct inode *inode)
{
	uint32_t *bucket = bucket_of(table, &inode->key);

	inode->next = *bucket;
	*bucket = (uint32_t)(inode - table->inodes);
}

static void grow_buckets(struct inode_table *table)
{
	memset(table->buckets, 0, table->bucket_count * sizeof(uint32_t));
	table->bucket_count *= 2;
	for (uint32_t i = FUSE_ROOT_ID + 1; i < table->end; i++)
		if (table->inodes[i].used)
			insert(table, &table->inodes[i]);
}

static struct inode *take_slot(struct inode_table *table)
{
	uint32_t index = table->free;

	if (index != 0) {
		table->free = table->inodes[index].next;
		return &table->inodes[index];
	}
	return table->end < INODES_MAX ? &table->inodes[table->end++] : NULL;
}

struct inode *inode_add(struct inode_table *table, const struct inode_key *key, int fd)
{
	struct inode *inode = take_slot(table);
	uint32_t generation;

	if (!inode) {
		close(fd);
		errno = ENFILE;
		return NULL;
	}
	generation = inode->generation;
	*inode = (struct inode){.key = *key, .fd = fd, .generation = generation, .used = true, .opened = {.size = -1}};
	if (++table->count > table->bucket_count && table->bucket_count < INODES_MAX)
		grow_buckets(table); /* this one included */
	else
		insert(table, inode);
	return inode;
}

static void remove_inode(struct inode_table *table, struct inode *inode)
{
	uint32_t index = (uint32_t)(inode - table->inodes);
	uint32_t *link = bucket_of(table, &inode->key);

	while (*link != index)
		link = &table->inodes[*link].next;
	*link = inode->next;
	close(inode->fd);
	inode->fd = -1;
	inode->used = false;
	inode->generation++;
	inode->next = table->free;
	table->free = index;
	table->count--;
}

void inode_forget(struct inode_table *table, struct inode *inode, uint64_t lookups)
{
	inode->lookups -= lookups < inode->lookups ? lookups : inode->lookups;
	if (inode->lookups == 0 && !inode->pinned)
		remove_inode(table, inode);
}

void inode_forget_all(struct inode_table *table)
{
	for (uint32_t i = FUSE_ROOT_ID; i < table->end; i++) {
		struct inode *inode = &table->inodes[i];

		if (!inode->used)
			continue;
		inode->writers = 0;
		inode->opened.size = -1;
		inode_forget(table, inode, inode->lookups);
	}
}
