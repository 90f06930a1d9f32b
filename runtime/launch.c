#include "runtime/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "common/cleanup.h"
#include "runtime/agent.h"
#include "runtime/create_order.h"
#include "runtime/failure.h"
#include "runtime/handover.h"
#include "runtime/hooks.h"
#include "runtime/materials.h"
#include "runtime/network.h"
#include "runtime/notify.h"
#include "runtime/pid_file.h"
#include "runtime/preserve.h"
#include "runtime/relay.h"
#include "runtime/report.h"
#include "runtime/sandbox.h"
#include "runtime/signals.h"
#include "runtime/syscall_filter.h"
#include "runtime/trace.h"

/* How long a machine whose connections broke is given to say why before it is killed. */
#define LAST_WORDS_MS 1000

void launch_release(struct launch *launch)
{
	raw_terminal_end(&launch->raw);
	cleanup_close_fd(&launch->terminal);
	machine_end(&launch->machine);
	network_process_end(&launch->network);
	container_close(&launch->container);
	cleanup_close_fd(&launch->result);
	cleanup_close_fd(&launch->log);
	cleanup_close_fd(&launch->control);
	cleanup_close_fd(&launch->agent);
}

/* --- the container's folder -------------------------------------------------------------------------------------- */

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static int copy_to_state(const struct launch_options *options, const struct materials *materials, struct state *state,
			 struct error *err)
{
	json_t *annotations = json_object_get(materials->spec.json, "annotations");
	json_t *resources = json_object_get(json_object_get(materials->spec.json, "linux"), "resources");

	*state = (struct state){
	    .stage = STATE_CREATING,
	    .id = copy(options->id),
	    .bundle = copy(materials->bundle_path),
	    .config = copy(options->config),
	    .rootfs = copy(materials->exports.rootfs),
	    .created = state_timestamp(),
	    .annotations = json_is_object(annotations) ? json_incref(annotations) : NULL,
	    .cgroup = copy(materials->place.path),
	    .scope = copy(materials->place.scope),
	    .memory = materials->size.memory,
	    .vcpus = materials->size.vcpus,
	    .has_network = materials->network.own,
	    .netns_path = copy(materials->network.path),
	    .hooks = hooks_to_remember(json_object_get(materials->spec.json, "hooks")),
	    .resources = json_is_object(resources) ? json_incref(resources) : NULL,
	};
	if (!state->id || !state->bundle || !state->rootfs || !state->created)
		return error_set(err, ENOMEM, "record the state of container %s", options->id);
	if (materials->sandbox && join_describe(&materials->join, state, err) < 0)
		return -1;
	return process_identify(getpid(), &state->creator, err);
}

static int make_file(int folder, const char *name, int *file, struct error *err)
{
	*file = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
	return *file < 0 ? error_set_errno(err, "create file `%s` of the container", name) : 0;
}

static int fill_folder(const struct launch_options *options, struct materials *materials, struct launch *launch,
		       struct error *err)
{
	struct container *container = &launch->container;
	int result = copy_to_state(options, materials, &container->state, err);

	container->has_state = true;
	if (result < 0 || container_save(container, err) < 0)
		return -1;
	if (!materials->sandbox) {
		materials->control = socket_listen_in(container->folder, CONTAINER_CONTROL_SOCKET, err);
		materials->fsd_control = socket_listen_in(container->folder, CONTAINER_FSD_SOCKET, err);
		if (materials->control < 0 || materials->fsd_control < 0)
			return -1;
	}
	if (make_file(container->folder, CONTAINER_RESULT_FILE, &launch->result, err) < 0)
		return -1;
	if (materials->keeps_console &&
	    make_file(container->folder, CONTAINER_CONSOLE_FILE, &materials->console, err) < 0)
		return -1;
	return make_file(container->folder, CONTAINER_LOG_FILE, &launch->log, err);
}

/* --- the machine ------------------------------------------------------------------------------------------------- */

