/*
 * Compares two clocks: one of these answers in a container, another one asks on the host.
 *
 *   clock_probe answer    for each byte on standard input, eight bytes with CLOCK_REALTIME in nanoseconds on standard
 * output clock_probe ask       asks on standard output, reads the answers from standard input, and prints on standard
 * error how many microseconds the other clock is ahead, and by how many that may be wrong: of the answer of several
 * that took the shortest time
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 50

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static int answer(void)
{
	char byte;

	while (read(0, &byte, 1) == 1) {
		int64_t time = now();

		if (write(1, &time, sizeof(time)) != sizeof(time))
			return 1;
	}
	return 0;
}

static int ask(void)
{
	int64_t best = INT64_MAX, ahead = 0;

	for (int i = 0; i < ROUNDS; i++) {
		int64_t before = now(), there, after;

		if (write(1, "?", 1) != 1 || read(0, &there, sizeof(there)) != sizeof(there))
			return 1;
		after = now();
		if (after - before >= best)
			continue;
		best = after - before;
		ahead = there - (before + best / 2);
	}
	fprintf(stderr, "%lld %lld\n", (long long)ahead / 1000, (long long)best / 2000);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "answer") == 0)
		return answer();
	if (argc == 2 && strcmp(argv[1], "ask") == 0)
		return ask();
	return 2;
}
