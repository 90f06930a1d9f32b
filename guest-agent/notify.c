#include "guest-agent/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "guest-agent/places.h"
#include "guest-agent/plan_parts.h"

#define DATAGRAM_MAX 4096 /* bytes that are looked at; systemd's limit is the same */
#define SOCKET_MODE 0777  /* whoever of the container's users it is */

static const struct error ended = {.message = "the container has ended", .code = ESRCH};

/* --- the order to create ----------------------------------------------------------------------------------------- */

static json_t *member(json_t *object, const char *name, json_t *(*make)(void))
{
	json_t *value = json_object_get(object, name);

	if (value && !json_is_null(value))
		return value;
	return json_object_set_new(object, name, make()) < 0 ? NULL : json_object_get(object, name);
}

static int add_mount(json_t *mounts, json_t *sources)
{
	char key[24];

	snprintf(key, sizeof(key), "%zu", json_array_size(mounts));
	if (json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:[s, s, s, s]}", "destination", NOTIFY_PATH,
						    "type", "bind", "source", "notify", "options", "bind", "nosuid",
						    "noexec", "nodev")) < 0)
		return -1;
	return json_object_set_new(sources, key,
				   json_pack("{s:{s:i, s:b}}", "socket", "mode", SOCKET_MODE, "notify", 1));
}

int notify_plan(json_t *order, struct error *err)
{
	json_t *spec = json_object_get(order, "spec"), *process = json_object_get(spec, "process");
	json_t *mounts, *sources, *env;

	if (!json_is_true(json_object_get(order, "notify")))
		return 0;
	mounts = member(spec, "mounts", json_array);
	sources = member(order, "mounts", json_object);
	env = process ? member(process, "env", json_array) : NULL;
	if (!mounts || !sources || !env || add_mount(mounts, sources) < 0 ||
	    json_array_append_new(env, json_string("NOTIFY_SOCKET=" NOTIFY_PATH)) < 0)
		return plan_out_of_memory(err);
	return 0;
}

/* --- the socket -------------------------------------------------------------------------------------------------- */

/* Lines with assignments, as sd_notify(3) has them. */
static bool says_ready(const char *text)
{
	return strncmp(text, "READY=", 6) == 0 || strstr(text, "\nREADY=");
}

static bool read_one(struct notify *notify)
{
	char text[DATAGRAM_MAX + 1];
	ssize_t n = recv(notify->watch.fd, text, DATAGRAM_MAX, MSG_DONTWAIT);

	if (n < 0)
		return false;
	text[n] = '\0';
	if (!notify->is_ready && says_ready(text)) {
		notify->is_ready = true;
		answer_ok(&notify->answer, NULL);
	}
	return true;
}

/* Also when nothing is of interest any more: senders wait for room in the queue. */
static void datagram_came(struct watch *watch, uint32_t events)
{
	(void)events;
	read_one((struct notify *)((char *)watch - offsetof(struct notify, watch)));
}

static int bind_socket(int fd, const char *path, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, path, strlen(path) + 1);
	if ((mkdir(PLACE_SOCKETS, 0700) < 0 && errno != EEXIST) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, SOCKET_MODE) < 0)
		return error_set_errno(err, "make the socket for notifications");
	return 0;
}

static struct plan_mount *find_mount(struct plan *plan)
{
	for (size_t i = 0; i < plan->n_mounts; i++)
		if (plan->mounts[i].is_socket && plan->mounts[i].socket.is_notify)
			return &plan->mounts[i];
	return NULL;
}

void notify_begin(struct notify *notify)
{
	*notify = (struct notify){.watch = {.fd = -1, .ready = datagram_came}};
}

int notify_open(struct notify *notify, struct plan *plan, unsigned number, struct error *err)
{
	struct plan_mount *mount = find_mount(plan);
	cleanup_close int fd = mount ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;

	if (!mount)
		return 0;
	if (fd < 0)
		return error_set_errno(err, "make a socket");
	snprintf(notify->path, sizeof(notify->path), PLACE_SOCKETS "/%u-notify", number);
	memcpy(mount->socket.path, notify->path, sizeof(notify->path));
	if (bind_socket(fd, notify->path, err) < 0 || loop_add(&notify->watch, fd, EPOLLIN) < 0)
		return -1;
	take_fd(&fd);
	return 0;
}

void notify_end(struct notify *notify)
{
	int fd = notify->watch.fd;

	if (fd >= 0) {
		/* What it said last may not have been looked at yet. */
		while (!notify->is_ready && read_one(notify))
			continue;
		loop_remove(&notify->watch);
		close(fd);
	}
	if (*notify->path)
		unlink(notify->path);
	notify->has_ended = true;
	answer_error(&notify->answer, &ended);
}

int notify_order(struct notify *notify, struct answer *answer, struct error *err)
{
	if (*notify->path == '\0')
		return error_set(err, ESRCH, "the container was created without NOTIFY_SOCKET");
	if (notify->is_ready)
		answer_ok(answer, NULL);
	else if (notify->has_ended)
		answer_error(answer, &ended);
	else if (notify->answer.connection)
		return error_set(err, EBUSY, "somebody else waits for the container to be ready");
	else
		answer_move(&notify->answer, answer);
	return 0;
}
