/*
 * What the agent knows of a container, for the two files that work on it: container.c has its life, from create to
 * delete; container_orders.c has the orders that ask something of one that is there.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "guest-agent/child.h"
#include "guest-agent/connection.h"
#include "guest-agent/exec.h"
#include "guest-agent/freezer.h"
#include "guest-agent/loop.h"
#include "guest-agent/network.h"
#include "guest-agent/oom.h"
#include "guest-agent/order.h"
#include "guest-agent/plan.h"
#include "guest-agent/notify.h"
#include "guest-agent/sockets.h"

/* Life of a container:
 *
 *   CREATING  init makes its surroundings, the streams connect
 *   CREATED   both are done; init waits
 *   STARTING  init was told to execute its program
 *   RUNNING   it did
 *   STOPPED   init has ended; what it wrote may still be on its way (settled says that it is not)
 *
 * A container that fails in CREATING is never seen by anybody: it goes when init has been reaped, and only then the
 * create order is answered, so that nothing of it is left. */
enum container_stage { CREATING, CREATED, STARTING, RUNNING, STOPPED };

struct container {
	struct container *next;
	unsigned number;
	char *id;
	enum container_stage state;
	struct plan *plan;
	struct child init; /* its first process */
	bool init_ready;
	int cgroup;
	int exit_status;
	bool settled;
	bool stands_for_machine; /* its end is the machine's */
	bool shares_pids;	 /* its first process is not the first one of its pid namespace */
	bool has_user_namespace;
	struct oom_watch oom;
	struct watch emptied; /* cgroup.events, while other processes of it are dying */
	json_t *trace;	      /* steps of its creation that were reached, or NULL */
	bool deleting;	      /* as soon as settled */
	struct freezer freezer;
	struct execs execs; /* processes beside its own one */
	struct sockets sockets;
	struct notify notify;
	struct network network;
	struct answer answer;
	struct answer waiting; /* for its end */
	struct answer gone;    /* CREATING: to a delete order */
	struct dependent tie;  /* to the connection that it ends with */
};

/* NULL when there is none. The second finds those only that are made, and says so in err. */
struct container *container_find(const char *id);
struct container *container_find_or_refuse(const struct order *order, struct error *err);

/* Tells whoever waits for its end. */
void container_answer_exit(struct container *container);
