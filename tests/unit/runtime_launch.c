/*
 * Making a container against a VMM that misbehaves in every way: this program, started again as hull-vmm or hull-fsd,
 * plays them. What the file server's client would find in the guest's kernel file tells it how to behave.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "common/cleanup.h"
#include "common/io.h"
#include "common/vmm_control.h"
#include "runtime/agent.h"
#include "runtime/attach.h"
#include "runtime/kvm.h"
#include "runtime/launch.h"

/* --- hull-vmm and hull-fsd, played ------------------------------------------------------------------------------- */

static const char *option(char **argv, const char *name)
{
	for (; *argv; argv++)
		if (strcmp(*argv, name) == 0)
			return argv[1];
	return "-1";
}

static int play_fsd(char **argv)
{
	char packet[16];

	/* Until the other end is closed. */
	while (recv(atoi(option(argv, "--socket")), packet, sizeof(packet), 0) > 0)
		;
	_exit(0);
}

struct stage {
	char mode[32];
	int control, result, fs, agent;
};

static _Noreturn void leave(struct stage *stage, const char *result, int status)
{
	if (write(stage->result, result, strlen(result)) < 0)
		status = 1;
	_exit(status);
}

static bool is_mode(const struct stage *stage, const char *mode)
{
	return strcmp(stage->mode, mode) == 0;
}

static _Noreturn void sleep_until_killed(void)
{
	for (;;)
		pause();
}

static void answer(struct stage *stage, const char *text)
{
	uint32_t size = (uint32_t)strlen(text);

	if (write_exactly(stage->agent, &size, sizeof(size)) < 0 || write_exactly(stage->agent, text, size) < 0)
		_exit(1);
}

static void on_create(struct stage *stage)
{
	uint32_t huge = UINT32_MAX;

	if (is_mode(stage, "die-in-create"))
		raise(SIGKILL);
	if (is_mode(stage, "panic-in-create"))
		leave(stage, "panic Oops\n", 125);
	if (is_mode(stage, "silent-in-create"))
		sleep_until_killed();
	if (is_mode(stage, "huge"))
		answer(stage, write(stage->agent, &huge, sizeof(huge)) < 0 ? "" : "x");
	else if (is_mode(stage, "empty"))
		answer(stage, "");
	else if (is_mode(stage, "garbage"))
		answer(stage, "\x1b[2Jhello");
	else if (is_mode(stage, "array"))
		answer(stage, "[true]");
	else if (is_mode(stage, "refuse"))
		answer(stage, "{\"ok\":false,\"error\":\"exec: \\\"x\\\":\\nnot found\\u001b\",\"code\":2}");
	else if (is_mode(stage, "refuse-oddly"))
		answer(stage, "{\"ok\":false,\"error\":5,\"code\":\"x\"}");
	else
		answer(stage, "{\"ok\":true,\"pid\":2}");
}

static void on_order(struct stage *stage, const char *order)
{
	if (strstr(order, "\"order\":\"create\"")) {
		on_create(stage);
	} else if (strstr(order, "\"order\":\"start\"")) {
		if (is_mode(stage, "exit-unanswered"))
			leave(stage, "exited 9\n", 9);
		answer(stage, is_mode(stage, "refuse-start")
				  ? "{\"ok\":false,\"error\":\"exec format error\",\"code\":8}"
				  : "{\"ok\":true}");
		if (is_mode(stage, "exit"))
			leave(stage, "exited 7\n", 7);
	} else {
		answer(stage, "{\"ok\":true}");
		leave(stage, "exited 137\n", 137);
	}
}

static void serve_agent(struct stage *stage)
{
	static char order[1 << 16];
	uint32_t size;

	while (read_exactly(stage->agent, &size, sizeof(size)) == 0 && size < sizeof(order) &&
	       read_exactly(stage->agent, order, size) == 0) {
		order[size] = '\0';
		on_order(stage, order);
	}
	close(stage->agent);
}

