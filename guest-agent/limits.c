#include "guest-agent/limits.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "guest-agent/places.h"

/* Limits that the spec does not name come from whoever calls a runtime. Here that is a kernel that sets them by the
 * size of its memory; a container gets what the engines' service files give. */
static const struct plan_rlimit default_rlimits[] = {
    {RLIMIT_NOFILE, {1024, 1048576}},
    {RLIMIT_NPROC, {RLIM_INFINITY, RLIM_INFINITY}},
};

int limits_apply(const struct plan_process *process, pid_t pid, struct error *err)
{
	for (size_t i = 0; i < sizeof(default_rlimits) / sizeof(default_rlimits[0]); i++)
		if (prlimit(pid, (__rlimit_resource_t)default_rlimits[i].resource, &default_rlimits[i].limit, NULL) < 0)
			return error_set_errno(err, "set default limits");
	for (size_t i = 0; i < process->n_rlimits; i++)
		if (prlimit(pid, (__rlimit_resource_t)process->rlimits[i].resource, &process->rlimits[i].limit, NULL) <
		    0)
			return error_set_errno(err, "process.rlimits[%zu]", i);
	return 0;
}

int limits_set_oom_score(const struct plan_process *process, pid_t pid, struct error *err)
{
	cleanup_close int fd = -1;
	char path[64];

	if (!process->has_oom_score)
		return 0;
	if (pid == 0)
		snprintf(path, sizeof(path), PLACE_PROC "/self/oom_score_adj");
	else
		snprintf(path, sizeof(path), PLACE_PROC "/%d/oom_score_adj", (int)pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || dprintf(fd, "%d", process->oom_score) < 0)
		return error_set_errno(err, "process.oomScoreAdj");
	return 0;
}
