/*
 * The file server's operations, called directly on a scratch directory, without its jail. What they do to a file system
 * is compared by tests/integration/fsops.sh; here is what a well-behaved kernel never asks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tests/unit/fsd_world.h"

#define LONGEST_OPCODE 60u

static int set_up(void **state)
{
	struct world *world = world_new();

	assert_int_equal(server_export(&world->server, "tree", 1, open(world->path, O_PATH), NULL), 0);
	start_session(world);
	assert_int_equal(look_up(world, FUSE_ROOT_ID, "tree", &world->root), 0);
	*state = world;
	return 0;
}

static uint64_t make_file(struct world *world, const char *name, const char *content)
{
	int fd = openat(world->directory, name, O_CREAT | O_RDWR, 0644);
	uint64_t node;

	assert_true(write(fd, content, strlen(content)) >= 0);
	close(fd);
	assert_int_equal(look_up(world, world->root, name, &node), 0);
	return node;
}

static int open_node(struct world *world, uint64_t node, uint32_t flags, uint64_t *fh)
{
	struct fuse_open_in in = {.flags = flags};
	int error = call(world, FUSE_OPEN, node, &in, sizeof(in));

	if (error == 0)
		*fh = ((const struct fuse_open_out *)payload(world))->fh;
	return error;
}

/* --- requests of every kind
 * ------------------------------------------------------------------------------------------- */

/* All operations, with every number of argument bytes up to what any of them needs, zeros and ones. */
static void test_any_size(void **state)
{
	struct world *world = *state;
	uint8_t bytes[160];

	for (int value = 0; value <= 255; value += 255)
		for (uint32_t opcode = 0; opcode < LONGEST_OPCODE; opcode++)
			for (size_t size = 0; size <= sizeof(bytes); size++) {
				memset(bytes, value, sizeof(bytes));
				call(world, opcode, world->root, bytes, size);
				call(world, opcode, FUSE_ROOT_ID, bytes, size);
			}
	assert_int_equal(look_up(world, FUSE_ROOT_ID, "tree", NULL), 0);
	assert_int_equal(server_handle(&world->server, world->request, 39, world->answer, &world->descriptor), 0);
}

static void test_unknown_operations(void **state)
{
	struct world *world = *state;

	assert_int_equal(call(world, 0, 1, NULL, 0), ENOSYS);
	assert_int_equal(call(world, 1000, 1, NULL, 0), ENOSYS);
	assert_int_equal(call(world, UINT32_MAX, 1, NULL, 0), ENOSYS);
	assert_int_equal(call(world, FUSE_FLUSH, 1, NULL, 0), ENOSYS);
	assert_int_equal(call(world, FUSE_IOCTL, 1, NULL, 0), ENOSYS);
	assert_int_equal(call(world, FUSE_SETLKW, 1, NULL, 0), ENOSYS);
	assert_int_equal(call(world, FUSE_INTERRUPT, 1, NULL, 0), -1);
}

static void test_init(void **state)
{
	struct world *world = *state;
	struct fuse_init_in in = {.major = 7, .minor = 12, .flags = ~0u};
	const struct fuse_init_out *out = payload(world);

	assert_int_equal(call(world, FUSE_INIT, 0, &in, sizeof(in)), EPROTO);
	in = (struct fuse_init_in){.major = 7, .minor = 37, .flags = 0};
	assert_int_equal(call(world, FUSE_INIT, 0, &in, sizeof(in)), EPROTO);
	in.flags = ~0u;
	assert_int_equal(call(world, FUSE_INIT, 0, &in, sizeof(in)), 0);
	assert_int_equal(out->max_write, 1 << 20);
	assert_int_equal(out->max_pages, 256);
	assert_int_equal(out->flags & (FUSE_WRITEBACK_CACHE | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS), 0);
}

/* --- names
 * ------------------------------------------------------------------------------------------------------------ */

