/*
 * Messages of a control connection (common/agent_protocol.h): a 32-bit little-endian length, then that many bytes of
 * JSON. Collected from the stream as it comes.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct message_reader {
	unsigned char header[4];
	size_t have; /* bytes of header and body so far */
	size_t size; /* of the body; known once the header is there */
	char *body;
};

/* Where the next bytes of the stream go, and how many are wanted: *room is never 0. NULL when the header just read is
 * none (err says why): the connection has to end. */
void *message_reader_room(struct message_reader *reader, size_t *room, struct error *err);

/* Tells that n bytes have been put there. Returns 1 when the message is complete, else 0. */
int message_reader_add(struct message_reader *reader, size_t n);

/* Parses the complete message and empties the reader. Returns a new reference to an object, or NULL with err. */
json_t *message_reader_take(struct message_reader *reader, struct error *err);

void message_reader_clear(struct message_reader *reader);

/* A message in one piece, allocated; NULL when memory is short. */
unsigned char *message_encode(const json_t *object, size_t *size);
