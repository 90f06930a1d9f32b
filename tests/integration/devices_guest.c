/*
 * PID 1 of a guest that has nothing but the kernel and the VMM's devices, for devices.sh: does what `test=NAME` on the
 * kernel command line says and reports how it went as the container's exit status would be.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/vm_sockets.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/agent_protocol.h"

#define PORT_IN 1040
#define PORT_OUT 1041
#define MIB (1u << 20)

static char buffer[MIB];

/* Into the kernel's log, which the VMM's debug console shows. Returns the status to report. */
static int fail(const char *what)
{
	int fd = open("/dev/kmsg", O_WRONLY);

	dprintf(fd, "<1>%s: %m\n", what);
	close(fd);
	return 1;
}

static int connect_host(unsigned port)
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return fd;
}

static void send_report(int fd, uint32_t kind, uint32_t value)
{
	struct agent_report report = {kind, value};

	if (write(fd, &report, sizeof(report)) != sizeof(report))
		fail("report");
}

static int write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t put = write(fd, data, size);

		if (put < 0)
			return -1;
		data += put;
		size -= (size_t)put;
	}
	return 0;
}

/* --- streams ------------------------------------------------------------------------------------------------------ */

static int test_cat(void)
{
	int in = connect_host(PORT_IN), out = connect_host(PORT_OUT);
	ssize_t got;

	while ((got = read(in, buffer, 65536)) > 0)
		if (write_all(out, buffer, (size_t)got) < 0)
			return fail("write");
	return got < 0 ? fail("read") : 42;
}

/* Only registered ports can be reached, each once. */
static int test_ports(void)
{
	int first = connect_host(PORT_OUT);

	if (first < 0 || connect_host(2000) >= 0 || connect_host(AGENT_REPORT_PORT) >= 0)
		return fail("ports");
	if (connect_host(PORT_OUT) >= 0)
		return fail("a port twice");
	return 0;
}

static int test_reader_gone(void)
{
	int out = connect_host(PORT_OUT);

	for (int i = 0; i < 100000; i++)
		if (write_all(out, buffer, 65536) < 0)
			return errno == EPIPE || errno == ECONNRESET ? 32 : fail("write");
	return fail("nobody stopped the writer");
}

/* More than a pipe holds, and less than the VMM takes ahead of the reader: the end is reported at once. */
static int write_some(int status)
{
	int out = connect_host(PORT_OUT);

	return write_all(out, buffer, 200000) < 0 ? fail("write") : status;
}

/* --- disk --------------------------------------------------------------------------------------------------------- */

static void fill(uint64_t *state)
{
	for (size_t i = 0; i < sizeof(buffer); i += sizeof(*state)) {
		*state = *state * 6364136223846793005ull + 1442695040888963407ull;
		memcpy(buffer + i, state, sizeof(*state));
	}
}

static bool is_filled(uint64_t *state)
{
	for (size_t i = 0; i < sizeof(buffer); i += sizeof(*state)) {
		*state = *state * 6364136223846793005ull + 1442695040888963407ull;
		if (memcmp(buffer + i, state, sizeof(*state)))
			return false;
	}
	return true;
}

static int forget_cache(int disk)
{
	return fsync(disk) < 0 || ioctl(disk, BLKFLSBUF, 0) < 0 ? -1 : 0;
}

static bool is_zero(int disk, off_t offset)
{
	if (pread(disk, buffer, sizeof(buffer), offset) != sizeof(buffer))
		return false;
	for (size_t i = 0; i < sizeof(buffer); i++)
		if (buffer[i])
			return false;
	return true;
}

