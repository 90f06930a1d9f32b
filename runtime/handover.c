#include "runtime/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

/* The path may be longer than a socket's address: it is reached through its folder. */
int handover_connect(const char *path, const char *what, struct error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cleanup_close int folder = -1;
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char before[PATH_MAX];

	if (fd < 0)
		return error_set_errno(err, "make a socket");
	if ((size_t)snprintf(before, sizeof(before), "%.*s", slash ? (int)(slash + 1 - path) : 0, path) >=
	    sizeof(before))
		return error_set(err, ENAMETOOLONG, "%s `%s`: name too long", what, path);
	folder = open(slash ? before : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return error_set_errno(err, "%s `%s`", what, path);
	if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder, name) >=
	    sizeof(address.sun_path))
		return error_set(err, ENAMETOOLONG, "%s `%s`: name too long", what, path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return error_set_errno(err, "%s `%s`", what, path);
	return take_fd(&fd);
}

int handover_send(int socket, const char *name, int fd, struct error *err)
{
	if (send_with_fds(socket, name, strlen(name), &fd, 1, 0) < 0)
		return error_set_errno(err, "send a descriptor");
	return 0;
}
