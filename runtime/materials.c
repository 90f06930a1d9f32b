#include "runtime/materials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "runtime/hooks.h"
#include "runtime/report.h"
#include "runtime/sandbox.h"
#include "runtime/signals.h"
#include "runtime/state.h"
#include "runtime/terminal.h"

void materials_release(struct materials *materials)
{
	cleanup_close_fd(&materials->bundle);
	free(materials->bundle_path);
	spec_release(&materials->spec);
	exports_release(&materials->exports);
	disks_release(&materials->disks);
	resources_release(&materials->resources);
	template_release(&materials->template);
	stdio_release(&materials->stdio);
	preserved_release(&materials->preserved);
	cleanup_close_fd(&materials->terminal);
	cleanup_close_fd(&materials->control);
	cleanup_close_fd(&materials->fsd_control);
	cleanup_close_fd(&materials->cgroup);
	cleanup_close_fd(&materials->console);
	cgroup_place_release(&materials->place);
	cleanup_close_fd(&materials->signals);
	join_release(&materials->join);
	network_plan_release(&materials->network);
}

static int open_bundle(const char *path, struct materials *materials, struct error *err)
{
	materials->bundle = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (materials->bundle < 0)
		return error_set_errno(err, "open bundle `%s`", path);
	materials->bundle_path = realpath(path, NULL);
	if (!materials->bundle_path)
		return error_set_errno(err, "find the path of bundle `%s`", path);
	return 0;
}

static int check_terminal(const struct launch_options *options, const struct spec *spec, struct error *err)
{
	if (options->detached && spec_terminal(spec) && !options->console_socket)
		return error_set(err, EINVAL,
				 "cannot allocate tty if hull will detach without setting console socket: use "
				 "--console-socket");
	if (options->console_socket && (!options->detached || !spec_terminal(spec)))
		return error_set(err, EINVAL, "cannot use console socket if hull will not detach or allocate tty");
	return 0;
}

/* Signals that end a launch are read from a descriptor beside everything else that is waited for, so that what has
 * been made can be undone. */
static int catch_signals(int *signals, struct error *err)
{
	sigset_t set;

	signals_interrupting(&set);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_set_errno(err, "block signals");
	*signals = signalfd(-1, &set, SFD_CLOEXEC);
	return *signals < 0 ? error_set_errno(err, "make a signal descriptor") : 0;
}

/* As runc reads its --rootless. */
static int read_rootless(const char *text, bool *rootless, struct error *err)
{
	*rootless = geteuid() != 0;
	if (!text || !*text || strcmp(text, "auto") == 0)
		return 0;
	if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
		return error_set(err, EINVAL, "--rootless: \"%s\" is not true, false or auto", text);
	*rootless = strcmp(text, "true") == 0;
	return 0;
}

/* What the spec asks of the host: its cgroup, the size of the machine, hooks. */
static int plan_host(const struct launch_options *options, struct materials *materials, struct error *err)
{
	const json_t *linux_part = json_object_get(materials->spec.json, "linux");
	const char *path = json_string_value(json_object_get(linux_part, "cgroupsPath"));
	const char *manager = options->global->cgroup_manager;
	struct config *config = &materials->config;
	bool rootless;

	if (read_rootless(options->global->rootless, &rootless, err) < 0)
		return -1;
	if (hooks_check(json_object_get(materials->spec.json, "hooks"), err) < 0)
		return error_prefix(err, SPEC_FILE);
	if (options->global->systemd_cgroup)
		config->manager = CGROUP_SYSTEMD;
	if (manager && cgroup_parse_manager(manager, &config->manager) < 0)
		return error_set(err, EINVAL, "--cgroup-manager: \"%s\" is not cgroupfs, systemd or disabled", manager);
	if (limits_read(json_object_get(linux_part, "resources"), &materials->limits, err) < 0 ||
	    cgroup_locate(config->manager, path, options->id, rootless, &materials->place, err) < 0)
		return error_prefix(err, SPEC_FILE);
	return vm_size_from_spec(&materials->spec, &materials->limits, config, &materials->size, err);
}

