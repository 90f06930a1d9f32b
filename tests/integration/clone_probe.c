/*
 * What a machine that was forked must not share with its siblings, and must have right: prints a line
 *
 *   REALTIME-NS getrandom HEX urandom HEX boot_id TEXT AT_RANDOM HEX
 *
 * and, on standard error, what is wrong: a clock that goes backwards, memory that does not keep what was written.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define MEMORY (8u << 20)

static uint64_t memory[MEMORY / sizeof(uint64_t)];

static int64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void check_clocks(void)
{
	static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME};
	int64_t last[3] = {0};

	for (int i = 0; i < 20000; i++) {
		for (int c = 0; c < 3; c++) {
			int64_t time = now(clocks[c]);

			if (time < last[c])
				printf("clock %d goes backwards\n", c);
			last[c] = time;
		}
	}
}

static uint64_t word(uint64_t i)
{
	return i * 0x9e3779b97f4a7c15u ^ i >> 7;
}

static void check_memory(void)
{
	for (size_t i = 0; i < MEMORY / sizeof(uint64_t); i++) {
		if (memory[i] != 0)
			printf("new memory holds something at %zu\n", i);
		memory[i] = word(i);
	}
	for (size_t i = 0; i < MEMORY / sizeof(uint64_t); i++)
		if (memory[i] != word(i))
			printf("memory has changed at %zu\n", i);
}

static void print_hex(const char *name, const void *data)
{
	printf(" %s ", name);
	for (int i = 0; i < 16; i++)
		printf("%02x", ((const unsigned char *)data)[i]);
}

static ssize_t read_file(const char *path, void *data, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, data, size);

	if (n <= 0)
		err(1, "%s", path);
	close(fd);
	return n;
}

int main(void)
{
	char line[64] = "", bytes[16];

	printf("%lld", (long long)now(CLOCK_REALTIME));
	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		err(1, "getrandom");
	print_hex("getrandom", bytes);
	read_file("/dev/urandom", bytes, sizeof(bytes));
	print_hex("urandom", bytes);
	line[read_file("/proc/sys/kernel/random/boot_id", line, sizeof(line) - 1) - 1] = '\0';
	printf(" boot_id %s", line);
	print_hex("AT_RANDOM", (const void *)getauxval(AT_RANDOM));
	putchar('\n');
	check_clocks();
	check_memory();
	return 0;
}
