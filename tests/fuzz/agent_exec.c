/*
 * exec's process.json in the agent: the input is the process of an exec order, as text, behind one byte that chooses
 * the rest of the order. What comes out is what the executing half takes for granted.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "guest-agent/order.h"
#include "tests/unit/agent_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct plan *container_plan(void)
{
	static struct plan *plan;
	struct error err;
	json_t *order;

	if (plan)
		return plan;
	order = order_around(spec_new());
	plan = plan_new(order, &err);
	json_decref(order);
	return plan;
}

static void check_plan(struct plan *plan)
{
	const struct plan_process *process = &plan->process;
	struct error err;

	if (plan_inherit(plan, container_plan(), &err) < 0)
		return;
	if (process->n_args == 0 || process->args[process->n_args] || process->cwd[0] != '/' ||
	    process->env[process->n_env] || process->env[process->n_env + 1])
		abort();
	if (plan->stdio[PLAN_STDIN] && plan->stdio[PLAN_STDIN] == plan->stdio[PLAN_STDOUT] && !process->terminal)
		abort();
	if (plan->window.columns > UINT16_MAX || plan->window.rows > UINT16_MAX)
		abort();
	for (size_t i = 0; i < process->n_rlimits; i++)
		if (process->rlimits[i].limit.rlim_cur > process->rlimits[i].limit.rlim_max)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const stdio[] = {
	    "{}",
	    "{\"stdin\":1040,\"stdout\":1041,\"stderr\":1041}",
	    "{\"stdin\":1040,\"stdout\":1040,\"window\":{\"width\":80,\"height\":25}}",
	    "{\"stdin\":null,\"window\":{\"width\":70000,\"height\":-1}}",
	};
	struct order order = {0};
	struct error err;
	json_t *json, *process;

	if (size < 1)
		return 0;
	process = spec_parse((const char *)data + 1, size - 1, &err);
	json = process ? json_pack("{s:s, s:s, s:s, s:o, s:o}", "order", "exec", "id", "c", "exec", "e", "process",
				   process, "stdio", json_loads(stdio[data[0] % 4], 0, NULL))
		       : NULL;
	if (!json)
		return 0;
	if (order_parse(json, &order, &err) == 0)
		check_plan(order.plan);
	order_clear(&order);
	json_decref(json);
	return 0;
}
