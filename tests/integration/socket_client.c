/*
 * Connects to a unix socket, sends what comes on its standard input, ends its own direction, and prints what comes
 * back. For tests of sockets of the host in a container.
 *
 *   socket_client PATH [N]       N times at once, each sending the input's bytes (default: 1)
 *   socket_client PATH hold      sends nothing, prints what comes, and ends when the other side does
 *   socket_client PATH datagram  sends the input as one datagram
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char input[8 << 20];

static int connect_to(const char *path, int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		err(2, "connect");
	return fd;
}

static int talk(const char *path, size_t size)
{
	int fd = connect_to(path, SOCK_STREAM);
	char buffer[65536];
	ssize_t n;

	/* The other side may speak first, but says little until it has everything. */
	for (size_t sent = 0; sent < size; sent += (size_t)n)
		if ((n = send(fd, input + sent, size - sent, MSG_NOSIGNAL)) < 0)
			err(3, "send");
	shutdown(fd, SHUT_WR);
	while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
		if (write(STDOUT_FILENO, buffer, (size_t)n) != n)
			err(4, "write");
	if (n < 0)
		err(5, "recv");
	return 0;
}

static int hold(const char *path)
{
	char buffer[65536];
	int fd = connect_to(path, SOCK_STREAM);
	ssize_t n;

	while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
		if (write(STDOUT_FILENO, buffer, (size_t)n) != n)
			err(4, "write");
	return 0;
}

int main(int argc, char **argv)
{
	int times = argc > 2 ? atoi(argv[2]) : 1, failed = 0, status;
	size_t size;

	if (argc < 2)
		errx(1, "usage: socket_client PATH [N]");
	if (argc > 2 && strcmp(argv[2], "hold") == 0)
		return hold(argv[1]);
	size = fread(input, 1, sizeof(input), stdin);
	if (argc > 2 && strcmp(argv[2], "datagram") == 0)
		return send(connect_to(argv[1], SOCK_DGRAM), input, size, 0) != (ssize_t)size;
	if (times == 1)
		return talk(argv[1], size);
	for (int i = 0; i < times; i++)
		if (fork() == 0)
			_exit(talk(argv[1], size));
	while (wait(&status) > 0)
		failed += status != 0;
	return failed;
}
