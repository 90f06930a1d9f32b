#include "runtime/resolver.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"

#define FRAME sizeof(struct agent_resolver_frame)
#define BUFFER (FRAME + RESOLVER_DATAGRAM_MAX)

/* A question whose place another one needs; the resolver asks others for up to some seconds. */
#define OLD_NS INT64_C(10000000000)

/* The kernel's tables of sockets show addresses as they lie in memory. */
bool resolver_is_there(void)
{
	cleanup_file FILE *table = fopen("/proc/self/net/udp", "re");
	char line[256], local[16];

	snprintf(local, sizeof(local), ": %08X:", htonl(AGENT_RESOLVER_ADDRESS));
	while (table && fgets(line, sizeof(line), table))
		if (strstr(line, local))
			return true;
	return false;
}

int resolver_open(struct resolver *resolver, int stream, struct error *err)
{
	resolver->stream = stream;
	resolver->in = malloc(BUFFER);
	resolver->out = malloc(BUFFER);
	for (size_t i = 0; i < RESOLVER_QUESTIONS_MAX; i++)
		resolver->questions[i].fd = -1;
	if (resolver->in && resolver->out)
		return 0;
	error_set_errno(err, "make room for a resolver");
	resolver_close(resolver);
	return -1;
}

void resolver_close(struct resolver *resolver)
{
	for (size_t i = 0; resolver->stream >= 0 && i < RESOLVER_QUESTIONS_MAX; i++)
		cleanup_close_fd(&resolver->questions[i].fd);
	cleanup_close_fd(&resolver->stream);
	free(resolver->in);
	free(resolver->out);
	*resolver = RESOLVER_NONE;
}

/* --- to the agent ------------------------------------------------------------------------------------------------ */

static bool has_room(const struct resolver *resolver)
{
	return resolver->out_used == 0;
}

static void flush(struct resolver *resolver)
{
	while (resolver->out_sent < resolver->out_used) {
		ssize_t n = send(resolver->stream, resolver->out + resolver->out_sent,
				 resolver->out_used - resolver->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		/* When the agent has gone, that is seen where its questions are read. */
		if (n < 0)
			return;
		resolver->out_sent += (size_t)n;
	}
	resolver->out_used = resolver->out_sent = 0;
}

/* The bytes are in their place already. */
static void send_frame(struct resolver *resolver, uint32_t tag, unsigned kind, size_t size)
{
	struct agent_resolver_frame frame = {
	    .tag = htole32(tag), .kind = htole16((uint16_t)kind), .size = htole16((uint16_t)size)};

	memcpy(resolver->out, &frame, sizeof(frame));
	resolver->out_used = FRAME + size;
	resolver->out_sent = 0;
	flush(resolver);
}

/* --- to the resolver --------------------------------------------------------------------------------------------- */

static int connect_to_resolver(int type)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(AGENT_RESOLVER_PORT),
				      .sin_addr.s_addr = htonl(AGENT_RESOLVER_ADDRESS)};
	cleanup_close int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* On the same host, so that it is decided at once, but for what the kernel does later. */
	if (fd < 0 || (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EINPROGRESS))
		return -1;
	return take_fd(&fd);
}

static struct resolver_question *find_place(struct resolver *resolver)
{
	struct resolver_question *oldest = &resolver->questions[0];

	for (size_t i = 0; i < RESOLVER_QUESTIONS_MAX; i++) {
		if (resolver->questions[i].fd < 0)
			return &resolver->questions[i];
		if (resolver->questions[i].since < oldest->since)
			oldest = &resolver->questions[i];
	}
	if (now_ns() - oldest->since < OLD_NS)
		return NULL;
	close(oldest->fd);
	oldest->fd = -1;
	return oldest;
}

