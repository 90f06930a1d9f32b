/*
 * Orders of the host (common/agent_protocol.h), read from JSON and checked before anything is done.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "guest-agent/network_order.h"
#include "guest-agent/plan.h"
#include "guest-agent/random.h"

enum order_kind {
	ORDER_CREATE,
	ORDER_START,
	ORDER_KILL,
	ORDER_STATE,
	ORDER_DELETE,
	ORDER_EXEC,
	ORDER_WAIT,
	ORDER_RESIZE,
	ORDER_PAUSE,
	ORDER_RESUME,
	ORDER_PS,
	ORDER_UPDATE,
	ORDER_STATS,
	ORDER_EVENTS,
	ORDER_KERNEL_LOG,
	ORDER_SOCKETS,
	ORDER_NOTIFY,
	ORDER_NETWORK,
	ORDER_KINDS,
};

#define ORDER_ID_MAX 1024 /* bytes of a container's id */

struct order {
	enum order_kind kind;
	const char *id;		/* belongs to the JSON */
	struct plan *plan;	/* create and exec; owned by the order */
	const char *exec;	/* exec; kill, wait, resize: NULL is the container's own process; belongs to the JSON */
	const char *cgroup;	/* exec: below the container's, or NULL; belongs to the JSON */
	unsigned columns, rows; /* resize */
	int64_t time;		/* create: the host's clock, nanoseconds since 1970; 0: not given */
	bool trace;		/* create */
	bool has_seed;		/* create */
	unsigned char seed[AGENT_SEED_SIZE];
	int signal;		       /* kill */
	struct resources resources;    /* update; owned by the order */
	uint64_t known;		       /* events, kernel-log: what the host has heard of already */
	uint32_t connection, port;     /* sockets: the last one given out, 0: none; 0: it could not be made */
	struct network_order *network; /* network; owned by the order */
	bool all;		       /* kill */
	bool ignore_paused;	       /* exec */
	bool force;		       /* delete */
};

/* Returns 0, or -1 with err. The order is to be freed by order_clear in either case. */
int order_parse(json_t *json, struct order *order, struct error *err);
void order_clear(struct order *order);
