#include "vmm/fsd/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdio.h>
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

int inode_table_init(struct inode_table *table, uint32_t open_max, struct error *err)
{
	struct inode *root;

	memset(table, 0, sizeof(*table));
	table->inodes = reserve(INODES_MAX * sizeof(struct inode));
	table->buckets = reserve(INODES_MAX * sizeof(uint32_t));
	table->names = reserve(INODES_MAX * sizeof(*table->names));
	if (!table->inodes || !table->buckets || !table->names)
		return error_set_errno(err, "reserve memory for inodes");
	table->bucket_count = FIRST_BUCKETS;
	table->open_max = open_max;
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
	munmap(table->names, INODES_MAX * sizeof(*table->names));
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

static void unlink_key(struct inode_table *table, const struct inode *inode)
{
	uint32_t index = (uint32_t)(inode - table->inodes);
	uint32_t *link = bucket_of(table, &inode->key);

	while (*link != index)
		link = &table->inodes[*link].next;
	*link = inode->next;
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

struct inode_key inode_key_of(const struct statx *st)
{
	return (struct inode_key){.mount = st->stx_mnt_id,
				  .device = (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor,
				  .number = st->stx_ino};
}

/* --- parking ---------------------------------------------------------------------------------------------------------
 */

#define STATX_IDENTITY (STATX_INO | STATX_MNT_ID | STATX_BTIME)

/* The name by which the descriptor was opened, as the kernel knows it now. False when there is none to be had. */
static bool name_of(const struct inode *inode, char name[NAME_MAX + 1])
{
	char link[16], path[PATH_MAX];
	const char *last;
	ssize_t size;

	snprintf(link, sizeof(link), "%d", inode->fd);
	size = readlink(link, path, sizeof(path) - 1);
	if (size <= 0)
		return false;
	path[size] = '\0';
	last = strrchr(path, '/');
	if (!last || last[1] == '\0' || strlen(last + 1) > NAME_MAX)
		return false;
	memcpy(name, last + 1, strlen(last + 1) + 1);
	return true;
}

/* Closes the descriptor of an inode that can be found again. */
static bool park(struct inode_table *table, struct inode *inode)
{
	const struct inode *parent = inode_get(table, inode->parent);
	char *name = table->names[inode - table->inodes];
	struct inode_key key;
	struct statx st;

	if (!parent || parent->fd < 0 || !name_of(inode, name))
		return false;
	if (statx(parent->fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_IDENTITY, &st) < 0)
		return false;
	key = inode_key_of(&st);
	/* Without a time of birth, a number that is used again would not be noticed. */
	if (!same_key(&key, &inode->key) || !(st.stx_mask & STATX_BTIME))
		return false;
	inode->born = st.stx_btime;
	close(inode->fd);
	inode->fd = -1;
	inode->parked = true;
	table->parked_count++;
	return true;
}

#define PARK_BATCH 64u
#define PARK_SEARCH 4096u

/* Goes on around the table from where the last search ended; who has been used since then is passed over once. */
static void park_some(struct inode_table *table)
{
	unsigned parked = 0;

	for (unsigned i = 0; i < PARK_SEARCH && parked < PARK_BATCH; i++) {
		struct inode *inode;

		if (++table->hand >= table->end)
			table->hand = FUSE_ROOT_ID + 1;
		inode = &table->inodes[table->hand];
		if (!inode->used || inode->pinned || inode->parked || inode->opens > 0 ||
		    inode->request == table->request)
			continue;
		if (inode->recent)
			inode->recent = false;
		else
			parked += park(table, inode);
	}
}

static void park_if_needed(struct inode_table *table)
{
	if (table->count - table->parked_count >= table->open_max)
		park_some(table);
}

static bool is_parked_file(const struct inode *inode, const struct statx *st)
{
	struct inode_key key = inode_key_of(st);

	return same_key(&key, &inode->key) && st->stx_btime.tv_sec == inode->born.tv_sec &&
	       st->stx_btime.tv_nsec == inode->born.tv_nsec;
}

static void set_unparked(struct inode_table *table, struct inode *inode, int fd)
{
	inode->fd = fd;
	inode->parked = false;
	inode->recent = true;
	inode->request = table->request;
	table->parked_count--;
}

bool inode_revive(struct inode_table *table, struct inode *inode, uint64_t parent, int fd, const struct statx *st)
{
	if (is_parked_file(inode, st)) {
		inode->parent = parent;
		set_unparked(table, inode, fd);
		return true;
	}
	unlink_key(table, inode);
	inode->key = (struct inode_key){.mount = UINT64_MAX, .number = (uint64_t)(inode - table->inodes)};
	insert(table, inode);
	return false;
}

static int unpark_one(struct inode_table *table, struct inode *inode)
{
	const struct inode *parent = inode_get(table, inode->parent);
	struct statx st;
	int fd;

	if (!parent || parent->fd < 0) {
		errno = ESTALE;
		return -1;
	}
	fd = openat(parent->fd, table->names[inode - table->inodes], O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		errno = errno == ENOENT || errno == ENOTDIR ? ESTALE : errno;
		return -1;
	}
	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_IDENTITY, &st) == 0 && is_parked_file(inode, &st)) {
		set_unparked(table, inode, fd);
		return 0;
	}
	close(fd);
	errno = ESTALE;
	return -1;
}

/* The directories above may be parked as well: the uppermost first. Who is renamed on the host can make the chain go in
 * circles; it then has more links than a path can have. */
int inode_unpark(struct inode_table *table, struct inode *inode)
{
	unsigned steps = 0;

	park_if_needed(table);
	while (inode->parked) {
		struct inode *top = inode, *parent;

		while ((parent = inode_get(table, top->parent)) && parent->parked && steps++ < PATH_MAX)
			top = parent;
		if (unpark_one(table, top) < 0)
			return -1;
	}
	return 0;
}

/* --- adding and removing ---------------------------------------------------------------------------------------------
 */

struct inode *inode_add(struct inode_table *table, const struct inode_key *key, uint64_t parent, int fd)
{
	struct inode *inode;
	uint32_t generation;

	park_if_needed(table);
	inode = take_slot(table);

	if (!inode) {
		close(fd);
		errno = ENFILE;
		return NULL;
	}
	generation = inode->generation;
	*inode = (struct inode){.key = *key,
				.parent = parent,
				.fd = fd,
				.generation = generation,
				.used = true,
				.recent = true,
				.request = table->request,
				.opened = {.size = -1}};
	if (++table->count > table->bucket_count && table->bucket_count < INODES_MAX)
		grow_buckets(table); /* this one included */
	else
		insert(table, inode);
	return inode;
}

static void remove_inode(struct inode_table *table, struct inode *inode)
{
	unlink_key(table, inode);
	if (inode->parked)
		table->parked_count--;
	else
		close(inode->fd);
	inode->fd = -1;
	inode->parked = false;
	inode->used = false;
	inode->generation++;
	inode->next = table->free;
	table->free = (uint32_t)(inode - table->inodes);
	table->count--;
}

void inode_forget(struct inode_table *table, struct inode *inode, uint64_t lookups)
{
	inode->lookups -= lookups < inode->lookups ? lookups : inode->lookups;
	if (inode->lookups == 0 && !inode->pinned)
		remove_inode(table, inode);
}

void inode_remove_export(struct inode_table *table, uint16_t export)
{
	for (uint32_t i = FUSE_ROOT_ID + 1; i < table->end; i++)
		if (table->inodes[i].used && table->inodes[i].export == export)
			remove_inode(table, &table->inodes[i]);
}

void inode_forget_all(struct inode_table *table)
{
	for (uint32_t i = FUSE_ROOT_ID; i < table->end; i++) {
		struct inode *inode = &table->inodes[i];

		if (!inode->used)
			continue;
		inode->writers = 0;
		inode->opens = 0;
		inode->opened.size = -1;
		inode_forget(table, inode, inode->lookups);
	}
}
