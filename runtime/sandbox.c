#include "runtime/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "runtime/agent.h"
#include "runtime/attach.h"
#include "runtime/fsd_client.h"
#include "runtime/network.h"
#include "runtime/report.h"

/* Seconds for the guest to end a container that is to go. */
#define LEAVE_TIMEOUT 5

static const struct {
	const char *type, *sandbox;
} engines[] = {
    {"io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"},
    {"io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"},
};

/* The annotation that decides, and the id in it. */
static const char *find_annotation(const struct spec *spec, const char **name)
{
	const char *id = spec_annotation(spec, SANDBOX_ANNOTATION);

	*name = SANDBOX_ANNOTATION;
	for (size_t i = 0; !id && i < sizeof(engines) / sizeof(engines[0]); i++) {
		const char *type = spec_annotation(spec, engines[i].type);

		if (!type || strcmp(type, "container") != 0)
			continue;
		*name = engines[i].sandbox;
		id = spec_annotation(spec, engines[i].sandbox);
	}
	return id && *id ? id : NULL;
}

int sandbox_wanted(const struct spec *spec, const char *own_id, const char **id, struct error *err)
{
	const char *name;

	*id = find_annotation(spec, &name);
	if (!*id)
		return 0;
	if (state_check_id(*id, NULL) < 0)
		return error_set(err, EINVAL, SPEC_FILE ": annotations.%s: `%s` is not the id of a container", name,
				 *id);
	if (strcmp(*id, own_id) == 0)
		return error_set(err, EINVAL, SPEC_FILE ": annotations.%s: container %s cannot join itself", name,
				 own_id);
	return 0;
}

int sandbox_lingers(const struct spec *spec, const char *sandbox, bool *lingers, struct error *err)
{
	const char *end = spec_annotation(spec, SANDBOX_END_ANNOTATION);

	*lingers = end && strcmp(end, "last") == 0;
	if (end && !*lingers && strcmp(end, "container") != 0)
		return error_set(
		    err, EINVAL,
		    SPEC_FILE ": annotations." SANDBOX_END_ANNOTATION ": `%s` is neither last nor container", end);
	if (end && sandbox)
		return error_set(err, EINVAL,
				 SPEC_FILE ": annotations." SANDBOX_END_ANNOTATION
					   ": the machine is that of sandbox %s, which decides",
				 sandbox);
	return 0;
}

int sandbox_open(const char *root, const char *id, struct container *sandbox, struct error *err)
{
	enum container_status status;

	if (container_open(root, id, sandbox, err) < 0)
		return error_prefix(err, "sandbox %s", id);
	status = container_status(sandbox);
	if (sandbox->state.sandbox)
		error_set(err, EINVAL, "%s is no sandbox: it has joined sandbox %s itself", id, sandbox->state.sandbox);
	else if (status != CONTAINER_CREATED && status != CONTAINER_RUNNING)
		error_set(err, ESRCH, "sandbox %s is not running: %s", id, container_status_name(status));
	else
		return 0;
	container_close(sandbox);
	return -1;
}

/* --- namespaces -------------------------------------------------------------------------------------------------- */

void joined_release(struct joined *joined)
{
	for (int kind = 0; kind < SHARED_KINDS; kind++) {
		free(joined->ids[kind]);
		joined->ids[kind] = NULL;
	}
}

static int kind_of(const char *type)
{
	for (int kind = 0; kind < SHARED_KINDS; kind++)
		if (strcmp(shared_kind_names[kind], type) == 0)
			return kind;
	return -1;
}

/* As /proc names them. */
static const char *const files[SHARED_KINDS] = {
    [SHARED_PID] = "pid",	[SHARED_NETWORK] = "net", [SHARED_IPC] = "ipc",	 [SHARED_UTS] = "uts",
    [SHARED_CGROUP] = "cgroup", [SHARED_USER] = "user",	  [SHARED_TIME] = "time"};

/* The process of "/proc/PID/ns/FILE", or 0. */
static pid_t process_in_path(const char *path, int kind)
{
	char number[16];
	uint64_t pid;
	size_t length;

	if (strncmp(path, "/proc/", 6) != 0)
		return 0;
	path += 6;
	length = strcspn(path, "/");
	if (length >= sizeof(number) || strncmp(path + length, "/ns/", 4) != 0 ||
	    strcmp(path + length + 4, files[kind]) != 0)
		return 0;
	memcpy(number, path, length);
	number[length] = '\0';
	return parse_u64(number, 1, INT32_MAX, &pid) == 0 ? (pid_t)pid : 0;
}

/* A path under another name, as engines make them by bind mounts. The host's own namespaces stand for nobody, though a
 * process of the sandbox may be in them. */
static bool is_namespace_of(const char *path, int kind, pid_t pid)
{
	struct stat given, theirs, ours;
	char name[64];

	if (stat(path, &given) < 0)
		return false;
	snprintf(name, sizeof(name), "/proc/self/ns/%s", files[kind]);
	if (stat(name, &ours) < 0)
		return false;
	snprintf(name, sizeof(name), "/proc/%d/ns/%s", (int)pid, files[kind]);
	if (stat(name, &theirs) < 0)
		return false;
	return given.st_dev == theirs.st_dev && given.st_ino == theirs.st_ino &&
	       (given.st_dev != ours.st_dev || given.st_ino != ours.st_ino);
}

