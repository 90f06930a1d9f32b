#include "runtime/systemd.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cgroup_values.h"
#include "common/cleanup.h"
#include "runtime/dbus.h"

#define MANAGER_PATH "/org/freedesktop/systemd1"
#define MANAGER "org.freedesktop.systemd1.Manager"
#define TIMEOUT_MS 30000

#define UNIT_EXISTS "org.freedesktop.systemd1.UnitExists"
#define NO_SUCH_UNIT "org.freedesktop.systemd1.NoSuchUnit"

static int connect_to_manager(struct error *err)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char path[512];

	if (geteuid() == 0)
		return dbus_connect("/run/systemd/private", err);
	if (!runtime || !*runtime)
		return error_set(err, ENOENT, "connect to the user's systemd: XDG_RUNTIME_DIR is not set");
	snprintf(path, sizeof(path), "%s/systemd/private", runtime);
	return dbus_connect(path, err);
}

/* --- properties -------------------------------------------------------------------------------------------------- */

/* Each is a structure of its name and a variant. */
static void begin_property(struct dbus_buffer *body, const char *name, const char *type)
{
	dbus_align(body, 8);
	dbus_put_string(body, name);
	dbus_put_signature(body, type);
}

static void put_text(struct dbus_buffer *body, const char *name, const char *text)
{
	begin_property(body, name, "s");
	dbus_put_string(body, text);
}

static void put_flag(struct dbus_buffer *body, const char *name, bool flag)
{
	begin_property(body, name, "b");
	dbus_put_u32(body, flag);
}

static void put_number(struct dbus_buffer *body, const char *name, uint64_t number)
{
	begin_property(body, name, "t");
	dbus_put_u64(body, number);
}

static void put_size(struct dbus_buffer *body, const char *name, int64_t size)
{
	if (size != CGROUP_UNSET)
		put_number(body, name, size < 0 ? UINT64_MAX : (uint64_t)size);
}

size_t systemd_cpu_mask(const char *list, unsigned char *mask, size_t room)
{
	size_t used = 0;

	memset(mask, 0, room);
	while (*list) {
		char *end;
		unsigned long first = strtoul(list, &end, 10), last = *end == '-' ? strtoul(end + 1, &end, 10) : first;

		if (last / 8 >= room || last < first)
			return 0;
		for (; first <= last; first++)
			mask[first / 8] |= (unsigned char)(1u << first % 8);
		if (last / 8 + 1 > used)
			used = last / 8 + 1;
		list = *end == ',' ? end + 1 : end;
		if (*end && *end != ',')
			return 0;
	}
	return used;
}

static void put_mask(struct dbus_buffer *body, const char *name, const char *list)
{
	unsigned char mask[512];
	size_t size = list ? systemd_cpu_mask(list, mask, sizeof(mask)) : 0;
	struct dbus_array bytes;

	if (size == 0)
		return;
	begin_property(body, name, "ay");
	bytes = dbus_open_array(body, 1);
	for (size_t i = 0; i < size; i++)
		dbus_put_byte(body, mask[i]);
	dbus_close_array(body, bytes);
}

/* systemd counts in microseconds of CPU time a second, rounded to the 10 ms that it works with. */
static uint64_t quota_per_second(const struct limits *limits)
{
	uint64_t period = limits->period ? limits->period : CGROUP_CPU_PERIOD;
	uint64_t quota = (uint64_t)limits->quota * 1000000 / period;

	return limits->quota < 0 ? UINT64_MAX : (quota + 9999) / 10000 * 10000;
}