/* Whether the container gets a machine of its own, and whether what it says of namespaces can be done then. */
static int find_sandbox(const struct launch_options *options, struct materials *materials, struct error *err)
{
	cleanup_joined struct joined none = {0};
	const char *root = options->global->root;

	if (sandbox_wanted(&materials->spec, options->id, &materials->sandbox, err) < 0 ||
	    sandbox_lingers(&materials->spec, materials->sandbox, &materials->lingers, err) < 0)
		return -1;
	if (!materials->sandbox)
		return sandbox_find_joined(root, NULL, &materials->spec, &none, err) < 0
			   ? -1
			   : network_plan_read(&materials->spec, &none, &materials->network, err);
	if (materials->disks.n > 0)
		return error_set(err, ENOTSUP,
				 SPEC_FILE ": a container that joins a sandbox cannot bring disks: the machine runs");
	if (join_prepare(root, materials->sandbox, &materials->spec, &materials->exports, &materials->join, err) < 0)
		return -1;
	return network_plan_read(&materials->spec, &materials->join.joined, &materials->network, err);
}

static int template_use(const struct materials *materials, enum template_use *use, struct error *err)
{
	const char *annotation = spec_annotation(&materials->spec, TEMPLATE_ANNOTATION);

	*use = materials->config.template;
	if (annotation && config_parse_template(annotation, use) < 0)
		return error_set(err, EINVAL,
				 SPEC_FILE ": annotations: " TEMPLATE_ANNOTATION
					   " must be \"auto\", \"manual\" or \"off\"");
	return 0;
}

/* A template has a file server and no console; disks come to the machine that is forked from it. */
static bool has_template_shape(const struct materials *materials)
{
	return materials->exports.n > 0 && !materials->keeps_console && materials->resources.console < 0;
}

/* Without one the machine boots. */
static int find_template(struct materials *materials, struct error *err)
{
	enum template_use use;
	struct error why;

	if (template_use(materials, &use, err) < 0)
		return -1;
	if (use == TEMPLATE_OFF || !has_template_shape(materials))
		return 0;
	if (template_identify(&materials->resources, &materials->size, &materials->key, err) < 0)
		return -1;
	materials->makes_template = use == TEMPLATE_AUTO;
	if (template_open(materials->key.name, materials->config.template_age, &materials->template, &why) == 0)
		return 0;
	materials->wants_template = materials->makes_template;
	if (why.code == ENOENT)
		report_debug("%s", why.message);
	else
		report_warning("no template is used: %s", why.message);
	return 0;
}

static bool keeps_console(const struct materials *materials)
{
	const char *annotation = spec_annotation(&materials->spec, "hull.console");

	return annotation ? strcmp(annotation, "true") == 0 : materials->config.console;
}

static int take_stdio(const struct launch_options *options, struct materials *materials, struct error *err)
{
	struct stdio *stdio = &materials->stdio;

	if (!spec_terminal(&materials->spec))
		return stdio_take(stdio, err);
	if (options->console_socket)
		return terminal_hand_over(options->console_socket, stdio, err);
	materials->terminal = terminal_find(err);
	return materials->terminal < 0 ? -1 : terminal_take_stdio(materials->terminal, stdio, err);
}

int materials_gather(const struct launch_options *options, struct materials *materials, struct error *err)
{
	if (state_check_id(options->id, err) < 0)
		return -1;
	if (catch_signals(&materials->signals, err) < 0 || open_bundle(options->bundle, materials, err) < 0 ||
	    spec_load(materials->bundle, options->config, &materials->spec, err) < 0 ||
	    check_terminal(options, &materials->spec, err) < 0 || plan_host(options, materials, err) < 0 ||
	    exports_open(&materials->spec, materials->bundle, &materials->exports, err) < 0 ||
	    disks_open(&materials->spec, materials->bundle, &materials->disks, err) < 0 ||
	    find_sandbox(options, materials, err) < 0)
		return -1;
	spec_note_ignored(materials->spec.json);
	materials->keeps_console = !materials->sandbox && keeps_console(materials);
	if (!materials->sandbox &&
	    (resources_open(&materials->resources, err) < 0 || find_template(materials, err) < 0))
		return -1;
	return take_stdio(options, materials, err);
}
