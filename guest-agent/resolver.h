/*
 * An engine's resolver for a container (AGENT_RESOLVER_ADDRESS in common/agent_protocol.h). Docker's listens in the
 * container's network namespace on the host, at 127.0.0.11 and any port, and rules of netfilter make that port 53. Here
 * the agent listens in its place, also at any port: another server of the container's may want to listen at port 53 of
 * all addresses. Instead of netfilter, which the container may use for itself, programs of BPF at its cgroup change the
 * port when a process of the container connects or sends there, and change it back in what that receives.
 */
#pragma once

#include <linux/bpf.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct resolver;

/* Makes the sockets, in the caller's network namespace, which should be the container's, and attaches the programs to
 * the container's cgroup. Returns it, or NULL with err. port is where the host is to be asked. */
struct resolver *resolver_new(uint32_t port, int cgroup, struct error *err);

/* NULL is none. */
void resolver_free(struct resolver *resolver);

#define RESOLVER_PROGRAM_MAX 10

/* Makes the program that replaces port `from` of the resolver's address by `to` (both as the network has them), where
 * the protocol is that one (0: any). Returns the number of its instructions. */
size_t resolver_compile(uint16_t from, uint16_t to, uint8_t protocol, struct bpf_insn code[RESOLVER_PROGRAM_MAX]);
