/* Requests of the guest, from the ring and back to it. */
#include "vmm/virtio/fs_parts.h"

void fs_request_free(struct fs *fs, struct fs_request *request)
{
	if (request->state == REQUEST_UNSENT)
		fs->unsent_count--;
	request->state = REQUEST_FREE;
	request->generation++;
	fs->free[fs->free_count++] = (uint16_t)(request - fs->requests);
}

static void request_push(struct fs *fs, struct fs_request *request, uint32_t written)
{
	queue_push(&fs->base.queues[request->queue], request->chain.head, written);
	fs->pushed[request->queue] = true;
}

void fs_request_end(struct fs *fs, struct fs_request *request, int error, uint32_t size)
{
	struct fuse_out_header out = {
	    .len = (uint32_t)sizeof(out) + size, .error = -error, .unique = request->header.unique};

	/* A guest that left no room for an answer gets none. */
	if (request->chain.writable < out.len) {
		request_push(fs, request, 0);
		return;
	}
	chain_seek_write(&request->chain, 0);
	chain_write(&request->chain, &out, sizeof(out));
	request_push(fs, request, out.len);
}

void fs_request_fail(struct fs *fs, struct fs_request *request, int error)
{
	fs_request_end(fs, request, error, 0);
}

uint64_t fs_request_tag(const struct fs *fs, const struct fs_request *request)
{
	return (uint64_t)request->generation << 32 | (uint64_t)(request - fs->requests);
}

/* The request that waits for this answer, or NULL: it was given up when the guest reset the device. */
struct fs_request *fs_request_find(struct fs *fs, uint64_t tag)
{
	uint32_t index = (uint32_t)tag;
	struct fs_request *request;

	if (index >= REQUESTS_MAX)
		return NULL;
	request = &fs->requests[index];
	return request->state == REQUEST_SENT && request->generation == tag >> 32 ? request : NULL;
}
