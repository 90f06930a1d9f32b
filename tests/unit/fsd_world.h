/*
 * A file server without its jail on a scratch directory, for tests: requests are made, handed to it and its answers
 * looked at. Include it after cmocka.h.
 */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/fsd/jail.h"
#include "vmm/fsd/server.h"

struct world {
	struct server server;
	char path[64]; /* of the scratch directory on this side */
	int directory;
	uint64_t root; /* node id of the export "tree", for those who make one */

	/* What the VMM was told to close or to give up. */
	uint32_t revoked_last; /* a handle */
	unsigned revoked;

	_Alignas(16) uint8_t request[FS_MESSAGE_MAX];
	size_t size;
	_Alignas(16) uint8_t answer[FS_MESSAGE_MAX];
	size_t answer_size;
	int descriptor;
};

static inline void count_revoked(struct server *server, uint32_t handle, uint32_t flag)
{
	struct world *world = server->owner;

	assert_int_not_equal(handle, 0);
	assert_true(flag == FS_WRITES_TO_SERVER || flag == FS_CLOSED);
	world->revoked_last = handle;
	world->revoked++;
}

static inline void begin(struct world *world, uint32_t opcode, uint64_t node)
{
	struct fuse_in_header header = {.opcode = opcode, .unique = 9, .nodeid = node};

	memset(world->request, 0, sizeof(header));
	memcpy(world->request, &header, sizeof(header));
	world->size = sizeof(header);
}

static inline void add(struct world *world, const void *data, size_t size)
{
	if (size > 0)
		memcpy(world->request + world->size, data, size);
	world->size += size;
}

/* Returns the error as a positive number, 0 for success, -1 for no answer. */
static inline int finish(struct world *world)
{
	const struct fuse_out_header *out = (const void *)(world->answer + sizeof(struct fs_message));

	((struct fuse_in_header *)world->request)->len = (uint32_t)world->size;
	world->answer_size =
	    server_handle(&world->server, world->request, world->size, world->answer, &world->descriptor);
	if (world->answer_size == 0)
		return -1;
	assert_int_equal(world->answer_size, sizeof(struct fs_message) + out->len);
	assert_int_equal(out->unique, 9);
	assert_true(out->error <= 0);
	return -out->error;
}

static inline const void *payload(const struct world *world)
{
	return world->answer + sizeof(struct fs_message) + sizeof(struct fuse_out_header);
}

static inline size_t payload_size(const struct world *world)
{
	return world->answer_size - sizeof(struct fs_message) - sizeof(struct fuse_out_header);
}

static inline int call(struct world *world, uint32_t opcode, uint64_t node, const void *arguments, size_t size)
{
	begin(world, opcode, node);
	add(world, arguments, size);
	return finish(world);
}

static inline int call_name(struct world *world, uint32_t opcode, uint64_t node, const void *arguments, size_t size,
			    const char *name)
{
	begin(world, opcode, node);
	add(world, arguments, size);
	add(world, name, strlen(name) + 1);
	return finish(world);
}

static inline int look_up(struct world *world, uint64_t parent, const char *name, uint64_t *node)
{
	int error = call_name(world, FUSE_LOOKUP, parent, NULL, 0, name);

	if (node)
		*node = error == 0 ? ((const struct fuse_entry_out *)payload(world))->nodeid : 0;
	return error;
}

static inline void start_session(struct world *world)
{
	struct fuse_init_in in = {.major = 7, .minor = 37, .flags = ~0u};

	assert_int_equal(call(world, FUSE_INIT, 0, &in, sizeof(in)), 0);
}

/* A server without exports, whose session has not begun. */
static inline struct world *world_new(void)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	strcpy(world->path, "/tmp/fsd_test_XXXXXX");
	assert_non_null(mkdtemp(world->path));
	world->directory = open(world->path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(jail_enter_self(NULL), 0);
	assert_int_equal(server_init(&world->server, 20000, NULL), 0);
	world->server.revoke = count_revoked;
	world->server.owner = world;
	return world;
}

static inline int world_tear_down(void **state)
{
	struct world *world = *state;
	char command[100];

	server_free(&world->server);
	close(world->directory);
	snprintf(command, sizeof(command), "rm -rf '%s'", world->path);
	assert_int_equal(system(command), 0);
	free(world);
	return 0;
}
