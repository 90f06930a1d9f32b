/*
 * What of the host's file system a container gets to see: its root file system and the sources of its bind mounts. Each
 * becomes an export of the file server, known to the agent by its name.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"
#include "runtime/idmap.h"
#include "runtime/spec.h"

#define EXPORT_ROOTFS "rootfs"
#define EXPORT_GROUP_SIZE 13 /* bytes of a group's name, with its NUL */

struct export
{
	char name[40];
	int fd;			  /* O_PATH, of a mount of its own (export_tree.h) */
	size_t mount;		  /* index into spec.mounts, where it is a bind mount */
	unsigned long host_flags; /* of the host's mount: ST_NOSUID and so on, statvfs(3) */
	bool read_only;
	bool read_only_below; /* and so are the mounts below it */
	bool recursive;
	struct idmap idmap; /* refers to the spec */
	json_t *writable;   /* array of relative paths: mounts below a read-only one that are not; or NULL */
	bool is_socket;	    /* not an export after all: relayed, see relay.h. fd is the socket itself */
	uid_t uid;	    /* is_socket: its owner and mode */
	gid_t gid;
	mode_t mode;
	unsigned cache; /* seconds that the guest may believe what it knows of names and attributes */
};

struct exports {
	struct export *list; /* the root file system, unless it is a disk, then the bind mounts */
	size_t n;
	bool rootfs_is_disk; /* disks.h */
	char *rootfs;	     /* absolute path of the root file system */
};

void exports_release(struct exports *exports);
#define cleanup_exports __attribute__((cleanup(exports_release)))

/* Gives the exports of a container that joins a sandbox a group of their own: names that no other has. group gets the
 * group's name. */
int exports_join_group(struct exports *exports, char group[EXPORT_GROUP_SIZE], struct error *err);

/* Opens everything that the spec names, relative paths below the bundle. A source that is missing, or of a kind that
 * cannot be exported, is an error that names it. */
int exports_open(const struct spec *spec, int bundle, struct exports *exports, struct error *err);
