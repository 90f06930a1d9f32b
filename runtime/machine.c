#include "runtime/machine.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "common/cleanup.h"
#include "common/fs_protocol.h"
#include "common/io.h"
#include "common/vmm_control.h"
#include "runtime/kernel_cmdline.h"
#include "runtime/kvm.h"
#include "runtime/report.h"

/* How long a machine whose connections broke may take to end: on a host under load, some seconds. */
#define END_MS 5000

static int open_part(const char *path, const char *what, struct error *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat status;

	if (fd < 0)
		return error_set_errno(err, "open the guest's %s `%s`", what, path);
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return error_set(err, EINVAL, "the guest's %s `%s` is not a regular file", what, path);
	return take_fd(&fd);
}

static int open_console(struct error *err)
{
	const char *path = getenv("HULL_CONSOLE");
	int fd;

	if (!path || !*path)
		return -1;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		error_set_errno(err, "open HULL_CONSOLE `%s`", path);
	return fd;
}

static int open_all(struct resources *resources, struct error *err)
{
	if (parts_find(&resources->parts, err) < 0)
		return -1;
	resources->kvm = kvm_open(err);
	if (resources->kvm < 0)
		return -1;
	resources->kernel = open_part(resources->parts.kernel, "kernel", err);
	if (resources->kernel < 0)
		return -1;
	resources->initramfs = open_part(resources->parts.initramfs, "initramfs", err);
	if (resources->initramfs < 0)
		return -1;
	err->message[0] = '\0';
	resources->console = open_console(err);
	return resources->console < 0 && err->message[0] ? -1 : 0;
}

int resources_open(struct resources *resources, struct error *err)
{
	*resources = RESOURCES_NONE;
	if (open_all(resources, err) < 0) {
		resources_release(resources);
		return -1;
	}
	return 0;
}

static void close_one(int fd)
{
	if (fd >= 0)
		close(fd);
}

void resources_release(struct resources *resources)
{
	close_one(resources->kvm);
	close_one(resources->kernel);
	close_one(resources->initramfs);
	close_one(resources->console);
	resources->kvm = resources->kernel = resources->initramfs = resources->console = -1;
}

void template_release(struct template *template)
{
	close_one(template->state);
	close_one(template->memory);
	*template = TEMPLATE_NONE;
}

unsigned machine_stream_port(const struct stdio *stdio, int stream)
{
	if (stdio->merged && stream == STDIO_ERR)
		stream = STDIO_OUT;
	if (stdio->both_ways && stream == STDIO_OUT)
		stream = STDIO_IN;
	return stdio->fds[stream] >= 0 ? AGENT_STREAM_PORT_FIRST + (unsigned)stream : 0;
}

/* Adds "--name FD". */
static void pass(struct arguments *arguments, struct descriptors *descriptors, const char *name, int fd)
{
	arguments_add(arguments, "%s", name);
	arguments_add(arguments, "%d", fd);
	descriptors_add(descriptors, fd);
}

static const char *stream_words(const struct stdio *stdio, int stream)
{
	if (stdio->both_ways)
		return "in,out,window";
	return stream == STDIO_IN ? "in" : "out";
}

static void pass_streams(struct arguments *arguments, struct descriptors *descriptors, const struct stdio *stdio)
{
	for (int i = 0; stdio && i < STDIO_COUNT; i++) {
		if (stdio->fds[i] < 0)
			continue;
		arguments_add(arguments, "--stream");
		arguments_add(arguments, "%u=%d,%s", machine_stream_port(stdio, i), stdio->fds[i],
			      stream_words(stdio, i));
		descriptors_add(descriptors, stdio->fds[i]);
	}
}

static void pass_preserved(struct arguments *arguments, struct descriptors *descriptors,
			   const struct preserved *preserved)
{
	for (size_t i = 0; preserved && i < preserved->n; i++) {
		const struct preserved_stream *stream = &preserved->list[i];

		if (stream->fd < 0)
			continue;
		arguments_add(arguments, "--stream");
		arguments_add(arguments, "%u=%d%s%s", stream->port, stream->fd,
			      stream->flags & VMM_STREAM_IN ? ",in" : "", stream->flags & VMM_STREAM_OUT ? ",out" : "");
		descriptors_add(descriptors, stream->fd);
	}
}