static void test_names(void **state)
{
	static const char *const bad[] = {"", ".", "..", "/", "a/b", "../x", "/etc", "a/"};
	struct world *world = *state;
	char name[300];

	assert_int_equal(mkdirat(world->directory, "a", 0755), 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(look_up(world, world->root, bad[i], NULL), EINVAL);
		assert_int_equal(call_name(world, FUSE_UNLINK, world->root, NULL, 0, bad[i]), EINVAL);
		assert_int_equal(call_name(world, FUSE_RMDIR, world->root, NULL, 0, bad[i]), EINVAL);
		assert_int_equal(call_name(world, FUSE_MKDIR, world->root, &(struct fuse_mkdir_in){0755, 0},
					   sizeof(struct fuse_mkdir_in), bad[i]),
				 EINVAL);
		assert_int_equal(call_name(world, FUSE_CREATE, world->root, &(struct fuse_create_in){0},
					   sizeof(struct fuse_create_in), bad[i]),
				 EINVAL);
	}
	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	assert_int_equal(look_up(world, world->root, name, NULL), ENAMETOOLONG);
	/* No end, within the request. */
	begin(world, FUSE_LOOKUP, world->root);
	add(world, "abc", 3);
	assert_int_equal(finish(world), EINVAL);
	/* Two names, of which the second is missing. */
	assert_int_equal(call_name(world, FUSE_RENAME, world->root, &world->root, 8, "abcdef"), EINVAL);
	assert_int_equal(call_name(world, FUSE_SYMLINK, world->root, NULL, 0, "abc"), EINVAL);
}

static void test_nodes(void **state)
{
	struct world *world = *state;
	uint64_t node = make_file(world, "file", ""), again;
	struct fuse_forget_in forget = {.nlookup = 1000};
	struct fuse_getattr_in get = {0};
	static const uint64_t wrong[] = {0, 2 + 1000, UINT64_MAX, UINT32_MAX, 1ull << 32 | 1};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(call(world, FUSE_GETATTR, wrong[i], &get, sizeof(get)), ESTALE);
	assert_int_equal(call(world, FUSE_GETATTR, node, &get, sizeof(get)), 0);
	assert_int_equal(call(world, FUSE_FORGET, node, &forget, sizeof(forget)), -1);
	assert_int_equal(call(world, FUSE_GETATTR, node, &get, sizeof(get)), ESTALE);
	assert_int_equal(call(world, FUSE_FORGET, node, &forget, sizeof(forget)), -1);
	/* The slot is used again under another name for the guest. */
	assert_int_equal(look_up(world, world->root, "file", &again), 0);
	assert_int_equal((uint32_t)again, (uint32_t)node);
	assert_true(again != node);
	/* Neither the root nor an export can be forgotten. */
	call(world, FUSE_FORGET, FUSE_ROOT_ID, &forget, sizeof(forget));
	call(world, FUSE_FORGET, world->root, &forget, sizeof(forget));
	assert_int_equal(call(world, FUSE_GETATTR, world->root, &get, sizeof(get)), 0);
	/* More forgets than there are. */
	begin(world, FUSE_BATCH_FORGET, 0);
	add(world, &(struct fuse_batch_forget_in){.count = UINT32_MAX}, sizeof(struct fuse_batch_forget_in));
	add(world, &(struct fuse_forget_one){again, 1}, sizeof(struct fuse_forget_one));
	assert_int_equal(finish(world), -1);
	assert_int_equal(call(world, FUSE_GETATTR, again, &get, sizeof(get)), ESTALE);
}

static void test_same_inode_same_node(void **state)
{
	struct world *world = *state;
	uint64_t node = make_file(world, "file", ""), other;

	assert_int_equal(linkat(world->directory, "file", world->directory, "hard", 0), 0);
	assert_int_equal(look_up(world, world->root, "hard", &other), 0);
	assert_true(node == other);
}

