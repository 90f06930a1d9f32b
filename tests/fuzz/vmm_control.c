/*
 * The control socket: packets of any content and size, with and without descriptors, from clients that come and go.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/io.h"
#include "common/vmm_control.h"
#include "tests/fuzz/input.h"
#include "tests/unit/ring.h"
#include "vmm/control.h"
#include "vmm/virtio/vsock.h"

#define CLIENTS 4

static void send_packet(struct input *input, int fd)
{
	struct {
		struct vmm_request request;
		struct vmm_net net;
	} packet = {{VMM_CONTROL_VERSION, byte(input) % 9, 1024 + byte(input) % 32, byte(input) % 5}, {{0}, 0, 0}};
	struct vmm_request *request = &packet.request;
	uint8_t odd = byte(input);
	size_t usual = request->operation == VMM_NET_ADD ? sizeof(packet) : sizeof(*request);
	size_t size = odd & 1 ? byte(input) % (sizeof(packet) + 1) : usual;
	int fds[3], count = 0;

	if (odd & 32)
		request->port = 0;
	if (odd & 2)
		request->version = byte(input);
	if (odd & 4 && socketpair(AF_UNIX, odd & 8 ? SOCK_STREAM : SOCK_DGRAM, 0, fds) == 0)
		count = 2;
	if (odd & 16 && count == 0 && pipe(fds) == 0)
		count = 2;
	send_with_fds(fd, &packet, size, fds, count ? 1 + (odd >> 7) : 0, MSG_DONTWAIT);
	for (int i = 0; i < count; i++)
		close(fds[i]);
}

static void step(struct input *input, struct driver *driver, int *clients, const struct sockaddr_un *address,
		 socklen_t address_size)
{
	uint8_t what = byte(input);
	int *client = &clients[what % CLIENTS];
	char answer[16];

	if (*client < 0) {
		*client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
		if (connect(*client, (const struct sockaddr *)address, address_size) < 0) {
			close(*client);
			*client = -1;
		}
		return;
	}
	switch (what / CLIENTS % 8) {
	case 0:
		close(*client);
		*client = -1;
		return;
	case 1:
		driver_run(driver, 0);
		return;
	case 2:
		while (recv(*client, answer, sizeof(answer), MSG_DONTWAIT) > 0)
			;
		return;
	default:
		send_packet(input, *client);
	}
}

/* Keeps the descriptor of the last card. */
static int add_net(void *machine, int *fd, const struct vmm_net *net, uint32_t *slot)
{
	int *kept = machine;

	if (*kept >= 0 || net->mtu == 1)
		return ENOSPC;
	*kept = *fd;
	*fd = -1;
	*slot = 5;
	return 0;
}

static int remove_net(void *machine, uint32_t slot)
{
	int *kept = machine;

	if (*kept < 0 || slot % 2)
		return ENOENT;
	close(*kept);
	*kept = -1;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};
	struct driver driver;
	int kept = -1;
	const struct control_plugger plugger = {add_net, remove_net, &kept};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t address_size = sizeof(address);
	int clients[CLIENTS] = {-1, -1, -1, -1}, fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	struct control *control;

	signal(SIGPIPE, SIG_IGN);
	driver_init(&driver);
	driver_start(&driver, vsock_new(3, driver.loop, NULL));
	driver_must(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0 && listen(fd, 16) == 0 &&
			getsockname(fd, (struct sockaddr *)&address, &address_size) == 0,
		    "socket");
	control = control_new(fd, driver.device, driver.loop, NULL);
	control_on_plug(control, &plugger);
	while (input.size)
		step(&input, &driver, clients, &address, address_size);
	driver_run(&driver, 0);
	control_free(control);
	driver_free(&driver);
	for (int i = 0; i < CLIENTS; i++)
		if (clients[i] >= 0)
			close(clients[i]);
	if (kept >= 0)
		close(kept);
	return 0;
}