/* Each from a socket of its own, as the questions of different programs are. */
static void ask(struct resolver *resolver, uint32_t tag, const void *data, size_t size)
{
	struct resolver_question *question = find_place(resolver);

	if (!question)
		return;
	question->fd = connect_to_resolver(SOCK_DGRAM);
	question->tag = tag;
	question->since = now_ns();
	if (question->fd >= 0 && send(question->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		close(question->fd);
		question->fd = -1;
	}
}

static void make_connection(struct resolver *resolver, uint32_t tag)
{
	cleanup_close int fd = connect_to_resolver(SOCK_STREAM);
	uint32_t port = htole32(fd < 0 ? 0 : resolver->connect(fd, resolver->owner));

	memcpy(resolver->out + FRAME, &port, sizeof(port));
	send_frame(resolver, tag, AGENT_RESOLVER_CONNECTION, sizeof(port));
}

static void pass_answer(struct resolver *resolver, struct resolver_question *question)
{
	ssize_t n = recv(question->fd, resolver->out + FRAME, RESOLVER_DATAGRAM_MAX, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	close(question->fd);
	question->fd = -1;
	if (n >= 0)
		send_frame(resolver, question->tag, AGENT_RESOLVER_DATAGRAM, (size_t)n);
}

/* --- from the agent ---------------------------------------------------------------------------------------------- */

/* Returns 0, or -1 when it is none. */
static int take_frame(struct resolver *resolver, const struct agent_resolver_frame *frame)
{
	size_t size = le16toh(frame->size);

	switch (le16toh(frame->kind)) {
	case AGENT_RESOLVER_DATAGRAM:
		ask(resolver, le32toh(frame->tag), resolver->in + FRAME, size);
		return 0;
	case AGENT_RESOLVER_CONNECTION:
		if (size == 0)
			make_connection(resolver, le32toh(frame->tag));
		return size == 0 ? 0 : -1;
	default:
		return -1;
	}
}

/* One frame at most: its answer may need the room. */
static int read_frame(struct resolver *resolver)
{
	struct agent_resolver_frame frame = {0};
	size_t wanted = FRAME;
	ssize_t n;

	if (resolver->in_used >= FRAME) {
		memcpy(&frame, resolver->in, FRAME);
		wanted += le16toh(frame.size);
	}
	n = recv(resolver->stream, resolver->in + resolver->in_used, wanted - resolver->in_used, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	resolver->in_used += (size_t)n;
	if (resolver->in_used < FRAME)
		return 0;
	memcpy(&frame, resolver->in, FRAME);
	if (resolver->in_used < FRAME + le16toh(frame.size))
		return 0;
	resolver->in_used = 0;
	return take_frame(resolver, &frame);
}

/* --- the loop's side --------------------------------------------------------------------------------------------- */

size_t resolver_poll(const struct resolver *resolver, struct pollfd *polled)
{
	size_t n = 0;

	if (resolver->stream < 0)
		return 0;
	/* While the agent takes nothing, it is asked for nothing. */
	polled[n++] = (struct pollfd){.fd = resolver->stream, .events = has_room(resolver) ? POLLIN : POLLOUT};
	for (size_t i = 0; has_room(resolver) && i < RESOLVER_QUESTIONS_MAX; i++)
		if (resolver->questions[i].fd >= 0)
			polled[n++] = (struct pollfd){.fd = resolver->questions[i].fd, .events = POLLIN};
	return n;
}

static void serve_question(struct resolver *resolver, int fd)
{
	for (size_t i = 0; i < RESOLVER_QUESTIONS_MAX; i++)
		if (resolver->questions[i].fd == fd && has_room(resolver)) {
			pass_answer(resolver, &resolver->questions[i]);
			return;
		}
}

void resolver_serve(struct resolver *resolver, const struct pollfd *polled, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (polled[i].revents)
			serve_question(resolver, polled[i].fd);
	if (n == 0 || !polled[0].revents)
		return;
	flush(resolver);
	if (has_room(resolver) && read_frame(resolver) < 0) {
		log_line("the guest no longer asks the engine's resolver");
		resolver_close(resolver);
	}
}
