#include "guest-agent/order.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/spec_values.h"

static int parse_flag(json_t *json, const char *name, bool *flag, struct error *err)
{
	const json_t *value = json_object_get(json, name);

	*flag = json_is_true(value);
	if (value && !json_is_boolean(value) && !json_is_null(value))
		return error_set(err, EINVAL, "order: %s must be true or false", name);
	return 0;
}

static int parse_seed(const json_t *value, struct order *order, struct error *err)
{
	const char *digits = json_string_value(value);

	order->has_seed = value != NULL;
	if (!value)
		return 0;
	if (!digits || strlen(digits) != 2 * AGENT_SEED_SIZE || strspn(digits, "0123456789abcdef") != strlen(digits))
		return error_set(err, EINVAL, "create: seed must be %d hexadecimal digits", 2 * AGENT_SEED_SIZE);
	for (size_t i = 0; i < AGENT_SEED_SIZE; i++)
		sscanf(digits + 2 * i, "%2hhx", &order->seed[i]);
	return 0;
}

static int parse_create(json_t *json, struct order *order, struct error *err)
{
	const json_t *time = json_object_get(json, "time");

	if (time && (spec_get_i64(time, &order->time) < 0 || order->time <= 0))
		return error_set(err, EINVAL, "create: time must be a positive number of nanoseconds");
	if (parse_flag(json, "trace", &order->trace, err) < 0)
		return -1;
	if (parse_seed(json_object_get(json, "seed"), order, err) < 0)
		return -1;
	order->plan = plan_new(json, err);
	return order->plan ? 0 : -1;
}

/* "exec" names a process beside the container's own one. */
static int parse_exec_id(json_t *json, struct order *order, struct error *err)
{
	const json_t *value = json_object_get(json, "exec");

	order->exec = json_string_value(value);
	if (value && !json_is_null(value) &&
	    (!order->exec || *order->exec == '\0' || strlen(order->exec) > ORDER_ID_MAX))
		return error_set(err, EINVAL, "order: exec must be a text of 1 to %d bytes", ORDER_ID_MAX);
	return 0;
}

static int parse_exec(json_t *json, struct order *order, struct error *err)
{
	if (parse_exec_id(json, order, err) < 0)
		return -1;
	if (!order->exec)
		return error_set(err, EINVAL, "exec: the name of the process is missing");
	order->cgroup = json_string_value(json_object_get(json, "cgroup"));
	if (parse_flag(json, "ignorePaused", &order->ignore_paused, err) < 0)
		return -1;
	order->plan = plan_new_exec(json, err);
	return order->plan ? 0 : -1;
}

static int parse_resize(json_t *json, struct order *order, struct error *err)
{
	uint64_t columns, rows;

	if (spec_get_u64(json_object_get(json, "width"), &columns) < 0 || columns > UINT16_MAX ||
	    spec_get_u64(json_object_get(json, "height"), &rows) < 0 || rows > UINT16_MAX)
		return error_set(err, EINVAL, "resize: width and height must be numbers up to %d", UINT16_MAX);
	order->columns = (unsigned)columns;
	order->rows = (unsigned)rows;
	return parse_exec_id(json, order, err);
}

static int parse_nothing(json_t *json, struct order *order, struct error *err)
{
	(void)json;
	(void)order;
	(void)err;
	return 0;
}

static int parse_kill(json_t *json, struct order *order, struct error *err)
{
	uint64_t number;

	if (spec_get_u64(json_object_get(json, "signal"), &number) < 0 || number > 64)
		return error_set(err, EINVAL, "kill: signal must be a number from 0 to 64");
	order->signal = (int)number;
	if (parse_exec_id(json, order, err) < 0)
		return -1;
	return parse_flag(json, "all", &order->all, err);
}

static int parse_delete(json_t *json, struct order *order, struct error *err)
{
	return parse_flag(json, "force", &order->force, err);
}

static int parse_update(json_t *json, struct order *order, struct error *err)
{
	return resources_read(json_object_get(json, "resources"), &order->resources, err);
}

static int parse_events(json_t *json, struct order *order, struct error *err)
{
	if (spec_get_u64(json_object_get(json, "oomKills"), &order->known) < 0)
		return error_set(err, EINVAL, "events: oomKills must be a number from 0 on");
	return 0;
}

static int parse_kernel_log(json_t *json, struct order *order, struct error *err)
{
	if (spec_get_u64(json_object_get(json, "from"), &order->known) < 0)
		return error_set(err, EINVAL, "kernel-log: from must be a number from 0 on");
	return 0;
}

static int parse_optional(const json_t *json, const char *name, uint32_t *number, struct error *err)
{
	const json_t *value = json_object_get(json, name);
	uint64_t wide = 0;

	if (value && (spec_get_u64(value, &wide) < 0 || wide >= UINT32_MAX))
		return error_set(err, EINVAL, "sockets: %s must be a number", name);
	*number = (uint32_t)wide;
	return 0;
}

static int parse_sockets(json_t *json, struct order *order, struct error *err)
{
	if (parse_optional(json, "connection", &order->connection, err) < 0)
		return -1;
	return parse_optional(json, "port", &order->port, err);
}

static int parse_network(json_t *json, struct order *order, struct error *err)
{
	order->network = calloc(1, sizeof(*order->network));
	if (!order->network)
		return error_set(err, ENOMEM, "out of memory");
	return network_order_read(json, order->network, err);
}

static const struct {
	const char *name;
	enum order_kind kind;
	int (*parse)(json_t *json, struct order *order, struct error *err);
} orders[] = {
    {"create", ORDER_CREATE, parse_create},
    {"start", ORDER_START, parse_nothing},
    {"kill", ORDER_KILL, parse_kill},
    {"state", ORDER_STATE, parse_nothing},
    {"delete", ORDER_DELETE, parse_delete},
    {"exec", ORDER_EXEC, parse_exec},
    {"wait", ORDER_WAIT, parse_exec_id},
    {"pause", ORDER_PAUSE, parse_nothing},
    {"resume", ORDER_RESUME, parse_nothing},
    {"ps", ORDER_PS, parse_nothing},
    {"resize", ORDER_RESIZE, parse_resize},
    {"update", ORDER_UPDATE, parse_update},
    {"stats", ORDER_STATS, parse_nothing},
    {"events", ORDER_EVENTS, parse_events},
    {"kernel-log", ORDER_KERNEL_LOG, parse_kernel_log},
    {"sockets", ORDER_SOCKETS, parse_sockets},
    {"notify", ORDER_NOTIFY, parse_nothing},
    {"network", ORDER_NETWORK, parse_network},
};

int order_parse(json_t *json, struct order *order, struct error *err)
{
	const char *name = json_string_value(json_object_get(json, "order"));

	memset(order, 0, sizeof(*order));
	if (!name)
		return error_set(err, EINVAL, "order: its name is missing");
	order->id = json_string_value(json_object_get(json, "id"));
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		if (strcmp(orders[i].name, name) != 0)
			continue;
		if (!order->id || *order->id == '\0' || strlen(order->id) > ORDER_ID_MAX)
			return error_set(err, EINVAL, "%s: id must be a text of 1 to %d bytes", name, ORDER_ID_MAX);
		order->kind = orders[i].kind;
		return orders[i].parse(json, order, err);
	}
	return error_set(err, ENOTSUP, "unknown order `%s`", name);
}

void order_clear(struct order *order)
{
	plan_free(order->plan);
	order->plan = NULL;
	resources_release(&order->resources);
	if (order->network)
		network_order_release(order->network);
	free(order->network);
	order->network = NULL;
}
