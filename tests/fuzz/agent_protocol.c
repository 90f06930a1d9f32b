/*
 * The agent's control protocol: a stream of bytes is cut into messages, each is parsed as an order, and a create order
 * becomes a plan with its device filter. The first byte says how the stream arrives in pieces; when it is odd, the rest
 * is the body of one message, which gets its header here.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "guest-agent/device_filter.h"
#include "guest-agent/message.h"
#include "guest-agent/disks.h"
#include "guest-agent/order.h"
#include "tests/unit/agent_spec.h"

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

/* What is done before an order is parsed, but for the look at the machine's own disks. */
static void take_disks(json_t *order)
{
	const json_t *disk;
	struct error err;
	size_t i;

	json_array_foreach(json_object_get(order, "disks"), i, disk)
	{
		disks_apply(order, disk, makedev(254, (unsigned)i), &err);
	}
}

static int any_interface(int index, const void *context)
{
	(void)context;
	return index < 8 ? index + 1 : 0;
}

static void take_network(struct network_order *order)
{
	struct error err;

	for (size_t i = 0; i < order->facts.n; i++)
		network_fact_translate(&order->facts.list[i], any_interface, NULL, &err);
}

static void take_order(struct message_reader *reader)
{
	struct error err;
	struct order order;
	json_t *json = message_reader_take(reader, &err);

	if (!json)
		return;
	take_disks(json);
	if (order_parse(json, &order, &err) == 0 && order.plan)
		check_plan(order.plan);
	if (order.network)
		take_network(order.network);
	order_clear(&order);
	json_decref(json);
}

static void take_stream(const uint8_t *data, size_t size, size_t step)
{
	struct message_reader reader = {0};

	for (size_t at = 0; at < size;) {
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
}

static void take_body(const uint8_t *body, size_t size, size_t step)
{
	uint8_t *message = malloc(size + 4);

	if (!message)
		return;
	for (int i = 0; i < 4; i++)
		message[i] = (uint8_t)(size >> (8 * i));
	memcpy(message + 4, body, size);
	take_stream(message, size + 4, step);
	free(message);
}

/* A value for a member of an order, right or wrong; NULL leaves it out. */
static json_t *choose(uint8_t choice, json_t *right)
{
	json_t *wrong = NULL;

	switch (choice % 16) {
	case 0:
		break;
	case 1:
		wrong = json_null();
		break;
	case 2:
		wrong = json_integer((int64_t)choice - 64);
		break;
	case 3:
		wrong = json_string("..");
		break;
	case 4:
		wrong = json_pack("{s:i}", "export", 7);
		break;
	case 5:
		wrong = json_real(1e19);
		break;
	default:
		return right;
	}
	json_decref(right);
	return wrong;
}

static json_t *order_from(const uint8_t *choices)
{
	static const char *const names[] = {"create", "exec",	"start",  "kill", "state", "delete", "wait", "resize",
					    "pause",  "create", "update", "ps",	  "dance", "",	     "exec", "events"};
	json_t *order = order_around(choose(choices[0], spec_new()));

	if (!order)
		return NULL;
	json_object_set_new(order, "order", json_string(names[choices[1] % 16]));
	json_object_set_new(order, "id", choose(choices[2], json_string("c1")));
	json_object_set_new(order, "exec", choose(choices[2], json_string("e1")));
	json_object_set_new(order, "width", choose(choices[3], json_integer(choices[4])));
	json_object_set_new(order, "height", choose(choices[3], json_integer(choices[5])));
	json_object_set(order, "process", json_object_get(json_object_get(order, "spec"), "process"));
	json_object_set_new(order, "signal", choose(choices[3], json_integer(choices[4])));
	json_object_set_new(order, "all", choose(choices[5], json_boolean(choices[4] & 1)));
	json_object_set_new(order, "force", choose(choices[6], json_boolean(choices[4] & 2)));
	json_object_set_new(order, "rootfs", choose(choices[7], json_pack("{s:s}", "export", "rootfs")));
	json_object_set_new(
	    order, "stdio",
	    choose(choices[8], json_pack("{s:o, s:o, s:i}", "stdin", choose(choices[9], json_integer(1040)), "stdout",
					 choose(choices[10], json_integer(choices[11])), "stderr", 1041)));
	return order;
}

static void take_choices(const uint8_t *data, size_t size, size_t step)
{
	for (; size >= 12; data += 12, size -= 12) {
		json_t *order = order_from(data);
		size_t length;
		uint8_t *message = order ? message_encode(order, &length) : NULL;

		if (message)
			take_stream(message, length, step);
		free(message);
		json_decref(order);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t step;

	if (size < 2)
		return 0;
	step = 1 + (data[0] >> 2);
	switch (data[0] & 3) {
	case 0:
		take_stream(data + 1, size - 1, step);
		break;
	case 1:
		take_body(data + 1, size - 1, step);
		break;
	default:
		take_choices(data + 1, size - 1, 16 * step);
	}
	return 0;
}
