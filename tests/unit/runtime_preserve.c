/*
 * --preserve-fds: which descriptors can be relayed, in which directions, and what is said of the others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/vmm_control.h"
#include "runtime/preserve.h"

/* Each test has descriptors of its own from 3 on: it runs in a child, whose exit status tells. */
static int in_child(void (*body)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		closefrom(3);
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define EXPECT(condition)                                                                                              \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			dprintf(STDERR_FILENO, "line %d: %s\n", __LINE__, #condition);                                 \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

static void written(const struct preserved *preserved, const char *expected)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	EXPECT(out);
	preserved_write(preserved, out);
	fclose(out);
	if (strcmp(text, expected) != 0)
		dprintf(STDERR_FILENO, "%s\n", text);
	EXPECT(strcmp(text, expected) == 0);
	free(text);
}

static void take_streams(void)
{
	struct preserved preserved;
	uint32_t ports[PRESERVED_MAX];
	struct error err;
	int ends[2], pipes[2];
	char byte = 0;

	EXPECT(pipe(pipes) == 0 && pipes[0] == 3 && pipes[1] == 4);
	EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && ends[0] == 5);
	EXPECT(dup2(ends[1], 20) == 20);
	close(ends[1]);
	EXPECT(open("/dev/null", O_RDWR) == 6);
	EXPECT(preserved_take(4, &preserved, &err) == 0 && preserved.n == 4);
	EXPECT(preserved.list[0].flags == VMM_STREAM_IN && preserved.list[1].flags == VMM_STREAM_OUT);
	EXPECT(preserved.list[2].flags == (VMM_STREAM_IN | VMM_STREAM_OUT));
	EXPECT(preserved.list[3].flags == 0 && preserved.list[3].fd == -1);
	/* They are not where they were any more, and what has been taken does not outlive execve. */
	for (int fd = 3; fd < 7; fd++)
		EXPECT(fcntl(fd, F_GETFD) < 0);
	EXPECT(fcntl(preserved.list[0].fd, F_GETFD) & FD_CLOEXEC);
	EXPECT(write(preserved.list[1].fd, "x", 1) == 1 && read(preserved.list[0].fd, &byte, 1) == 1 && byte == 'x');
	EXPECT(write(preserved.list[2].fd, "y", 1) == 1 && read(20, &byte, 1) == 1 && byte == 'y');

	preserved_number(&preserved, 100);
	written(&preserved,
		",\"preserved\":[{\"port\":100,\"in\":true,\"out\":false},{\"port\":101,\"in\":false,\"out\":true},"
		"{\"port\":102,\"in\":true,\"out\":true},null]");
	EXPECT(preserved_outputs(&preserved, ports) == 2 && ports[0] == 101 && ports[1] == 102);
	preserved_release(&preserved);
	EXPECT(preserved.n == 0);
	EXPECT(read(20, &byte, 1) == 0);
}

static void take_files(void)
{
	struct preserved preserved;
	struct error err;
	char text[4] = {0};

	EXPECT(open("/proc/self/status", O_RDONLY) == 3 && lseek(3, 2, SEEK_SET) == 2);
	EXPECT(open("/tmp", O_WRONLY | O_TMPFILE, 0600) == 4);
	EXPECT(preserved_take(2, &preserved, &err) == 0);
	EXPECT(preserved.list[0].flags == VMM_STREAM_IN && preserved.list[1].flags == VMM_STREAM_OUT);
	/* From where it was: "Name:". */
	EXPECT(read(preserved.list[0].fd, text, 3) == 3 && strcmp(text, "me:") == 0);
	preserved_release(&preserved);
}

static void take_none(void)
{
	struct preserved preserved;
	struct error err;

	EXPECT(preserved_take(0, &preserved, &err) == 0 && preserved.n == 0);
	written(&preserved, "");
}

static void refused(const char *words)
{
	struct preserved preserved;
	struct error err;

	EXPECT(preserved_take(1, &preserved, &err) < 0);
	if (!strstr(err.message, words))
		dprintf(STDERR_FILENO, "%s\n", err.message);
	EXPECT(strstr(err.message, words));
	preserved_release(&preserved);
}

