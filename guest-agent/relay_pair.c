#include "guest-agent/relay_pair.h"

#include <fcntl.h>

#include "common/cleanup.h"
#include "guest-agent/vsock.h"

static void direction_ended(struct relay *relay)
{
	struct relay_pair *pair = relay->owner;

	if (!pair->out.active && !pair->in.active)
		pair->ended(pair);
}

static void direction_connected(struct relay *relay, int code)
{
	struct relay_pair *pair = relay->owner;

	if (code != 0)
		pair->ended(pair);
}

/* Each direction owns both its descriptors. */
int relay_pair_start(struct relay_pair *pair, uint32_t port, struct error *err)
{
	cleanup_close int stream = vsock_connect_later(port, err);
	cleanup_close int stream_again = stream < 0 ? -1 : fcntl(stream, F_DUPFD_CLOEXEC, 3);
	cleanup_close int fd_again = fcntl(pair->fd, F_DUPFD_CLOEXEC, 3);

	if (stream < 0 || stream_again < 0 || fd_again < 0)
		return error_set_errno(err, "relay a connection");
	pair->out.owner = pair->in.owner = pair;
	pair->out.two_way = pair->in.two_way = true;
	pair->out.connected = pair->in.connected = direction_connected;
	pair->out.ended = pair->in.ended = direction_ended;
	if (relay_start(&pair->out, take_fd(&pair->fd), take_fd(&stream), false, err) < 0)
		return -1;
	return relay_start(&pair->in, take_fd(&stream_again), take_fd(&fd_again), true, err);
}

void relay_pair_stop(struct relay_pair *pair)
{
	relay_stop(&pair->out);
	relay_stop(&pair->in);
	cleanup_close_fd(&pair->fd);
	pair->fd = -1;
}
