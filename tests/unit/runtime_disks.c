/* Image files as disks: where they are named, who may have them, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/create_order.h"
#include "runtime/disks.h"

struct world {
	char path[64];
	int bundle;
};

static void make_image(const struct world *world, const char *name)
{
	int fd = openat(world->bundle, name, O_CREAT | O_RDWR, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 65536), 0);
	close(fd);
}

static int set_up(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	strcpy(world->path, "/tmp/runtime_disks_XXXXXX");
	assert_non_null(mkdtemp(world->path));
	world->bundle = open(world->path, O_PATH | O_DIRECTORY);
	assert_int_equal(mkdirat(world->bundle, "rootfs", 0700), 0);
	make_image(world, "a.img");
	make_image(world, "b.img");
	*state = world;
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;
	char command[100];

	close(world->bundle);
	snprintf(command, sizeof(command), "rm -rf '%s'", world->path);
	assert_int_equal(system(command), 0);
	free(world);
	return 0;
}

static int open_text(const struct world *world, const char *text, struct disks *disks, struct error *err)
{
	struct spec spec = {.json = json_loads(text, 0, NULL)};
	int status;

	assert_non_null(spec.json);
	status = disks_open(&spec, world->bundle, disks, err);
	for (size_t i = 0; status == 0 && i < disks->n; i++)
		if (disks->list[i].name)
			disks->list[i].name = strcmp(disks->list[i].name, "data") == 0 ? "data" : "other";
	json_decref(spec.json);
	return status;
}

static void expect_error(const struct world *world, const char *text, const char *message)
{
	struct disks disks;
	struct error err;

	assert_int_equal(open_text(world, text, &disks, &err), -1);
	assert_string_equal(err.message, message);
	assert_int_equal(disks.n, 0);
}

#define DIRECTORY "\"root\":{\"path\":\"rootfs\"}"

static void test_none(void **state)
{
	struct world *world = *state;
	struct disks disks;
	struct error err;

	assert_int_equal(
	    open_text(world,
		      "{" DIRECTORY ",\"mounts\":[{\"type\":\"bind\",\"source\":\"a.img\",\"destination\":\"/a\"},"
		      "{\"type\":\"tmpfs\",\"destination\":\"/b\"}],\"annotations\":{\"hull.memory\":\"1G\"}}",
		      &disks, &err),
	    0);
	assert_int_equal(disks.n, 0);
}

static void test_all(void **state)
{
	struct world *world = *state;
	struct disks disks;
	struct error err;

	if (open_text(world,
		      "{\"root\":{\"path\":\"a.img\",\"readonly\":true},"
		      "\"mounts\":[{\"type\":\"tmpfs\"},{\"type\":\"ext4\",\"source\":\"b.img\"}],"
		      "\"annotations\":{\"hull.disk.data\":\"a.img,ro\"}}",
		      &disks, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(disks.n, 3);
	assert_int_equal(disks.list[0].use, DISK_ROOTFS);
	assert_true(disks.list[0].read_only);
	assert_string_equal(disks.list[0].serial, "hull-0");
	assert_int_equal(disks.list[1].use, DISK_MOUNT);
	assert_int_equal(disks.list[1].index, 1);
	assert_false(disks.list[1].read_only);
	assert_int_equal(fcntl(disks.list[1].fd, F_GETFL) & O_ACCMODE, O_RDWR);
	assert_int_equal(disks.list[2].use, DISK_NAMED);
	assert_string_equal(disks.list[2].name, "data");
	assert_int_equal(fcntl(disks.list[2].fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	disks_release(&disks);
}

/* Whoever writes an image has it alone. */
static void test_locks(void **state)
{
	struct world *world = *state;
	static const char writes[] = "{" DIRECTORY ",\"annotations\":{\"hull.disk.data\":\"a.img\"}}";
	static const char reads[] = "{" DIRECTORY ",\"annotations\":{\"hull.disk.data\":\"a.img,ro\"}}";
	static const char in_use[] = "config.json: annotations.hull.disk.data: `a.img` is in use by another machine";
	struct disks first, second;
	struct error err;

	assert_int_equal(open_text(world, reads, &first, &err), 0);
	assert_int_equal(open_text(world, reads, &second, &err), 0);
	expect_error(world, writes, in_use);
	disks_release(&first);
	disks_release(&second);
	assert_int_equal(open_text(world, writes, &first, &err), 0);
	expect_error(world, reads, in_use);
	expect_error(world, writes, in_use);
	disks_release(&first);
	/* Twice in one container is no better. */
	expect_error(world,
		     "{" DIRECTORY ",\"mounts\":[{\"type\":\"ext4\",\"source\":\"a.img\"},"
		     "{\"type\":\"ext4\",\"source\":\"a.img\"}]}",
		     "config.json: mounts[1].source: `a.img` is in use by another machine");
}

