/*
 * hull doctor: whether this host can run containers in virtual machines, and if not, what to do about it. The last
 * check is the real thing: the guest kernel is booted until its agent reports. Everything it needs for that has no name
 * on the host (memfd, abstract socket), so that nothing can be left.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "runtime/agent.h"
#include "runtime/bare_machine.h"
#include "runtime/command.h"
#include "runtime/kvm.h"
#include "runtime/machine.h"
#include "runtime/output.h"
#include "runtime/parts.h"

#define BOOT_TIMEOUT 20
#define BOOT_MEMORY (256ull << 20)
#define LINE_SIZE 1400

/* What the checks share. */
struct examination {
	unsigned failures;
	bool can_boot; /* nothing that a boot needs is missing */
	struct parts parts;
};

static void say(const char *verdict, const char *what, const char *text)
{
	char line[LINE_SIZE + 128];

	snprintf(line, sizeof(line), "%-5s %s: %s\n", verdict, what, text);
	output_text(line, NULL);
}

static void good(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void good(const char *what, const char *format, ...)
{
	char text[LINE_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say("ok", what, text);
}

static void bad(struct examination *examination, const char *what, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void bad(struct examination *examination, const char *what, const char *format, ...)
{
	char text[LINE_SIZE];
	va_list args;

	examination->failures++;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say("FAIL", what, text);
}

/* --- the host ---------------------------------------------------------------------------------------------------- */

static bool has_word(const char *line, const char *word)
{
	size_t length = strlen(word);

	for (const char *found = strstr(line, word); found; found = strstr(found + 1, word))
		if (found[-1] == ' ' && (found[length] == ' ' || found[length] == '\n'))
			return true;
	return false;
}

static void check_cpu(struct examination *examination)
{
	cleanup_file FILE *file = fopen("/proc/cpuinfo", "re");
	cleanup_free char *line = NULL;
	size_t size = 0;

	while (file && getline(&line, &size, file) > 0) {
		if (strncmp(line, "flags", 5) != 0)
			continue;
		if (has_word(line, "vmx"))
			good("CPU", "Intel VT-x");
		else if (has_word(line, "svm"))
			good("CPU", "AMD-V");
		else
			/* Not a failure by itself: a nested host may hide the flag and have KVM nevertheless. */
			good("CPU", "neither vmx nor svm among its flags; whether KVM works is seen below");
		return;
	}
	bad(examination, "CPU", "/proc/cpuinfo has no flags: hull needs an x86-64 host");
}

static void check_kvm_capabilities(struct examination *examination, int kvm)
{
	unsigned missing = 0;

	for (const struct kvm_requirement *requirement = kvm_requirements; requirement->name; requirement++) {
		if (kvm_has(kvm, requirement->capability))
			continue;
		missing++;
		bad(examination, requirement->name,
		    "this KVM does not have it, needed for %s: update the host's kernel", requirement->purpose);
	}
	if (missing > 0)
		examination->can_boot = false;
	else
		good("KVM capabilities", "all that hull needs");
}

static void check_kvm(struct examination *examination)
{
	struct error err;
	cleanup_close int kvm = kvm_open(&err);

	if (kvm < 0) {
		examination->can_boot = false;
		bad(examination, "KVM", "%s", err.message);
		return;
	}
	good(KVM_DEVICE, "can be opened, API version 12");
	check_kvm_capabilities(examination, kvm);
}

static void check_file(struct examination *examination, const char *what, const char *path, int mode)
{
	struct stat status;

	if (access(path, mode) < 0 || stat(path, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size == 0) {
		examination->can_boot = false;
		bad(examination, what, "`%s`: %s: install hull again, or build it with `make all`", path,
		    errno ? strerror(errno) : "not a file");
		return;
	}
	good(what, "%s", path);
}

static void check_parts(struct examination *examination)
{
	struct error err;

	if (parts_find(&examination->parts, &err) < 0) {
		examination->can_boot = false;
		bad(examination, "parts of hull", "%s", err.message);
		return;
	}
	errno = 0;
	check_file(examination, "hull-vmm", examination->parts.vmm, X_OK);
	check_file(examination, "hull-fsd", examination->parts.fsd, X_OK);
	check_file(examination, "guest kernel", examination->parts.kernel, R_OK);
	check_file(examination, "initramfs", examination->parts.initramfs, R_OK);
}

static void check_cgroup(struct examination *examination)
{
	struct statfs status;

	if (statfs("/sys/fs/cgroup", &status) == 0 && status.f_type == CGROUP2_SUPER_MAGIC)
		good("cgroup", "version 2");
	else
		bad(examination, "cgroup",
		    "/sys/fs/cgroup is not cgroup v2: boot the host with "
		    "systemd.unified_cgroup_hierarchy=1, or mount cgroup2 there");
}

/* --- the boot ---------------------------------------------------------------------------------------------------- */

/* Bound to a name of the kernel's choice in the abstract namespace, which is connected to through *address. */
static int make_control_socket(struct sockaddr_un *address, socklen_t *length, struct error *err)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	*length = sizeof(*address);
	if (fd < 0 || bind(fd, (struct sockaddr *)address, sizeof(address->sun_family)) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, (struct sockaddr *)address, length) < 0)
		return error_set_errno(err, "make the control socket");
	return take_fd(&fd);
}

static int connect_control(const struct sockaddr_un *address, socklen_t length, struct error *err)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)address, length) < 0)
		return error_set_errno(err, "connect to the control socket");
	return take_fd(&fd);
}

