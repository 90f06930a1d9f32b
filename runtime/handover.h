/*
 * Handing a descriptor to an engine that listens on a unix socket (--console-socket, --pidfd-socket): one message that
 * holds a name, with the descriptor attached.
 */
#pragma once

#include "common/error.h"

/* Connects to the stream socket at path, of any length. Returns a descriptor or -1; what ("console socket") begins the
 * message. */
int handover_connect(const char *path, const char *what, struct error *err);

int handover_send(int socket, const char *name, int fd, struct error *err);
