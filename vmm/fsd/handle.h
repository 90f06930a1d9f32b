/*
 * Open files and directories of the guest: what `fh` names in FUSE requests. Handles are numbers from 1 to
 * FS_HANDLE_MAX, reused after RELEASE; each holds a descriptor of its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct handle {
	uint64_t node;	 /* the id that it was opened for */
	uint64_t cookie; /* directory: where the descriptor stands */
	int fd;		 /* -1 for the virtual root's directory */
	uint32_t next;	 /* among the free ones; 0 ends it */
	uint16_t export; /* of the node, which the guest may have forgotten since */
	bool used;
	bool directory;
	bool revoked;	 /* its export was taken back: nothing but its release is left */
	bool vmm_writes; /* the VMM has the descriptor and may write by it */
};

struct handle_table {
	struct handle *handles; /* reserved address space; index 0 is never used */
	uint32_t end;		/* numbers from here on have never been used */
	uint32_t free;
};

int handle_table_init(struct handle_table *table, struct error *err);
void handle_table_free(struct handle_table *table);

/* A new handle; takes fd over. 0 when there are too many (fd is closed). */
uint32_t handle_add(struct handle_table *table, uint64_t node, uint16_t export, int fd, bool directory);
/* The handle that a request names, or NULL when it is not open (any more), or was opened for another node. */
struct handle *handle_get(const struct handle_table *table, uint64_t number, uint64_t node);
/* The same for its release: also when it has been revoked. */
struct handle *handle_get_to_release(const struct handle_table *table, uint64_t number, uint64_t node);
/* Closes the descriptor; the number stays taken until the guest releases it. */
void handle_revoke(struct handle *handle);
void handle_close(struct handle_table *table, struct handle *handle);
void handle_close_all(struct handle_table *table);