static void serve_control(struct stage *stage, int connection)
{
	struct vmm_reply reply = {0};
	struct vmm_request request;
	size_t n = 1;

	while (receive_with_fds(connection, &request, sizeof(request), &stage->agent, &n, 0) == sizeof(request)) {
		if (is_mode(stage, "panic"))
			leave(stage, "panic not syncing: VFS\n", 125);
		if (is_mode(stage, "close-control"))
			return;
		if (is_mode(stage, "refuse-connect"))
			reply.error = ECONNREFUSED;
		if (send(connection, &reply, is_mode(stage, "short-reply") ? 3 : sizeof(reply), 0) < 0)
			_exit(1);
		if (request.operation != VMM_CONNECT || n == 0)
			continue;
		/* Blocking is simpler here; the runtime's end keeps its own flag. */
		set_nonblocking(stage->agent, false);
		if (is_mode(stage, "close-agent"))
			close(stage->agent);
		else
			serve_agent(stage);
		n = 1;
	}
}

static void watch_file_server(struct stage *stage)
{
	struct pollfd polled = {.fd = stage->fs, .events = POLLIN};

	poll(&polled, 1, -1);
	leave(stage, "failed file server ended\n", 125);
}

static int play_vmm(char **argv)
{
	struct stage stage = {.control = atoi(option(argv, "--control")),
			      .result = atoi(option(argv, "--result")),
			      .fs = atoi(option(argv, "--fs"))};

	if (pread(atoi(option(argv, "--kernel")), stage.mode, sizeof(stage.mode) - 1, 0) < 0)
		_exit(1);
	if (is_mode(&stage, "die"))
		_exit(3);
	if (is_mode(&stage, "failed"))
		leave(&stage, "failed kernel: not an ELF file\n", 125);
	if (is_mode(&stage, "silent"))
		sleep_until_killed();
	while (is_mode(&stage, "busy"))
		;
	if (is_mode(&stage, "watch-fs"))
		watch_file_server(&stage);
	for (;;) {
		int connection = accept(stage.control, NULL, NULL);

		if (connection >= 0)
			serve_control(&stage, connection);
	}
}

/* --- the tests --------------------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/runtime_launch.XXXXXX";
static char root[64], bundle[64], kernel[64], config[64], self[4096];

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int set_up(void **state)
{
	char path[128];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	(void)state;
	if (length < 0 || !mkdtemp(folder))
		return -1;
	snprintf(root, sizeof(root), "%s/root", folder);
	snprintf(bundle, sizeof(bundle), "%s/bundle", folder);
	snprintf(kernel, sizeof(kernel), "%s/kernel", folder);
	snprintf(path, sizeof(path), "%s/rootfs", bundle);
	if (mkdir(bundle, 0755) < 0 || mkdir(path, 0755) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/config.json", bundle);
	/* The machine that builds this may have no cgroups to offer. */
	snprintf(config, sizeof(config), "%s/hull.json", folder);
	write_text(config, "{\"cgroupManager\":\"disabled\",\"template\":\"off\"}");
	write_text(path, "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"rootfs\"},"
			 "\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\"}}");
	setenv("HULL_VMM", self, 1);
	setenv("HULL_FSD", self, 1);
	setenv("HULL_KERNEL", kernel, 1);
	setenv("HULL_INITRAMFS", kernel, 1);
	setenv("HULL_START_TIMEOUT", "30", 1);
	/* Orphans of killed creators become ours, so that none can hide. */
	return prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static unsigned count_entries(const char *path)
{
	DIR *directory = opendir(path);
	unsigned n = 0;

	while (directory && readdir(directory))
		n++;
	if (directory)
		closedir(directory);
	return n > 2 ? n - 2 : 0;
}

static int launch_mode(const char *mode, bool start, struct launch *made, struct error *err)
{
	struct global_options global = {.root = root, .config = config};
	struct launch_options options = {
	    .global = &global, .id = "c", .bundle = bundle, .detached = !start, .start = start};

	write_text(kernel, mode);
	return launch(&options, made, err);
}

