/*
 * Exports that come and go: the control socket's requests, and what is left of an export that has been taken back,
 * which is nothing, whatever the guest still holds of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "tests/unit/fsd_world.h"
#include "vmm/fsd/control.h"

static int open_as(struct world *world, uint32_t opcode, uint64_t node, uint64_t *handle)
{
	struct fuse_open_in in = {.flags = O_RDWR};
	int error = call(world, opcode, node, &in, sizeof(in));

	*handle = error == 0 ? ((const struct fuse_open_out *)payload(world))->fh : 0;
	return error;
}

static int read_as(struct world *world, uint32_t opcode, uint64_t node, uint64_t handle)
{
	struct fuse_read_in in = {.fh = handle, .size = 4096};

	return call(world, opcode, node, &in, sizeof(in));
}

static void release(struct world *world, uint64_t node, uint64_t handle)
{
	struct fuse_release_in in = {.fh = handle};

	assert_int_equal(call(world, FUSE_RELEASE, node, &in, sizeof(in)), -1);
}

static unsigned count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(directory);
	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

static void told(struct server *server, uint32_t handle, uint32_t flag)
{
	assert_int_equal(flag, FS_CLOSED);
	count_revoked(server, handle, flag);
}

static int set_up(void **state)
{
	struct world *world = world_new();
	int fd;

	assert_int_equal(mkdirat(world->directory, "sub", 0755), 0);
	fd = openat(world->directory, "sub/file", O_CREAT | O_RDWR, 0644);
	assert_int_equal(write(fd, "content", 7), 7);
	close(fd);
	world->server.revoke = told;
	start_session(world);
	*state = world;
	return 0;
}

static struct fsd_request request_for(uint32_t what, const char *name)
{
	struct fsd_request request = {.version = FSD_CONTROL_VERSION, .operation = what};

	strcpy(request.name, name);
	return request;
}

/* The error of the reply, or -1 when the connection would end. */
static int control(struct world *world, unsigned connection, const struct fsd_request *request, int fd, uint32_t *value)
{
	struct fsd_reply reply;

	if (!control_handle(&world->server, connection, request, sizeof(*request), fd, &reply))
		return -1;
	if (value)
		*value = reply.value;
	return (int)reply.error;
}

static int add_export(struct world *world, unsigned connection, const char *name)
{
	struct fsd_request request = request_for(FSD_ADD, name);

	return control(world, connection, &request, open(world->path, O_PATH), NULL);
}

static int take_back(struct world *world, const char *name, uint32_t flags, uint32_t *n)
{
	struct fsd_request request = request_for(FSD_REMOVE, name);

	request.flags = flags;
	return control(world, 1, &request, -1, n);
}

/* A name that was absent a moment ago is there as soon as it is added, and the guest must not believe it for long. */
static void test_add(void **state)
{
	struct world *world = *state;
	uint64_t node, file;

	assert_int_equal(look_up(world, FUSE_ROOT_ID, "late", &node), ENOENT);
	assert_int_equal(add_export(world, 1, "late"), 0);
	assert_int_equal(look_up(world, FUSE_ROOT_ID, "late", &node), 0);
	assert_int_equal(((const struct fuse_entry_out *)payload(world))->entry_valid, 0);
	assert_int_equal(look_up(world, node, "sub", &node), 0);
	assert_int_equal(look_up(world, node, "file", &file), 0);
	assert_int_equal(add_export(world, 1, "late"), EEXIST);
}

