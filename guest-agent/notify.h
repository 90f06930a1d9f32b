/*
 * sd_notify(3) for a container whose runtime was called with NOTIFY_SOCKET: its process finds a datagram socket of the
 * agent's at the path that its own NOTIFY_SOCKET names, and the host is told when something has said READY= there. Of
 * all that may be said this is what a runtime passes on.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/error.h"
#include "guest-agent/connection.h"
#include "guest-agent/loop.h"
#include "guest-agent/plan.h"

#define NOTIFY_PATH "/run/notify/notify.sock" /* in the container; runc's */

/* Of one container. notify_begin makes it that of a container without. */
struct notify {
	struct watch watch;
	char path[PLAN_SOCKET_PATH_SIZE]; /* empty: there is none */
	struct answer answer;		  /* to who waits for it */
	bool is_ready, has_ended;
};

/* Adds the socket's mount and the variable to a create order that asks for them, before it is read. */
int notify_plan(json_t *order, struct error *err);

void notify_begin(struct notify *notify);
/* Makes the socket, where the plan has one, and writes its place into it. number tells containers apart. */
int notify_open(struct notify *notify, struct plan *plan, unsigned number, struct error *err);
/* The container has ended: it will not be ready any more. */
void notify_end(struct notify *notify);

/* The order: answered when the container is ready; refused with ESRCH when it has no socket, or has ended. */
int notify_order(struct notify *notify, struct answer *answer, struct error *err);
