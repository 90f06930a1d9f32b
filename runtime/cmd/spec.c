/*
 * hull spec: writes the config.json to start from, the same that `runc spec` writes on a host with cgroup v2.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "runtime/command.h"
#include "runtime/spec.h"

struct spec_options {
	const char *bundle;
	const char *file;
	bool rootless;
};

static const struct spec_options defaults = {.bundle = ".", .file = SPEC_FILE};

static const struct flag flags[] = {
    {"bundle", 'b', FLAG_TEXT, offsetof(struct spec_options, bundle), "DIR",
     "where to write it (default: the current folder)"},
    {"file", 'f', FLAG_TEXT, offsetof(struct spec_options, file), "PATH",
     "the file to write, as crun's (default: config.json)"},
    {"rootless", 0, FLAG_SWITCH, offsetof(struct spec_options, rootless), NULL,
     "as `runc spec --rootless` writes it, with a user namespace"},
    {0},
};

static json_t *texts(const char *const *list)
{
	json_t *array = json_array();

	for (; array && *list; list++)
		json_array_append_new(array, json_string(*list));
	return array;
}

#define TEXTS(...) texts((const char *const[]){__VA_ARGS__, NULL})

static json_t *make_capabilities(void)
{
	static const char *const sets[] = {"bounding", "effective", "permitted", "ambient"};
	json_t *object = json_object();

	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		json_object_set_new(object, sets[i], TEXTS("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"));
	return object;
}

static json_t *make_process(void)
{
	return json_pack("{s:b, s:{s:i, s:i}, s:o, s:o, s:s, s:o, s:[{s:s, s:i, s:i}], s:b}", "terminal", 1, "user",
			 "uid", 0, "gid", 0, "args", TEXTS("sh"), "env",
			 TEXTS("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"),
			 "cwd", "/", "capabilities", make_capabilities(), "rlimits", "type", "RLIMIT_NOFILE", "hard",
			 1024, "soft", 1024, "noNewPrivileges", 1);
}

static void add_mount(json_t *mounts, const char *destination, const char *type, const char *source, json_t *options)
{
	json_t *mount = json_pack("{s:s, s:s, s:s}", "destination", destination, "type", type, "source", source);

	if (options)
		json_object_set_new(mount, "options", options);
	json_array_append_new(mounts, mount);
}

static json_t *make_mounts(bool rootless)
{
	json_t *mounts = json_array();

	add_mount(mounts, "/proc", "proc", "proc", NULL);
	add_mount(mounts, "/dev", "tmpfs", "tmpfs", TEXTS("nosuid", "strictatime", "mode=755", "size=65536k"));
	/* A user namespace with one group has no group 5. */
	add_mount(mounts, "/dev/pts", "devpts", "devpts",
		  rootless ? TEXTS("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
			   : TEXTS("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"));
	add_mount(mounts, "/dev/shm", "tmpfs", "shm", TEXTS("nosuid", "noexec", "nodev", "mode=1777", "size=65536k"));
	add_mount(mounts, "/dev/mqueue", "mqueue", "mqueue", TEXTS("nosuid", "noexec", "nodev"));
	if (rootless)
		add_mount(mounts, "/sys", "none", "/sys", TEXTS("rbind", "nosuid", "noexec", "nodev", "ro"));
	else
		add_mount(mounts, "/sys", "sysfs", "sysfs", TEXTS("nosuid", "noexec", "nodev", "ro"));
	add_mount(mounts, "/sys/fs/cgroup", "cgroup", "cgroup", TEXTS("nosuid", "noexec", "nodev", "relatime", "ro"));
	return mounts;
}

static json_t *make_namespaces(bool rootless)
{
	static const char *const usual[] = {"pid", "network", "ipc", "uts", "mount", "cgroup", NULL};
	static const char *const without_root[] = {"pid", "ipc", "uts", "mount", "cgroup", "user", NULL};
	json_t *array = json_array();

	for (const char *const *type = rootless ? without_root : usual; *type; type++)
		json_array_append_new(array, json_pack("{s:s}", "type", *type));
	return array;
}

static json_t *make_id_mapping(json_int_t id)
{
	return json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID", id, "size", 1);
}

static json_t *make_linux(bool rootless)
{
	json_t *object = json_object();

	if (rootless) {
		json_object_set_new(object, "uidMappings", make_id_mapping(geteuid()));
		json_object_set_new(object, "gidMappings", make_id_mapping(getegid()));
	} else {
		json_object_set_new(object, "resources",
				    json_pack("{s:[{s:b, s:s}]}", "devices", "allow", 0, "access", "rwm"));
	}
	json_object_set_new(object, "namespaces", make_namespaces(rootless));
	json_object_set_new(object, "maskedPaths",
			    TEXTS("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
				  "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
				  "/proc/scsi"));
	json_object_set_new(object, "readonlyPaths",
			    TEXTS("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"));
	return object;
}

static json_t *make_spec(bool rootless)
{
	return json_pack("{s:s, s:o, s:{s:s, s:b}, s:s, s:o, s:o}", "ociVersion", "1.0.2-dev", "process",
			 make_process(), "root", "path", "rootfs", "readonly", 1, "hostname", "runc", "mounts",
			 make_mounts(rootless), "linux", make_linux(rootless));
}

/* jansson indents with spaces only; runc writes tabs. Indentation is what stands at the head of a line: a newline never
 * stands inside a JSON string. Works in place, since a tab replaces four spaces. */
static void use_tabs(char *text)
{
	const char *from = text;
	char *to = text;

	while (*from) {
		while (strncmp(from, "    ", 4) == 0) {
			*to++ = '\t';
			from += 4;
		}
		while (*from && *from != '\n')
			*to++ = *from++;
		if (*from)
			*to++ = *from++;
	}
	*to = '\0';
}

static int run(const struct invocation *invocation, struct error *err)
{
	const struct spec_options *options = invocation->options;
	json_t *spec = make_spec(options->rootless);
	cleanup_free char *text = spec ? json_dumps(spec, JSON_INDENT(4)) : NULL;
	cleanup_close int bundle = -1, fd = -1;

	json_decref(spec);
	if (!text)
		return error_set(err, ENOMEM, "format " SPEC_FILE);
	use_tabs(text);
	bundle = open(options->bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (bundle < 0)
		return error_set_errno(err, "chdir %s", options->bundle);
	fd = openat(bundle, options->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0 && errno == EEXIST)
		return error_set(err, EEXIST, "File %s exists. Remove it first", options->file);
	if (fd < 0)
		return error_set_errno(err, "create %s", options->file);
	if (write_exactly(fd, text, strlen(text)) < 0) {
		error_set_errno(err, "write %s", options->file);
		unlinkat(bundle, options->file, 0);
		return -1;
	}
	return 0;
}

const struct command command_spec = {
    .name = "spec",
    .summary = "write a config.json to start from",
    .arguments = "[flags]",
    .description = "Writes config.json, a container that runs sh on the root file system in ./rootfs. Set\n"
		   "process.terminal to false and process.args to what is to be run.",
    .flags = flags,
    .defaults = &defaults,
    .options_size = sizeof(defaults),
    .run = run,
};
