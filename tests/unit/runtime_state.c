/*
 * The state of containers: ids, the record, the folder and its lock, process identities.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/container.h"
#include "runtime/process.h"
#include "runtime/state.h"

static char root[] = "/tmp/runtime_state.XXXXXX";

static int make_root(void **state)
{
	(void)state;
	return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

static void test_ids(void **state)
{
	char text[1026];
	struct error err;

	(void)state;
	assert_int_equal(state_check_id("a", &err), 0);
	assert_int_equal(state_check_id("A-z_0.9+x", &err), 0);
	assert_int_equal(state_check_id("..x", &err), 0);
	assert_int_equal(state_check_id("", &err), -1);
	assert_string_equal(err.message, "container id cannot be empty");
	assert_int_equal(state_check_id(".", &err), -1);
	assert_int_equal(state_check_id("..", &err), -1);
	assert_int_equal(state_check_id("a/b", &err), -1);
	assert_string_equal(err.message, "invalid container ID format");
	assert_int_equal(state_check_id("a b", &err), -1);
	assert_int_equal(state_check_id("\xc3\xa4", &err), -1);
	memset(text, 'x', sizeof(text));
	text[1024] = '\0';
	assert_int_equal(state_check_id(text, &err), 0);
	text[1024] = 'x';
	text[1025] = '\0';
	assert_int_equal(state_check_id(text, &err), -1);
}

static struct state example(enum state_stage stage)
{
	return (struct state){.stage = stage,
			      .id = strdup("c"),
			      .bundle = strdup("/b \"quoted\""),
			      .rootfs = strdup("/b/rootfs"),
			      .created = state_timestamp(),
			      .annotations = json_pack("{s:s}", "k", "v"),
			      .vmm = {.pid = 7, .start = 1ull << 40}};
}

static void test_record(void **unused)
{
	struct state state = example(STATE_CREATED), again;
	char *text = state_format(&state);
	struct error err;

	(void)unused;
	assert_int_equal(state_parse(text, strlen(text), &again, &err), 0);
	assert_int_equal(again.stage, STATE_CREATED);
	assert_string_equal(again.bundle, state.bundle);
	assert_string_equal(again.created, state.created);
	assert_int_equal(again.vmm.pid, 7);
	assert_int_equal(again.vmm.start, 1ull << 40);
	assert_int_equal(again.fsd.pid, 0);
	assert_string_equal(json_string_value(json_object_get(again.annotations, "k")), "v");
	state_release(&again);
	/* However short a crash cuts it, it is never read as something else. */
	for (size_t length = 0; length < strlen(text); length++)
		assert_int_equal(state_parse(text, length, &again, &err), -1);
	state_release(&state);
	free(text);
}

static void test_bad_records(void **unused)
{
	static const char *const bad[] = {
	    "[]",
	    "{}",
	    "{\"stage\":\"x\",\"id\":\"a\",\"bundle\":\"\",\"rootfs\":\"\",\"created\":\"\"}",
	    "{\"stage\":\"created\",\"id\":5,\"bundle\":\"\",\"rootfs\":\"\",\"created\":\"\"}",
	    "{\"stage\":\"created\",\"id\":\"a\",\"bundle\":\"\",\"rootfs\":\"\",\"created\":\"\",\"vmm\":{}}",
	    "{\"stage\":\"created\",\"id\":\"a\",\"bundle\":\"\",\"rootfs\":\"\",\"created\":\"\",\"vmm\":{\"pid\":-1}"
	    "}",
	    "{\"stage\":\"created\",\"id\":\"a\",\"bundle\":\"\",\"rootfs\":\"\",\"created\":\"\",\"vmm\":{\"pid\":1,"
	    "\"start\":-2}}",
	    "{\"stage\":\"created\",\"id\":\"a\",\"bundle\":\"\",\"rootfs\":\"\",\"created\":\"\",\"annotations\":[]}",
	    "{\"stage\":\"created\",\"id\":\"a\",\"bundle\":\"\",\"rootfs\":\"\",\"created\":\"\",\"annotations\":{"
	    "\"a\":1}}",
	};
	struct state state;
	struct error err;

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(state_parse(bad[i], strlen(bad[i]), &state, &err), -1);
}

