/* Streams: a pipe on the container's side, a unix socket in the place of vsock, and the agent's loop between them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/io.h"
#include "guest-agent/loop.h"
#include "guest-agent/relay.h"

/* The loop never ends in the agent; here the test's own watch gets out of it, when nothing has happened for a while or
 * when it is told to. */
static jmp_buf out;
static int n_ended, n_connected, connect_code;

static void ended(struct relay *relay)
{
	(void)relay;
	n_ended++;
}

static void connected(struct relay *relay, int code)
{
	(void)relay;
	n_connected++;
	connect_code = code;
}

static void wake(struct watch *watch, uint32_t events)
{
	(void)events;
	loop_remove(watch);
	longjmp(out, 1);
}

/* Serves events until `fd` becomes readable (or hangs up). */
static void serve_until(int fd)
{
	struct watch watch = {.fd = -1, .ready = wake};
	struct error err;

	assert_int_equal(loop_add(&watch, fd, EPOLLIN), 0);
	if (setjmp(out) == 0)
		loop_run(&err);
}

/* Serves what there is to serve now. */
static void serve_some(void)
{
	for (int i = 0; i < 5; i++) {
		int fds[2];

		assert_int_equal(pipe(fds), 0);
		assert_int_equal(write(fds[1], "x", 1), 1);
		serve_until(fds[0]);
		close(fds[0]);
		close(fds[1]);
	}
}

struct stream {
	struct relay relay;
	int theirs; /* the container's end of the pipe */
	int host;   /* the host's end of the socket */
};

static void open_stream(struct stream *stream, bool input)
{
	int pipe_fds[2], sockets[2];
	struct error err;

	memset(stream, 0, sizeof(*stream));
	n_ended = n_connected = 0;
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	stream->theirs = pipe_fds[input ? 0 : 1];
	stream->host = sockets[0];
	assert_int_equal(set_nonblocking(pipe_fds[input ? 1 : 0], true), 0);
	assert_int_equal(set_nonblocking(sockets[1], true), 0);
	stream->relay.ended = ended;
	stream->relay.connected = connected;
	assert_int_equal(input ? relay_start(&stream->relay, sockets[1], pipe_fds[1], true, &err)
			       : relay_start(&stream->relay, pipe_fds[0], sockets[1], false, &err),
			 0);
	serve_some();
	assert_int_equal(n_connected, 1);
	assert_int_equal(connect_code, 0);
}

static int set_up(void **state)
{
	struct error err;
	sigset_t all;

	(void)state;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	return loop_init(&err);
}

/* The relay's descriptors in this copy of the process would keep the streams open. */
static void close_others(int keep, int also)
{
	for (int fd = 3; fd < 64; fd++)
		if (fd != keep && fd != also)
			close(fd);
}

/* A child that writes `size` bytes of a known pattern to fd, or reads and checks them; its exit status tells. */
static pid_t start_writer(int fd, size_t size)
{
	pid_t pid = fork();

	if (pid == 0) {
		close_others(fd, fd);
		for (size_t i = 0; i < size;) {
			unsigned char block[5000];
			size_t n = size - i < sizeof(block) ? size - i : sizeof(block);

			for (size_t k = 0; k < n; k++)
				block[k] = (unsigned char)((i + k) * 7 >> 3);
			if (write_exactly(fd, block, n) < 0)
				_exit(errno == EPIPE ? 32 : 1);
			i += n;
		}
		_exit(0);
	}
	return pid;
}

static pid_t start_reader(int fd, size_t size, int done)
{
	pid_t pid = fork();

	if (pid == 0) {
		unsigned char block[3000];
		size_t i = 0;
		ssize_t n;

		close_others(fd, done);

		while ((n = read(fd, block, sizeof(block))) > 0)
			for (ssize_t k = 0; k < n; k++, i++)
				if (block[k] != (unsigned char)(i * 7 >> 3))
					_exit(1);
		close(done);
		_exit(i == size ? 0 : 2);
	}
	return pid;
}

