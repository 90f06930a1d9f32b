#include "guest-agent/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Theory of operation: while the buffer is empty the source is watched for EPOLLIN and the destination for nothing but
 * its end; while it is not, the other way round. That the host has given a stream up shows as EPOLLRDHUP on vsock: it
 * sends nothing over an output's stream, so the end of what it sends can mean nothing else. Of a socket that is used
 * both ways it means only that the other direction is over. */

#define TURNS 8 /* buffers in a row for one stream before others get their turn */

void relay_stop(struct relay *relay)
{
	if (!relay->active)
		return;
	relay->active = false;
	loop_remove(&relay->source);
	loop_remove(&relay->destination);
	close(relay->source_fd);
	close(relay->destination_fd);
	free(relay->buffer);
	relay->buffer = NULL;
}

static void end(struct relay *relay)
{
	/* For a socket this queues the end of the stream behind the data; for a pipe close is all there is. */
	shutdown(relay->destination_fd, SHUT_WR);
	relay_stop(relay);
	relay->ended(relay);
}

static uint32_t end_of_destination(const struct relay *relay)
{
	return relay->two_way ? 0 : EPOLLRDHUP;
}

static void wait_for_source(struct relay *relay)
{
	loop_set(&relay->destination, end_of_destination(relay));
	if (relay->source.fd >= 0)
		loop_set(&relay->source, EPOLLIN);
	else if (loop_add(&relay->source, relay->source_fd, EPOLLIN) < 0)
		end(relay);
}

static void wait_for_destination(struct relay *relay)
{
	loop_set(&relay->source, 0);
	loop_set(&relay->destination, EPOLLOUT | end_of_destination(relay));
}

/* 1: the buffer has something; 0: nothing there now; -1: the source has ended. */
static int fill(struct relay *relay)
{
	ssize_t n;

	do
		n = read(relay->source_fd, relay->buffer, RELAY_BUFFER);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return relay->finishing ? -1 : 0;
	if (n <= 0)
		return -1;
	relay->start = 0;
	relay->end = (size_t)n;
	return 1;
}

/* 1: the buffer is empty; 0: the destination takes no more now; -1: nor will it ever. Signals are blocked in the agent,
 * so a broken pipe is only an error. */
static int drain(struct relay *relay)
{
	while (relay->start < relay->end) {
		ssize_t n = write(relay->destination_fd, relay->buffer + relay->start, relay->end - relay->start);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		relay->start += (size_t)n;
		relay->moved += (uint64_t)n;
	}
	return 1;
}

static void move(struct relay *relay)
{
	for (int turn = 0; turn < TURNS; turn++) {
		int status = drain(relay);

		if (status < 0)
			return end(relay);
		if (status == 0)
			return wait_for_destination(relay);
		status = fill(relay);
		if (status < 0)
			return end(relay);
		if (status == 0)
			return wait_for_source(relay);
	}
	/* The buffer is full and the destination may have room: it will say so at once. */
	wait_for_destination(relay);
}

/* The other side is watched from now on: a source for data, a destination for errors. */
static int watch_pipe(struct relay *relay)
{
	uint32_t destination = end_of_destination(relay);

	if (relay->destination.fd < 0 && loop_add(&relay->destination, relay->destination_fd, destination) < 0)
		return -1;
	if (relay->source.fd < 0 && loop_add(&relay->source, relay->source_fd, EPOLLIN) < 0)
		return -1;
	loop_set(&relay->source, EPOLLIN);
	loop_set(&relay->destination, destination);
	return 0;
}

static void finish_connecting(struct relay *relay, int socket)
{
	int code = 0;
	socklen_t size = sizeof(code);

	if (getsockopt(socket, SOL_SOCKET, SO_ERROR, &code, &size) < 0)
		code = errno;
	relay->connecting = false;
	if (code == 0 && watch_pipe(relay) < 0)
		code = errno;
	/* The owner may stop the relay, so this comes last. */
	if (relay->connected)
		relay->connected(relay, code);
}

static void source_ready(struct watch *watch, uint32_t events)
{
	struct relay *relay = (struct relay *)((char *)watch - offsetof(struct relay, source));

	(void)events;
	if (relay->connecting)
		finish_connecting(relay, watch->fd);
	/* The source has been hung up while the buffer waits for the destination. Nobody asked for that now, and epoll
	 * would report it for ever. */
	else if (relay->start < relay->end)
		loop_remove(watch);
	else
		move(relay);
}

static void destination_ready(struct watch *watch, uint32_t events)
{
	struct relay *relay = (struct relay *)((char *)watch - offsetof(struct relay, destination));

	if (relay->connecting)
		finish_connecting(relay, watch->fd);
	else if (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP))
		end(relay);
	else
		move(relay);
}

static int watch_socket(struct relay *relay, bool socket_is_source)
{
	relay->source.ready = source_ready;
	relay->destination.ready = destination_ready;
	/* A pipe's events mean nothing before the socket is connected: its watch may report only a hang-up, which would
	 * come again and again. So it is added when it is needed. */
	if (socket_is_source)
		return loop_add(&relay->source, relay->source_fd, EPOLLOUT);
	return loop_add(&relay->destination, relay->destination_fd, EPOLLOUT);
}

int relay_start(struct relay *relay, int source, int destination, bool socket_is_source, struct error *err)
{
	relay->source = relay->destination = (struct watch)WATCH_NONE;
	relay->source_fd = source;
	relay->destination_fd = destination;
	relay->start = relay->end = 0;
	relay->finishing = false;
	relay->active = relay->connecting = true;
	relay->buffer = malloc(RELAY_BUFFER);
	if (!relay->buffer || watch_socket(relay, socket_is_source) < 0) {
		error_set_errno(err, "set up a stream");
		relay_stop(relay);
		return -1;
	}
	return 0;
}

void relay_finish(struct relay *relay)
{
	if (!relay->active)
		return;
	relay->finishing = true;
	if (!relay->connecting)
		move(relay);
}
