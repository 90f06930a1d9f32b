#include "guest-agent/user_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "guest-agent/limits.h"
#include "guest-agent/places.h"

bool user_namespace_wanted(const struct plan *plan)
{
	return plan->namespaces.use[NAMESPACE_USER] != NAMESPACE_OF_MACHINE;
}

/* --- agent ------------------------------------------------------------------------------------------------------- */

static void directory_of(unsigned number, char *path, size_t room)
{
	snprintf(path, room, PLACE_DEVICES "-%u", number);
}

/* A user namespace may mount sysfs only where one can be seen already. */
static int mount_sys(struct error *err)
{
	static bool done;

	if (done)
		return 0;
	if ((mkdir(PLACE_SYS, 0755) < 0 && errno != EEXIST) || mount("sysfs", PLACE_SYS, "sysfs", 0, NULL) < 0)
		return error_set_errno(err, "mount sysfs on " PLACE_SYS);
	done = true;
	return 0;
}

int user_namespace_prepare(struct plan *plan, unsigned number, struct error *err)
{
	cleanup_close int directory = -1;

	if (!user_namespace_wanted(plan))
		return 0;
	if (mount_sys(err) < 0)
		return -1;
	directory_of(number, plan->device_source, sizeof(plan->device_source));
	if (mkdir(plan->device_source, 0755) < 0)
		return error_set_errno(err, "make %s", plan->device_source);
	directory = open(plan->device_source, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return error_set_errno(err, "open %s", plan->device_source);
	return devices_make_sources(directory, &plan->devices, &plan->id_maps, err);
}

int user_namespace_begin(const struct plan *plan, pid_t pid, int channel, struct error *err)
{
	if (!user_namespace_wanted(plan))
		return 0;
	if (plan->namespaces.use[NAMESPACE_USER] == NAMESPACE_OWN && id_maps_write(&plan->id_maps, pid, err) < 0)
		return -1;
	if (limits_set_oom_score(&plan->process, pid, err) < 0 || schedule_apply(&plan->process.schedule, pid, err) < 0)
		return -1;
	if (send(channel, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return error_set_errno(err, "tell the container's first process to go on");
	return 0;
}

int user_namespace_finish(const struct plan *plan, pid_t pid, struct error *err)
{
	return user_namespace_wanted(plan) ? limits_apply(&plan->process, pid, err) : 0;
}

void user_namespace_forget(unsigned number)
{
	char path[PLAN_DEVICE_SOURCE_MAX + 24];

	directory_of(number, path, sizeof(path));
	/* Only the names go: what a container has mounted stays with it. */
	for (unsigned i = 0;; i++) {
		size_t length = strlen(path);

		snprintf(path + length, sizeof(path) - length, "/%u", i);
		if (unlink(path) < 0 && errno != ENOENT)
			break;
		path[length] = '\0';
		if (rmdir(path) == 0 || errno == ENOENT)
			break;
	}
}

/* --- first process ----------------------------------------------------------------------------------------------- */

int user_namespace_enter(int channel, struct error *err)
{
	char byte;
	ssize_t n;

	do
		n = read(channel, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		return error_set(err, EPIPE, "the agent is gone");
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return error_set_errno(err, "become root of the user namespace");
	return 0;
}

int user_namespace_open_devices(const struct plan *plan, struct error *err)
{
	int fd = open(plan->device_source, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? error_set_errno(err, "open %s", plan->device_source) : fd;
}