/* What systemd knows it would write again one day, so it has to know the same as the cgroup's files. */
static void put_limits(struct dbus_buffer *body, const struct limits *limits, uint64_t machine_memory)
{
	put_size(body, "MemoryMax", limits_memory_max(limits, machine_memory));
	put_size(body, "MemoryLow", limits_memory_low(limits, machine_memory));
	put_size(body, "MemorySwapMax", cgroup_swap_max(limits->memory, limits->swap));
	if (limits->shares)
		put_number(body, "CPUWeight", cgroup_cpu_weight(limits->shares));
	if (limits->period)
		put_number(body, "CPUQuotaPeriodUSec", limits->period);
	if (limits->quota)
		put_number(body, "CPUQuotaPerSecUSec", quota_per_second(limits));
	put_mask(body, "AllowedCPUs", limits->cpus);
	put_mask(body, "AllowedMemoryNodes", limits->mems);
}

static void put_process(struct dbus_buffer *body, pid_t pid)
{
	struct dbus_array pids;

	begin_property(body, "PIDs", "au");
	pids = dbus_open_array(body, 4);
	dbus_put_u32(body, (uint32_t)pid);
	dbus_close_array(body, pids);
}

static void put_start(struct dbus_buffer *body, const char *slice, const char *scope, const struct limits *limits,
		      uint64_t machine_memory, pid_t pid)
{
	static const char *const accounting[] = {"MemoryAccounting", "CPUAccounting", "IOAccounting",
						 "TasksAccounting"};
	struct dbus_array properties, none;

	dbus_put_string(body, scope);
	dbus_put_string(body, "replace");
	properties = dbus_open_array(body, 8);
	put_text(body, "Description", "hull container");
	put_text(body, "Slice", slice);
	put_flag(body, "Delegate", true);
	put_flag(body, "DefaultDependencies", false);
	for (size_t i = 0; i < sizeof(accounting) / sizeof(accounting[0]); i++)
		put_flag(body, accounting[i], true);
	/* The threads of the machine are not those of the container; systemd's own default would hold them. */
	put_number(body, "TasksMax", UINT64_MAX);
	put_limits(body, limits, machine_memory);
	put_process(body, pid);
	dbus_close_array(body, properties);
	none = dbus_open_array(body, 8);
	dbus_close_array(body, none);
}

/* --- calls ------------------------------------------------------------------------------------------------------- */

struct conversation {
	int fd;
	uint32_t serial;
	char job[256], result[64]; /* the last job that was done for our unit, and how it went */
};

static void notice(struct conversation *conversation, const char *unit, const struct dbus_message *message)
{
	if (message->kind != DBUS_SIGNAL || strcmp(message->member, "JobRemoved") != 0 ||
	    strcmp(message->texts[1], unit) != 0)
		return;
	snprintf(conversation->job, sizeof(conversation->job), "%s", message->texts[0]);
	snprintf(conversation->result, sizeof(conversation->result), "%.63s", message->texts[2]);
}

/* Sends an order and waits for its answer. The error's name goes to *refusal. */
static int call(struct conversation *conversation, const char *member, const char *signature,
		const struct dbus_buffer *body, const char *unit, struct dbus_message *answer, struct error *err)
{
	struct dbus_call order = {MANAGER_PATH, MANAGER, member, signature, body};
	uint32_t serial = ++conversation->serial;

	*answer = (struct dbus_message){0};
	if (dbus_send(conversation->fd, serial, &order, err) < 0)
		return -1;
	do {
		if (dbus_receive(conversation->fd, TIMEOUT_MS, answer, err) < 0)
			return -1;
		notice(conversation, unit, answer);
	} while ((answer->kind != DBUS_RETURN && answer->kind != DBUS_ERROR) || answer->reply_to != serial);
	if (answer->kind == DBUS_RETURN)
		return 0;
	return error_set(err, strcmp(answer->error, UNIT_EXISTS) == 0 ? EEXIST : EPROTO, "systemd: %s: %s", unit,
			 *answer->texts[0] ? answer->texts[0] : answer->error);
}

