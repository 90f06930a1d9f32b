#include "runtime/join.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/vmm_control.h"
#include "runtime/agent.h"
#include "runtime/create_order.h"
#include "runtime/fsd_client.h"
#include "runtime/notify.h"
#include "runtime/proxy.h"
#include "runtime/syscall_filter.h"

void join_release(struct join *join)
{
	container_close(&join->sandbox);
	joined_release(&join->joined);
	cleanup_close_fd(&join->fsd);
	join->fsd = -1;
}

int join_prepare(const char *root, const char *sandbox, const struct spec *spec, struct exports *exports,
		 struct join *join, struct error *err)
{
	if (sandbox_open(root, sandbox, &join->sandbox, err) < 0 ||
	    sandbox_find_joined(root, &join->sandbox, spec, &join->joined, err) < 0)
		return -1;
	return exports_join_group(exports, join->group, err);
}

int join_describe(const struct join *join, struct state *state, struct error *err)
{
	state->sandbox = strdup(join->sandbox.id);
	state->exports = strdup(join->group);
	state->machine = join->sandbox.state.vmm;
	return state->sandbox && state->exports ? 0 : error_set(err, ENOMEM, "record the sandbox");
}

static int add_exports(struct join *join, const struct exports *exports, const struct container *container,
		       struct error *err)
{
	join->fsd = fsd_connect(container->folder, CONTAINER_FSD_SOCKET, err);
	if (join->fsd < 0)
		return -1;
	for (size_t i = 0; i < exports->n; i++)
		if (!exports->list[i].is_socket && fsd_add(join->fsd, &exports->list[i], err) < 0)
			return -1;
	return 0;
}

static int add_streams(const struct stdio *stdio, unsigned ports[STDIO_COUNT], struct launch *launch, struct error *err)
{
	for (int i = 0; i < STDIO_COUNT; i++) {
		unsigned flags = i == STDIO_IN ? VMM_STREAM_IN : VMM_STREAM_OUT;

		ports[i] = 0;
		if (stdio->both_ways)
			flags = VMM_STREAM_IN | VMM_STREAM_OUT;
		if (i == STDIO_OUT && stdio->both_ways)
			ports[i] = ports[STDIO_IN];
		else if (i == STDIO_ERR && stdio->merged)
			ports[i] = ports[STDIO_OUT];
		else if (stdio->fds[i] >= 0 &&
			 vmm_control_stream(launch->control, &launch->watch, stdio->fds[i], flags, &ports[i], err) < 0)
			return -1;
	}
	return 0;
}

static int give_order(const struct join *join, const struct join_materials *materials, struct create_order *create,
		      int agent, struct launch *launch, struct error *err)
{
	__attribute__((cleanup(syscall_filter_release))) struct syscall_filter filter = {0};
	const json_t *seccomp = json_object_get(json_object_get(materials->spec->json, "linux"), "seccomp");
	cleanup_free char *order = NULL;
	size_t size;

	if (syscall_filter_compile(seccomp, &filter, err) < 0)
		return error_prefix(err, SPEC_FILE);
	create->id = materials->id;
	create->bundle = launch->container.state.bundle;
	create->exports = materials->exports;
	create->window = materials->stdio->window;
	create->preserved = materials->preserved;
	create->spec = materials->spec;
	create->filter = &filter;
	for (int kind = 0; kind < SHARED_KINDS; kind++)
		create->joined[kind] = join->joined.ids[kind];
	order = create_order_format(create, &size);
	if (!order)
		return error_set(err, ENOMEM, "make an order");
	return agent_order(agent, &launch->watch, order, size, NULL, err);
}

/* The streams belong to the connection to the VMM and the container to the one to the agent that it was ordered over:
 * both become the proxy's, so that its end is the container's. */
static int start_proxy(const struct join_materials *materials, const unsigned ports[STDIO_COUNT], int agent,
		       struct launch *launch, struct error *err)
{
	const struct network_plan *network = materials->network;
	struct proxy proxy = {.id = materials->id,
			      .network = network->fd > 0 ? network->fd : 0,
			      .own_network = network->own && !network->path,
			      .control = launch->control,
			      .agent = agent,
			      .lifeline = &launch->machine.lifeline,
			      .terminal = materials->stdio->both_ways ? materials->stdio->fds[STDIO_IN] : -1};

	for (int i = STDIO_OUT; i <= STDIO_ERR; i++)
		if (ports[i] && (i == STDIO_OUT || ports[i] != ports[STDIO_OUT]))
			proxy.outputs[proxy.n_outputs++] = ports[i];
	proxy.n_outputs += preserved_outputs(materials->preserved, proxy.outputs + proxy.n_outputs);
	if (lifeline_make(&launch->machine.lifeline, err) < 0 ||
	    proxy_spawn(&proxy, materials->cgroup, &launch->machine.vmm, err) < 0)
		return -1;
	close(launch->control);
	launch->control = -1;
	return 0;
}

int join_create(struct join *join, const struct join_materials *materials, struct launch *launch, struct error *err)
{
	struct create_order create = {.tied = true, .notifies = notify_wanted()};
	struct container *container = &launch->container;
	cleanup_close int agent = -1;

	if (sandbox_link(&join->sandbox, container, err) < 0)
		return -1;
	launch->watch.vmm = process_open(&container->state.machine);
	if (launch->watch.vmm < 0)
		return error_set_errno(err, "hull-vmm of sandbox %s", join->sandbox.id);
	launch->control = vmm_control_connect(container->folder, CONTAINER_CONTROL_SOCKET, err);
	if (launch->control < 0 || add_exports(join, materials->exports, container, err) < 0 ||
	    add_streams(materials->stdio, create.ports, launch, err) < 0 ||
	    preserved_register(materials->preserved, launch->control, &launch->watch, err) < 0)
		return -1;
	agent = agent_connect(launch->control, &launch->watch, err);
	if (agent < 0 || give_order(join, materials, &create, agent, launch, err) < 0)
		return -1;
	launch->agent = agent_connect(launch->control, &launch->watch, err);
	return launch->agent < 0 ? -1 : start_proxy(materials, create.ports, agent, launch, err);
}

int join_keep(struct join *join, struct error *err)
{
	return fsd_keep(join->fsd, err);
}