static void pass_disks(struct arguments *arguments, struct descriptors *descriptors, const struct disks *disks)
{
	for (size_t i = 0; disks && i < disks->n; i++) {
		const struct disk *disk = &disks->list[i];

		arguments_add(arguments, "--disk");
		arguments_add(arguments, "%d%s,serial=%s", disk->fd, disk->read_only ? ",readonly" : "", disk->serial);
		descriptors_add(descriptors, disk->fd);
	}
}

/* Leaves room in the command line for the numbers that only the child knows. */
static void pass_user(struct arguments *arguments, struct spawn *spawning)
{
	static const char *const names[] = {"--uid", "--gid"};

	if (geteuid() != 0)
		return;
	for (int i = 0; i < 2; i++) {
		arguments_add(arguments, "%s", names[i]);
		arguments_add(arguments, "%*s", SPAWN_ID_SIZE, "");
		spawning->own_id[i] = arguments->failed ? NULL : arguments->words[arguments->n - 1];
	}
}

/* What it boots, or is forked from. */
static void pass_source(struct arguments *arguments, struct descriptors *descriptors, const struct machine_plan *plan,
			const char *command_line)
{
	if (plan->template) {
		pass(arguments, descriptors, "--restore", plan->template->state);
		pass(arguments, descriptors, "--memory-file", plan->template->memory);
	} else {
		pass(arguments, descriptors, "--kernel", plan->resources->kernel);
		pass(arguments, descriptors, "--initramfs", plan->resources->initramfs);
		arguments_add(arguments, "--cmdline");
		arguments_add(arguments, "%s", command_line);
	}
	if (plan->identity) {
		arguments_add(arguments, "--identity");
		arguments_add(arguments, "%s", plan->identity);
	}
	if (plan->trace)
		arguments_add(arguments, "--trace");
	if (plan->savable)
		arguments_add(arguments, "--savable");
}

static int start_vmm(const struct machine_plan *plan, int fs, struct machine *machine, struct error *err)
{
	const struct resources *resources = plan->resources;
	cleanup_descriptors struct descriptors descriptors = {0};
	cleanup_arguments struct arguments arguments = {0};
	int console = resources->console >= 0 ? resources->console : plan->console;
	struct spawn spawning = {
	    .program = resources->parts.vmm, .arguments = &arguments, .keep = &descriptors, .cgroup = plan->cgroup};

	arguments_add(&arguments, "hull-vmm");
	pass(&arguments, &descriptors, "--kvm", resources->kvm);
	pass_source(&arguments, &descriptors, plan, console >= 0 ? KERNEL_CMDLINE_CONSOLE : KERNEL_CMDLINE);
	arguments_add(&arguments, "--memory");
	arguments_add(&arguments, "%llu", (unsigned long long)plan->size.memory);
	arguments_add(&arguments, "--vcpus");
	arguments_add(&arguments, "%u", plan->size.vcpus);
	if (plan->oom) {
		arguments_add(&arguments, "--oom");
		arguments_add(&arguments, "%llu", (unsigned long long)plan->oom);
	}
	pass(&arguments, &descriptors, "--control", plan->control);
	pass(&arguments, &descriptors, "--result", plan->result);
	pass(&arguments, &descriptors, "--log", plan->log);
	if (fs >= 0)
		pass(&arguments, &descriptors, "--fs", fs);
	if (console >= 0)
		pass(&arguments, &descriptors, "--console", console);
	pass_disks(&arguments, &descriptors, plan->disks);
	pass_streams(&arguments, &descriptors, plan->stdio);
	pass_preserved(&arguments, &descriptors, plan->preserved);
	if (plan->stdio && plan->stdio->both_ways)
		spawning.terminal = plan->stdio->fds[STDIO_IN];
	if (plan->network > 0) {
		arguments_add(&arguments, "--keep-network");
		spawning.network = plan->network;
	}
	pass_user(&arguments, &spawning);
	spawning.lifeline = &machine->lifeline;
	return spawn(&spawning, &machine->vmm, err);
}

static int start_fsd(const struct machine_plan *plan, int socket, struct machine *machine, struct error *err)
{
	cleanup_descriptors struct descriptors descriptors = {0};
	cleanup_arguments struct arguments arguments = {0};
	struct spawn spawning = {.program = plan->resources->parts.fsd,
				 .arguments = &arguments,
				 .keep = &descriptors,
				 .cgroup = plan->cgroup};

	arguments_add(&arguments, "hull-fsd");
	pass(&arguments, &descriptors, "--socket", socket);
	pass(&arguments, &descriptors, "--log", plan->log);
	if (plan->fsd_control >= 0)
		pass(&arguments, &descriptors, "--control", plan->fsd_control);
	for (size_t i = 0; i < plan->exports->n; i++) {
		const struct export *export = &plan->exports->list[i];

		if (export->is_socket)
			continue;
		arguments_add(&arguments, "--export");
		arguments_add(&arguments, "%s=%d,cache=%u", export->name, export->fd, export->cache);
		descriptors_add(&descriptors, export->fd);
	}
	return spawn(&spawning, &machine->fsd, err);
}

