#include "guest-agent/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/agent_protocol.h"
#include "common/spec_fields.h"

#define HEADER sizeof(((struct message_reader *)0)->header)

static uint32_t read_length(const unsigned char *header)
{
	return (uint32_t)header[0] | (uint32_t)header[1] << 8 | (uint32_t)header[2] << 16 | (uint32_t)header[3] << 24;
}

static int begin_body(struct message_reader *reader, struct error *err)
{
	uint32_t length = read_length(reader->header);

	if (length == 0 || length > AGENT_MESSAGE_MAX)
		return error_set(err, EMSGSIZE, "a message of %u bytes", length);
	reader->body = malloc(length);
	if (!reader->body)
		return error_set(err, ENOMEM, "out of memory");
	reader->size = length;
	return 0;
}

void *message_reader_room(struct message_reader *reader, size_t *room, struct error *err)
{
	if (reader->have < HEADER) {
		*room = HEADER - reader->have;
		return reader->header + reader->have;
	}
	if (!reader->body && begin_body(reader, err) < 0)
		return NULL;
	*room = HEADER + reader->size - reader->have;
	return reader->body + (reader->have - HEADER);
}

int message_reader_add(struct message_reader *reader, size_t n)
{
	reader->have += n;
	return reader->body && reader->have == HEADER + reader->size;
}

json_t *message_reader_take(struct message_reader *reader, struct error *err)
{
	json_t *message = spec_parse(reader->body, reader->size, err);

	message_reader_clear(reader);
	return message;
}

void message_reader_clear(struct message_reader *reader)
{
	free(reader->body);
	memset(reader, 0, sizeof(*reader));
}

unsigned char *message_encode(const json_t *object, size_t *size)
{
	size_t length = json_dumpb(object, NULL, 0, JSON_COMPACT);
	unsigned char *message = length > 0 ? malloc(HEADER + length) : NULL;

	if (!message)
		return NULL;
	for (size_t i = 0; i < HEADER; i++)
		message[i] = (unsigned char)(length >> (8 * i));
	json_dumpb(object, (char *)message + HEADER, length, JSON_COMPACT);
	*size = HEADER + length;
	return message;
}
