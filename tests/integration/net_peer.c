/*
 * TCP between two machines, each byte checked at its end:
 *
 *   net_peer serve PORT                  serves whoever connects, one after the other, until it is killed
 *   net_peer get ADDRESS PORT MIB        takes so many MiB from a server; prints the milliseconds that took
 *   net_peer put ADDRESS PORT MIB        gives a server so many MiB, and waits until it has checked them
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MIB (1u << 20)
#define BLOCK (128u << 10)

struct request {
	uint32_t get; /* the server sends */
	uint32_t mib;
};

static uint64_t made[BLOCK / sizeof(uint64_t)], got[BLOCK / sizeof(uint64_t)];

static void make_block(uint64_t *state)
{
	for (size_t i = 0; i < BLOCK / sizeof(uint64_t); i++)
		made[i] = *state = *state * 6364136223846793005ull + 1442695040888963407ull;
}

static bool put_all(int fd, const void *data, size_t size)
{
	for (const char *at = data; size > 0;) {
		ssize_t n = send(fd, at, size, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

static bool get_all(int fd, void *data, size_t size)
{
	return recv(fd, data, size, MSG_WAITALL) == (ssize_t)size;
}

static bool send_stream(int fd, uint32_t mib)
{
	uint64_t state = mib;

	for (uint64_t left = (uint64_t)mib * MIB; left > 0; left -= BLOCK) {
		make_block(&state);
		if (!put_all(fd, made, BLOCK))
			return false;
	}
	return true;
}

static bool check_stream(int fd, uint32_t mib)
{
	uint64_t state = mib;

	for (uint64_t left = (uint64_t)mib * MIB; left > 0; left -= BLOCK) {
		make_block(&state);
		if (!get_all(fd, got, BLOCK) || memcmp(made, got, BLOCK) != 0)
			return false;
	}
	return true;
}

static int serve(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 8) < 0)
		err(1, "port %u", port);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		struct request request;

		if (get_all(fd, &request, sizeof(request))) {
			if (request.get)
				send_stream(fd, request.mib);
			else if (check_stream(fd, request.mib))
				put_all(fd, "y", 1);
		}
		close(fd);
	}
}

static int transfer(bool get, const char *host, uint16_t port, uint32_t mib)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct request request = {get, mib};
	struct timespec begin, end;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char answer = 'n';

	if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
		errx(2, "address %s", host);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		err(1, "connect to %s", host);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	if (!put_all(fd, &request, sizeof(request)))
		err(1, "send");
	if (get && !check_stream(fd, mib))
		errx(1, "other bytes than those that were sent, or fewer");
	if (!get && (!send_stream(fd, mib) || !get_all(fd, &answer, 1) || answer != 'y'))
		errx(1, "the other side did not get what was sent");
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%lld\n", (end.tv_sec - begin.tv_sec) * 1000ll + (end.tv_nsec - begin.tv_nsec) / 1000000);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve((uint16_t)atoi(argv[2]));
	if (argc == 5 && (strcmp(argv[1], "get") == 0 || strcmp(argv[1], "put") == 0))
		return transfer(argv[1][0] == 'g', argv[2], (uint16_t)atoi(argv[3]), (uint32_t)atoi(argv[4]));
	errx(2, "usage: net_peer serve PORT | get|put ADDRESS PORT MIB");
}
