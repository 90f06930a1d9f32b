#include "runtime/fsd_client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fsd_control.h"
#include "common/io.h"
#include "runtime/agent.h"

int fsd_connect(int folder, const char *name, struct error *err)
{
	return socket_connect_in(folder, name, "the file server", err);
}

static int call(int fsd, const struct fsd_request *request, int fd, struct fsd_reply *reply, struct error *err)
{
	struct pollfd answered = {.fd = fsd, .events = POLLIN};
	int n;

	if (send_with_fds(fsd, request, sizeof(*request), &fd, fd >= 0 ? 1 : 0, MSG_DONTWAIT) < 0)
		return error_set_errno(err, "send a request to the file server");
	do
		n = poll(&answered, 1, FSD_TIMEOUT_MS);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return error_set(err, ETIMEDOUT, "the file server did not answer within %d ms", FSD_TIMEOUT_MS);
	if (recv(fsd, reply, sizeof(*reply), MSG_DONTWAIT) != sizeof(*reply))
		return error_set(err, ECONNRESET, "the file server ended the connection");
	return 0;
}

static struct fsd_request make_request(uint32_t operation, const char *name)
{
	struct fsd_request request = {.version = FSD_CONTROL_VERSION, .operation = operation};

	snprintf(request.name, sizeof(request.name), "%s", name);
	return request;
}

int fsd_add(int fsd, const struct export *export, struct error *err)
{
	struct fsd_request request = make_request(FSD_ADD, export->name);
	struct fsd_reply reply = {0};

	request.cache_seconds = export->cache;
	if (call(fsd, &request, export->fd, &reply, err) < 0)
		return -1;
	if (reply.error != 0)
		return error_set(err, (int)reply.error, "the file server refuses export %s: %s", export->name,
				 strerror((int)reply.error));
	return 0;
}

int fsd_keep(int fsd, struct error *err)
{
	struct fsd_request request = make_request(FSD_KEEP, "");
	struct fsd_reply reply = {0};

	return call(fsd, &request, -1, &reply, err);
}

int fsd_remove_group(int fsd, const char *group, struct error *err)
{
	struct fsd_request request = make_request(FSD_REMOVE, group);
	struct fsd_reply reply = {0};

	request.flags = FSD_GROUP;
	if (call(fsd, &request, -1, &reply, err) < 0)
		return -1;
	if (reply.error != 0 && reply.error != ENOENT)
		return error_set(err, (int)reply.error, "the file server does not take exports back: %s",
				 strerror((int)reply.error));
	return 0;
}
