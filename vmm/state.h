/*
 * The format of a saved machine: what every part of it puts into a file, and how that is read again.
 *
 *   header     magic, version, number of sections, size of the whole, checksum of the whole
 *   section    kind, index (0 but for what there are several of), bytes; then the bytes, filled up to a multiple of 8
 *   ...        in ascending order of kind and index, none twice
 *
 * All in the byte order and layout of the host: a state is for the machine it was made on (KVM's own structures are in
 * it), and is refused elsewhere. A reader believes nothing: the header, the frame of every section and the checksum
 * are checked before the first section is given out, and a part that takes more or less than its section holds fails.
 * What the values mean is checked by the part they belong to, in the same way as what a guest writes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define STATE_VERSION 1
#define STATE_SIZE_MAX (16u << 20) /* bytes; far more than a machine of any size needs */

/* In the order in which they lie in the file. */
enum state_kind {
	STATE_MACHINE = 1, /* what has to be the same on both sides */
	STATE_MEMORY,	   /* where the pages of the memory file belong */
	STATE_CPUID,
	STATE_VCPU, /* one each */
	STATE_CLOCK,
	STATE_BUS,
	STATE_PVPANIC,
	STATE_VIRTIO, /* one for each device, in the order of the bus */
	STATE_CONSOLE,
	STATE_KINDS,
};

/* Writing. Lack of memory is told by state_finish; until then everything may be called. */
struct state_writer {
	uint8_t *data;
	size_t size, capacity;
	size_t section; /* where the present one begins; 0: none */
	uint32_t section_count;
	int failed; /* an errno value */
};

void state_begin(struct state_writer *writer);
/* Ends the present section and begins another. */
void state_section(struct state_writer *writer, enum state_kind kind, uint32_t index);
void state_put(struct state_writer *writer, const void *data, size_t size);
/* Completes the header: data and size are the file. Returns 0 or -1. */
int state_finish(struct state_writer *writer, struct error *err);
void state_writer_free(struct state_writer *writer);

/* Reading. */
struct state {
	const uint8_t *data; /* checked by state_open; stays the caller's */
	size_t size;
};

struct state_reader {
	const uint8_t *at;
	size_t left;
};

/* Checks the frame of a file of size bytes, aligned to 8. Pure: touches nothing but what it is given. Returns 0, or -1
 * with the reason. */
int state_open(struct state *state, const void *data, size_t size, struct error *err);
/* How many sections of a kind there are. */
uint32_t state_count(const struct state *state, enum state_kind kind);
/* Makes a reader for a section; -1 when there is none. */
int state_find(const struct state *state, enum state_kind kind, uint32_t index, struct state_reader *reader,
	       struct error *err);
/* Copies the next size bytes; -1 when there are fewer. */
int state_take(struct state_reader *reader, void *data, size_t size, struct error *err);
/* -1 when not all was taken. */
int state_end(const struct state_reader *reader, struct error *err);