static void test_absent_names(void **state)
{
	struct world *world = *state;

	/* Remembered for a second: node 0. */
	assert_int_equal(look_up(world, world->root, "none", NULL), 0);
	assert_int_equal(((const struct fuse_entry_out *)payload(world))->nodeid, 0);
	assert_int_equal(((const struct fuse_entry_out *)payload(world))->entry_valid, 1);
	assert_int_equal(look_up(world, FUSE_ROOT_ID, "none", NULL), ENOENT);
	world->server.exports[0].cache_seconds = 0;
	assert_int_equal(look_up(world, world->root, "none", NULL), ENOENT);
}

/* --- what must not be reached
 * ------------------------------------------------------------------------------------------ */

static void test_links_are_not_followed(void **state)
{
	struct world *world = *state;
	struct fuse_mkdir_in mkdir_in = {0755, 0};
	uint64_t node, fh;

	assert_int_equal(symlinkat("/etc", world->directory, "dir"), 0);
	assert_int_equal(symlinkat("/etc/passwd", world->directory, "file"), 0);
	assert_int_equal(look_up(world, world->root, "dir", &node), 0);
	assert_true(S_ISLNK(((const struct fuse_entry_out *)payload(world))->attr.mode));
	assert_int_equal(look_up(world, node, "passwd", NULL), ENOTDIR);
	assert_int_equal(call(world, FUSE_OPENDIR, node, &(struct fuse_open_in){0}, sizeof(struct fuse_open_in)),
			 ENOTDIR);
	assert_int_equal(call_name(world, FUSE_MKDIR, node, &mkdir_in, sizeof(mkdir_in), "x"), ENOTDIR);
	assert_int_equal(look_up(world, world->root, "file", &node), 0);
	assert_int_equal(open_node(world, node, O_RDONLY, &fh), ENXIO);
	assert_int_equal(call_name(world, FUSE_CREATE, world->root,
				   &(struct fuse_create_in){.flags = O_RDWR | O_CREAT, .mode = 0600},
				   sizeof(struct fuse_create_in), "file"),
			 ESTALE);
	assert_int_equal(call(world, FUSE_READLINK, node, NULL, 0), 0);
	assert_memory_equal(payload(world), "/etc/passwd", payload_size(world));
	/* The link's own attributes, not those of what it points to. */
	assert_int_equal(call(world, FUSE_SETATTR, node, &(struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 0},
			      sizeof(struct fuse_setattr_in)),
			 EINVAL);
}

