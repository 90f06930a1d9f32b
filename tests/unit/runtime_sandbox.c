/* Which sandbox a container joins, whose namespaces a path names, and what its record keeps of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/fsd_control.h"
#include "runtime/exports.h"
#include "runtime/sandbox.h"

static struct spec spec_of(const char *text)
{
	struct spec spec = {.json = json_loads(text, 0, NULL)};

	assert_non_null(spec.json);
	return spec;
}

static void expect_sandbox(const char *annotations, const char *expected)
{
	char text[1024];
	struct spec spec;
	struct error err;
	const char *id;

	snprintf(text, sizeof(text), "{\"annotations\":%s}", annotations);
	spec = spec_of(text);
	assert_int_equal(sandbox_wanted(&spec, "me", &id, &err), 0);
	if (expected)
		assert_string_equal(id, expected);
	else
		assert_null(id);
	json_decref(spec.json);
}

static void expect_refusal(const char *annotations, const char *message)
{
	char text[1024];
	struct spec spec;
	struct error err;
	const char *id;

	snprintf(text, sizeof(text), "{\"annotations\":%s}", annotations);
	spec = spec_of(text);
	assert_int_equal(sandbox_wanted(&spec, "me", &id, &err), -1);
	assert_string_equal(err.message, message);
	json_decref(spec.json);
}

static void test_annotations(void **state)
{
	(void)state;
	expect_sandbox("{}", NULL);
	expect_sandbox("{\"hull.sandbox\":\"a\"}", "a");
	expect_sandbox("{\"hull.sandbox\":\"\"}", NULL);
	/* As engines write them: the sandbox container itself, a member, a container of no pod. */
	expect_sandbox("{\"io.kubernetes.cri.container-type\":\"sandbox\",\"io.kubernetes.cri.sandbox-id\":\"me\"}",
		       NULL);
	expect_sandbox("{\"io.kubernetes.cri.container-type\":\"container\",\"io.kubernetes.cri.sandbox-id\":\"pod\"}",
		       "pod");
	expect_sandbox("{\"io.kubernetes.cri-o.ContainerType\":\"container\",\"io.kubernetes.cri-o.SandboxID\":\"i\"}",
		       "i");
	expect_sandbox("{\"io.kubernetes.cri-o.SandboxID\":\"i\",\"io.kubernetes.cri-o.TTY\":\"false\"}", NULL);
	expect_sandbox("{\"io.kubernetes.cri-o.ContainerType\":\"container\"}", NULL);
	/* Ours decides. */
	expect_sandbox("{\"hull.sandbox\":\"\",\"io.kubernetes.cri.container-type\":\"container\","
		       "\"io.kubernetes.cri.sandbox-id\":\"pod\"}",
		       NULL);
	expect_refusal("{\"hull.sandbox\":\"../x\"}",
		       "config.json: annotations.hull.sandbox: `../x` is not the id of a container");
	expect_refusal("{\"hull.sandbox\":\"me\"}",
		       "config.json: annotations.hull.sandbox: container me cannot join itself");
	expect_refusal("{\"io.kubernetes.cri.container-type\":\"container\",\"io.kubernetes.cri.sandbox-id\":\"a/b\"}",
		       "config.json: annotations.io.kubernetes.cri.sandbox-id: `a/b` is not the id of a container");
}

static void expect_lingers(const char *annotations, const char *sandbox, bool expected)
{
	struct error err = {0};
	struct spec spec;
	char text[512];
	bool lingers;

	snprintf(text, sizeof(text), "{\"annotations\":%s}", annotations);
	spec = spec_of(text);
	assert_int_equal(sandbox_lingers(&spec, sandbox, &lingers, &err), 0);
	assert_int_equal(lingers, expected);
	json_decref(spec.json);
}

static void expect_lingers_refused(const char *annotations, const char *sandbox, const char *message)
{
	struct error err = {0};
	struct spec spec;
	char text[512];
	bool lingers;

	snprintf(text, sizeof(text), "{\"annotations\":%s}", annotations);
	spec = spec_of(text);
	assert_int_equal(sandbox_lingers(&spec, sandbox, &lingers, &err), -1);
	assert_string_equal(err.message, message);
	json_decref(spec.json);
}

static void test_end(void **state)
{
	(void)state;
	expect_lingers("{}", NULL, false);
	expect_lingers("{}", "pod", false);
	expect_lingers("{\"hull.sandbox.ends-with\":\"container\"}", NULL, false);
	expect_lingers("{\"hull.sandbox.ends-with\":\"last\"}", NULL, true);
	expect_lingers_refused("{\"hull.sandbox.ends-with\":\"\"}", NULL,
			       "config.json: annotations.hull.sandbox.ends-with: `` is neither last nor container");
	expect_lingers_refused(
	    "{\"hull.sandbox.ends-with\":\"last\"}", "pod",
	    "config.json: annotations.hull.sandbox.ends-with: the machine is that of sandbox pod, which "
	    "decides");
}

