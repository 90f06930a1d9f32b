/*
 * rtnetlink(7), as much of it as hull needs: requests are put together, sent and acknowledged one at a time, tables are
 * read whole. What comes from the kernel is checked like any other input.
 *
 * A socket belongs for good to the network namespace that the caller was in when it was opened.
 */
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct netlink {
	int fd;
	uint32_t sequence;
};

#define NETLINK_NONE ((struct netlink){.fd = -1})

int netlink_open(struct netlink *netlink, struct error *err);
void netlink_close(struct netlink *netlink);
#define cleanup_netlink __attribute__((cleanup(netlink_close)))

/* --- requests ---------------------------------------------------------------------------------------------------- */

#define NETLINK_REQUEST_MAX 4096 /* bytes */

/* What does not fit is noticed by netlink_call. */
struct netlink_request {
	_Alignas(8) unsigned char bytes[NETLINK_REQUEST_MAX];
	size_t size;
	bool overflow;
};

/* Begins a message of this type; flags beside NLM_F_REQUEST. body is the structure that it starts with. */
void netlink_begin(struct netlink_request *request, unsigned type, unsigned flags, const void *body, size_t size);
void netlink_add(struct netlink_request *request, unsigned type, const void *data, size_t size);
void netlink_add_u32(struct netlink_request *request, unsigned type, uint32_t value);
void netlink_add_text(struct netlink_request *request, unsigned type, const char *text);

/* An attribute that holds others: those added between the two calls. */
size_t netlink_nest(struct netlink_request *request, unsigned type);
void netlink_nest_end(struct netlink_request *request, size_t nest);

/* Sends the request and waits for what the kernel says to it. Returns 0, or -1 with err: the errno value and, where the
 * kernel has words for it, those. */
int netlink_call(struct netlink *netlink, struct netlink_request *request, struct error *err);

/* --- what the kernel tells --------------------------------------------------------------------------------------- */

/* One message: the structure that it starts with, then attributes. */
struct netlink_message {
	unsigned type;
	const void *body; /* aligned for any structure of rtnetlink */
	size_t size;
};

/* Called for each message; negative: no more of them. */
typedef int netlink_visit(const struct netlink_message *message, void *context, struct error *err);

/* Reads a table whole (the request is given NLM_F_DUMP). When it changed under the reader, that is -1 with EINTR: the
 * caller begins anew. */
int netlink_dump(struct netlink *netlink, struct netlink_request *request, netlink_visit *visit, void *context,
		 struct error *err);

/* The one message that answers the request. */
int netlink_get(struct netlink *netlink, struct netlink_request *request, netlink_visit *visit, void *context,
		struct error *err);

/* The number of the interface with that name; 0 when the kernel gave none. */
int netlink_find_link(struct netlink *netlink, const char *name, int *index, struct error *err);

/* Makes the socket hear what changes: RTNLGRP_* groups, 0 after the last. For a socket that asks nothing. */
int netlink_listen(struct netlink *netlink, const unsigned *groups, struct error *err);

/* Takes what it has heard, without waiting. Returns 1 when some of it was lost, else 0, or -1. */
int netlink_hear(struct netlink *netlink, netlink_visit *visit, void *context, struct error *err);

/* Splits size bytes of received data into messages. Stops at what is none. */
struct netlink_reader {
	const unsigned char *data;
	size_t size;
};
const struct nlmsghdr *netlink_next(struct netlink_reader *reader);

/* The attributes of a message behind a body of body_size bytes, or those inside of another one. */
struct netlink_attributes {
	const unsigned char *data;
	size_t size;
};

/* Returns false when there is not even the body. */
bool netlink_attributes(const struct netlink_message *message, size_t body_size, struct netlink_attributes *attributes);

struct netlink_attribute {
	unsigned type; /* without the flags */
	const void *data;
	size_t size;
};

/* The next one; false at the end, also at one that does not fit into the rest. */
bool netlink_next_attribute(struct netlink_attributes *attributes, struct netlink_attribute *attribute);

/* The first one of this type. */
bool netlink_find(struct netlink_attributes attributes, unsigned type, struct netlink_attribute *attribute);
bool netlink_find_u32(struct netlink_attributes attributes, unsigned type, uint32_t *value);
bool netlink_find_nested(struct netlink_attributes attributes, unsigned type, struct netlink_attributes *inner);

/* A text that fits into size bytes with its end; false when there is none or it is longer. */
bool netlink_find_text(struct netlink_attributes attributes, unsigned type, char *text, size_t size);
