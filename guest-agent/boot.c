#include "guest-agent/boot.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "guest-agent/cgroup.h"
#include "guest-agent/places.h"
#include "guest-agent/random.h"
#include "guest-agent/vsock.h"

static int report_fd = -1;

/* The kernel starts init without descriptors when there is no console. Whatever is opened first must not become 0, 1 or
 * 2, which a container's process fills with its own. A directory opened with O_PATH serves: nothing can be read from it
 * or written to it by mistake. */
static int fill_standard_descriptors(struct error *err)
{
	int fd;

	do
		fd = open("/", O_PATH | O_DIRECTORY);
	while (fd >= 0 && fd <= 2);
	if (fd < 0)
		return error_set_errno(err, "open /");
	close(fd);
	return 0;
}

int boot_report(enum agent_report_kind kind, uint32_t value, struct error *err)
{
	struct agent_report report = {.kind = htole32(kind), .value = htole32(value)};

	if (write_exactly(report_fd, &report, sizeof(report)) < 0)
		return error_set_errno(err, "report to the host");
	return 0;
}

int boot_notices(void)
{
	return report_fd;
}

int boot_announce(struct error *err)
{
	cleanup_close int listener = -1;

	if (fill_standard_descriptors(err) < 0)
		return -1;
	listener = vsock_listen(AGENT_PORT, err);
	if (listener < 0)
		return -1;
	report_fd = vsock_connect(AGENT_REPORT_PORT, err);
	if (report_fd < 0 || boot_report(AGENT_REPORT_READY, AGENT_PROTOCOL_VERSION, err) < 0)
		return -1;
	return take_fd(&listener);
}

static int mount_at(const char *place, const char *type, const char *data, struct error *err)
{
	if ((mkdir(place, 0755) < 0 && errno != EEXIST) || mount(type, place, type, 0, data) < 0)
		return error_set_errno(err, "mount %s on %s", type, place);
	return 0;
}

/* SIOCSIFFLAGS instead of netlink: one interface, one flag. The kernel gives it its addresses. */
int boot_bring_up_loopback(struct error *err)
{
	cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		return error_set_errno(err, "bring up the loopback interface");
	return 0;
}

/* The machine has little more memory than the container may use, and the kernel would refuse to promise more than there
 * is. On a host a container is promised anything, and killed when it goes beyond its limit. */
static int promise_memory(struct error *err)
{
	cleanup_close int fd = open(PLACE_PROC "/sys/vm/overcommit_memory", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1", 1) != 1)
		return error_set_errno(err, "set vm.overcommit_memory");
	return 0;
}

int boot_finish(struct error *err)
{
	/* Nobody may look into the agent or what it forks through /proc or ptrace. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_set_errno(err, "PR_SET_DUMPABLE");
	if (mount_at(PLACE_PROC, "proc", NULL, err) < 0 || promise_memory(err) < 0)
		return -1;
	/* nsdelegate: a container that gets its cgroup writable cannot change its own limits with it. */
	if (mount_at(PLACE_CGROUP, "cgroup2", "nsdelegate", err) < 0)
		return -1;
	if (cgroup_enable_controllers(err) < 0)
		return -1;
	umask(0);
	if (random_open(err) < 0)
		return -1;
	/* The initramfs usually has it. */
	if (mknod(PLACE_NULL, S_IFCHR | 0666, makedev(1, 3)) < 0 && errno != EEXIST)
		return error_set_errno(err, "make " PLACE_NULL);
	/* Its own tree is the last thing that a container which has undone all its mounts would see: nothing to find.
	 */
	unlink("/init");
	return boot_bring_up_loopback(err);
}

int boot_mount_exports(struct error *err)
{
	static bool done;

	if (done)
		return 0;
	if ((mkdir(PLACE_EXPORTS, 0755) < 0 && errno != EEXIST) ||
	    mount(AGENT_FS_TAG, PLACE_EXPORTS, "virtiofs", 0, NULL) < 0)
		return error_set_errno(err, "mount the host's exports");
	done = true;
	return 0;
}

void boot_fail(const struct error *err)
{
	char line[sizeof(err->message) + 32];
	cleanup_close int log = -1;

	mknod("/kmsg", S_IFCHR | 0600, makedev(1, 11));
	log = open("/kmsg", O_WRONLY | O_CLOEXEC);
	/* One write is one message. (dprintf would try to seek, which this device refuses.) */
	snprintf(line, sizeof(line), "<2>hull-agent: %s\n", err->message);
	if (log < 0 || write(log, line, strlen(line)) < 0)
		line[0] = '\0'; /* nobody left to tell */
	/* Not a power-off: the machine has no ACPI, it would only halt. */
	reboot(RB_AUTOBOOT);
	_exit(1);
}
