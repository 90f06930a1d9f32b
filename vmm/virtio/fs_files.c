/* The files whose descriptors are here: READ and WRITE without the file server. */
#include "vmm/virtio/fs_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

uint32_t fs_descriptor_entry(const struct fs *fs, uint64_t handle)
{
	return handle < fs->descriptors_end ? fs->descriptors[handle] : 0;
}

int fs_descriptor_get(const struct fs *fs, uint64_t handle, bool to_write)
{
	uint32_t entry = fs_descriptor_entry(fs, handle);

	if (to_write && (entry & READS_ONLY))
		return -1;
	return DESCRIPTOR(entry);
}

void fs_descriptor_close(struct fs *fs, uint64_t handle)
{
	uint32_t entry = fs_descriptor_entry(fs, handle);

	if (entry == 0)
		return;
	close(DESCRIPTOR(entry));
	fs->descriptors[handle] = 0;
}

void fs_descriptor_put(struct fs *fs, uint32_t handle, int fd, bool reads_only)
{
	fs_descriptor_close(fs, handle);
	fs->descriptors[handle] = ((uint32_t)fd + 1) | (reads_only ? READS_ONLY : 0);
	if (handle >= fs->descriptors_end)
		fs->descriptors_end = handle + 1;
}

void fs_descriptor_close_all(struct fs *fs)
{
	for (uint32_t handle = 1; handle < fs->descriptors_end; handle++)
		fs_descriptor_close(fs, handle);
	fs->descriptors_end = 0;
}

/* Reads what is in memory already. Less than the size asked for: the file ends there. -1 with errno EAGAIN when not all
 * of it is; EOPNOTSUPP when that cannot be told. */
static ssize_t read_cached(struct chain *chain, int fd, size_t size, off_t offset)
{
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
	size_t done = 0;

	while (done < size) {
		unsigned count;
		ssize_t more;

		chain_seek_write(chain, (uint32_t)(sizeof(struct fuse_out_header) + done));
		count = chain_writable_iovecs(chain, size - done, iovecs, CHAIN_BUFFERS_MAX);
		more = preadv2(fd, iovecs, (int)count, offset + (off_t)done, RWF_NOWAIT);
		if (more <= 0)
			return more < 0 ? -1 : (ssize_t)done;
		done += (size_t)more;
	}
	return (ssize_t)done;
}

bool fs_serve_read(struct fs *fs, struct fs_request *request, int fd)
{
	const struct fuse_read_in *in = &request->arguments.read;
	struct chain *chain = &request->chain;
	uint32_t room, wanted;
	ssize_t size;

	if (in->offset > INT64_MAX || chain->writable < sizeof(struct fuse_out_header)) {
		fs_request_fail(fs, request, EINVAL);
		return true;
	}
	room = chain->writable - (uint32_t)sizeof(struct fuse_out_header);
	wanted = in->size < room ? in->size : room;
	if (fs->direct && (wanted > DIRECT_BYTES || (fs->descriptors[in->fh] & MAY_WAIT)))
		return false;
	chain_seek_write(chain, sizeof(struct fuse_out_header));
	do
		size = fs->direct ? read_cached(chain, fd, wanted, (off_t)in->offset)
				  : chain_write_from_fd(chain, fd, wanted, (off_t)in->offset);
	while (size < 0 && errno == EINTR);
	if (size < 0 && fs->direct) {
		if (errno == EOPNOTSUPP)
			fs->descriptors[in->fh] |= MAY_WAIT;
		return false;
	}
	if (size < 0) {
		fs_request_fail(fs, request, errno);
		return true;
	}
	fs->work += (uint32_t)size / WORK_BYTES;
	fs_request_end(fs, request, 0, (uint32_t)size);
	return true;
}

/* Whether a write goes to the end of the file is said with each: the descriptor's own flag is never set, since a
 * process of the guest can change its mind. */
static ssize_t write_chain(struct chain *chain, int fd, const struct fuse_write_in *in)
{
	struct iovec iovecs[CHAIN_BUFFERS_MAX];
	unsigned count;

	if (!(in->flags & O_APPEND))
		return chain_read_to_fd(chain, fd, in->size, (off_t)in->offset);
	count = chain_readable_iovecs(chain, in->size, iovecs, CHAIN_BUFFERS_MAX);
	return pwritev2(fd, iovecs, (int)count, (off_t)in->offset, RWF_APPEND);
}

void fs_answer_written(struct fs *fs, struct fs_request *request, uint32_t size)
{
	struct fuse_write_out out = {.size = size};

	chain_seek_write(&request->chain, sizeof(struct fuse_out_header));
	chain_write(&request->chain, &out, sizeof(out));
	fs_request_end(fs, request, 0, sizeof(out));
}

bool fs_serve_write(struct fs *fs, struct fs_request *request, int fd)
{
	const struct fuse_write_in *in = &request->arguments.write;
	ssize_t size;

	if (in->offset > INT64_MAX) {
		fs_request_fail(fs, request, EINVAL);
		return true;
	}
	if (fs->direct && in->size > DIRECT_BYTES)
		return false;
	do
		size = write_chain(&request->chain, fd, in);
	while (size < 0 && errno == EINTR);
	if (size < 0) {
		fs_request_fail(fs, request, errno);
		return true;
	}
	fs->work += (uint32_t)size / WORK_BYTES;
	fs_answer_written(fs, request, (uint32_t)size);
	return true;
}
