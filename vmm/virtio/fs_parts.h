/*
 * What the files of the virtio-fs device share. Each calls those below it only:
 *
 *   fs.c          the device, which of its work is done on which thread, and the theory of operation
 *   fs_server.c   what passes between it and the file server
 *   fs_files.c    READ and WRITE without the file server
 *   fs_request.c  requests, from the ring and back to it
 */
#pragma once

#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fs_protocol.h"
#include "vmm/loop.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/fs.h"
#include "vmm/virtio/queue.h"

#define TAG_SIZE 36
#define QUEUE_HIGH_PRIORITY 0
#define QUEUE_REQUESTS 1
#define QUEUE_COUNT 2
#define QUEUE_SIZE 1024

/* The socket takes about a dozen messages in each direction; more waiting requests would not make anything faster. */
#define REQUESTS_MAX 64

/* Served in one go before other devices get their turn: requests, and pieces of WORK_BYTES that were copied. */
#define BATCH_MAX 64
#define WORK_BYTES 65536u

/* What a vCPU does itself when it rings. */
#define DIRECT_MAX 8
#define DIRECT_BYTES 65536u

/* How long a vCPU waits for an answer, in microseconds (the host's kernel counts in ticks of up to 4 ms), and how many
 * requests are not waited for after one that took longer. */
#define WAIT_MICROSECONDS 5000
#define IMPATIENCE 64

#define ANSWERS_MAX 64
#define SOCKET_BUFFER (2 * FS_MESSAGE_MAX)

struct fs_config {
	char tag[TAG_SIZE];
	uint32_t request_queues;
	uint32_t notify_buffer_size;
};

enum request_state {
	REQUEST_FREE,
	REQUEST_POSTPONED,
	REQUEST_UNSENT, /* the socket was full */
	REQUEST_SENT,
};

struct fs_request {
	struct chain chain;
	struct fuse_in_header header; /* the one copy, of which the length has been checked */
	union {
		struct fuse_read_in read;
		struct fuse_write_in write;
		struct fuse_release_in release;
	} arguments; /* copied for these three operations; the chain stands behind them */
	uint32_t argument_size;
	uint32_t part; /* READ and WRITE by the file server: bytes that the present message is about */
	uint32_t done; /* and those before */
	uint32_t generation;
	uint8_t queue;
	enum request_state state;
};

struct fs {
	struct virtio_device base;
	struct fs_config config;
	struct loop_source source;
	struct loop_timer again; /* more to do after a batch */
	void (*ended)(void *owner);
	void *owner;
	bool dead;    /* the file server has gone */
	bool mounted; /* the guest has begun a session, of which the file server holds a part */

	bool direct;		      /* on the thread of a vCPU */
	struct fs_request *awaited;   /* by that thread; NULL: none */
	const char *failure;	      /* of the file server, found there; NULL: none */
	unsigned impatience;	      /* requests that will not be waited for */
	struct fs_request *postponed; /* NULL: none */

	/* By handle: descriptor + 1, READS_ONLY and MAY_WAIT; 0: none. Address space for all, reserved at the start. */
	uint32_t *descriptors;
	uint32_t descriptors_end;

	struct fs_request requests[REQUESTS_MAX];
	uint16_t free[REQUESTS_MAX];
	unsigned free_count;
	unsigned unsent_count;
	unsigned work; /* of the present batch */
	bool pushed[QUEUE_COUNT];

	_Alignas(16) uint8_t answer[FS_MESSAGE_MAX];
};

#define READS_ONLY (1u << 31)
#define MAY_WAIT (1u << 30) /* the file's file system cannot say whether a READ would wait */
#define DESCRIPTOR(entry) ((int)((entry) & ~(READS_ONLY | MAY_WAIT)) - 1)
#define DESCRIPTORS_SIZE ((FS_HANDLE_MAX + 1ul) * sizeof(uint32_t))

/* --- fs_request.c ----------------------------------------------------------------------------------------------------
 */

/* Puts it into the list of free ones, which gives it another generation. */
void fs_request_free(struct fs *fs, struct fs_request *request);
/* Writes the header of the answer, of which size bytes of payload are in the chain already, and gives the chain back.
 * error is a positive errno value or 0. */
void fs_request_end(struct fs *fs, struct fs_request *request, int error, uint32_t size);
void fs_request_fail(struct fs *fs, struct fs_request *request, int error);
/* What a message about it is known by; and back: NULL when it is not waited for any more. */
uint64_t fs_request_tag(const struct fs *fs, const struct fs_request *request);
struct fs_request *fs_request_find(struct fs *fs, uint64_t tag);

/* --- fs_files.c ------------------------------------------------------------------------------------------------------
 */

/* 0: there is no descriptor. */
uint32_t fs_descriptor_entry(const struct fs *fs, uint64_t handle);
/* The open file of a handle, or -1 when the file server has to be asked. */
int fs_descriptor_get(const struct fs *fs, uint64_t handle, bool to_write);
void fs_descriptor_close(struct fs *fs, uint64_t handle);
/* handle is from 1 to FS_HANDLE_MAX; fd is taken over. */
void fs_descriptor_put(struct fs *fs, uint32_t handle, int fd, bool reads_only);
void fs_descriptor_close_all(struct fs *fs);

/* Carry out a READ or WRITE. On a vCPU's thread: false when it is to be postponed. */
bool fs_serve_read(struct fs *fs, struct fs_request *request, int fd);
bool fs_serve_write(struct fs *fs, struct fs_request *request, int fd);
/* Ends a WRITE of which size bytes were written. */
void fs_answer_written(struct fs *fs, struct fs_request *request, uint32_t size);

/* --- fs_server.c -----------------------------------------------------------------------------------------------------
 */

/* Sends a request, or remembers to. */
void fs_request_send(struct fs *fs, struct fs_request *request);
/* Sends those that there was no room for. */
void fs_send_again(struct fs *fs);
/* Whether answers are still to come. */
bool fs_has_sent(const struct fs *fs);
/* Receives one message. 1: done; 0: there is none now; -1: the file server has gone. flags: MSG_DONTWAIT, or 0 to wait
 * for WAIT_MICROSECONDS. */
int fs_receive(struct fs *fs, int flags);
/* On a vCPU's thread, after a request was served: takes the answer, where it is one to wait for and comes in time. */
void fs_wait_for_answer(struct fs *fs);
/* The file server is of no more use: says so to who asked for that (fs_on_end). */
void fs_end_server(struct fs *fs, const char *reason);