static int boot(struct bare_machine *trial, struct error *err)
{
	cleanup_resources struct resources resources = RESOURCES_NONE;
	cleanup_close int control = -1, agent = -1;
	struct machine_plan plan = {.resources = &resources, .size = {.memory = BOOT_MEMORY, .vcpus = 1}};
	struct sockaddr_un address;
	socklen_t length;

	if (resources_open(&resources, err) < 0)
		return -1;
	trial->control = make_control_socket(&address, &length, err);
	if (trial->control < 0 || bare_machine_start(trial, &plan, BOOT_TIMEOUT, err) < 0)
		return -1;
	control = connect_control(&address, length, err);
	if (control < 0)
		return -1;
	agent = agent_connect(control, &trial->watch, err);
	return agent < 0 ? -1 : 0;
}

static void explain_boot(struct examination *examination, struct bare_machine *trial, struct error *err)
{
	bool ended;

	if (trial->watch.event == WATCH_TIMEOUT) {
		bad(examination, "boot",
		    "the guest kernel did not reach user space within %d s: this host's KVM cannot run Linux guests "
		    "(nested or emulated?); use a host with hardware virtualisation, or turn nested virtualisation on",
		    BOOT_TIMEOUT);
		return;
	}
	ended = trial->machine.vmm.pid > 0;
	bare_machine_explain(trial, err);
	ended = ended && trial->machine.vmm.pid <= 0;
	/* Such words of KVM, after all that was checked before, come from a KVM that is not hardware's. */
	bad(examination, "boot", "%s%s", err->message,
	    ended && strstr(err->message, "KVM: ")
		? "; this host's KVM cannot run Linux guests (nested or emulated?): use a "
		  "host with hardware virtualisation, or turn nested virtualisation on"
		: "");
}

static void check_boot(struct examination *examination)
{
	cleanup_bare_machine struct bare_machine trial = BARE_MACHINE_NONE;
	int64_t begin;
	struct error err;

	if (!examination->can_boot) {
		bad(examination, "boot", "not tried, because of the above");
		return;
	}
	begin = now_ms();
	if (boot(&trial, &err) < 0) {
		explain_boot(examination, &trial, &err);
		return;
	}
	good("boot", "a guest came up in %" PRId64 " ms", now_ms() - begin);
}

static int run(const struct invocation *invocation, struct error *err)
{
	struct examination examination = {.can_boot = true};

	(void)invocation;
	check_cpu(&examination);
	check_kvm(&examination);
	check_parts(&examination);
	check_cgroup(&examination);
	check_boot(&examination);
	if (examination.failures > 0)
		return error_set(err, 0, "this host cannot run containers with hull as it is");
	return 0;
}

const struct command command_doctor = {
    .name = "doctor",
    .summary = "say whether this host can run micro-VMs, and why not",
    .description = "Checks the host, boots a guest, and says what to do about what is missing. Exit status 0 when all\n"
		   "is well.",
    .run = run,
};