/* The socket pair between the two holds at least two of their largest messages, so that one never waits for room to
 * send half of one. */
static int make_fs_socket(int ends[2], struct error *err)
{
	int size = 2 * FS_MESSAGE_MAX;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set_errno(err, "make a socket pair");
	for (int i = 0; i < 2; i++)
		if (setsockopt(ends[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
			setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return 0;
}

static int start_both(const struct machine_plan *plan, struct machine *machine, struct error *err)
{
	cleanup_close int vmm_end = -1, fsd_end = -1;
	int ends[2];

	if (lifeline_make(&machine->lifeline, err) < 0)
		return -1;
	if (!plan->exports)
		return start_vmm(plan, -1, machine, err);
	if (make_fs_socket(ends, err) < 0)
		return -1;
	vmm_end = ends[0];
	fsd_end = ends[1];
	/* The VMM first: the guest boots while the file server sets itself up. */
	if (start_vmm(plan, vmm_end, machine, err) < 0)
		return -1;
	return start_fsd(plan, fsd_end, machine, err);
}

int machine_start(const struct machine_plan *plan, struct machine *machine, struct error *err)
{
	*machine = MACHINE_NONE;
	if (start_both(plan, machine, err) < 0) {
		machine_end(machine);
		return -1;
	}
	report_debug("hull-vmm is process %d, hull-fsd is process %d", (int)machine->vmm.pid, (int)machine->fsd.pid);
	return 0;
}

void machine_end(struct machine *machine)
{
	child_end(&machine->vmm);
	child_end(&machine->fsd);
	lifeline_cut(&machine->lifeline);
}

int machine_let_go(struct machine *machine, struct error *err)
{
	return lifeline_release(&machine->lifeline, err);
}

void result_parse(const char *text, struct result *result)
{
	size_t length = strcspn(text, "\n");
	uint64_t status;
	char line[600];

	*result = (struct result){.kind = RESULT_NONE};
	snprintf(line, sizeof(line), "%.*s", (int)(length < sizeof(line) ? length : sizeof(line) - 1), text);
	for (char *c = line; *c; c++)
		if (iscntrl((unsigned char)*c))
			*c = '?';
	if (strncmp(line, "exited ", 7) == 0 && parse_u64(line + 7, 0, 255, &status) == 0) {
		result->kind = RESULT_EXITED;
		result->status = (int)status;
	} else if (strncmp(line, "panic", 5) == 0) {
		result->kind = RESULT_PANIC;
		snprintf(result->text, sizeof(result->text), "%.500s", line + 5 + (line[5] == ' '));
	} else if (strncmp(line, "failed", 6) == 0) {
		result->kind = RESULT_FAILED;
		snprintf(result->text, sizeof(result->text), "%.500s", line + 6 + (line[6] == ' '));
	}
}

void result_read(int fd, struct result *result)
{
	char text[1024];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	result_parse(text, result);
}

bool machine_has_exited(int vmm_pidfd, int result_file)
{
	struct pollfd vmm = {.fd = vmm_pidfd, .events = POLLIN};
	struct result result;

	if (poll(&vmm, 1, END_MS) != 1)
		return false;
	result_read(result_file, &result);
	return result.kind == RESULT_EXITED;
}

void machine_last_words(int log, char *text, size_t size)
{
	struct stat status;
	char tail[1024], *line;
	off_t offset;
	ssize_t n;

	*text = '\0';
	if (fstat(log, &status) < 0)
		return;
	offset = status.st_size > (off_t)sizeof(tail) - 1 ? status.st_size - (off_t)sizeof(tail) + 1 : 0;
	n = pread(log, tail, sizeof(tail) - 1, offset);
	if (n <= 0)
		return;
	while (n > 0 && tail[n - 1] == '\n')
		n--;
	tail[n] = '\0';
	line = strrchr(tail, '\n');
	snprintf(text, size, "%s", line ? line + 1 : tail);
	for (char *c = text; *c; c++)
		if (iscntrl((unsigned char)*c))
			*c = '?';
}