/* The state already says where the cgroup is to be, so that it is removed whatever happens from now on. */
static int make_cgroup(struct materials *materials, struct launch *launch, struct error *err)
{
	struct state *state = &launch->container.state;
	struct cgroup_place *place = &materials->place;
	int result = cgroup_make(place, &materials->limits, materials->size.memory, &materials->cgroup, err);

	if (result == 0 && place->path && state->cgroup && strcmp(place->path, state->cgroup) == 0)
		return 0;
	/* It is not ours, or there is none, or only now it is known where. */
	free(state->cgroup);
	free(state->scope);
	state->cgroup = result == 0 ? copy(place->path) : NULL;
	state->scope = result == 0 ? copy(place->scope) : NULL;
	return result;
}

/* Without a cgroup there is nobody who looks at its events. */
static uint64_t oom_reach(const struct materials *materials)
{
	return materials->cgroup < 0 ? 0 : limits_oom_reach(&materials->limits, materials->size.memory);
}

static int start_machine(struct materials *materials, struct launch *launch, struct error *err)
{
	bool forked = materials->template.state >= 0;
	struct machine_plan plan = {
	    .resources = &materials->resources,
	    .template = forked ? &materials->template : NULL,
	    .identity = forked ? materials->key.identity : NULL,
	    .size = materials->size,
	    .exports = &materials->exports,
	    .disks = &materials->disks,
	    .stdio = &materials->stdio,
	    .preserved = &materials->preserved,
	    .control = materials->control,
	    .fsd_control = materials->fsd_control,
	    .network = materials->network.fd > 0 ? materials->network.fd : 0,
	    .cgroup = materials->cgroup,
	    .oom = oom_reach(materials),
	    .console = materials->console,
	    .result = launch->result,
	    .log = launch->log,
	    .trace = trace_wanted(),
	};
	struct state *state = &launch->container.state;

	preserved_number(&materials->preserved, AGENT_STREAM_PORT_FIRST + STDIO_COUNT);
	if (machine_start(&plan, &launch->machine, err) < 0)
		return -1;
	trace_step("hull-vmm and hull-fsd are started");
	cgroup_occupied(&materials->place);
	launch->watch.vmm = launch->machine.vmm.pidfd;
	launch->watch.fsd = launch->machine.fsd.pidfd;
	/* Whoever cleans up after us waits for these. The guest boots meanwhile, so this costs no time. A program that
	 * has ended already is told apart by what follows. */
	process_identify(launch->machine.vmm.pid, &state->vmm, err);
	process_identify(launch->machine.fsd.pid, &state->fsd, err);
	return container_save(&launch->container, err);
}

/* The machine has its namespaces now, which is what engines' hooks want of it, and the guest has not looked at the root
 * file system yet. For a container that joins a sandbox nothing of its own lives by then: its namespaces on the host
 * are those of the sandbox's process. */