static void assert_nothing_left(unsigned descriptors)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	assert_int_equal(count_entries(root), 0);
	assert_int_equal(count_entries("/proc/self/fd"), descriptors);
}

static void need_kvm(void)
{
	struct error err;
	int kvm = kvm_open(&err);

	if (kvm < 0)
		skip();
	close(kvm);
}

static void expect_failure(const char *mode, bool start, const char *message)
{
	unsigned descriptors = count_entries("/proc/self/fd");
	struct error err = {0};
	struct launch made;

	if (launch_mode(mode, start, &made, &err) == 0)
		fail_msg("%s: made a container", mode);
	if (strcmp(err.message, message) != 0)
		fail_msg("%s: \"%s\" instead of \"%s\"", mode, err.message, message);
	assert_nothing_left(descriptors);
}

static void test_vmm_fails(void **state)
{
	(void)state;
	need_kvm();
	expect_failure("die", false, "hull-vmm ended with status 3");
	expect_failure("failed", false, "the virtual machine failed: kernel: not an ELF file");
	expect_failure("panic", false, "the guest kernel panicked: not syncing: VFS");
	expect_failure("die-in-create", false, "hull-vmm was killed by signal KILL");
	expect_failure("panic-in-create", false, "the guest kernel panicked: Oops");
}

static void test_no_answer(void **state)
{
	(void)state;
	need_kvm();
	setenv("HULL_START_TIMEOUT", "2", 1);
	expect_failure("silent", false, "the guest did not answer within 2 s");
	expect_failure("busy", false, "the guest did not answer within 2 s");
	expect_failure("silent-in-create", false, "the guest did not answer within 2 s");
	expect_failure("close-control", false, "the guest did not answer within 2 s");
	setenv("HULL_START_TIMEOUT", "30", 1);
}

static void test_bad_answers(void **state)
{
	(void)state;
	need_kvm();
	expect_failure("refuse-connect", false, "connect to the agent in the guest: Connection refused");
	expect_failure("short-reply", false, "the virtual machine ended the connection");
	expect_failure("close-agent", false, "the agent in the guest ended the connection");
	expect_failure("huge", false, "the agent in the guest sent a message of 4294967295 bytes");
	expect_failure("empty", false, "the agent in the guest sent a message of 0 bytes");
	expect_failure("garbage", false, "the agent in the guest sent an answer that is none");
	expect_failure("array", false, "the agent in the guest sent an answer that is none");
	expect_failure("refuse", false, "exec: \"x\": not found?");
	expect_failure("refuse-oddly", false, "the agent refused without a reason");
	expect_failure("refuse-start", true, "exec format error");
}

static void test_file_server_fails(void **state)
{
	(void)state;
	need_kvm();
	setenv("HULL_FSD", "/bin/false", 1);
	expect_failure("watch-fs", false, "the virtual machine failed: file server ended");
	setenv("HULL_FSD", "/nonexistent/hull-fsd", 1);
	expect_failure("ok", false, "start `/nonexistent/hull-fsd`: execute it: No such file or directory");
	setenv("HULL_FSD", self, 1);
	setenv("HULL_VMM", "/nonexistent/hull-vmm", 1);
	expect_failure("ok", false, "start `/nonexistent/hull-vmm`: execute it: No such file or directory");
	setenv("HULL_VMM", self, 1);
}

static void test_create_start_kill(void **state)
{
	unsigned descriptors = count_entries("/proc/self/fd");
	struct attachment attachment;
	struct container container;
	struct launch made;
	struct error err;

	(void)state;
	need_kvm();
	assert_int_equal(launch_mode("ok", false, &made, &err), 0);
	assert_int_equal(container_open(root, "c", &container, &err), 0);
	assert_int_equal(container_status(&container), CONTAINER_CREATED);
	assert_int_equal(container.state.vmm.pid, made.machine.vmm.pid);
	/* The one at a time that this VMM serves is still ours. */
	close(made.agent);
	made.agent = -1;
	close(made.control);
	made.control = -1;
	assert_int_equal(attach(&container, 5, &attachment, &err), 0);
	assert_int_equal(attach_agent(&attachment, &err), 0);
	assert_int_equal(agent_start(attachment.agent, &attachment.watch, "c", &err), 0);
	assert_int_equal(agent_kill(attachment.agent, &attachment.watch, "c", NULL, SIGTERM, false, &err), 0);
	attachment_release(&attachment);
	assert_int_equal(child_wait(&made.machine.vmm), 137);
	assert_int_equal(container_status(&container), CONTAINER_STOPPED);
	launch_release(&made);
	assert_int_equal(container_lock(&container, 0, &err), 0);
	assert_int_equal(container_remove(&container, &err), 0);
	container_close(&container);
	assert_nothing_left(descriptors);
}

