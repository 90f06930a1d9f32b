/*
 * The host's part of an engine's resolver for the guest (AGENT_RESOLVER_ADDRESS in common/agent_protocol.h). Lives in
 * hull-net, in the network namespace that the resolver listens in: datagrams of the guest are sent from there as if
 * they were the container's own, and answers passed back.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define RESOLVER_QUESTIONS_MAX 64 /* under way at a time */
#define RESOLVER_POLLS_MAX (RESOLVER_QUESTIONS_MAX + 1)
#define RESOLVER_DATAGRAM_MAX 65535

/* A TCP connection to the resolver, as a port of the VMM; 0 when there is none to be had. */
typedef uint32_t resolver_connect(int fd, void *owner);

struct resolver_question {
	int fd; /* -1: free */
	uint32_t tag;
	int64_t since; /* CLOCK_MONOTONIC, nanoseconds */
};

struct resolver {
	int stream; /* to the agent, or -1: not open */
	struct resolver_question questions[RESOLVER_QUESTIONS_MAX];
	unsigned char *in, *out; /* a frame each, and what follows it */
	size_t in_used, out_used, out_sent;
	resolver_connect *connect;
	void *owner;
};

#define RESOLVER_NONE ((struct resolver){.stream = -1})

/* Whether one listens in the caller's network namespace. */
bool resolver_is_there(void);

/* stream is taken over, also on failure. */
int resolver_open(struct resolver *resolver, int stream, struct error *err);
void resolver_close(struct resolver *resolver);

/* What to wait for: fills in up to RESOLVER_POLLS_MAX, returns how many. */
size_t resolver_poll(const struct resolver *resolver, struct pollfd *polled);

/* Does what there is to do. When the agent sends what it may not, or goes, the resolver is closed. */
void resolver_serve(struct resolver *resolver, const struct pollfd *polled, size_t n);
