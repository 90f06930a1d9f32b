/*
 * hull-vmm: one virtual machine. Everything it uses is handed over as an open descriptor; the options say which is
 * which. How the machine ended is written to the result file and is the exit status: the container's own, or 125 for a
 * machine that failed, 0 for one that was saved and is not to go on.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "common/vmm_control.h"
#include "vmm/machine.h"
#include "vmm/snapshot.h"
#include "vmm/x86_64/mptable.h"

#define STATUS_MACHINE_FAILED 125
#define MEMORY_MIN (32ull << 20)
#define MEMORY_MAX (1ull << 40)

struct options {
	struct machine_options machine;
	int result_fd, log_fd;
	bool uid_given, gid_given;
	uint64_t oom; /* bytes that the stand-in may use; 0: there is none */
};

static int parse_fd(const char *text, int *fd, struct error *err)
{
	uint64_t number;

	if (parse_u64(text, 0, INT32_MAX, &number) < 0)
		return error_set(err, EINVAL, "`%s` is not the number of a descriptor", text);
	if (fcntl((int)number, F_GETFD) < 0)
		return error_set_errno(err, "descriptor %s", text);
	*fd = (int)number;
	return 0;
}

static int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *number, struct error *err)
{
	if (parse_u64(text, min, max, number) < 0)
		return error_set(err, EINVAL, "`%s` is not a number from %llu to %llu", text, (unsigned long long)min,
				 (unsigned long long)max);
	return 0;
}

static int set_memory(struct options *options, char *value, struct error *err)
{
	if (parse_number(value, MEMORY_MIN, MEMORY_MAX, &options->machine.memory, err) < 0)
		return -1;
	if (options->machine.memory % 4096 != 0)
		return error_set(err, EINVAL, "%s bytes are not a multiple of 4096", value);
	return 0;
}

static int set_vcpus(struct options *options, char *value, struct error *err)
{
	uint64_t count;

	if (parse_number(value, 1, MPTABLE_VCPUS_MAX, &count, err) < 0)
		return -1;
	options->machine.vcpu_count = (unsigned)count;
	return 0;
}

static int set_oom(struct options *options, char *value, struct error *err)
{
	return parse_number(value, 1, MEMORY_MAX, &options->oom, err);
}

static int set_command_line(struct options *options, char *value, struct error *err)
{
	(void)err;
	options->machine.command_line = value;
	return 0;
}

static int set_identity(struct options *options, char *value, struct error *err)
{
	if (strlen(value) > SNAPSHOT_IDENTITY_MAX)
		return error_set(err, E2BIG, "more than %d characters", SNAPSHOT_IDENTITY_MAX);
	options->machine.identity = value;
	return 0;
}

static int set_savable(struct options *options, char *value, struct error *err)
{
	(void)value, (void)err;
	options->machine.savable = true;
	return 0;
}

static int set_trace(struct options *options, char *value, struct error *err)
{
	(void)value, (void)err;
	options->machine.trace = true;
	return 0;
}

static int set_keep_network(struct options *options, char *value, struct error *err)
{
	(void)value, (void)err;
	options->machine.jail.keep_network = true;
	return 0;
}

static int set_uid(struct options *options, char *value, struct error *err)
{
	uint64_t id;

	if (parse_number(value, 1, UINT32_MAX - 1, &id, err) < 0)
		return -1;
	options->machine.jail.uid = (uid_t)id;
	options->uid_given = true;
	return 0;
}

static int set_gid(struct options *options, char *value, struct error *err)
{
	uint64_t id;

	if (parse_number(value, 1, UINT32_MAX - 1, &id, err) < 0)
		return -1;
	options->machine.jail.gid = (gid_t)id;
	options->gid_given = true;
	return 0;
}

/* FD[,readonly][,serial=TEXT] */
static int add_disk(struct options *options, char *value, struct error *err)
{
	struct machine_disk disk = {.fd = -1};
	char *rest = value, *part = strsep(&rest, ",");

	if (options->machine.disk_count == MACHINE_DISKS_MAX)
		return error_set(err, E2BIG, "more than %d disks", MACHINE_DISKS_MAX);
	if (parse_fd(part, &disk.fd, err) < 0)
		return -1;
	while ((part = strsep(&rest, ","))) {
		if (strcmp(part, "readonly") == 0)
			disk.readonly = true;
		else if (strncmp(part, "serial=", 7) == 0)
			disk.serial = part + 7;
		else
			return error_set(err, EINVAL, "unknown word `%s`", part);
	}
	options->machine.disks[options->machine.disk_count++] = disk;
	return 0;
}

