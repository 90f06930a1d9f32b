/*
 * What a guest can do to any virtio device, chosen by a fuzzer's input.
 */
#pragma once

#include "tests/fuzz/input.h"
#include "tests/unit/ring.h"

/* Puts any descriptor anywhere into a queue's table and offers it, or something else. */
static inline void offer_raw_descriptor(struct driver *driver, struct input *input, unsigned queue,
					uint64_t (*number)(struct input *))
{
	struct vring_desc descriptor = {
	    .addr = number(input), .len = (uint32_t)number(input), .flags = byte(input) & 7};
	uint16_t index = byte(input);

	descriptor.next = byte(input);
	driver_descriptor(driver, queue, index, descriptor);
	driver_offer(driver, queue, (uint16_t)(byte(input) % 250 ? index : number(input)));
	driver_kick(driver, queue);
}

/* Takes note of what the device has finished. */
static inline void take_used(struct driver *driver, unsigned n_queues)
{
	uint16_t head;
	uint32_t length;

	for (unsigned queue = 0; queue < n_queues; queue++)
		while (driver_used(driver, queue, &head, &length))
			;
}