static void test_nothing_is_left(void **state)
{
	struct world *world = *state;
	unsigned before = count_descriptors();
	uint64_t root, sub, file, open_file, open_directory, node;
	uint32_t n;

	assert_int_equal(add_export(world, 1, "a.rootfs"), 0);
	assert_int_equal(look_up(world, FUSE_ROOT_ID, "a.rootfs", &root), 0);
	assert_int_equal(look_up(world, root, "sub", &sub), 0);
	assert_int_equal(look_up(world, sub, "file", &file), 0);
	assert_int_equal(open_as(world, FUSE_OPEN, file, &open_file), 0);
	assert_int_equal(open_as(world, FUSE_OPENDIR, sub, &open_directory), 0);
	assert_int_equal(read_as(world, FUSE_READ, file, open_file), 0);
	assert_int_equal(read_as(world, FUSE_READDIR, sub, open_directory), 0);

	assert_int_equal(take_back(world, "a", FSD_GROUP, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(count_descriptors(), before);
	assert_int_equal(world->revoked, 1);
	assert_int_equal(world->revoked_last, open_file);
	assert_int_equal(read_as(world, FUSE_READ, file, open_file), EBADF);
	assert_int_equal(read_as(world, FUSE_READDIR, sub, open_directory), ESTALE);
	assert_int_equal(look_up(world, sub, "file", &node), ESTALE);
	assert_int_equal(look_up(world, root, "sub", &node), ESTALE);
	assert_int_equal(look_up(world, FUSE_ROOT_ID, "a.rootfs", &node), ENOENT);
	/* The same name may come again, and what is left of the old one does not reach it. */
	assert_int_equal(add_export(world, 1, "a.rootfs"), 0);
	assert_int_equal(look_up(world, root, "sub", &node), ESTALE);
	release(world, file, open_file);
	release(world, sub, open_directory);
	assert_int_equal(take_back(world, "a.rootfs", 0, &n), 0);
	assert_int_equal(count_descriptors(), before);
}

/* A guest that forgets the inode of a file that it has open keeps the file no longer than others do. */
static void test_forgotten_but_open(void **state)
{
	struct world *world = *state;
	unsigned before = count_descriptors();
	uint64_t root, sub, file, handle;
	struct fuse_forget_in forget = {.nlookup = 10};

	assert_int_equal(add_export(world, 1, "x"), 0);
	look_up(world, FUSE_ROOT_ID, "x", &root);
	look_up(world, root, "sub", &sub);
	look_up(world, sub, "file", &file);
	assert_int_equal(open_as(world, FUSE_OPEN, file, &handle), 0);
	assert_int_equal(call(world, FUSE_FORGET, file, &forget, sizeof(forget)), -1);
	assert_int_equal(take_back(world, "x", 0, NULL), 0);
	assert_int_equal(world->revoked_last, handle);
	assert_int_equal(count_descriptors(), before);
}

/* The number of a handle that was revoked is not given out before the guest has released it: otherwise that release
 * would close somebody else's file in the VMM. */
static void test_revoked_numbers(void **state)
{
	struct world *world = *state;
	uint64_t root, sub, file, old, fresh;

	assert_int_equal(add_export(world, 1, "one"), 0);
	look_up(world, FUSE_ROOT_ID, "one", &root);
	look_up(world, root, "sub", &sub);
	look_up(world, sub, "file", &file);
	assert_int_equal(open_as(world, FUSE_OPEN, file, &old), 0);
	assert_int_equal(take_back(world, "one", 0, NULL), 0);
	assert_int_equal(add_export(world, 1, "two"), 0);
	look_up(world, FUSE_ROOT_ID, "two", &root);
	assert_int_equal(open_as(world, FUSE_OPENDIR, root, &fresh), 0);
	assert_int_not_equal(fresh, old);
	release(world, file, old);
	assert_int_equal(open_as(world, FUSE_OPENDIR, root, &fresh), 0);
	assert_int_equal(fresh, old);
}

static void test_groups(void **state)
{
	struct world *world = *state;
	uint64_t node;
	uint32_t n;

	for (const char *const *name = (const char *const[]){"a.rootfs", "a.m1", "ab.rootfs", "a", NULL}; *name; name++)
		assert_int_equal(add_export(world, 1, *name), 0);
	assert_int_equal(take_back(world, "a", FSD_GROUP, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(look_up(world, FUSE_ROOT_ID, "ab.rootfs", &node), 0);
	assert_int_equal(look_up(world, FUSE_ROOT_ID, "a", &node), 0);
	assert_int_equal(take_back(world, "a", FSD_GROUP, NULL), ENOENT);
	assert_int_equal(take_back(world, "b", 0, NULL), ENOENT);
}

/* Whoever adds and is killed before it says keep leaves nothing. */
static void test_connection_that_ends(void **state)
{
	struct world *world = *state;
	struct fsd_request keep = request_for(FSD_KEEP, ""), count = request_for(FSD_COUNT, "");
	uint32_t n;

	assert_int_equal(add_export(world, 1, "kept"), 0);
	assert_int_equal(control(world, 1, &keep, -1, NULL), 0);
	assert_int_equal(add_export(world, 1, "lost"), 0);
	assert_int_equal(add_export(world, 2, "others"), 0);
	control_undo(&world->server, 1);
	assert_int_equal(control(world, 2, &count, -1, &n), 0);
	assert_int_equal(n, 2);
	assert_null(server_find_export(&world->server, "lost"));
	/* Taken back by one and added by another under the same name: no longer the first one's to undo. */
	assert_int_equal(take_back(world, "others", 0, NULL), 0);
	assert_int_equal(add_export(world, 1, "others"), 0);
	control_undo(&world->server, 2);
	assert_non_null(server_find_export(&world->server, "others"));
}

static void test_bad_requests(void **state)
{
	struct world *world = *state;
	struct fsd_request request = request_for(FSD_ADD, "name");
	unsigned before = count_descriptors();
	struct fsd_reply reply;

	assert_false(control_handle(&world->server, 1, &request, sizeof(request) - 1, -1, &reply));
	assert_false(control_handle(&world->server, 1, &request, 0, open("/", O_PATH), &reply));
	assert_int_equal(control(world, 1, &request, -1, NULL), -1);
	request.flags = FSD_GROUP;
	assert_int_equal(control(world, 1, &request, open("/", O_PATH), NULL), -1);
	request = request_for(FSD_ADD, "name");
	request.cache_seconds = CACHE_SECONDS_MAX + 1;
	assert_int_equal(control(world, 1, &request, open("/", O_PATH), NULL), -1);
	request = request_for(FSD_ADD, "name");
	request.version++;
	assert_int_equal(control(world, 1, &request, open("/", O_PATH), NULL), -1);
	request = request_for(FSD_ADD, "");
	memset(request.name, 'a', sizeof(request.name));
	assert_int_equal(control(world, 1, &request, open("/", O_PATH), NULL), -1);
	request.name[FSD_NAME_MAX + 1] = '\0';
	assert_int_equal(control(world, 1, &request, open("/", O_PATH), NULL), EINVAL);
	for (const char *const *name = (const char *const[]){"", ".", "..", "a/b", "a b", NULL}; *name; name++)
		assert_int_equal(add_export(world, 1, *name), EINVAL);
	request = request_for(FSD_ADD, "proc");
	assert_int_equal(control(world, 1, &request, open("/proc", O_PATH), NULL), EACCES);
	request = request_for(FSD_REMOVE, "name");
	assert_int_equal(control(world, 1, &request, open("/", O_PATH), NULL), -1);
	request = request_for(FSD_KEEP, "name");
	assert_int_equal(control(world, 1, &request, -1, NULL), -1);
	request = request_for(99, "");
	assert_int_equal(control(world, 1, &request, -1, NULL), -1);
	assert_int_equal(world->server.export_count, 0);
	assert_int_equal(count_descriptors(), before);
}

static void test_too_many(void **state)
{
	struct world *world = *state;
	unsigned before = count_descriptors();
	char name[16];

	for (unsigned i = 0; i < EXPORTS_MAX; i++) {
		snprintf(name, sizeof(name), "g.%u", i);
		assert_int_equal(add_export(world, 1, name), 0);
	}
	assert_int_equal(add_export(world, 1, "more"), ENOSPC);
	assert_int_equal(take_back(world, "g.7", 0, NULL), 0);
	assert_int_equal(add_export(world, 1, "more"), 0);
	assert_int_equal(take_back(world, "g", FSD_GROUP, NULL), 0);
	assert_int_equal(take_back(world, "more", 0, NULL), 0);
	assert_int_equal(count_descriptors(), before);
}

/* Over real sockets: what comes and goes with a connection. */
static void test_connections(void **state)
{
	struct world *world = *state;
	struct control it;
	struct pollfd polled[CONTROL_POLLED_MAX];
	struct fsd_request request = request_for(FSD_ADD, "late");
	struct fsd_reply reply;
	unsigned before = count_descriptors();
	int pair[2], tree = open(world->path, O_PATH);

	control_init(&it, &world->server, -1);
	assert_int_equal(control_poll(&it, polled), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	it.listener = open("/dev/null", O_RDONLY); /* never ready here */
	it.connections[0] = pair[0];
	assert_int_equal(send_with_fds(pair[1], &request, sizeof(request), &tree, 1, 0), sizeof(request));
	assert_int_equal(control_poll(&it, polled), 2);
	polled[0].revents = 0;
	polled[1].revents = POLLIN;
	control_serve(&it, polled, 2);
	assert_int_equal(recv(pair[1], &reply, sizeof(reply), MSG_DONTWAIT), sizeof(reply));
	assert_int_equal(reply.error, 0);
	assert_int_equal(world->server.export_count, 1);
	close(pair[1]);
	control_serve(&it, polled, 2);
	assert_int_equal(it.connections[0], -1);
	assert_int_equal(world->server.export_count, 0);
	close(it.listener);
	close(tree);
	assert_int_equal(count_descriptors(), before);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, world_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_add),
	    TEST(test_nothing_is_left),
	    TEST(test_forgotten_but_open),
	    TEST(test_revoked_numbers),
	    TEST(test_groups),
	    TEST(test_connection_that_ends),
	    TEST(test_bad_requests),
	    TEST(test_too_many),
	    TEST(test_connections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