static void test_folder(void **unused)
{
	struct container made, opened, second;
	struct error err;
	char **ids;
	size_t n;

	(void)unused;
	assert_int_equal(container_open(root, "c", &opened, &err), -1);
	assert_int_equal(err.code, ENOENT);
	assert_string_equal(err.message, "container does not exist");
	assert_int_equal(container_open("/nonexistent/root", "c", &opened, &err), -1);
	assert_string_equal(err.message, "container does not exist");
	assert_int_equal(container_make(root, "c", &made, &err), 0);
	/* No state yet, but its maker holds the lock. */
	assert_int_equal(container_open(root, "c", &opened, &err), 0);
	assert_int_equal(container_status(&opened), CONTAINER_CREATING);
	assert_int_equal(container_lock(&opened, 30, &err), -1);
	assert_int_equal(err.code, EBUSY);
	container_close(&opened);
	assert_int_equal(container_make(root, "c", &second, &err), -1);
	assert_string_equal(err.message, "container with given ID already exists");
	made.state = example(STATE_CREATED);
	made.has_state = true;
	assert_int_equal(container_save(&made, &err), 0);
	assert_int_equal(container_list(root, &ids, &n, &err), 0);
	assert_int_equal(n, 1);
	assert_string_equal(ids[0], "c");
	free(ids[0]);
	free(ids);
	container_close(&made);
	/* Finished, so nobody may take it over although nobody holds the lock. */
	assert_int_equal(container_make(root, "c", &second, &err), -1);
	assert_int_equal(container_open(root, "c", &opened, &err), 0);
	assert_int_equal(container_status(&opened), CONTAINER_STOPPED);
	assert_int_equal(container_lock(&opened, 0, &err), 0);
	assert_int_equal(container_remove(&opened, &err), 0);
	assert_int_equal(container_lock(&opened, 0, &err), -1);
	assert_int_equal(err.code, ENOENT);
	container_close(&opened);
}

/* A creation that was killed, before and after it wrote a state. */
static void test_take_over(void **unused)
{
	struct container made, opened;
	struct error err;

	(void)unused;
	assert_int_equal(container_make(root, "t", &made, &err), 0);
	container_close(&made);
	assert_int_equal(container_open(root, "t", &opened, &err), 0);
	assert_int_equal(container_status(&opened), CONTAINER_STOPPED);
	container_close(&opened);
	assert_int_equal(container_make(root, "t", &made, &err), 0);
	made.state = example(STATE_CREATING);
	made.state.creator = (struct process){.pid = getpid(), .start = 1};
	made.has_state = true;
	assert_int_equal(container_save(&made, &err), 0);
	container_close(&made);
	/* The creator's number is in use, but by a process that started later. */
	assert_int_equal(container_open(root, "t", &opened, &err), 0);
	assert_int_equal(container_status(&opened), CONTAINER_STOPPED);
	container_close(&opened);
	assert_int_equal(container_make(root, "t", &made, &err), 0);
	assert_false(made.has_state);
	assert_int_equal(container_remove(&made, &err), 0);
	container_close(&made);
}

static void test_damaged_state(void **unused)
{
	struct container made, opened;
	struct error err;
	int fd;

	(void)unused;
	assert_int_equal(container_make(root, "d", &made, &err), 0);
	fd = openat(made.folder, "state.json", O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "{\"stage\":", 9), 9);
	close(fd);
	container_close(&made);
	assert_int_equal(container_open(root, "d", &opened, &err), -1);
	assert_non_null(strstr(err.message, "state of container d"));
	assert_int_equal(container_make(root, "d", &made, &err), -1);
	assert_int_equal(container_open_unread(root, "d", &opened, &err), 0);
	assert_int_equal(container_remove(&opened, &err), 0);
	container_close(&opened);
}

static void test_process(void **unused)
{
	struct process self, other;
	struct error err;
	pid_t pid = fork();
	int fd;

	(void)unused;
	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(process_identify(getpid(), &self, &err), 0);
	assert_true(process_alive(&self));
	assert_int_equal(process_identify(pid, &other, &err), 0);
	fd = process_open(&other);
	assert_true(fd >= 0);
	close(fd);
	other.start--;
	assert_false(process_alive(&other));
	assert_int_equal(process_open(&other), -1);
	assert_int_equal(process_end(&other, 1000, &err), 0);
	other.start++;
	assert_true(process_alive(&other));
	assert_int_equal(process_end(&other, 5000, &err), 0);
	/* A zombie, not reaped yet. */
	assert_false(process_alive(&other));
	waitpid(pid, NULL, 0);
	assert_int_equal(process_end(&other, 1000, &err), 0);
}

static void test_stat(void **unused)
{
	uint64_t start;
	char letter;

	(void)unused;
	assert_int_equal(
	    process_parse_stat("5 (a) b) (c) S 1 5 5 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 9", &letter, &start), 0);
	assert_int_equal(letter, 'S');
	assert_int_equal(start, 12345);
	assert_int_equal(process_parse_stat("", &letter, &start), -1);
	assert_int_equal(process_parse_stat("5 (x)", &letter, &start), -1);
	assert_int_equal(process_parse_stat("5 (x) ", &letter, &start), -1);
	assert_int_equal(process_parse_stat("5 (x) S 1 2", &letter, &start), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ids),	    cmocka_unit_test(test_record),    cmocka_unit_test(test_bad_records),
	    cmocka_unit_test(test_folder),  cmocka_unit_test(test_take_over), cmocka_unit_test(test_damaged_state),
	    cmocka_unit_test(test_process), cmocka_unit_test(test_stat),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
