#include "guest-agent/vsock.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#include "common/cleanup.h"

#define BACKLOG 16

static struct sockaddr_vm address_of(uint32_t cid, uint32_t port)
{
	return (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
}

int vsock_listen(uint32_t port, struct error *err)
{
	cleanup_close int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_vm address = address_of(VMADDR_CID_ANY, port);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
		return error_set_errno(err, "listen on vsock port %u", port);
	return take_fd(&fd);
}

static int connect_host(uint32_t port, int flags, struct error *err)
{
	/* The default of 2 seconds would make a failure out of a host that is only slow; one that is gone takes the
	 * guest with it. */
	const struct timeval patience = {.tv_sec = 3600};
	cleanup_close int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	struct sockaddr_vm address = address_of(VMADDR_CID_HOST, port);

	if (fd < 0 || setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience)) < 0 ||
	    (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EINPROGRESS))
		return error_set_errno(err, "connect to the host's vsock port %u", port);
	return take_fd(&fd);
}

int vsock_connect(uint32_t port, struct error *err)
{
	return connect_host(port, 0, err);
}

int vsock_connect_later(uint32_t port, struct error *err)
{
	return connect_host(port, SOCK_NONBLOCK, err);
}