/* PORT=FD[,in][,out][,window] */
static int add_stream(struct options *options, char *value, struct error *err)
{
	struct machine_stream stream = {.fd = -1};
	char *rest = value, *port = strsep(&rest, "="), *fd = strsep(&rest, ","), *word;
	uint64_t number;

	if (options->machine.stream_count == MACHINE_STREAMS_MAX)
		return error_set(err, E2BIG, "more than %d streams", MACHINE_STREAMS_MAX);
	if (!fd)
		return error_set(err, EINVAL, "`%s` has no descriptor", value);
	if (parse_number(port, 1, UINT32_MAX - 1, &number, err) < 0 || parse_fd(fd, &stream.fd, err) < 0)
		return -1;
	stream.port = (uint32_t)number;
	while ((word = strsep(&rest, ","))) {
		if (strcmp(word, "in") == 0)
			stream.flags |= VMM_STREAM_IN;
		else if (strcmp(word, "out") == 0)
			stream.flags |= VMM_STREAM_OUT;
		else if (strcmp(word, "window") == 0)
			stream.window = true;
		else
			return error_set(err, EINVAL, "unknown word `%s`", word);
	}
	if (stream.flags == 0)
		return error_set(err, EINVAL, "neither in nor out");
	options->machine.streams[options->machine.stream_count++] = stream;
	return 0;
}

enum need {
	OPTIONAL,
	NEEDED,
	TO_BOOT,    /* needed without --restore, and otherwise not allowed */
	TO_RESTORE, /* all of these or none */
};

/* An option either names a descriptor, or has a function that takes its value. */
static const struct vmm_option {
	const char *name;
	int (*set)(struct options *options, char *value, struct error *err);
	size_t fd; /* where the descriptor goes in struct options */
	enum need need;
	bool repeated, no_value;
} table[] = {
    {"result", NULL, offsetof(struct options, result_fd), NEEDED, false, false},
    {"log", NULL, offsetof(struct options, log_fd), NEEDED, false, false},
    {"kvm", NULL, offsetof(struct options, machine.kvm_fd), NEEDED, false, false},
    {"kernel", NULL, offsetof(struct options, machine.kernel_fd), TO_BOOT, false, false},
    {"initramfs", NULL, offsetof(struct options, machine.initramfs_fd), TO_BOOT, false, false},
    {"cmdline", set_command_line, 0, TO_BOOT, false, false},
    {"restore", NULL, offsetof(struct options, machine.state_fd), TO_RESTORE, false, false},
    {"memory-file", NULL, offsetof(struct options, machine.memory_fd), TO_RESTORE, false, false},
    {"control", NULL, offsetof(struct options, machine.control_fd), NEEDED, false, false},
    {"fs", NULL, offsetof(struct options, machine.fs_fd), OPTIONAL, false, false},
    {"console", NULL, offsetof(struct options, machine.console_fd), OPTIONAL, false, false},
    {"memory", set_memory, 0, NEEDED, false, false},
    {"vcpus", set_vcpus, 0, NEEDED, false, false},
    {"disk", add_disk, 0, OPTIONAL, true, false},
    {"stream", add_stream, 0, OPTIONAL, true, false},
    {"oom", set_oom, 0, OPTIONAL, false, false},
    {"identity", set_identity, 0, OPTIONAL, false, false},
    {"savable", set_savable, 0, OPTIONAL, false, true},
    {"trace", set_trace, 0, OPTIONAL, false, true},
    {"keep-network", set_keep_network, 0, OPTIONAL, false, true},
    {"uid", set_uid, 0, OPTIONAL, false, false},
    {"gid", set_gid, 0, OPTIONAL, false, false},
};

#define OPTIONS (sizeof(table) / sizeof(table[0]))

