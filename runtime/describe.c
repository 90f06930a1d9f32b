#include "runtime/describe.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/spec_fields.h"

pid_t container_pid(const struct container *container, enum container_status status)
{
	return status == CONTAINER_CREATED || status == CONTAINER_RUNNING || status == CONTAINER_PAUSED
		   ? container->state.vmm.pid
		   : 0;
}

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

json_t *container_describe(const struct container *container, const char *owner)
{
	enum container_status status = container_status(container);
	const struct state *state = &container->state;
	json_t *object;

	object = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s}", "ociVersion", SPEC_VERSION, "id", container->id,
			   "pid", (int)container_pid(container, status), "status", container_status_name(status),
			   "bundle", or_empty(state->bundle), "rootfs", or_empty(state->rootfs), "created",
			   state->created ? state->created : "0001-01-01T00:00:00Z");
	if (object && json_object_size(state->annotations) > 0)
		json_object_set(object, "annotations", state->annotations);
	if (object)
		json_object_set_new(object, "owner", json_string(owner));
	return object;
}

/* The password database is read directly: the C library's functions for it do not work in a static program. */
static int find_user(uid_t uid, char *name, size_t size)
{
	cleanup_file FILE *file = fopen("/etc/passwd", "re");
	char line[1024], user[256];
	unsigned number;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%255[^:]:%*[^:]:%u:", user, &number) == 2 && number == uid) {
			snprintf(name, size, "%s", user);
			return 0;
		}
	}
	return -1;
}

void user_name(uid_t uid, char *name, size_t size)
{
	if (find_user(uid, name, size) < 0)
		snprintf(name, size, "%u", uid);
}

void container_owner(const struct container *container, char *name, size_t size)
{
	struct stat status;

	if (fstat(container->folder, &status) < 0)
		snprintf(name, size, "?");
	else if (find_user(status.st_uid, name, size) < 0)
		snprintf(name, size, "#%u", status.st_uid);
}