static int write_and_read(int disk, uint64_t size)
{
	uint64_t state = 1;

	for (uint64_t at = 0; at < size; at += sizeof(buffer)) {
		fill(&state);
		if (pwrite(disk, buffer, sizeof(buffer), (off_t)at) != sizeof(buffer))
			return fail("write to the disk");
	}
	if (forget_cache(disk) < 0)
		return fail("flush the disk");
	state = 1;
	for (uint64_t at = 0; at < size; at += sizeof(buffer)) {
		if (pread(disk, buffer, sizeof(buffer), (off_t)at) != sizeof(buffer))
			return fail("read from the disk");
		if (!is_filled(&state))
			return fail("other data came back");
	}
	return 0;
}

static int test_disk(void)
{
	int disk = open("/dev/vda", O_RDWR);
	uint64_t size, discard[] = {MIB, MIB}, zero[] = {3 * MIB, MIB};

	if (disk < 0 || ioctl(disk, BLKGETSIZE64, &size) < 0)
		return fail("/dev/vda");
	if (write_and_read(disk, size))
		return 1;
	if (ioctl(disk, BLKDISCARD, discard) < 0)
		return fail("discard");
	if (ioctl(disk, BLKZEROOUT, zero) < 0)
		return fail("zero");
	if (forget_cache(disk) < 0 || !is_zero(disk, MIB) || !is_zero(disk, 3 * MIB))
		return fail("zeroes");
	return 0;
}

static int test_readonly_disk(void)
{
	int disk = open("/dev/vda", O_RDONLY), serial = open("/sys/block/vda/serial", O_RDONLY), readonly = 0;
	char text[32] = {0};

	if (ioctl(disk, BLKROGET, &readonly) < 0 || !readonly)
		return fail("the disk is not read-only");
	if (read(serial, text, sizeof(text) - 1) < 0 || strncmp(text, "number-1", 8))
		return fail("serial number");
	return pread(disk, buffer, sizeof(buffer), 0) == sizeof(buffer) ? 0 : fail("read from the disk");
}

/* --- entropy ------------------------------------------------------------------------------------------------------ */

static int test_random(void)
{
	int fd = open("/dev/hwrng", O_RDONLY);
	char first[64], second[64];

	if (fd < 0 && errno == ENOENT && mknod("/dev/hwrng", S_IFCHR | 0600, makedev(10, 183)) == 0)
		fd = open("/dev/hwrng", O_RDONLY);
	if (fd < 0)
		return fail("/dev/hwrng");
	if (read(fd, first, sizeof(first)) != sizeof(first) || read(fd, second, sizeof(second)) != sizeof(second))
		return fail("read random bytes");
	return memcmp(first, second, sizeof(first)) ? 0 : fail("random bytes repeat");
}

static int run(const char *test)
{
	if (!strcmp(test, "cat"))
		return test_cat();
	if (!strcmp(test, "ports"))
		return test_ports();
	if (!strcmp(test, "reader-gone"))
		return test_reader_gone();
	if (!strcmp(test, "status-7"))
		return write_some(7);
	if (!strcmp(test, "status-137"))
		return write_some(137);
	if (!strcmp(test, "disk"))
		return test_disk();
	if (!strcmp(test, "readonly-disk"))
		return test_readonly_disk();
	if (!strcmp(test, "random"))
		return test_random();
	return fail(test);
}

int main(void)
{
	const char *test = getenv("test"); /* the kernel hands on what it does not know itself */
	int report, status;
	char byte;

	mkdir("/dev", 0755);
	mkdir("/sys", 0755);
	mount("none", "/dev", "devtmpfs", 0, NULL);
	mount("none", "/sys", "sysfs", 0, NULL);
	report = connect_host(AGENT_REPORT_PORT);
	if (report < 0)
		fail("connect to the host");
	send_report(report, AGENT_REPORT_READY, AGENT_PROTOCOL_VERSION);
	status = run(test ? test : "no test named");
	send_report(report, AGENT_REPORT_EXIT, (uint32_t)status);
	/* The VMM ends now. */
	if (read(report, &byte, 1) == 0)
		reboot(RB_AUTOBOOT);
	sleep(10);
	return 0;
}
