/*
 * From the first instruction of PID 1 to the point where orders can be carried out.
 */
#pragma once

#include <stdint.h>

#include "common/agent_protocol.h"
#include "common/error.h"

/* First stage, kept as short as possible: with it the host knows that the machine is up. Returns the listening control
 * socket, or -1. Afterwards boot_report may be used. */
int boot_announce(struct error *err);

/* Second stage: the agent's own mounts, devices and network, made while the host prepares its first order. */
int boot_finish(struct error *err);

/* Mounts the host's exports, when that has not been done: only now, because a machine may be frozen before it has any.
 */
int boot_mount_exports(struct error *err);

/* Brings up the loopback interface of the network namespace that the caller is in. */
int boot_bring_up_loopback(struct error *err);

/* Sends one report to the host. */
int boot_report(enum agent_report_kind kind, uint32_t value, struct error *err);

/* The report connection, where notices of the VMM come in (struct agent_notice). */
int boot_notices(void);

/* Writes the error to the kernel's log and resets the machine. */
void boot_fail(const struct error *err) __attribute__((noreturn));
