#include "vmm/state.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 8u

static const char magic[8] = "hullsave";

struct header {
	char magic[8];
	uint32_t version;
	uint32_t section_count;
	uint64_t size;
	uint64_t checksum; /* of all bytes, with 0 here */
};

struct section {
	uint32_t kind;
	uint32_t index;
	uint64_t size; /* bytes that follow, without those that fill up */
};

static uint64_t filled_up(uint64_t size)
{
	return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* --- checksum ------------------------------------------------------------------------------------------------------
 */

/* Finds accidents, not forgers: whoever may write the file may as well write the memory beside it. Eight bytes at a
 * time, each step undoable, so that no single changed word goes unseen. */
static uint64_t add_to_checksum(uint64_t sum, const uint8_t *data, size_t size)
{
	for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, data + at, sizeof(word));
		sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
		sum ^= sum >> 32;
	}
	return sum;
}

static uint64_t checksum(const uint8_t *data, size_t size)
{
	struct header header;
	uint64_t sum;

	memcpy(&header, data, sizeof(header));
	header.checksum = 0;
	sum = add_to_checksum(size, (const uint8_t *)&header, sizeof(header));
	return add_to_checksum(sum, data + sizeof(header), size - sizeof(header));
}

/* --- writing -------------------------------------------------------------------------------------------------------
 */

static uint8_t *grow(struct state_writer *writer, size_t size)
{
	size_t needed = writer->size + size;
	uint8_t *at;

	if (writer->failed)
		return NULL;
	if (needed > writer->capacity) {
		size_t capacity = needed > 2 * writer->capacity ? needed : 2 * writer->capacity;
		uint8_t *larger = realloc(writer->data, capacity);

		if (!larger) {
			writer->failed = ENOMEM;
			return NULL;
		}
		writer->data = larger;
		writer->capacity = capacity;
	}
	at = writer->data + writer->size;
	writer->size = needed;
	return at;
}

void state_put(struct state_writer *writer, const void *data, size_t size)
{
	uint8_t *at = grow(writer, size);

	if (at)
		memcpy(at, data, size);
}

void state_begin(struct state_writer *writer)
{
	struct header header = {.version = STATE_VERSION};

	*writer = (struct state_writer){0};
	memcpy(header.magic, magic, sizeof(magic));
	state_put(writer, &header, sizeof(header));
}

static void end_section(struct state_writer *writer)
{
	static const uint8_t nothing[ALIGNMENT];
	uint64_t size;

	if (writer->failed || !writer->section)
		return;
	size = writer->size - writer->section - sizeof(struct section);
	memcpy(writer->data + writer->section + offsetof(struct section, size), &size, sizeof(size));
	state_put(writer, nothing, filled_up(size) - size);
	writer->section = 0;
}

void state_section(struct state_writer *writer, enum state_kind kind, uint32_t index)
{
	struct section section = {.kind = kind, .index = index};

	end_section(writer);
	writer->section = writer->size;
	writer->section_count++;
	state_put(writer, &section, sizeof(section));
}

int state_finish(struct state_writer *writer, struct error *err)
{
	struct header header;

	end_section(writer);
	if (writer->failed)
		return error_set(err, writer->failed, "out of memory for the machine's state");
	memcpy(&header, writer->data, sizeof(header));
	header.section_count = writer->section_count;
	header.size = writer->size;
	memcpy(writer->data, &header, sizeof(header));
	header.checksum = checksum(writer->data, writer->size);
	memcpy(writer->data, &header, sizeof(header));
	return 0;
}

void state_writer_free(struct state_writer *writer)
{
	free(writer->data);
	*writer = (struct state_writer){0};
}

/* --- reading -------------------------------------------------------------------------------------------------------
 */

static int check_header(const uint8_t *data, size_t size, struct header *header, struct error *err)
{
	if (size < sizeof(*header))
		return error_set(err, EINVAL, "the state is truncated");
	memcpy(header, data, sizeof(*header));
	if (memcmp(header->magic, magic, sizeof(magic)) != 0)
		return error_set(err, EINVAL, "not the state of a machine");
	if (header->version != STATE_VERSION)
		return error_set(err, EINVAL, "the state is of version %u, this program knows version %d",
				 header->version, STATE_VERSION);
	if (header->size > size)
		return error_set(err, EINVAL, "the state is truncated");
	if (header->size != size || size % ALIGNMENT != 0 || checksum(data, size) != header->checksum)
		return error_set(err, EINVAL, "the state is corrupt");
	return 0;
}

/* The section at *offset, which moves behind it. False when it does not lie in the file. */
static bool next_section(const uint8_t *data, size_t size, size_t *offset, struct section *section)
{
	if (size - *offset < sizeof(*section))
		return false;
	memcpy(section, data + *offset, sizeof(*section));
	*offset += sizeof(*section);
	if (section->size > size - *offset || filled_up(section->size) > size - *offset)
		return false;
	*offset += filled_up(section->size);
	return true;
}

static bool comes_after(const struct section *section, const struct section *before)
{
	return section->kind > before->kind || (section->kind == before->kind && section->index > before->index);
}

int state_open(struct state *state, const void *data, size_t size, struct error *err)
{
	struct section section, before = {0};
	struct header header = {0};
	size_t offset = sizeof(header);
	uint32_t count = 0;

	if (check_header(data, size, &header, err) < 0)
		return -1;
	for (; offset < size; count++, before = section) {
		if (!next_section(data, size, &offset, &section))
			return error_set(err, EINVAL, "the state is corrupt: section %u is longer than the file",
					 count);
		if (section.kind >= STATE_KINDS || !comes_after(&section, &before))
			return error_set(err, EINVAL, "the state is corrupt: section %u is of kind %u", count,
					 section.kind);
	}
	if (count != header.section_count)
		return error_set(err, EINVAL, "the state is corrupt: %u sections of %u", count, header.section_count);
	*state = (struct state){.data = data, .size = size};
	return 0;
}

uint32_t state_count(const struct state *state, enum state_kind kind)
{
	size_t offset = sizeof(struct header);
	struct section section;
	uint32_t count = 0;

	while (offset < state->size && next_section(state->data, state->size, &offset, &section))
		if (section.kind == kind)
			count++;
	return count;
}

int state_find(const struct state *state, enum state_kind kind, uint32_t index, struct state_reader *reader,
	       struct error *err)
{
	size_t offset = sizeof(struct header), start = offset;
	struct section section;

	for (; offset < state->size; start = offset) {
		if (!next_section(state->data, state->size, &offset, &section))
			break;
		if (section.kind != kind || section.index != index)
			continue;
		*reader = (struct state_reader){.at = state->data + start + sizeof(section), .left = section.size};
		return 0;
	}
	return error_set(err, EINVAL, "the state has no section %d.%u", kind, index);
}

int state_take(struct state_reader *reader, void *data, size_t size, struct error *err)
{
	if (size > reader->left)
		return error_set(err, EINVAL, "its section of the state is too short");
	memcpy(data, reader->at, size);
	reader->at += size;
	reader->left -= size;
	return 0;
}

int state_end(const struct state_reader *reader, struct error *err)
{
	if (reader->left != 0)
		return error_set(err, EINVAL, "its section of the state is too long");
	return 0;
}