static void test_refused(void **state)
{
	struct world *world = *state;

	expect_error(world, "{" DIRECTORY ",\"mounts\":[{\"type\":\"ext4\"}]}",
		     "config.json: mounts[0].source: a file system of type ext4 must have one");
	expect_error(world, "{" DIRECTORY ",\"mounts\":[{\"type\":\"ext4\",\"source\":\"none\"}]}",
		     "config.json: mounts[0].source: open `none`: No such file or directory");
	expect_error(world, "{" DIRECTORY ",\"mounts\":[{\"type\":\"ext4\",\"source\":\"rootfs\"}]}",
		     "config.json: mounts[0].source: `rootfs` is neither a block device nor an image file");
	expect_error(world, "{" DIRECTORY ",\"mounts\":[{\"type\":\"erofs\",\"source\":\"/dev/null\"}]}",
		     "config.json: mounts[0].source: `/dev/null` is neither a block device nor an image file");
	expect_error(world, "{" DIRECTORY ",\"annotations\":{\"hull.disk.a/b\":\"a.img\"}}",
		     "config.json: annotations.hull.disk.a/b: `a/b` is not a name for a device");
	expect_error(world, "{" DIRECTORY ",\"annotations\":{\"hull.disk.\":\"a.img\"}}",
		     "config.json: annotations.hull.disk.: `` is not a name for a device");
	expect_error(world, "{" DIRECTORY ",\"annotations\":{\"hull.disk.a\":\"\"}}",
		     "config.json: annotations.hull.disk.a: the path of a block device or an image file is missing");
}

static void test_too_many(void **state)
{
	struct world *world = *state;
	char text[4096] = "{" DIRECTORY ",\"annotations\":{";
	struct error err;
	struct disks disks;

	for (int i = 0; i <= DISKS_MAX; i++)
		sprintf(text + strlen(text), "%s\"hull.disk.d%d\":\"a.img,ro\"", i > 0 ? "," : "", i);
	strcat(text, "}}");
	assert_int_equal(open_text(world, text, &disks, &err), -1);
	assert_non_null(strstr(err.message, "more than 24 disks"));
}

static void test_order(void **state)
{
	struct exports exports = {.rootfs_is_disk = true};
	struct disks disks = {.n = 3,
			      .list = {{.serial = "hull-0", .use = DISK_ROOTFS},
				       {.serial = "hull-1", .use = DISK_MOUNT, .index = 4},
				       {.serial = "hull-2", .use = DISK_NAMED, .name = "data"}}};
	struct syscall_filter filter = {0};
	struct spec spec = {.text = "{}", .size = 2};
	struct create_order order = {
	    .id = "c", .tied = true, .exports = &exports, .disks = &disks, .filter = &filter, .spec = &spec};
	json_t *json, *expected;
	char *text;
	size_t size;

	(void)state;
	order.joined[SHARED_IPC] = "pod";
	text = create_order_format(&order, &size);
	json = json_loadb(text, size, 0, NULL);
	assert_non_null(json);
	assert_null(json_object_get(json, "rootfs"));
	expected = json_loads("[{\"serial\":\"hull-0\",\"rootfs\":true},{\"serial\":\"hull-1\",\"mount\":4},"
			      "{\"serial\":\"hull-2\",\"name\":\"data\"}]",
			      0, NULL);
	assert_true(json_equal(json_object_get(json, "disks"), expected));
	assert_true(json_is_true(json_object_get(json, "tied")));
	assert_string_equal(json_string_value(json_object_get(json_object_get(json, "namespaces"), "ipc")), "pod");
	json_decref(json);
	json_decref(expected);
	free(text);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_none),	TEST(test_all),	     TEST(test_locks),
	    TEST(test_refused), TEST(test_too_many), cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