static int run_create_hooks(const struct materials *materials, struct launch *launch, struct error *err)
{
	static const char *const kinds[] = {"prestart", "createRuntime", "createContainer"};
	const json_t *hooks = json_object_get(materials->spec.json, "hooks");
	const struct state *state = &launch->container.state;
	struct hook_subject subject = {.id = state->id,
				       .bundle = state->bundle,
				       .rootfs = materials->exports.rootfs,
				       .status = "creating",
				       .pid = state->sandbox ? state->machine.pid : launch->machine.vmm.pid,
				       .annotations = state->annotations};

	launch->hooks_began = true;
	for (size_t i = 0; hooks && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (hooks_run(hooks, kinds[i], &subject, launch->watch.signals, err) < 0)
			return -1;
	return 0;
}

static int create_in_guest(const struct launch_options *options, const struct materials *materials,
			   struct launch *launch, struct error *err)
{
	__attribute__((cleanup(syscall_filter_release))) struct syscall_filter filter = {0};
	const json_t *seccomp = json_object_get(json_object_get(materials->spec.json, "linux"), "seccomp");
	struct create_order create = {.id = options->id,
				      .bundle = materials->bundle_path,
				      .machine = true,
				      .traced = trace_wanted(),
				      .notifies = notify_wanted(),
				      .lingers = materials->lingers,
				      .reports_oom = oom_reach(materials) > 0,
				      .exports = &materials->exports,
				      .disks = &materials->disks,
				      .preserved = &materials->preserved,
				      .filter = &filter,
				      .spec = &materials->spec};
	cleanup_free char *order = NULL;
	struct watch *watch = &launch->watch;
	json_t *answer = NULL;
	size_t size;

	/* The guest boots meanwhile. */
	if (syscall_filter_compile(seccomp, &filter, err) < 0)
		return error_prefix(err, SPEC_FILE);
	launch->control = vmm_control_connect(launch->container.folder, CONTAINER_CONTROL_SOCKET, err);
	if (launch->control < 0)
		return -1;
	/* Until its agent answers, the guest does nothing but compute; later it may well wait for a slow disk. */
	watch->idle_process = launch->machine.vmm.pid;
	launch->agent = agent_connect(launch->control, watch, err);
	watch->idle_process = 0;
	if (launch->agent < 0) {
		if (watch->event == WATCH_NOTHING)
			watch->event = WATCH_FAILURE;
		return -1;
	}
	report_debug("the guest's agent is there");
	trace_step("the agent has answered");
	if (run_create_hooks(materials, launch, err) < 0)
		return -1;
	for (int i = 0; i < STDIO_COUNT; i++)
		create.ports[i] = machine_stream_port(&materials->stdio, i);
	create.window = materials->stdio.window;
	order = create_order_format(&create, &size);
	if (!order)
		return error_set(err, ENOMEM, "make an order");
	trace_step("the order to create is made");
	if (agent_order(launch->agent, watch, order, size, &answer, err) < 0)
		return -1;
	trace_add_guest(answer);
	json_decref(answer);
	trace_step("the container is created");
	return 0;
}

/* A process that ends at once may take the machine with it before the answer is here. */
static int start_in_guest(struct launch *launch, struct error *err)
{
	if (agent_start(launch->agent, &launch->watch, launch->container.id, err) == 0)
		return 0;
	/* The file server ends as soon as the machine lets go of it, which may be seen first. */
	if (!watch_lost_machine(&launch->watch))
		return -1;
	return machine_has_exited(launch->machine.vmm.pidfd, launch->result) ? 0 : -1;
}

/* The same in the machine of a sandbox that runs: what stands for the container is a proxy. */
static int make_in_sandbox(const struct launch_options *options, struct materials *materials, struct launch *launch,
			   struct error *err)
{
	const struct join_materials joining = {
	    .spec = &materials->spec,
	    .exports = &materials->exports,
	    .stdio = &materials->stdio,
	    .preserved = &materials->preserved,
	    .id = options->id,
	    .cgroup = materials->cgroup,
	    .network = &materials->network,
	};

	if (run_create_hooks(materials, launch, err) < 0 || join_create(&materials->join, &joining, launch, err) < 0)
		return -1;
	cgroup_occupied(&materials->place);
	process_identify(launch->machine.vmm.pid, &launch->container.state.vmm, err);
	return container_save(&launch->container, err);
}

/* When a connection to the guest broke, what the machine itself says is the better explanation. */
static void improve_error(struct launch *launch, struct error *err)
{
	struct pollfd vmm = {.fd = launch->machine.vmm.pidfd, .events = POLLIN};
	struct pollfd fsd = {.fd = launch->machine.fsd.pidfd, .events = POLLIN};
	int status;

	if (!watch_lost_machine(&launch->watch))
		return;
	if (launch->container.state.sandbox) {
		failure_explain_sandbox(&launch->container, err);
		return;
	}
	if (launch->machine.vmm.pid <= 0 || poll(&vmm, 1, LAST_WORDS_MS) != 1)
		return;
	/* The file server may be on its way out with the real reason in the log. */
	if (launch->machine.fsd.pid > 0)
		poll(&fsd, 1, LAST_WORDS_MS);
	status = child_wait(&launch->machine.vmm);
	failure_explain(launch->result, launch->log, status, err);
}

/* Whether the machine has ended, and in a way that a template can be the reason of: its VMM did not take it, or its
 * memory went away under it, or its guest did not come to itself. Not what would happen to one that boots as well. */
static bool template_failed(const struct launch *launch)
{
	struct pollfd vmm = {.fd = launch->machine.vmm.pidfd, .events = POLLIN};
	siginfo_t end = {0};
	struct result result;

	if (launch->machine.vmm.pid <= 0 || poll(&vmm, 1, LAST_WORDS_MS) != 1)
		return false;
	result_read(launch->result, &result);
	if (result.kind == RESULT_FAILED)
		return strncmp(result.text, "restore", strlen("restore")) == 0;
	if (result.kind == RESULT_NONE && waitid(P_PIDFD, (id_t)vmm.fd, &end, WEXITED | WNOWAIT | WNOHANG) == 0)
		return end.si_code != CLD_EXITED && end.si_status == SIGBUS;
	return result.kind == RESULT_PANIC;
}

/* Whether a machine that was forked has ended for that reason before anything of the container was begun. */
static bool boots_instead(const struct materials *materials, struct launch *launch, struct error *err)
{
	if (materials->template.state < 0 || launch->hooks_began)
		return false;
	if (!watch_lost_machine(&launch->watch))
		return false;
	if (!template_failed(launch))
		return false;
	improve_error(launch, err);
	return true;
}

/* The template is of no use: it goes, and where that is wanted another one is made. */
static int boot_container(const struct launch_options *options, struct materials *materials, struct launch *launch,
			  struct error *err)
{
	struct error second;

	report_warning("template %s cannot be used, the machine boots: %s", materials->key.name, err->message);
	if (template_remove(materials->key.name, &second) < 0 && second.code != ENOENT)
		report_warning("%s", second.message);
	template_release(&materials->template);
	materials->wants_template = materials->makes_template;
	machine_end(&launch->machine);
	cleanup_close_fd(&launch->control);
	launch->control = -1;
	launch->watch.event = WATCH_NOTHING;
	if (ftruncate(launch->result, 0) < 0)
		return error_set_errno(err, "empty the result file");
	if (start_machine(materials, launch, err) < 0)
		return -1;
	return create_in_guest(options, materials, launch, err);
}

static int make_container(const struct launch_options *options, struct materials *materials, struct launch *launch,
			  struct error *err)
{
	if (materials->sandbox)
		return make_in_sandbox(options, materials, launch, err);
	if (start_machine(materials, launch, err) < 0)
		return -1;
	if (create_in_guest(options, materials, launch, err) == 0)
		return 0;
	return boots_instead(materials, launch, err) ? boot_container(options, materials, launch, err) : -1;
}

/* Over connections of its own: it outlives this process. */
static int start_relay(struct materials *materials, struct launch *launch, struct error *err)
{
	struct container *container = &launch->container;
	cleanup_close int control = -1, agent = -1;
	struct child child = CHILD_NONE;

	if (!relay_needed(&materials->exports))
		return 0;
	control = vmm_control_connect(container->folder, CONTAINER_CONTROL_SOCKET, err);
	if (control < 0)
		return -1;
	agent = agent_connect(control, &launch->watch, err);
	if (agent < 0 ||
	    relay_spawn(container->id, &materials->exports, control, agent, materials->cgroup, &child, err) < 0)
		return -1;
	process_identify(child.pid, &container->state.relay, err);
	close(child.pidfd);
	return container_save(container, err);
}

/* Nobody but hooks can have put anything into a namespace that was made only now. */
static bool may_have_network(const struct materials *materials)
{
	return materials->network.own && (materials->network.path || json_object_get(materials->spec.json, "hooks"));
}

static int start(const struct materials *materials, struct launch *launch, struct error *err)
{
	struct container *container = &launch->container;

	if (may_have_network(materials)) {
		if (network_connect(container, &launch->watch, &launch->network, err) < 0)
			return -1;
		trace_step("the network is connected");
	}
	return start_in_guest(launch, err);
}

static int keep(struct materials *materials, struct launch *launch, struct error *err)
{
	if (materials->sandbox && join_keep(&materials->join, err) < 0)
		return -1;
	if (container_save(&launch->container, err) < 0 || network_keep(&launch->network, err) < 0)
		return -1;
	return machine_let_go(&launch->machine, err);
}

/* Its keys are the guest's from the process's first moment on. */
static int use_terminal(struct materials *materials, struct launch *launch, struct error *err)
{
	if (materials->terminal < 0)
		return 0;
	launch->terminal = take_fd(&materials->terminal);
	return raw_terminal_begin(&launch->raw, launch->terminal, err);
}

/* The name is what runc has for a container's own process. */
static int send_pidfd(const char *path, int pidfd, struct error *err)
{
	cleanup_close int socket = handover_connect(path, "pidfd socket", err);

	return socket < 0 ? -1 : handover_send(socket, "standard", pidfd, err);
}

static int bring_up(const struct launch_options *options, struct materials *materials, struct launch *launch,
		    struct error *err)
{
	struct state *state = &launch->container.state;

	if (fill_folder(options, materials, launch, err) < 0 || make_cgroup(materials, launch, err) < 0)
		return -1;
	trace_step("folder and cgroup are made");
	if (make_container(options, materials, launch, err) < 0 || start_relay(materials, launch, err) < 0)
		return -1;
	if (use_terminal(materials, launch, err) < 0)
		return -1;
	if (options->start && start(materials, launch, err) < 0)
		return -1;
	trace_step(options->start ? "the process has been started" : "the process waits for its start");
	if (options->pid_file && pid_file_write(options->pid_file, launch->machine.vmm.pid, err) < 0)
		return -1;
	if (options->pidfd_socket && send_pidfd(options->pidfd_socket, launch->machine.vmm.pidfd, err) < 0)
		return -1;
	state->stage = options->start ? STATE_STARTED : STATE_CREATED;
	if (keep(materials, launch, err) < 0) {
		if (options->pid_file)
			unlink(options->pid_file);
		return -1;
	}
	if (options->start)
		container_run_hooks(&launch->container, "poststart", "running", launch->machine.vmm.pid);
	trace_step("hull is done");
	trace_print(launch->log);
	if (materials->wants_template)
		template_make_later(&materials->resources, &materials->size);
	return 0;
}

/* --- when it fails ----------------------------------------------------------------------------------------------- */

static void undo(struct launch *launch, struct error *err)
{
	struct state *state = &launch->container.state;
	cleanup_close int network = launch->container.has_state ? network_find(state) : -1;
	struct error second;

	improve_error(launch, err);
	machine_end(&launch->machine);
	network_process_end(&launch->network);
	if (network >= 0 && network_clear(network, state, &second) < 0)
		report_warning("%s", second.message);
	if (launch->container.has_state)
		process_end(&launch->container.state.relay, LAST_WORDS_MS, NULL);
	if (!launch->hooks_began) {
		json_decref(launch->container.state.hooks);
		launch->container.state.hooks = NULL;
	}
	if (launch->container.has_state && launch->container.state.sandbox &&
	    sandbox_leave(&launch->container, &second) < 0)
		report_warning("%s", second.message);
	if (container_remove(&launch->container, &second) < 0)
		report_warning("%s", second.message);
}

int launch(const struct launch_options *options, struct launch *launch, struct error *err)
{
	cleanup_materials struct materials materials = MATERIALS_NONE;
	unsigned timeout;

	*launch = (struct launch){.container = CONTAINER_NONE,
				  .machine = MACHINE_NONE,
				  .network = NETWORK_PROCESS_NONE,
				  .result = -1,
				  .log = -1,
				  .control = -1,
				  .agent = -1,
				  .terminal = -1,
				  .raw = RAW_TERMINAL_NONE,
				  .watch = WATCH_NONE};
	if (options->trace)
		trace_begin();
	trace_step("hull has begun");
	if (preserved_take_with_activation(options->preserve_fds, &materials.preserved, err) < 0 ||
	    config_load(options->global->config, &materials.config, err) < 0)
		return -1;
	trace_step("the settings are read");
	timeout = materials.config.start_timeout;
	if (watch_start_timeout(&timeout, err) < 0 || materials_gather(options, &materials, err) < 0)
		return -1;
	if (container_make(options->global->root, options->id, &launch->container, err) < 0)
		return -1;
	trace_step("the bundle is read, what it names is open");
	launch->watch.signals = materials.signals;
	watch_set_timeout(&launch->watch, timeout);
	if (bring_up(options, &materials, launch, err) < 0) {
		undo(launch, err);
		launch_release(launch);
		return -1;
	}
	launch->watch.signals = -1;
	return 0;
}
