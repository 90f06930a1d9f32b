/*
 * A guest's out-of-memory kill, for the host to see.
 *
 * Engines learn of it from memory.events of the container's cgroup, where the host's kernel counts the processes that
 * it kills for want of memory. What the guest's kernel kills is not counted there, and nobody can write that file. So a
 * process stands ready in that cgroup, for containers with a memory limit: when the guest has killed, it uses memory
 * until the cgroup's own limit is reached (which is not far, since the guest has used up its own), and is what the
 * host's kernel kills. The count is then true in what it tells: the container went beyond its limit.
 *
 * It is started before anything of the machine exists, is nothing but a few pages, holds no descriptor but its end of a
 * socket, and may make no system call but read and exit. It is the kernel's first choice (oom_score_adj 1000); where
 * the machine itself is not to be spared (oom_score_adj above 0) it would not be, and does nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct oom_stand_in {
	int socket; /* -1: there is none */
	bool used;
};

#define OOM_STAND_IN_NONE ((struct oom_stand_in){.socket = -1})

/* Forks it; must be called before there are threads. most: bytes after which it gives up. */
int oom_stand_in_start(struct oom_stand_in *stand_in, uint64_t most, struct error *err);

/* The guest's kernel has killed a process of the container. The second time means nothing. */
void oom_stand_in_use(struct oom_stand_in *stand_in);

/* Waits for the kill to be counted, if there is to be one: before the container's end is reported. At most some
 * seconds. */
void oom_stand_in_wait(const struct oom_stand_in *stand_in);
