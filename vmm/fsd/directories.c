/* Directories: listing them, and putting them on the disk. */
#include "vmm/fsd/server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int do_opendir(struct server *server, struct request *request)
{
	struct inode *inode = node_get(server, request->header->nodeid);
	struct fuse_open_out *out;
	uint32_t number;
	int fd = -1;

	if (!inode)
		return -ESTALE;
	if (!S_ISDIR(inode->type))
		return -ENOTDIR;
	if (!is_root(inode)) {
		fd = openat(inode->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return failure();
	}
	number = handle_add(&server->handles, request->header->nodeid, inode->export, fd, true);
	if (number == 0)
		return -ENFILE;
	inode->opens++;
	out = request_answer(request, sizeof(*out));
	out->fh = number;
	return 0;
}

/* One entry to be listed. */
struct entry {
	const char *name;
	uint64_t number;
	uint64_t cookie; /* where to go on after it */
	uint32_t type;	 /* DT_... */
};

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* The longer form also answers a lookup of the name. An entry that has gone meanwhile, or cannot be looked up, is still
 * listed: node id 0 tells the guest to look for itself. */
static void look_up(struct server *server, struct inode *directory, const struct entry *entry,
		    struct fuse_entry_out *out)
{
	struct inode *child;
	struct statx st;

	if (!is_dots(entry->name) && child_find(server, directory, entry->name, &child, &st) == 0)
		entry_fill(server, child, &st, out);
}

/* Adds an entry to the answer of at most `max` bytes. False when it does not fit. */
static bool add_entry(struct server *server, struct request *request, struct inode *directory, size_t max, bool plus,
		      const struct entry *entry)
{
	size_t length = strlen(entry->name);
	size_t head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
	size_t size = FUSE_REC_ALIGN(head + length);
	struct fuse_dirent *dirent;
	void *space;

	if (size > max - request->answer_size)
		return false;
	space = request_answer(request, size);
	dirent = plus ? &((struct fuse_direntplus *)space)->dirent : space;
	dirent->ino = entry->number;
	dirent->off = entry->cookie;
	dirent->namelen = (uint32_t)length;
	dirent->type = entry->type;
	memcpy(dirent->name, entry->name, length);
	if (plus)
		look_up(server, directory, entry, &((struct fuse_direntplus *)space)->entry_out);
	return true;
}

static int list_exports(struct server *server, struct request *request, struct inode *root, uint64_t offset, size_t max,
			bool plus)
{
	for (uint64_t i = offset; i < server->exports_end; i++) {
		const struct inode *inode = inode_get(&server->inodes, server->exports[i].node);
		struct entry entry = {.name = server->exports[i].name, .cookie = i + 1};

		if (!inode)
			continue;
		entry.number = inode->key.number;
		entry.type = inode->type >> 12;
		if (!add_entry(server, request, root, max, plus, &entry))
			break;
	}
	return 0;
}

/* Makes the entries from offset on available in the buffer. 1: they are; 0: there are none; or a negative errno value.
 */
static int fill_buffer(struct server *server, struct handle *handle, uint64_t offset)
{
	struct directory_buffer *buffer = &server->directory;
	uint32_t number = (uint32_t)(handle - server->handles.handles);
	ssize_t size;

	/* From the beginning always means afresh: rewinddir shows what is new. */
	if (buffer->handle == number && buffer->cookie == offset && offset != 0 && buffer->at < buffer->end)
		return 1;
	buffer->handle = 0;
	if (handle->cookie != offset && lseek(handle->fd, (off_t)offset, SEEK_SET) < 0)
		return failure();
	handle->cookie = offset;
	size = getdents64(handle->fd, buffer->entries, sizeof(buffer->entries));
	if (size <= 0)
		return size < 0 ? failure() : 0;
	buffer->handle = number;
	buffer->cookie = offset;
	buffer->at = 0;
	buffer->end = (size_t)size;
	/* Where the descriptor stands is what the last entry says. */
	for (size_t at = 0; at < buffer->end;) {
		const struct dirent64 *dirent = (const void *)(buffer->entries + at);

		handle->cookie = (uint64_t)dirent->d_off;
		at += dirent->d_reclen;
	}
	return 1;
}

static int list_directory(struct server *server, struct request *request, struct inode *directory,
			  struct handle *handle, uint64_t offset, size_t max, bool plus)
{
	struct directory_buffer *buffer = &server->directory;
	int result;

	for (;;) {
		result = fill_buffer(server, handle, offset);
		if (result <= 0)
			break;
		while (buffer->at < buffer->end) {
			const struct dirent64 *dirent = (const void *)(buffer->entries + buffer->at);
			struct entry entry = {.name = dirent->d_name,
					      .number = dirent->d_ino,
					      .cookie = (uint64_t)dirent->d_off,
					      .type = dirent->d_type};

			if (!add_entry(server, request, directory, max, plus, &entry))
				return 0;
			buffer->at += dirent->d_reclen;
			buffer->cookie = offset = entry.cookie;
		}
	}
	/* An error after some entries comes again at the next request. */
	return request->answer_size > 0 ? 0 : result;
}

static int list(struct server *server, struct request *request, bool plus)
{
	const struct fuse_read_in *in = request_take(request, sizeof(*in));
	struct inode *inode = node_get(server, request->header->nodeid);
	struct handle *handle = handle_get(&server->handles, in->fh, request->header->nodeid);
	size_t max = in->size < FS_PAYLOAD_MAX ? in->size : FS_PAYLOAD_MAX;

	if (!inode)
		return -ESTALE;
	if (!handle || !handle->directory)
		return -EBADF;
	if (is_root(inode))
		return list_exports(server, request, inode, in->offset, max, plus);
	return list_directory(server, request, inode, handle, in->offset, max, plus);
}

int do_readdir(struct server *server, struct request *request)
{
	return list(server, request, false);
}

int do_readdirplus(struct server *server, struct request *request)
{
	return list(server, request, true);
}

int do_fsyncdir(struct server *server, struct request *request)
{
	const struct fuse_fsync_in *in = request_take(request, sizeof(*in));
	const struct handle *handle = handle_get(&server->handles, in->fh, request->header->nodeid);
	int result;

	if (!handle || !handle->directory)
		return -EBADF;
	if (handle->fd < 0)
		return 0;
	result = in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(handle->fd) : fsync(handle->fd);
	return result < 0 ? failure() : 0;
}

/* sync(2) in the guest: everything of the file system that an export lies on. */
int do_syncfs(struct server *server, struct request *request)
{
	const struct inode *inode = node_get(server, request->header->nodeid);
	int fd, result;

	if (!inode)
		return -ESTALE;
	if (is_root(inode) || !S_ISDIR(inode->type))
		return 0;
	fd = openat(inode->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return failure();
	result = syncfs(fd) < 0 ? failure() : 0;
	close(fd);
	return result;
}