static int status_of(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

#define MUCH (3u << 20)

static void test_output_is_complete(void **state)
{
	struct stream stream;
	pid_t writer, reader;
	int done[2];

	(void)state;
	open_stream(&stream, false);
	assert_int_equal(pipe2(done, O_CLOEXEC), 0);
	writer = start_writer(stream.theirs, MUCH);
	reader = start_reader(stream.host, MUCH, done[1]);
	close(done[1]);
	close(stream.theirs);
	serve_until(done[0]);
	assert_int_equal(status_of(writer), 0);
	assert_int_equal(status_of(reader), 0);
	assert_int_equal(n_ended, 1);
	close(done[0]);
	close(stream.host);
}

/* The other way, with the end of input after it. */
static void test_input_is_complete(void **state)
{
	struct stream stream;
	pid_t writer, reader;
	int done[2];

	(void)state;
	open_stream(&stream, true);
	assert_int_equal(pipe2(done, O_CLOEXEC), 0);
	writer = start_writer(stream.host, MUCH);
	reader = start_reader(stream.theirs, MUCH, done[1]);
	close(done[1]);
	close(stream.host);
	serve_until(done[0]);
	assert_int_equal(status_of(writer), 0);
	assert_int_equal(status_of(reader), 0);
	assert_int_equal(n_ended, 1);
	close(done[0]);
	close(stream.theirs);
}

/* A host that does not read: the writer is held back, and all arrives once it reads. */
static void test_back_pressure(void **state)
{
	static char block[4096];
	struct stream stream;
	size_t written = 0, got = 0;
	ssize_t n;

	(void)state;
	open_stream(&stream, false);
	set_nonblocking(stream.theirs, true);
	for (int idle = 0; idle < 3;) {
		n = write(stream.theirs, block, sizeof(block));
		idle = n < 0 ? idle + 1 : 0;
		written += n < 0 ? 0 : (size_t)n;
		serve_some();
		assert_true(written < 16u << 20);
	}
	/* The container ends, its pipe is closed, and the loop must not spin on that. */
	close(stream.theirs);
	serve_some();
	assert_int_equal(n_ended, 0);
	set_nonblocking(stream.host, true);
	while (n_ended == 0 || recv(stream.host, block, 1, MSG_PEEK) > 0) {
		n = read(stream.host, block, sizeof(block));
		got += n < 0 ? 0 : (size_t)n;
		serve_some();
	}
	assert_int_equal(got, written);
	assert_int_equal(read(stream.host, block, 1), 0);
	close(stream.host);
}

/* Somebody keeps the pipe open after the container's end: what is in it is delivered, then the stream ends. */
static void test_finish(void **state)
{
	struct stream stream;
	char text[16] = "";

	(void)state;
	open_stream(&stream, false);
	assert_int_equal(write(stream.theirs, "last words", 10), 10);
	relay_finish(&stream.relay);
	assert_int_equal(n_ended, 1);
	assert_int_equal(read(stream.host, text, sizeof(text)), 10);
	assert_string_equal(text, "last words");
	assert_int_equal(read(stream.host, text, sizeof(text)), 0);
	close(stream.host);
	close(stream.theirs);
}

/* The reader of an output goes: the container's next write fails. */
static void test_broken_output(void **state)
{
	struct stream stream;

	(void)state;
	open_stream(&stream, false);
	close(stream.host);
	serve_some();
	assert_int_equal(n_ended, 1);
	assert_int_equal(write(stream.theirs, "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	close(stream.theirs);
}

/* The container closes its input: the host learns of it. */
static void test_broken_input(void **state)
{
	struct stream stream;
	char byte;

	(void)state;
	open_stream(&stream, true);
	close(stream.theirs);
	serve_some();
	assert_int_equal(n_ended, 1);
	assert_int_equal(read(stream.host, &byte, 1), 0);
	close(stream.host);
}

static void test_stop(void **state)
{
	struct stream stream;
	struct relay never = {0};

	(void)state;
	relay_stop(&never);
	relay_finish(&never);
	open_stream(&stream, true);
	relay_stop(&stream.relay);
	relay_stop(&stream.relay);
	assert_int_equal(n_ended, 0);
	close(stream.host);
	close(stream.theirs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_output_is_complete),
	    cmocka_unit_test(test_input_is_complete),
	    cmocka_unit_test(test_back_pressure),
	    cmocka_unit_test(test_finish),
	    cmocka_unit_test(test_broken_output),
	    cmocka_unit_test(test_broken_input),
	    cmocka_unit_test(test_stop),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