static int wait_for_job(struct conversation *conversation, const char *job, const char *unit, struct error *err)
{
	struct dbus_message message;

	while (strcmp(conversation->job, job) != 0) {
		if (dbus_receive(conversation->fd, TIMEOUT_MS, &message, err) < 0)
			return -1;
		notice(conversation, unit, &message);
	}
	if (strcmp(conversation->result, "done") != 0 && strcmp(conversation->result, "skipped") != 0)
		return error_set(err, EIO, "systemd: the job of %s ended with result %s", unit, conversation->result);
	return 0;
}

/* A unit that failed stays known until it is asked to be forgotten. */
static void reset_failed(struct conversation *conversation, const char *scope)
{
	struct dbus_buffer body = {.size = 0};
	struct dbus_message answer;

	dbus_put_string(&body, scope);
	call(conversation, "ResetFailedUnit", "s", &body, scope, &answer, NULL);
}

static int start(struct conversation *conversation, const struct dbus_buffer *body, const char *scope,
		 struct error *err)
{
	struct dbus_message answer;
	int result = call(conversation, "StartTransientUnit", "ssa(sv)a(sa(sv))", body, scope, &answer, err);

	if (result < 0 && strcmp(answer.error, UNIT_EXISTS) == 0) {
		reset_failed(conversation, scope);
		result = call(conversation, "StartTransientUnit", "ssa(sv)a(sa(sv))", body, scope, &answer, err);
	}
	return result < 0 ? -1 : wait_for_job(conversation, answer.texts[0], scope, err);
}

/* --- scopes ------------------------------------------------------------------------------------------------------ */

static pid_t make_holder(struct error *err)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		return error_set_errno(err, "make a process");
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() == parent)
		pause();
	_exit(0);
}

void systemd_release_holder(pid_t holder)
{
	kill(holder, SIGKILL);
	while (waitpid(holder, NULL, 0) < 0 && errno == EINTR)
		;
}

int systemd_start_scope(const char *slice, const char *scope, const struct limits *limits, uint64_t machine_memory,
			pid_t *holder, struct error *err)
{
	cleanup_close int fd = connect_to_manager(err);
	struct conversation conversation = {.fd = fd};
	struct dbus_buffer body = {.size = 0};
	pid_t pid;

	if (fd < 0)
		return -1;
	pid = make_holder(err);
	if (pid < 0)
		return -1;
	put_start(&body, slice, scope, limits, machine_memory, pid);
	if (start(&conversation, &body, scope, err) < 0) {
		systemd_release_holder(pid);
		return -1;
	}
	*holder = pid;
	return 0;
}

int systemd_set_limits(const char *scope, const struct limits *limits, uint64_t machine_memory, struct error *err)
{
	cleanup_close int fd = connect_to_manager(err);
	struct conversation conversation = {.fd = fd};
	struct dbus_buffer body = {.size = 0};
	struct dbus_message answer;
	struct dbus_array properties;

	if (fd < 0)
		return -1;
	dbus_put_string(&body, scope);
	dbus_put_u32(&body, true); /* until the next start of the system only */
	properties = dbus_open_array(&body, 8);
	put_limits(&body, limits, machine_memory);
	dbus_close_array(&body, properties);
	return call(&conversation, "SetUnitProperties", "sba(sv)", &body, scope, &answer, err);
}

int systemd_stop_scope(const char *scope, struct error *err)
{
	cleanup_close int fd = connect_to_manager(err);
	struct conversation conversation = {.fd = fd};
	struct dbus_buffer body = {.size = 0};
	struct dbus_message answer;
	int result;

	if (fd < 0)
		return -1;
	dbus_put_string(&body, scope);
	dbus_put_string(&body, "replace");
	result = call(&conversation, "StopUnit", "ss", &body, scope, &answer, err);
	/* A scope goes with its last process. */
	if (result < 0 && strcmp(answer.error, NO_SUCH_UNIT) == 0)
		result = 0;
	else if (result == 0)
		result = wait_for_job(&conversation, answer.texts[0], scope, err);
	reset_failed(&conversation, scope);
	return result;
}
