/*
 * Identity of a process of the host: its number and when it started (field 22 of /proc/PID/stat, clock ticks since
 * boot), so that a number used again is never taken for the process that had it before.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

struct process {
	pid_t pid; /* 0: none */
	uint64_t start;
};

/* Fills in the identity of a live process. Returns 0, or -1 with ESRCH when there is none (a zombie counts as none). */
int process_identify(pid_t pid, struct process *process, struct error *err);

/* Opens a pidfd for the process. Returns -1 with errno ESRCH when it has ended, also when its number is in use again or
 * when it is a zombie. */
int process_open(const struct process *process);

bool process_alive(const struct process *process);

/* Sends SIGKILL to the process, if it lives, and waits until it has ended, at most timeout_ms. Returns 0 or -1. */
int process_end(const struct process *process, int timeout_ms, struct error *err);

/* Waits until it has ended of its own accord, at most timeout_ms. False when it has not. */
bool process_wait(const struct process *process, int timeout_ms);

/* CPU time in nanoseconds that the process has used, or -1. */
int64_t process_cpu_time(pid_t pid);

/* The process that a pidfd stands for, or 0 when it has ended. */
pid_t process_of(int pidfd);

/* Nanoseconds for which the thread of the process that had to wait most was ready to run and had no CPU; 0 when it has
 * ended or the kernel does not count it (/proc/PID/task/TID/schedstat). */
int64_t process_starved(pid_t pid);

/* Parses the content of /proc/PID/stat. Returns 0 or -1. */
int process_parse_stat(const char *text, char *state, uint64_t *start);