/* --- a sandbox container whose process is a child of this one ---------------------------------------------------- */

struct world {
	char root[64];
	struct container sandbox, member;
	pid_t pids[2];
};

static pid_t start_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	return pid;
}

static void make(struct world *world, const char *id, struct container *container, pid_t pid)
{
	struct error err;

	if (container_make(world->root, id, container, &err) < 0)
		fail_msg("%s", err.message);
	container->state = (struct state){.stage = STATE_STARTED,
					  .id = strdup(id),
					  .bundle = strdup("/"),
					  .rootfs = strdup("/"),
					  .created = strdup("now")};
	assert_int_equal(process_identify(pid, &container->state.vmm, &err), 0);
}

static int set_up(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct error err;

	strcpy(world->root, "/tmp/runtime_sandbox_XXXXXX");
	assert_non_null(mkdtemp(world->root));
	for (int i = 0; i < 2; i++)
		world->pids[i] = start_child();
	make(world, "pod", &world->sandbox, world->pids[0]);
	assert_int_equal(container_save(&world->sandbox, &err), 0);
	make(world, "first", &world->member, world->pids[1]);
	world->member.state.sandbox = strdup("pod");
	world->member.state.exports = strdup("0123456789ab");
	world->member.state.machine = world->sandbox.state.vmm;
	assert_int_equal(container_save(&world->member, &err), 0);
	*state = world;
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;
	char command[100];

	for (int i = 0; i < 2; i++) {
		kill(world->pids[i], SIGKILL);
		waitpid(world->pids[i], NULL, 0);
	}
	container_close(&world->sandbox);
	container_close(&world->member);
	snprintf(command, sizeof(command), "rm -rf '%s'", world->root);
	assert_int_equal(system(command), 0);
	free(world);
	return 0;
}

static int find(struct world *world, const struct container *sandbox, const char *namespaces, struct joined *joined,
		struct error *err)
{
	char text[512];
	struct spec spec;
	int status;

	snprintf(text, sizeof(text), "{\"linux\":{\"namespaces\":%s}}", namespaces);
	spec = spec_of(text);
	*joined = (struct joined){0};
	status = sandbox_find_joined(world->root, sandbox, &spec, joined, err);
	json_decref(spec.json);
	return status;
}

static void test_paths(void **state)
{
	struct world *world = *state;
	cleanup_joined struct joined joined = {0};
	struct error err;
	char text[400];

	snprintf(text, sizeof(text),
		 "[{\"type\":\"pid\",\"path\":\"/proc/%d/ns/pid\"},{\"type\":\"ipc\",\"path\":\"/proc/%d/ns/ipc\"},"
		 "{\"type\":\"uts\"},{\"type\":\"mount\"},{\"type\":\"network\",\"path\":\"\"}]",
		 world->pids[0], world->pids[1]);
	if (find(world, &world->sandbox, text, &joined, &err) < 0)
		fail_msg("%s", err.message);
	assert_string_equal(joined.ids[SHARED_PID], "pod");
	assert_string_equal(joined.ids[SHARED_IPC], "first");
	assert_null(joined.ids[SHARED_UTS]);
	assert_null(joined.ids[SHARED_NETWORK]);
}

static void expect_foreign(struct world *world, const struct container *sandbox, const char *type, const char *path)
{
	cleanup_joined struct joined joined = {0};
	char text[300], message[300];
	struct error err;

	snprintf(text, sizeof(text), "[{\"type\":\"%s\",\"path\":\"%s\"}]", type, path);
	assert_int_equal(find(world, sandbox, text, &joined, &err), -1);
	snprintf(message, sizeof(message),
		 "config.json: linux.namespaces[0].path: `%s` is not a namespace of a container in the same sandbox, "
		 "and no other can be joined",
		 path);
	assert_string_equal(err.message, message);
}

static void test_foreign_paths(void **state)
{
	struct world *world = *state;
	char path[64];

	/* The children are in the host's namespaces, which stand for nobody under another name. */
	expect_foreign(world, &world->sandbox, "ipc", "/proc/self/ns/ipc");
	expect_foreign(world, &world->sandbox, "ipc", "/proc/1/ns/ipc");
	expect_foreign(world, &world->sandbox, "network", "/run/netns/nothing");
	snprintf(path, sizeof(path), "/proc/%d/ns/ipc", world->pids[0]);
	expect_foreign(world, &world->sandbox, "uts", path);
	expect_foreign(world, NULL, "ipc", path);
	expect_foreign(world, &world->sandbox, "mount", path);
	expect_foreign(world, &world->sandbox, "user", path);
	/* Of a process that has ended. */
	kill(world->pids[0], SIGKILL);
	waitpid(world->pids[0], NULL, 0);
	expect_foreign(world, &world->sandbox, "ipc", path);
}

