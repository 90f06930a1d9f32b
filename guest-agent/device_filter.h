/*
 * Device access of a container: linux.resources.devices (config-linux.md "Allowed Device list") as a program of type
 * BPF_PROG_TYPE_CGROUP_DEVICE on the container's cgroup.
 *
 * The rules are an ordered list in which a later rule overrides an earlier one, for each kind of access by itself; what
 * no rule names is denied. The program looks from the last rule to the first.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct device_rule {
	bool allow;
	char type;	 /* 'a' both, 'b' block, 'c' character */
	uint32_t access; /* BPF_DEVCG_ACC_MKNOD | _READ | _WRITE */
	int64_t major;	 /* -1: any */
	int64_t minor;	 /* -1: any */
};

#define DEVICE_RULES_MAX 2048 /* several devices for each of which a host has nodes */
#define DEVICE_RULE_INSTRUCTIONS_MAX 5
#define DEVICE_PROLOGUE_INSTRUCTIONS 11
#define DEVICE_EPILOGUE_INSTRUCTIONS 6

/* The program for these rules, written to code, which has room for DEVICE_PROGRAM_MAX(n) instructions. Returns the
 * number of instructions. */
#define DEVICE_PROGRAM_MAX(n)                                                                                          \
	(DEVICE_PROLOGUE_INSTRUCTIONS + (n)*DEVICE_RULE_INSTRUCTIONS_MAX + DEVICE_EPILOGUE_INSTRUCTIONS)
size_t device_filter_compile(const struct device_rule *rules, size_t n_rules, struct bpf_insn *code);

/* Compiles, loads and attaches. cgroup_fd is a cgroup v2 directory. Returns 0 or -1. */
int device_filter_attach(int cgroup_fd, const struct device_rule *rules, size_t n_rules, struct error *err);
