/*
 * The agent's sockets to the host: AF_VSOCK streams (vsock(7)). The host is context id 2.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"

/* A listening socket, non-blocking. Returns a descriptor or -1. */
int vsock_listen(uint32_t port, struct error *err);

/* A stream to a port of the host; waits until it is connected. */
int vsock_connect(uint32_t port, struct error *err);

/* A non-blocking stream to a port of the host that may still be connecting: it becomes writable when that is decided,
 * and SO_ERROR then tells how. */
int vsock_connect_later(uint32_t port, struct error *err);
