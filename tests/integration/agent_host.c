/*
 * Talks to the agent of a real guest without the runtime in between, for what no command of hull would ask of it.
 *
 *   agent_host VMM FSD KERNEL INITRAMFS ROOTFS DIRECTORY
 *
 * Starts the VMM and the file server, with ROOTFS as the export "rootfs" and five groups of three streams: ports 1040 +
 * 3 N are the read ends of the fifos DIRECTORY/inN if these exist, else /dev/null; the next two go to the files
 * DIRECTORY/outN and errN. Then it reads lines from its standard input and answers each with one
 * line:
 *
 *   {...}        an order; the agent's answer
 *   raw BYTES    sends the bytes (printf escapes \xHH) over a connection of its own; "closed" when the agent ends it
 *   wait         waits for the VMM; "status N"
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "common/vmm_control.h"
#include "runtime/kernel_cmdline.h"
#include "tests/integration/vmm_arguments.h"

static int control;

static int open_in(const char *directory, const char *name, int flags)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, flags, 0600);
	if (fd < 0 && errno == ENOENT)
		fd = open("/dev/null", O_RDONLY);
	if (fd < 0)
		err(125, "%s", path);
	return fd;
}

static void add_streams(const char *directory)
{
	const int create = O_WRONLY | O_CREAT | O_TRUNC;

	for (int n = 0; n < 5; n++) {
		char in[8], out[8], error[8];

		snprintf(in, sizeof(in), "in%d", n);
		snprintf(out, sizeof(out), "out%d", n);
		snprintf(error, sizeof(error), "err%d", n);
		add_stream(1040 + 3 * n, open_in(directory, in, O_RDWR), "in");
		add_stream(1041 + 3 * n, open_in(directory, out, create), "out");
		add_stream(1042 + 3 * n, open_in(directory, error, create), "out");
	}
}

static pid_t start(const char *program)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	for (int fd = 0; fd < 2; fd++)
		dup2(open("/dev/null", O_RDWR), fd);
	execv(program, arguments);
	_exit(125);
}

static void start_file_server(const char *program, int socket, const char *rootfs)
{
	char export[64];

	n_arguments = 0;
	add(program);
	add_fd("--socket", socket, "");
	add_fd("--log", dup(2), "");
	snprintf(export, sizeof(export), "rootfs=%d", open(rootfs, O_PATH | O_DIRECTORY));
	add("--export");
	add(export);
	start(program);
}

/* The guest's control socket, as the runtime makes it, and a connection to it. */
static int make_control(const char *directory)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/control", directory);
	unlink(address.sun_path);
	control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 4) < 0 ||
	    connect(control, (struct sockaddr *)&address, sizeof(address)) < 0)
		err(125, "control socket");
	return listener;
}

static pid_t start_vmm(char **argv)
{
	int sockets[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets) < 0)
		err(125, "socketpair");
	/* The file server must not hold the VMM's end open. */
	fcntl(sockets[0], F_SETFD, FD_CLOEXEC);
	start_file_server(argv[2], sockets[1], argv[5]);
	close(sockets[1]);
	fcntl(sockets[0], F_SETFD, 0);
	begin_vmm(argv[1], argv[3], argv[4], KERNEL_CMDLINE, "268435456");
	add_fd("--control", make_control(argv[6]), "");
	add_fd("--result", open_in(argv[6], "result", O_RDWR | O_CREAT | O_TRUNC), "");
	add_fd("--fs", sockets[0], "");
	add_streams(argv[6]);
	pid = start(argv[1]);
	/* What the VMM and the file server hold is theirs alone: each must see when the other goes. */
	for (int fd = 3; fd < 64; fd++)
		if (fd != control)
			close(fd);
	return pid;
}

/* A connection to the agent. */
static int connect_agent(void)
{
	struct vmm_request request = {.version = VMM_CONTROL_VERSION, .operation = VMM_CONNECT, .port = AGENT_PORT};
	struct vmm_reply reply = {.error = ECONNRESET};
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr alignment;
	} ancillary = {{0}};
	struct iovec iov = {&request, sizeof(request)};
	struct msghdr message = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ancillary, .msg_controllen = sizeof(ancillary)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) < 0)
		err(125, "socketpair");
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &sockets[1], sizeof(int));
	if (sendmsg(control, &message, 0) < 0 || recv(control, &reply, sizeof(reply), 0) < 0 || reply.error)
		errx(125, "no connection to the agent: %s", strerror((int)reply.error));
	close(sockets[1]);
	return sockets[0];
}

static bool read_all(int fd, void *data, size_t size)
{
	for (char *at = data; size > 0;) {
		ssize_t n = read(fd, at, size);

		if (n <= 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

static void carry_out(int agent, const char *line)
{
	uint32_t length = (uint32_t)strlen(line);
	char *answer;

	if (write(agent, &length, sizeof(length)) < 0 || write(agent, line, length) < 0 ||
	    !read_all(agent, &length, sizeof(length)) || length > AGENT_MESSAGE_MAX) {
		puts("no answer");
		return;
	}
	answer = calloc(1, length + 1);
	if (answer && read_all(agent, answer, length))
		puts(answer);
	free(answer);
}

static void send_raw(const char *text)
{
	int agent = connect_agent();
	char bytes[256];
	size_t n = 0;
	struct pollfd poll_agent = {.fd = agent, .events = POLLIN};

	for (; *text && n < sizeof(bytes); n++) {
		unsigned value;

		if (sscanf(text, "\\x%2x", &value) == 1) {
			bytes[n] = (char)value;
			text += 4;
		} else {
			bytes[n] = *text++;
		}
	}
	if (write(agent, bytes, n) < 0)
		err(125, "write");
	puts(poll(&poll_agent, 1, 20000) == 1 && read(agent, bytes, 1) <= 0 ? "closed" : "open");
	close(agent);
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	int agent, status;
	pid_t vmm;

	if (argc != 7)
		errx(125, "usage: agent_host VMM FSD KERNEL INITRAMFS ROOTFS DIRECTORY");
	setvbuf(stdout, NULL, _IOLBF, 0);
	vmm = start_vmm(argv);
	agent = connect_agent();
	while ((n = getline(&line, &room, stdin)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = '\0';
		if (line[0] == '{') {
			carry_out(agent, line);
		} else if (strncmp(line, "raw ", 4) == 0) {
			send_raw(line + 4);
		} else if (strcmp(line, "wait") == 0 && waitpid(vmm, &status, 0) == vmm) {
			printf("status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
			vmm = 0;
		}
	}
	free(line);
	if (vmm > 0)
		kill(vmm, 9);
	return 0;
}
