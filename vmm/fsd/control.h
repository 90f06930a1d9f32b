/*
 * The file server's control socket (common/fsd_control.h): the runtime adds and takes back exports.
 */
#pragma once

#include <poll.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/fsd_control.h"
#include "vmm/fsd/server.h"

#define CONTROL_CONNECTIONS_MAX 8 /* further ones wait in the socket's queue */
#define CONTROL_POLLED_MAX (1 + CONTROL_CONNECTIONS_MAX)
#define CACHE_SECONDS_MAX 86400

struct control {
	struct server *server;
	int listener;				  /* -1: no control socket */
	int connections[CONTROL_CONNECTIONS_MAX]; /* -1: none */
};

void control_init(struct control *control, struct server *server, int listener);

/* What is to be waited for: fills up to CONTROL_POLLED_MAX entries and returns how many. */
unsigned control_poll(struct control *control, struct pollfd *polled);
/* And what to do about it afterwards; never waits. */
void control_serve(struct control *control, const struct pollfd *polled, unsigned n);

/* Carries out one packet of size bytes that came over a connection (a number from 1) with a descriptor (taken over; -1:
 * none). False when it breaks the protocol: then there is no reply, and the connection ends. */
bool control_handle(struct server *server, unsigned connection, const void *packet, size_t size, int fd,
		    struct fsd_reply *reply);
/* Takes back what was added over the connection and not kept. */
void control_undo(struct server *server, unsigned connection);