static void expect_not_open(struct world *world, const char *id, const char *message)
{
	struct container container;
	struct error err;

	assert_int_equal(sandbox_open(world->root, id, &container, &err), -1);
	assert_string_equal(err.message, message);
}

static void test_open(void **state)
{
	struct world *world = *state;
	struct container container;
	struct error err;

	assert_int_equal(sandbox_open(world->root, "pod", &container, &err), 0);
	container_close(&container);
	expect_not_open(world, "nothing", "sandbox nothing: container does not exist");
	expect_not_open(world, "first", "first is no sandbox: it has joined sandbox pod itself");
	kill(world->pids[0], SIGKILL);
	waitpid(world->pids[0], NULL, 0);
	expect_not_open(world, "pod", "sandbox pod is not running: stopped");
}

static void test_record(void **state)
{
	struct world *world = *state;
	char *text = state_format(&world->member.state), *bad;
	struct state again;
	struct error err;

	assert_int_equal(state_parse(text, strlen(text), &again, &err), 0);
	assert_string_equal(again.sandbox, "pod");
	assert_string_equal(again.exports, "0123456789ab");
	assert_int_equal(again.machine.pid, world->pids[0]);
	state_release(&again);
	/* What would make delete take other containers' files back. */
	bad = strstr(text, "0123456789ab");
	memcpy(bad, "............", 12);
	assert_int_equal(state_parse(text, strlen(text), &again, &err), -1);
	memcpy(bad, "012345678901", 12);
	memcpy(strstr(text, "\"pod\""), "\"p/d\"", 5);
	assert_int_equal(state_parse(text, strlen(text), &again, &err), -1);
	free(text);
}

/* The sandbox has ended without a trace: nothing is left to take back, and nothing is waited for. */
static void test_leave_what_is_gone(void **state)
{
	struct world *world = *state;
	struct error err;

	kill(world->pids[0], SIGKILL);
	waitpid(world->pids[0], NULL, 0);
	if (sandbox_leave(&world->member, &err) < 0)
		fail_msg("%s", err.message);
}

static int listen_in(const struct container *container, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", container->folder, name);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

/* Answers one request of FSD_REMOVE for the group of the test. */
static pid_t play_file_server(int listener, uint32_t error)
{
	struct fsd_request request;
	struct fsd_reply reply = {.error = error};
	pid_t pid = fork();
	int fd;

	if (pid != 0)
		return pid;
	fd = accept(listener, NULL, NULL);
	if (recv(fd, &request, sizeof(request), 0) != sizeof(request) || request.operation != FSD_REMOVE ||
	    request.flags != FSD_GROUP || strcmp(request.name, "0123456789ab") != 0)
		_exit(1);
	_exit(send(fd, &reply, sizeof(reply), 0) != sizeof(reply));
}

/* A guest that owns its machine may keep silent: its container is left all the same, and its files are taken back. */
static void test_leave_a_silent_guest(void **state)
{
	struct world *world = *state;
	int control = listen_in(&world->member, CONTAINER_CONTROL_SOCKET);
	int fsd = listen_in(&world->member, CONTAINER_FSD_SOCKET), status;
	pid_t server = play_file_server(fsd, 0);
	time_t start = time(NULL);
	struct error err;

	if (sandbox_leave(&world->member, &err) < 0)
		fail_msg("%s", err.message);
	assert_true(time(NULL) - start < 10);
	waitpid(server, &status, 0);
	assert_int_equal(status, 0);
	/* What the file server refuses is an error: the files would stay within reach. */
	close(control);
	server = play_file_server(fsd, EIO);
	assert_int_equal(sandbox_leave(&world->member, &err), -1);
	waitpid(server, &status, 0);
	assert_int_equal(status, 0);
	close(fsd);
}

static void test_groups(void **state)
{
	struct export list[2] = {{.name = "rootfs"}, {.name = "m4294967295"}};
	struct exports exports = {.list = list, .n = 2};
	char group[EXPORT_GROUP_SIZE], other[EXPORT_GROUP_SIZE], expected[64];
	struct error err;

	(void)state;
	assert_int_equal(exports_join_group(&exports, group, &err), 0);
	assert_int_equal(strlen(group), 12);
	snprintf(expected, sizeof(expected), "%s.rootfs", group);
	assert_string_equal(list[0].name, expected);
	snprintf(expected, sizeof(expected), "%s.m4294967295", group);
	assert_string_equal(list[1].name, expected);
	exports.n = 0;
	assert_int_equal(exports_join_group(&exports, other, &err), 0);
	assert_string_not_equal(group, other);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_annotations),
	    cmocka_unit_test(test_end),
	    TEST(test_paths),
	    TEST(test_foreign_paths),
	    TEST(test_open),
	    TEST(test_record),
	    TEST(test_leave_what_is_gone),
	    TEST(test_leave_a_silent_guest),
	    cmocka_unit_test(test_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
