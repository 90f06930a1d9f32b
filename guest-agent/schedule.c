#include "guest-agent/schedule.h"

#include <errno.h>
#include <linux/ioprio.h>
#include <linux/sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/spec_values.h"
#include "common/words.h"

#define SCHED_ISO_NUMBER 4 /* reserved, and never implemented in Linux */

static const struct word policies[] = {
    {"SCHED_OTHER", 0}, /* SCHED_NORMAL in the kernel */
    {"SCHED_FIFO", SCHED_FIFO},
    {"SCHED_RR", SCHED_RR},
    {"SCHED_BATCH", SCHED_BATCH},
    {"SCHED_ISO", SCHED_ISO_NUMBER},
    {"SCHED_IDLE", SCHED_IDLE},
    {"SCHED_DEADLINE", SCHED_DEADLINE},
    {NULL, 0},
};

static const struct word scheduler_flags[] = {
    {"SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK},   {"SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM},
    {"SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN},	      {"SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY},
    {"SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS},	      {"SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN},
    {"SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX}, {NULL, 0},
};

static const struct word io_classes[] = {
    {"IOPRIO_CLASS_RT", IOPRIO_CLASS_RT},
    {"IOPRIO_CLASS_BE", IOPRIO_CLASS_BE},
    {"IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE},
    {NULL, 0},
};

/* --- process.scheduler ------------------------------------------------------------------------------------------- */

static int read_flags(const json_t *array, uint64_t *flags, struct error *err)
{
	const json_t *element;
	uint32_t flag;
	size_t i;

	json_array_foreach(array, i, element)
	{
		if (word_value(scheduler_flags, json_string_value(element), &flag) < 0)
			return error_set(err, EINVAL, "process.scheduler.flags[%zu]: invalid scheduler flag %s", i,
					 json_is_string(element) ? json_string_value(element) : "null");
		*flags |= flag;
	}
	return 0;
}

static int check_values(const struct schedule_attributes *a, struct error *err)
{
	bool real_time = a->policy == SCHED_FIFO || a->policy == SCHED_RR;

	if (a->nice < -20 || a->nice > 19)
		return error_set(err, EINVAL, "process.scheduler.nice must be from -20 to 19");
	if (a->priority != 0 && !real_time)
		return error_set(err, EINVAL,
				 "process.scheduler.priority can only be specified for SCHED_FIFO or SCHED_RR policy");
	if (real_time && (a->priority < 1 || a->priority > 99))
		return error_set(err, EINVAL, "process.scheduler.priority must be from 1 to 99");
	if (a->policy != SCHED_DEADLINE && (a->runtime || a->deadline || a->period))
		return error_set(err, EINVAL,
				 "process.scheduler runtime, deadline and period can only be specified for "
				 "SCHED_DEADLINE policy");
	return 0;
}

static int read_scheduler(const json_t *json, struct schedule *schedule, struct error *err)
{
	struct schedule_attributes *a = &schedule->attributes;

	if (!json || json_is_null(json))
		return 0;
	*a = (struct schedule_attributes){.size = sizeof(*a)};
	if (word_value(policies, spec_text(json, "policy", ""), &a->policy) < 0)
		return error_set(err, EINVAL, "process.scheduler.policy: invalid scheduler policy %s",
				 spec_text(json, "policy", ""));
	a->nice = (int32_t)spec_i64(json, "nice", 0);
	a->priority = (uint32_t)spec_u64(json, "priority", 0);
	a->runtime = spec_u64(json, "runtime", 0);
	a->deadline = spec_u64(json, "deadline", 0);
	a->period = spec_u64(json, "period", 0);
	schedule->has_attributes = true;
	if (read_flags(json_object_get(json, "flags"), &a->flags, err) < 0)
		return -1;
	return check_values(a, err);
}

/* --- process.ioPriority ------------------------------------------------------------------------------------------ */

static int read_io_priority(const json_t *json, struct schedule *schedule, struct error *err)
{
	uint32_t class;
	int64_t level = 0;

	if (!json || json_is_null(json))
		return 0;
	if (word_value(io_classes, spec_text(json, "class", ""), &class) < 0)
		return error_set(err, EINVAL, "process.ioPriority.class: invalid class %s",
				 spec_text(json, "class", ""));
	spec_get_i64(json_object_get(json, "priority"), &level);
	if (level < 0 || level > 7)
		return error_set(err, EINVAL, "process.ioPriority.priority must be from 0 to 7");
	schedule->has_io_priority = true;
	schedule->io_priority = IOPRIO_PRIO_VALUE((int)class, (int)level);
	return 0;
}

int schedule_apply(const struct schedule *schedule, pid_t pid, struct error *err)
{
	if (schedule->has_attributes && syscall(SYS_sched_setattr, pid, &schedule->attributes, 0) < 0)
		return error_set_errno(err, "process.scheduler");
	if (schedule->has_io_priority && syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, schedule->io_priority) < 0)
		return error_set_errno(err, "process.ioPriority");
	return 0;
}

/* --- process.execCPUAffinity ------------------------------------------------------------------------------------- */

/* One number at *text, which moves behind it. */
static int read_processor(const char **text, unsigned *number)
{
	char *end;
	unsigned long value;

	if (**text < '0' || **text > '9')
		return -1;
	value = strtoul(*text, &end, 10);
	if (value >= CPU_SETSIZE)
		return -1;
	*number = (unsigned)value;
	*text = end;
	return 0;
}

static int read_list(const char *text, cpu_set_t *set)
{
	CPU_ZERO(set);
	for (;;) {
		unsigned first, last;

		if (read_processor(&text, &first) < 0)
			return -1;
		last = first;
		if (*text == '-' && (text++, read_processor(&text, &last) < 0))
			return -1;
		if (last < first)
			return -1;
		for (; first <= last; first++)
			CPU_SET(first, set);
		if (*text == '\0')
			return 0;
		if (*text++ != ',')
			return -1;
	}
}

int schedule_read_affinity(const json_t *process, const char *member, cpu_set_t *set, bool *given, struct error *err)
{
	const char *text = spec_text(json_object_get(process, "execCPUAffinity"), member, "");

	*given = *text != '\0';
	if (*given && read_list(text, set) < 0)
		return error_set(err, EINVAL, "process.execCPUAffinity.%s: invalid CPU list %s", member, text);
	return 0;
}

/* The initial one would only be in force until the process has joined the container's cgroup, which it is born in. */
static int read_affinity(const json_t *process, struct schedule *schedule, struct error *err)
{
	cpu_set_t initial;
	bool has_initial;

	if (schedule_read_affinity(process, "initial", &initial, &has_initial, err) < 0 ||
	    schedule_read_affinity(process, "final", &schedule->affinity, &schedule->has_affinity, err) < 0)
		return -1;
	if (has_initial && !schedule->has_affinity) {
		schedule->affinity = initial;
		schedule->has_affinity = true;
	}
	return 0;
}

int schedule_apply_affinity(const struct schedule *schedule, struct error *err)
{
	if (schedule->has_affinity && sched_setaffinity(0, sizeof(schedule->affinity), &schedule->affinity) < 0)
		return error_set_errno(err, "process.execCPUAffinity");
	return 0;
}

int schedule_read(const json_t *process, struct schedule *schedule, struct error *err)
{
	*schedule = (struct schedule){0};
	if (read_scheduler(json_object_get(process, "scheduler"), schedule, err) < 0 ||
	    read_io_priority(json_object_get(process, "ioPriority"), schedule, err) < 0)
		return -1;
	return read_affinity(process, schedule, err);
}

/* --- linux.personality ------------------------------------------------------------------------------------------- */

int schedule_read_personality(const json_t *json, unsigned long *persona, bool *given, struct error *err)
{
	const char *domain = spec_text(json, "domain", "");

	*given = json && !json_is_null(json);
	if (!*given)
		return 0;
	if (json_array_size(json_object_get(json, "flags")) > 0)
		return error_set(err, ENOTSUP, "linux.personality.flags: the specification defines none");
	if (strcmp(domain, "LINUX") == 0)
		*persona = PER_LINUX;
	else if (strcmp(domain, "LINUX32") == 0)
		*persona = PER_LINUX32;
	else
		return error_set(err, EINVAL, "linux.personality.domain: invalid personality domain %s", domain);
	return 0;
}