/* What is at descriptor 3 is refused with these words. */
static void at_three(int fd, const char *words)
{
	EXPECT(fd >= 0 && (fd == 3 || dup2(fd, 3) == 3));
	refused(words);
	closefrom(3);
}

static void refuse_what_is_no_stream(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int ends[2], listener;

	at_three(memfd_create("x", 0),
		 "descriptor 3 is a file that is open for both reading and writing: only pipes, fifos, files that");
	at_three(open("/", O_RDONLY), "descriptor 3 is a directory");
	at_three(open("/dev/zero", O_RDONLY), "descriptor 3 is a character device");
	at_three(open("/dev/null", O_PATH), "descriptor 3 is open with O_PATH");
	at_three(eventfd(0, 0), "descriptor 3 is no stream");
	at_three(epoll_create1(0), "descriptor 3 is no stream");
	at_three(posix_openpt(O_RDWR), "descriptor 3 is a terminal");
	at_three(socket(AF_UNIX, SOCK_STREAM, 0), "descriptor 3 is a socket that is not connected");
	EXPECT(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
	at_three(ends[0], "descriptor 3 is a socket that is no stream");
	EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
	at_three(ends[0], "descriptor 3 is a socket that is no stream");
	/* With the family alone the kernel chooses an abstract name. */
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	EXPECT(bind(listener, (struct sockaddr *)&address, sizeof(address.sun_family)) == 0 &&
	       listen(listener, 1) == 0);
	at_three(listener, "descriptor 3 is a listening socket");
}

static void refuse_what_is_not_there(void)
{
	refused("unable to stat preserved-fd 0 (of 1): stat /proc/self/fd/3: no such file or directory");
	/* One of hull's own, which the caller does not know of. */
	at_three(open("/dev/null", O_RDONLY | O_CLOEXEC), "unable to stat preserved-fd 0 (of 1)");
}

static void refuse_too_many(void)
{
	struct preserved preserved;
	struct error err;

	EXPECT(preserved_take(PRESERVED_MAX + 1, &preserved, &err) < 0 && preserved.n == 0);
	EXPECT(preserved_take(~0u, &preserved, &err) < 0);
	EXPECT(strstr(err.message, "no more than 32 descriptors"));
}

static void refuse_fifo_of_both_ways(void)
{
	char path[] = "/tmp/hull-fifo-XXXXXX";

	EXPECT(mkdtemp(path) && chdir(path) == 0 && mkfifo("fifo", 0600) == 0);
	at_three(open("fifo", O_RDWR), "descriptor 3 is a fifo that is open for both reading and writing");
	unlink("fifo");
	rmdir(path);
}

static void count_activation(void)
{
	char pid[16];

	unsetenv("LISTEN_PID");
	setenv("LISTEN_FDS", "2", 1);
	EXPECT(preserved_activation() == 0);
	snprintf(pid, sizeof(pid), "%d", (int)getppid());
	setenv("LISTEN_PID", pid, 1);
	EXPECT(preserved_activation() == 0);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
	EXPECT(preserved_activation() == 2);
	setenv("LISTEN_FDS", "two", 1);
	EXPECT(preserved_activation() == 0);
	setenv("LISTEN_FDS", "-1", 1);
	EXPECT(preserved_activation() == 0);
}

#define TEST(body)                                                                                                     \
	static void test_##body(void **state)                                                                          \
	{                                                                                                              \
		(void)state;                                                                                           \
		assert_int_equal(in_child(body), 0);                                                                   \
	}

TEST(take_streams)
TEST(take_files)
TEST(take_none)
TEST(refuse_what_is_no_stream)
TEST(refuse_what_is_not_there)
TEST(refuse_too_many)
TEST(count_activation)
TEST(refuse_fifo_of_both_ways)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_take_streams),
	    cmocka_unit_test(test_take_files),
	    cmocka_unit_test(test_take_none),
	    cmocka_unit_test(test_refuse_what_is_no_stream),
	    cmocka_unit_test(test_refuse_what_is_not_there),
	    cmocka_unit_test(test_refuse_too_many),
	    cmocka_unit_test(test_count_activation),
	    cmocka_unit_test(test_refuse_fifo_of_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