static int set_option(struct options *options, const struct vmm_option *option, char *value, struct error *err)
{
	int *fd = (int *)((char *)options + option->fd);
	int failed = option->set ? option->set(options, value, err) : parse_fd(value, fd, err);

	return failed < 0 ? error_prefix(err, "--%s", option->name) : 0;
}

static int check_options(const struct options *options, const bool *seen, struct error *err)
{
	bool restore = options->machine.state_fd >= 0 || options->machine.memory_fd >= 0;

	for (size_t i = 0; i < OPTIONS; i++) {
		enum need need = table[i].need;

		if (!seen[i] && (need == NEEDED || need == (restore ? TO_RESTORE : TO_BOOT)))
			return error_set(err, EINVAL, "--%s is missing", table[i].name);
		if (seen[i] && restore && need == TO_BOOT)
			return error_set(err, EINVAL, "--%s does not go with --restore", table[i].name);
	}
	if (options->uid_given != options->gid_given)
		return error_set(err, EINVAL, "--uid and --gid belong together");
	return 0;
}

/* On failure the options up to the one in error are set: a result descriptor that was given is to be used. */
static int parse_options(int argc, char **argv, struct options *options, struct error *err)
{
	struct option names[OPTIONS + 1] = {{0}};
	bool seen[OPTIONS] = {false};
	int index, c;

	for (size_t i = 0; i < OPTIONS; i++)
		names[i] = (struct option){.name = table[i].name,
					   .has_arg = table[i].no_value ? no_argument : required_argument};
	opterr = 0;
	while ((c = getopt_long(argc, argv, "", names, &index)) == 0) {
		if (seen[index] && !table[index].repeated)
			return error_set(err, EINVAL, "--%s is given twice", table[index].name);
		seen[index] = true;
		if (set_option(options, &table[index], optarg, err) < 0)
			return -1;
	}
	if (c != -1 || optind < argc)
		return error_set(err, EINVAL, "unknown option, or no value: `%s`",
				 c != -1 ? argv[optind - 1] : argv[optind]);
	options->machine.jail.change_identity = options->uid_given;
	return check_options(options, seen, err);
}

static int report(const struct options *options, const struct machine_result *result)
{
	char line[sizeof(result->text) + 32];
	int status = STATUS_MACHINE_FAILED;

	if (result->end == MACHINE_EXITED) {
		status = (int)result->status;
		snprintf(line, sizeof(line), "exited %d\n", status);
	} else if (result->end == MACHINE_SAVED) {
		status = 0;
		snprintf(line, sizeof(line), "saved\n");
	} else {
		const char *word = result->end == MACHINE_PANICKED ? "panic" : "failed";

		snprintf(line, sizeof(line), "%s %s\n", word, result->text);
		log_line("%s: %s", word, result->text);
	}
	if (write_exactly(options->result_fd, line, strlen(line)) < 0)
		log_line("write the result: %s", strerror(errno));
	return status;
}

int main(int argc, char **argv)
{
	static struct options options = {
	    .result_fd = STDERR_FILENO,
	    .log_fd = -1,
	    .machine = {.kvm_fd = -1,
			.kernel_fd = -1,
			.initramfs_fd = -1,
			.state_fd = -1,
			.memory_fd = -1,
			.control_fd = -1,
			.fs_fd = -1,
			.console_fd = -1,
			.identity = ""},
	};
	struct machine_result result = {.end = MACHINE_FAILED};
	struct oom_stand_in oom = OOM_STAND_IN_NONE;
	struct error err;

	prctl(PR_SET_NAME, "hull-vmm");
	/* What these would say comes back as an errno value where it happens; the last two, which a read or write of
	 * the terminal by a background process gives, would stop the machine. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	if (parse_options(argc, argv, &options, &err) < 0)
		memcpy(result.text, err.message, sizeof(result.text));
	log_to(options.log_fd, "hull-vmm");
	options.machine.oom = &oom;
	if (result.text[0] == '\0' && options.oom && oom_stand_in_start(&oom, options.oom, &err) < 0)
		snprintf(result.text, sizeof(result.text), "--oom: %.900s", err.message);
	if (result.text[0] == '\0')
		machine_run(&options.machine, &result);
	oom_stand_in_wait(&oom);
	/* Not exit(): vCPU threads are still running. */
	_exit(report(&options, &result));
}
