/* The entries of the virtual root: added and taken back. */
#include "vmm/fsd/server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/cleanup.h"

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

bool export_name_valid(const char *name)
{
	size_t length = strlen(name);

	return length >= 1 && length <= EXPORT_NAME_MAX && strspn(name, NAME_CHARACTERS) == length &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

struct export *server_find_export(struct server *server, const char *name)
{
	for (unsigned i = 0; i < server->exports_end; i++)
		if (server->exports[i].node != 0 && strcmp(server->exports[i].name, name) == 0)
			return &server->exports[i];
	return NULL;
}

/* A free place, or NULL. Node ids are never 0. */
static struct export *free_place(struct server *server)
{
	for (unsigned i = 0; i < server->exports_end; i++)
		if (server->exports[i].node == 0)
			return &server->exports[i];
	return server->exports_end < EXPORTS_MAX ? &server->exports[server->exports_end++] : NULL;
}

/* The host's /proc holds this process's own memory and descriptors. */
static int check_tree(const char *name, int fd, struct statx *st, struct error *err)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_WANTED, st) < 0)
		return error_set_errno(err, "export `%s`: stat", name);
	if (fs.f_type == PROC_SUPER_MAGIC)
		return error_set(err, EACCES, "export `%s`: on procfs, which is not exported", name);
	return 0;
}

static int check_name(struct server *server, const char *name, struct error *err)
{
	if (!export_name_valid(name))
		return error_set(err, EINVAL, "`%s` is not a name for an export", name);
	if (server_find_export(server, name))
		return error_set(err, EEXIST, "two exports are named `%s`", name);
	return 0;
}

int server_export(struct server *server, const char *name, uint32_t seconds, int given_fd, struct error *err)
{
	cleanup_close int fd = given_fd;
	struct export *export;
	struct inode_key key;
	struct inode *inode;
	struct statx st = {0};

	if (check_name(server, name, err) < 0 || check_tree(name, fd, &st, err) < 0)
		return -1;
	export = free_place(server);
	if (!export)
		return error_set(err, ENOSPC, "export `%s`: more than %d exports", name, EXPORTS_MAX);
	key = inode_key_of(&st);
	inode = inode_add(&server->inodes, &key, 0, take_fd(&fd));
	if (!inode)
		return error_set_errno(err, "export `%s`", name);
	inode->pinned = true;
	inode->type = st.stx_mode & S_IFMT;
	inode->submount = S_ISDIR(st.stx_mode);
	inode->export = (uint16_t)(export - server->exports);
	snprintf(export->name, sizeof(export->name), "%s", name);
	export->cache_seconds = seconds;
	export->added_by = 0;
	export->node = inode_id(&server->inodes, inode);
	server->export_count++;
	return 0;
}

/* The guest's open files of an export, here and in the VMM. Its number stays taken: the guest will still release it,
 * and must not release another file then. */
static void revoke_handles(struct server *server, uint16_t export)
{
	for (uint32_t i = 1; i < server->handles.end; i++) {
		struct handle *handle = &server->handles.handles[i];

		if (!handle->used || handle->revoked || handle->export != export)
			continue;
		if (server->directory.handle == i)
			server->directory.handle = 0;
		if (!handle->directory)
			server->revoke(server, i, FS_CLOSED);
		handle_revoke(handle);
	}
}

static void remove_export(struct server *server, struct export *export)
{
	uint16_t index = (uint16_t)(export - server->exports);

	revoke_handles(server, index);
	inode_remove_export(&server->inodes, index);
	export->node = 0;
	server->export_count--;
}

static bool is_meant(const char *export, const char *name, bool group)
{
	size_t length = strlen(name);

	if (!group)
		return strcmp(export, name) == 0;
	return strncmp(export, name, length) == 0 && export[length] == '.';
}

unsigned server_unexport(struct server *server, const char *name, bool group)
{
	unsigned n = 0;

	for (unsigned i = 0; i < server->exports_end; i++) {
		struct export *export = &server->exports[i];

		if (export->node == 0 || !is_meant(export->name, name, group))
			continue;
		remove_export(server, export);
		n++;
	}
	return n;
}