static void test_special_files_are_not_opened(void **state)
{
	static const mode_t types[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
	struct world *world = *state;
	uint64_t node, fh;

	for (unsigned i = 0; i < 4; i++) {
		struct fuse_mknod_in in = {.mode = types[i] | 0666, .rdev = 1 << 8 | 3};

		if (geteuid() != 0 && i >= 2)
			break;
		assert_int_equal(call_name(world, FUSE_MKNOD, world->root, &in, sizeof(in), "special"), 0);
		node = ((const struct fuse_entry_out *)payload(world))->nodeid;
		assert_int_equal(open_node(world, node, O_RDWR, &fh), ENXIO);
		assert_int_equal(call_name(world, FUSE_CREATE, world->root,
					   &(struct fuse_create_in){.flags = O_WRONLY | O_CREAT, .mode = 0600},
					   sizeof(struct fuse_create_in), "special"),
				 ESTALE);
		assert_int_equal(call_name(world, FUSE_UNLINK, world->root, NULL, 0, "special"), 0);
	}
}

static void test_virtual_root(void **state)
{
	struct world *world = *state;
	struct fuse_mkdir_in mkdir_in = {0755, 0};
	uint64_t node = make_file(world, "file", "");

	assert_int_equal(call_name(world, FUSE_MKDIR, FUSE_ROOT_ID, &mkdir_in, sizeof(mkdir_in), "x"), EROFS);
	assert_int_equal(call_name(world, FUSE_RMDIR, FUSE_ROOT_ID, NULL, 0, "tree"), EROFS);
	assert_int_equal(call_name(world, FUSE_UNLINK, FUSE_ROOT_ID, NULL, 0, "tree"), EROFS);
	begin(world, FUSE_RENAME, world->root);
	add(world, &(struct fuse_rename_in){FUSE_ROOT_ID}, sizeof(struct fuse_rename_in));
	add(world, "file\0file", 10);
	assert_int_equal(finish(world), EROFS);
	begin(world, FUSE_LINK, FUSE_ROOT_ID);
	add(world, &(struct fuse_link_in){node}, sizeof(struct fuse_link_in));
	add(world, "file", 5);
	assert_int_equal(finish(world), EROFS);
	assert_int_equal(call(world, FUSE_SETATTR, FUSE_ROOT_ID, &(struct fuse_setattr_in){.valid = FATTR_MODE},
			      sizeof(struct fuse_setattr_in)),
			 EROFS);
	assert_int_equal(
	    call(world, FUSE_OPENDIR, FUSE_ROOT_ID, &(struct fuse_open_in){0}, sizeof(struct fuse_open_in)), 0);
	assert_int_equal(
	    call(world, FUSE_READDIRPLUS, FUSE_ROOT_ID,
		 &(struct fuse_read_in){.fh = ((const struct fuse_open_out *)payload(world))->fh, .size = 4096},
		 sizeof(struct fuse_read_in)),
	    0);
	assert_memory_equal(((const struct fuse_direntplus *)payload(world))->dirent.name, "tree", 4);
}

static void test_single_file_export(void **state)
{
	struct world *world = *state;
	char path[100];
	uint64_t node, fh;

	make_file(world, "single", "content");
	snprintf(path, sizeof(path), "%s/single", world->path);
	assert_int_equal(server_export(&world->server, "one", 0, open(path, O_PATH), NULL), 0);
	assert_int_equal(look_up(world, FUSE_ROOT_ID, "one", &node), 0);
	assert_int_equal(((const struct fuse_entry_out *)payload(world))->attr.size, 7);
	assert_int_equal(open_node(world, node, O_RDONLY, &fh), 0);
	assert_int_equal(look_up(world, node, "x", NULL), ENOTDIR);
}

/* --- handles
 * ---------------------------------------------------------------------------------------------------------- */

static void test_handles(void **state)
{
	struct world *world = *state;
	uint64_t node = make_file(world, "file", "content"), other = make_file(world, "other", ""), fh, directory;
	struct fuse_release_in release;
	struct fuse_read_in in;

	assert_int_equal(open_node(world, node, O_RDWR, &fh), 0);
	assert_true(world->descriptor >= 0);
	assert_int_equal(((const struct fs_message *)world->answer)->handle, fh);
	in = (struct fuse_read_in){.fh = fh, .size = 100, .offset = 3};
	assert_int_equal(call(world, FUSE_READ, node, &in, sizeof(in)), 0);
	assert_memory_equal(payload(world), "tent", payload_size(world));
	/* Of another node, out of range, as a directory. */
	assert_int_equal(call(world, FUSE_READ, other, &in, sizeof(in)), EBADF);
	assert_int_equal(call(world, FUSE_READDIR, node, &in, sizeof(in)), EBADF);
	in.fh = UINT64_MAX;
	assert_int_equal(call(world, FUSE_READ, node, &in, sizeof(in)), EBADF);
	in = (struct fuse_read_in){.fh = fh, .size = UINT32_MAX, .offset = UINT64_MAX};
	assert_int_equal(call(world, FUSE_READ, node, &in, sizeof(in)), EINVAL);
	release = (struct fuse_release_in){.fh = fh};
	assert_int_equal(call(world, FUSE_RELEASE, other, &release, sizeof(release)), -1);
	in = (struct fuse_read_in){.fh = fh, .size = 100};
	assert_int_equal(call(world, FUSE_READ, node, &in, sizeof(in)), 0);
	assert_int_equal(call(world, FUSE_RELEASE, node, &release, sizeof(release)), -1);
	assert_int_equal(call(world, FUSE_READ, node, &in, sizeof(in)), EBADF);
	assert_int_equal(call(world, FUSE_RELEASE, node, &release, sizeof(release)), -1);
	assert_int_equal(call(world, FUSE_OPENDIR, world->root, &(struct fuse_open_in){0}, sizeof(struct fuse_open_in)),
			 0);
	directory = ((const struct fuse_open_out *)payload(world))->fh;
	in = (struct fuse_read_in){.fh = directory, .size = 100};
	assert_int_equal(call(world, FUSE_READ, world->root, &in, sizeof(in)), EBADF);
	/* A data size that is not there. */
	assert_int_equal(open_node(world, node, O_RDWR, &fh), 0);
	assert_int_equal(
	    call(world, FUSE_WRITE, node, &(struct fuse_write_in){.fh = fh, .size = 100}, sizeof(struct fuse_write_in)),
	    EINVAL);
	/* A new session closes everything. */
	start_session(world);
	assert_int_equal(call(world, FUSE_READ, node, &in, sizeof(in)), EBADF);
}

static void test_set_id_files_are_written_here(void **state)
{
	struct world *world = *state;
	uint64_t node = make_file(world, "file", "x"), fh;
	const struct fs_message *message = (const void *)world->answer;
	struct fuse_setattr_in mode = {.valid = FATTR_MODE, .mode = 04755};

	assert_int_equal(open_node(world, node, O_RDWR, &fh), 0);
	assert_int_equal(message->flags, FS_HAS_DESCRIPTOR);
	assert_int_equal(call(world, FUSE_SETATTR, node, &mode, sizeof(mode)), 0);
	assert_int_equal(world->revoked, 1);
	assert_int_equal(call(world, FUSE_SETATTR, node, &mode, sizeof(mode)), 0);
	assert_int_equal(world->revoked, 1);
	assert_int_equal(open_node(world, node, O_RDWR, &fh), 0);
	assert_int_equal(message->flags, FS_HAS_DESCRIPTOR | FS_READS_ONLY);
}

static void test_cache_is_kept_while_nothing_changes(void **state)
{
	struct world *world = *state;
	uint64_t node = make_file(world, "file", "x"), fh;
	const struct fuse_open_out *out = payload(world);
	int fd;

	usleep(30000);
	assert_int_equal(open_node(world, node, O_RDONLY, &fh), 0);
	assert_int_equal(out->open_flags & FOPEN_KEEP_CACHE, 0);
	assert_int_equal(open_node(world, node, O_RDONLY, &fh), 0);
	assert_int_equal(out->open_flags & FOPEN_KEEP_CACHE, FOPEN_KEEP_CACHE);
	fd = openat(world->directory, "file", O_WRONLY);
	assert_int_equal(write(fd, "y", 1), 1);
	assert_int_equal(open_node(world, node, O_RDONLY, &fh), 0);
	assert_int_equal(out->open_flags & FOPEN_KEEP_CACHE, 0);
	/* A moment later it may have changed again within the same tick of the clock. */
	assert_int_equal(open_node(world, node, O_RDONLY, &fh), 0);
	assert_int_equal(out->open_flags & FOPEN_KEEP_CACHE, 0);
	close(fd);
}

static void test_too_many_files(void **state)
{
	struct world *world = *state;
	uint64_t node = make_file(world, "file", "x"), fh;
	struct rlimit old, limit;
	int next = dup(0);

	close(next);
	getrlimit(RLIMIT_NOFILE, &old);
	limit = (struct rlimit){(rlim_t)next, old.rlim_max};
	assert_int_equal(mkdirat(world->directory, "new", 0755), 0);
	setrlimit(RLIMIT_NOFILE, &limit);
	assert_int_equal(open_node(world, node, O_RDONLY, &fh), ENFILE);
	assert_int_equal(look_up(world, world->root, "new", NULL), ENFILE);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(look_up(world, world->root, "new", NULL), 0);
}

/* --- directories
 * ------------------------------------------------------------------------------------------------------ */

static unsigned list(struct world *world, uint64_t fh, uint32_t size, uint32_t opcode)
{
	uint64_t offset = 0;
	unsigned count = 0;

	for (;;) {
		struct fuse_read_in in = {.fh = fh, .size = size, .offset = offset};
		size_t at = 0;

		assert_int_equal(call(world, opcode, world->root, &in, sizeof(in)), 0);
		assert_true(payload_size(world) <= size);
		if (payload_size(world) == 0)
			return count;
		while (at < payload_size(world)) {
			const uint8_t *entry = (const uint8_t *)payload(world) + at;
			const struct fuse_direntplus *plus = (const void *)entry;
			const struct fuse_dirent *dirent = opcode == FUSE_READDIR ? (const void *)entry : &plus->dirent;

			offset = dirent->off;
			count++;
			at += opcode == FUSE_READDIR ? FUSE_DIRENT_SIZE(dirent) : FUSE_DIRENTPLUS_SIZE(plus);
		}
		assert_int_equal(at, payload_size(world));
	}
}

static void test_listing(void **state)
{
	struct world *world = *state;
	struct fuse_read_in in;
	uint64_t first, second;
	char name[20];

	for (unsigned i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "entry%u", i);
		assert_int_equal(mknodat(world->directory, name, S_IFREG | 0644, 0), 0);
	}
	assert_int_equal(call(world, FUSE_OPENDIR, world->root, &(struct fuse_open_in){0}, sizeof(struct fuse_open_in)),
			 0);
	first = ((const struct fuse_open_out *)payload(world))->fh;
	call(world, FUSE_OPENDIR, world->root, &(struct fuse_open_in){0}, sizeof(struct fuse_open_in));
	second = ((const struct fuse_open_out *)payload(world))->fh;
	assert_int_equal(list(world, first, 4096, FUSE_READDIR), 502);
	assert_int_equal(list(world, second, 300, FUSE_READDIR), 502);
	assert_int_equal(list(world, first, 400, FUSE_READDIRPLUS), 502);
	assert_int_equal(list(world, second, FS_PAYLOAD_MAX * 2, FUSE_READDIRPLUS), 502);
	/* No room for a single entry, a place that is none. */
	in = (struct fuse_read_in){.fh = first, .size = 8};
	assert_int_equal(call(world, FUSE_READDIR, world->root, &in, sizeof(in)), 0);
	assert_int_equal(payload_size(world), 0);
	in = (struct fuse_read_in){.fh = first, .size = 4096, .offset = UINT64_MAX};
	call(world, FUSE_READDIR, world->root, &in, sizeof(in));
	in.offset = 12345;
	call(world, FUSE_READDIRPLUS, world->root, &in, sizeof(in));
	assert_int_equal(list(world, first, 4096, FUSE_READDIR), 502);
	/* More inodes than the table of names started with. */
	assert_int_equal(list(world, first, 4096, FUSE_READDIRPLUS), 502);
}

