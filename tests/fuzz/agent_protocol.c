/*
 * The agent's control protocol: a stream of bytes is cut into messages, each is parsed as an order, and a create order
 * becomes a plan with its device filter. The first byte says how the stream arrives in pieces.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "guest-agent/device_filter.h"
#include "guest-agent/message.h"
#include "guest-agent/order.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compile_rules(const struct plan *plan)
{
	struct bpf_insn *code = calloc(DEVICE_PROGRAM_MAX(plan->n_device_rules), sizeof(*code));

	if (!code)
		return;
	if (device_filter_compile(plan->device_rules, plan->n_device_rules, code) >
	    DEVICE_PROGRAM_MAX(plan->n_device_rules))
		abort();
	free(code);
}

/* What the executing half takes for granted about a plan. */
static void check_plan(const struct plan *plan)
{
	if (plan->process.n_args == 0 || plan->process.args[plan->process.n_args] || plan->process.cwd[0] != '/' ||
	    plan->process.env[plan->process.n_env] || plan->process.env[plan->process.n_env + 1])
		abort();
	for (size_t i = 0; i < plan->n_mounts; i++)
		if (plan->mounts[i].destination[0] != '/' || strstr(plan->mounts[i].destination, "/../") ||
		    strstr(plan->mounts[i].destination, "//"))
			abort();
	compile_rules(plan);
}

static void take_order(struct message_reader *reader)
{
	struct error err;
	struct order order;
	json_t *json = message_reader_take(reader, &err);

	if (!json)
		return;
	if (order_parse(json, &order, &err) == 0 && order.plan)
		check_plan(order.plan);
	order_clear(&order);
	json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct message_reader reader = {0};
	size_t step, at = 1;

	if (size < 1)
		return 0;
	step = 1 + data[0];
	while (at < size) {
		struct error err;
		size_t room;
		void *place = message_reader_room(&reader, &room, &err);

		if (!place)
			break;
		room = room < step ? room : step;
		room = room < size - at ? room : size - at;
		memcpy(place, data + at, room);
		at += room;
		if (message_reader_add(&reader, room))
			take_order(&reader);
	}
	message_reader_clear(&reader);
	return 0;
}
