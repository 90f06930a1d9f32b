/*
 * A fuzzer's input as a list of choices: a driver takes bytes from it until it is used up. Then all that follows is 0.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct input {
	const uint8_t *data;
	size_t size; /* what is left of it */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline uint8_t byte(struct input *input)
{
	if (input->size == 0)
		return 0;
	input->size--;
	return *input->data++;
}

static inline uint32_t word(struct input *input)
{
	uint32_t value = byte(input);

	return value << 24 | (uint32_t)byte(input) << 16 | (uint32_t)byte(input) << 8 | byte(input);
}