/* More inodes than there may be descriptors: those that lie idle lose theirs, and get them back. */
static void test_parking(void **state)
{
	struct world *world = *state;
	static uint64_t nodes[500];
	struct fuse_getattr_in get = {0};
	uint64_t directory, open, fh;
	unsigned stale = 0;
	char name[40];

	world->server.inodes.open_max = 100;
	assert_int_equal(mkdirat(world->directory, "dir", 0755), 0);
	assert_int_equal(look_up(world, world->root, "dir", &directory), 0);
	open = make_file(world, "open", "content");
	assert_int_equal(open_node(world, open, O_RDONLY, &fh), 0);
	for (unsigned i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "dir/entry%u", i);
		assert_int_equal(mknodat(world->directory, name, S_IFREG | 0644, 0), 0);
		assert_int_equal(look_up(world, directory, name + 4, &nodes[i]), 0);
	}
	assert_true(world->server.inodes.parked_count >= 390);
	assert_true(inode_get(&world->server.inodes, open)->fd >= 0);
	/* Removed and renamed by the guest itself. */
	assert_int_equal(call_name(world, FUSE_UNLINK, directory, NULL, 0, "entry0"), 0);
	begin(world, FUSE_RENAME, directory);
	add(world, &directory, 8);
	add(world, "entry1\0new", 11);
	assert_int_equal(finish(world), 0);
	/* By the host: one is gone, one is another file of the same name. */
	unlinkat(world->directory, "dir/entry2", 0);
	unlinkat(world->directory, "dir/entry3", 0);
	assert_int_equal(mknodat(world->directory, "dir/entry3", S_IFREG | 0600, 0), 0);
	for (unsigned i = 0; i < 500; i++) {
		int error = call(world, FUSE_GETATTR, nodes[i], &get, sizeof(get));

		assert_true(error == 0 || (error == ESTALE && (i == 2 || i == 3)));
		stale += error != 0;
	}
	assert_int_equal(stale, 2);
	/* Found again under the number of one that is gone: not that one. */
	for (unsigned i = 0; i < 10; i++) {
		uint64_t node;

		snprintf(name, sizeof(name), "again%u", i);
		node = make_file(world, name, "");
		assert_true(node != nodes[2] && node != nodes[3]);
	}
	assert_int_equal(call(world, FUSE_GETATTR, nodes[2], &get, sizeof(get)), ESTALE);
	/* The directory above is parked, too. */
	world->server.inodes.open_max = 2;
	for (unsigned i = 0; i < 1000 && !inode_get(&world->server.inodes, directory)->parked; i++) {
		uint64_t node = make_file(world, "other", "");

		call(world, FUSE_FORGET, node, &(struct fuse_forget_in){1}, sizeof(struct fuse_forget_in));
		unlinkat(world->directory, "other", 0);
	}
	assert_true(inode_get(&world->server.inodes, directory)->parked);
	for (unsigned i = 4; i < 500; i++)
		assert_int_equal(call(world, FUSE_GETATTR, nodes[i], &get, sizeof(get)), 0);
	assert_false(inode_get(&world->server.inodes, directory)->parked);
	start_session(world);
	assert_int_equal(world->server.inodes.parked_count, 0);
}