/* Whether the path names a namespace of this container of the sandbox. */
static bool stands_for(const struct container *container, const char *path, int kind)
{
	pid_t pid = container->state.vmm.pid;

	if (pid <= 0 || !process_alive(&container->state.vmm))
		return false;
	return process_in_path(path, kind) == pid || is_namespace_of(path, kind, pid);
}

/* Among the containers that have joined the sandbox. Returns an allocated id or NULL. */
static char *find_among_members(const char *root, const char *sandbox, const char *path, int kind)
{
	char *found = NULL, **ids;
	struct error err;
	size_t n;

	if (container_list(root, &ids, &n, &err) < 0)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		cleanup_container struct container member = CONTAINER_NONE;

		if (!found && container_open(root, ids[i], &member, &err) == 0 && member.has_state &&
		    member.state.sandbox && strcmp(member.state.sandbox, sandbox) == 0 &&
		    stands_for(&member, path, kind))
			found = strdup(ids[i]);
		free(ids[i]);
	}
	free(ids);
	return found;
}

static int find_one(const char *root, const struct container *sandbox, const char *path, size_t index, int kind,
		    struct joined *joined, struct error *err)
{
	if (kind >= 0 && sandbox) {
		free(joined->ids[kind]);
		joined->ids[kind] = stands_for(sandbox, path, kind) ? strdup(sandbox->id)
								    : find_among_members(root, sandbox->id, path, kind);
		if (joined->ids[kind])
			return 0;
	}
	/* An engine's, for this container: see network.h. */
	if (kind == SHARED_NETWORK && network_is_namespace(path))
		return 0;
	return error_set(err, ENOTSUP,
			 SPEC_FILE ": linux.namespaces[%zu].path: `%s` is not a namespace of a container in the same "
				   "sandbox, and no other can be joined",
			 index, path);
}

int sandbox_find_joined(const char *root, const struct container *sandbox, const struct spec *spec,
			struct joined *joined, struct error *err)
{
	const json_t *list = json_object_get(json_object_get(spec->json, "linux"), "namespaces"), *element;
	size_t index;

	json_array_foreach(list, index, element)
	{
		const char *path = json_string_value(json_object_get(element, "path"));
		const char *type = json_string_value(json_object_get(element, "type"));

		if (path && *path && find_one(root, sandbox, path, index, kind_of(type ? type : ""), joined, err) < 0)
			return -1;
	}
	return 0;
}

/* --- the folder, and the end ------------------------------------------------------------------------------------- */

int sandbox_link(const struct container *sandbox, const struct container *container, struct error *err)
{
	static const char *const sockets[] = {CONTAINER_CONTROL_SOCKET, CONTAINER_FSD_SOCKET};

	for (size_t i = 0; i < sizeof(sockets) / sizeof(sockets[0]); i++)
		if (linkat(sandbox->folder, sockets[i], container->folder, sockets[i], 0) < 0)
			return error_set_errno(err, "link the socket `%s` of sandbox %s", sockets[i], sandbox->id);
	return 0;
}

/* Nobody listens there any more, or nobody ever has. */
static bool is_gone(const struct error *err)
{
	return err->code == ECONNREFUSED || err->code == ENOENT || err->code == ECONNRESET || err->code == ESRCH;
}

static int delete_in_guest(const struct container *container, struct error *err)
{
	cleanup_attachment struct attachment attachment = ATTACHMENT_NONE;
	cleanup_free char *order = NULL;

	if (attach_sandbox(container, LEAVE_TIMEOUT, &attachment, err) < 0 || attach_agent(&attachment, err) < 0)
		return -1;
	if (asprintf(&order, "{\"order\":\"delete\",\"id\":\"%s\",\"force\":true}", container->id) < 0)
		return error_set(err, ENOMEM, "make an order");
	return agent_order(attachment.agent, &attachment.watch, order, strlen(order), NULL, err);
}

static int remove_exports(const struct container *container, struct error *err)
{
	cleanup_close int fsd = fsd_connect(container->folder, CONTAINER_FSD_SOCKET, err);

	return fsd < 0 ? -1 : fsd_remove_group(fsd, container->state.exports, err);
}

int sandbox_leave(const struct container *container, struct error *err)
{
	/* The guest first: it unmounts what the exports are. One that does not answer loses them nevertheless, and what
	 * it had open there with them. */
	if (process_alive(&container->state.machine) && delete_in_guest(container, err) < 0 && !is_gone(err))
		report_warning("container %s may go on in the guest of sandbox %s, without its files: %s",
			       container->id, container->state.sandbox, err->message);
	if (remove_exports(container, err) == 0 || is_gone(err))
		return 0;
	return error_prefix(err, "take the files of container %s back", container->id);
}
