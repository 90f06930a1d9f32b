/*
 * Control connections: each carries orders one after the other, and an order is answered before the next one is read.
 * What carries an order out may answer at once or later; the connection may be gone by then.
 */
#pragma once

#include <jansson.h>

#include "common/error.h"

struct connection;

/* Stands for the answer that is owed. Embedded in whatever will give it; zeroed: nobody waits. */
struct answer {
	struct connection *connection;
};

/* Carries one order out. It gives the answer through `answer`, now, or later after moving it (answer_move). */
typedef void connection_order(json_t *order, struct answer *answer);

/* Accepts connections from a listening socket in the loop, and gives their orders to handler. */
int connection_listen(int socket, connection_order *handler, struct error *err);

/* The answer will come from here: only this place hears it when the connection goes. */
void answer_move(struct answer *to, struct answer *from);

/* {"ok": true} with the members of `more`, whose reference they take (NULL: none). */
void answer_ok(struct answer *answer, json_t *more);

/* {"ok": false, "error": TEXT, "code": ERRNO} */
void answer_error(struct answer *answer, const struct error *err);

/* Something that lives no longer than the connection whose order made it. Embedded in whatever that is; zeroed: it
 * depends on nothing. */
struct dependent {
	struct connection *connection;
	struct dependent *next;
	/* The connection has ended. Called once, not after connection_release. */
	void (*ended)(struct dependent *dependent);
};

/* Ties it to the connection that waits for this answer; when there is none any more, `ended` is called at once. */
void connection_depend(const struct answer *answer, struct dependent *dependent);

/* Unties it. Harmless when it is not tied. */
void connection_release(struct dependent *dependent);