static void test_many_inodes(void **state)
{
	struct world *world = *state;
	static uint64_t nodes[3000];
	struct fuse_getattr_in get = {0};
	char name[20];

	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "entry%u", i);
		assert_int_equal(mknodat(world->directory, name, S_IFREG | 0644, 0), 0);
		assert_int_equal(look_up(world, world->root, name, &nodes[i]), 0);
	}
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t again;

		snprintf(name, sizeof(name), "entry%u", i);
		assert_int_equal(look_up(world, world->root, name, &again), 0);
		assert_true(again == nodes[i]);
	}
	for (unsigned i = 0; i < 3000; i += 2)
		call(world, FUSE_FORGET, nodes[i], &(struct fuse_forget_in){2}, sizeof(struct fuse_forget_in));
	for (unsigned i = 0; i < 3000; i++)
		assert_int_equal(call(world, FUSE_GETATTR, nodes[i], &get, sizeof(get)), i % 2 ? 0 : ESTALE);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, world_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_any_size),
	    TEST(test_unknown_operations),
	    TEST(test_init),
	    TEST(test_names),
	    TEST(test_nodes),
	    TEST(test_same_inode_same_node),
	    TEST(test_absent_names),
	    TEST(test_links_are_not_followed),
	    TEST(test_special_files_are_not_opened),
	    TEST(test_virtual_root),
	    TEST(test_single_file_export),
	    TEST(test_handles),
	    TEST(test_set_id_files_are_written_here),
	    TEST(test_cache_is_kept_while_nothing_changes),
	    TEST(test_too_many_files),
	    TEST(test_listing),
	    TEST(test_many_inodes),
	    TEST(test_parking),
	};
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
