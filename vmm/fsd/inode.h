/*
 * The inodes that the guest knows: each one a node id for the guest and an O_PATH descriptor here.
 *
 * A node id is an index into the table with the slot's generation above it (bits 32 and up), so that an id which the
 * guest has given back, or made up, is recognized. An inode lives as long as the guest counts lookups of it (or it is
 * pinned: the root and the exports). Its descriptor keeps the host's inode alive as well, so the key cannot come to
 * mean another file meanwhile, and a file that has been deleted can still be worked on.
 *
 * The guest may know more inodes than this process can have descriptors. Then inodes that have not been used for a
 * while and are not open are parked: the descriptor is closed, and where it came from (directory and name) is kept
 * instead. At the next use it is opened again, if the same file is still there; otherwise the guest gets ESTALE, looks
 * its path up anew and goes on. Names of parked inodes that the guest itself removes or renames are unparked first.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "common/error.h"

#define INODES_MAX (1u << 20)

/* What makes a file on the host the same one: the same file below a read-only and a writable export are two. */
struct inode_key {
	uint64_t mount;
	uint64_t device;
	uint64_t number;
};

/* What a file looked like when the guest last opened it: as long as it looks the same, the guest may keep its page
 * cache. size -1: not known. */
struct inode_version {
	int64_t size;
	struct statx_timestamp modified;
	struct statx_timestamp changed;
};

struct inode {
	struct inode_key key;
	uint64_t lookups;
	struct inode_version opened;
	int fd;			     /* O_PATH; -1 for the virtual root, a parked inode and a free slot */
	uint32_t generation;	     /* of the slot */
	uint32_t next;		     /* in the hash chain, or among the free slots; 0 ends it */
	uint32_t type;		     /* S_IFMT bits: fixed for an inode */
	uint32_t writers;	     /* handles on which the VMM itself may write */
	uint32_t opens;		     /* handles */
	uint32_t request;	     /* the last one that used it: what a request works on is not parked */
	uint64_t parent;	     /* id of the directory that it was found in */
	struct statx_timestamp born; /* parked: with the key, what makes it the same file */
	uint16_t export;	     /* index */
	bool used;
	bool pinned;
	bool parked;
	bool recent;   /* used since the last search for inodes to be parked */
	bool submount; /* a directory on another file system than its parent's: gets a device number of its own */
};

struct inode_table {
	struct inode *inodes; /* INODES_MAX, reserved address space; index 0 is never used, 1 is the root */
	uint32_t *buckets;    /* INODES_MAX, of which the first bucket_count (a power of two) are in use */
	uint32_t bucket_count;
	uint32_t count;
	uint32_t end;  /* slots from here on have never been used */
	uint32_t free; /* list */

	char (*names)[NAME_MAX + 1]; /* of the parked inodes; reserved address space */
	uint32_t parked_count;
	uint32_t open_max; /* descriptors that inodes may hold */
	uint32_t hand;	   /* where the search for inodes to be parked goes on */
	uint32_t request;  /* counts requests */
};

/* Makes the table with the virtual root in it. Inodes will hold about open_max descriptors at most. */
int inode_table_init(struct inode_table *table, uint32_t open_max, struct error *err);
/* Closes all descriptors and gives the memory back. */
void inode_table_free(struct inode_table *table);

/* The inode of a node id, or NULL: unknown, forgotten or made up. */
struct inode *inode_get(const struct inode_table *table, uint64_t id);
struct inode *inode_find(const struct inode_table *table, const struct inode_key *key);
struct inode_key inode_key_of(const struct statx *st);
uint64_t inode_id(const struct inode_table *table, const struct inode *inode);

/* Adds an inode, with no lookups yet; takes fd over. parent: the directory's id, 0 for an export. Other inodes may be
 * parked. NULL with errno ENFILE when the table is full (fd is closed). */
struct inode *inode_add(struct inode_table *table, const struct inode_key *key, uint64_t parent, int fd);
/* Gives a parked inode the descriptor of what has been found under its key (taken over). False, and fd is not taken
 * over, when that is another file: then the inode is no longer found by the key. */
bool inode_revive(struct inode_table *table, struct inode *inode, uint64_t parent, int fd, const struct statx *st);
/* Makes sure that the inode has its descriptor. 0, or -1 with errno: ESTALE when it is not to be found any more. */
int inode_unpark(struct inode_table *table, struct inode *inode);
/* Takes lookups away, at most as many as there are; the last one frees the inode. */
void inode_forget(struct inode_table *table, struct inode *inode, uint64_t lookups);
/* Removes all inodes of an export, whatever the guest counts of them. */
void inode_remove_export(struct inode_table *table, uint16_t export);
/* Forgets all inodes that are not pinned: a new session begins. */
void inode_forget_all(struct inode_table *table);