/* The process ended before the answer to start was read. */
static void test_quick_process(void **state)
{
	unsigned descriptors = count_entries("/proc/self/fd");
	struct container container;
	struct launch made;
	struct error err;

	(void)state;
	need_kvm();
	if (launch_mode("exit-unanswered", true, &made, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(container_status(&made.container), CONTAINER_STOPPED);
	assert_int_equal(child_wait(&made.machine.vmm), 9);
	launch_release(&made);
	assert_int_equal(container_open(root, "c", &container, &err), 0);
	assert_int_equal(container_lock(&container, 0, &err), 0);
	assert_int_equal(container_remove(&container, &err), 0);
	container_close(&container);
	assert_nothing_left(descriptors);
}

static void sleep_ms(long ms)
{
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&pause, NULL);
}

/* Reaps until there is no child left, at most for some seconds. */
static void assert_all_end(void)
{
	for (int i = 0; i < 500; i++) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0 && errno == ECHILD)
			return;
		if (pid == 0)
			sleep_ms(10);
	}
	fail_msg("a process is left");
}

static pid_t launch_in_child(const char *mode)
{
	pid_t pid = fork();
	struct launch made;
	struct error err;

	if (pid == 0)
		_exit(launch_mode(mode, false, &made, &err) == 0 ? 0 : 1);
	return pid;
}

/* kill -9 of `hull create` at any time: the machine goes too, and the id can be used again. */
static void test_killed_creator(void **state)
{
	unsigned descriptors = count_entries("/proc/self/fd");
	struct container container;
	struct error err;

	(void)state;
	need_kvm();
	for (int i = 0; i < 40; i++) {
		pid_t pid = launch_in_child("silent-in-create");

		sleep_ms(i * i / 8);
		kill(pid, SIGKILL);
		assert_all_end();
		if (container_open(root, "c", &container, &err) < 0) {
			assert_int_equal(err.code, ENOENT);
			continue;
		}
		assert_int_equal(container_status(&container), CONTAINER_STOPPED);
		container_close(&container);
	}
	expect_failure("refuse-start", true, "exec format error");
	assert_nothing_left(descriptors);
}

static void test_interrupted_creator(void **state)
{
	unsigned descriptors = count_entries("/proc/self/fd");
	char state_file[128];
	pid_t pid;
	int status;

	snprintf(state_file, sizeof(state_file), "%s/c/state.json", root);

	(void)state;
	need_kvm();
	pid = launch_in_child("silent-in-create");
	/* From its first file on it watches for signals. */
	while (access(state_file, F_OK) < 0)
		sleep_ms(10);
	kill(pid, SIGTERM);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	assert_all_end();
	assert_nothing_left(descriptors);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_vmm_fails),	      cmocka_unit_test(test_no_answer),
	    cmocka_unit_test(test_bad_answers),	      cmocka_unit_test(test_file_server_fails),
	    cmocka_unit_test(test_create_start_kill), cmocka_unit_test(test_quick_process),
	    cmocka_unit_test(test_killed_creator),    cmocka_unit_test(test_interrupted_creator),
	};

	if (argc > 1 && strcmp(argv[0], "hull-vmm") == 0)
		return play_vmm(argv);
	if (argc > 1 && strcmp(argv[0], "hull-fsd") == 0)
		return play_fsd(argv);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
