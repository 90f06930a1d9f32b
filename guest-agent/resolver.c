#include "guest-agent/resolver.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "common/cleanup.h"
#include "guest-agent/loop.h"
#include "guest-agent/relay_pair.h"
#include "guest-agent/vsock.h"

#define FRAME sizeof(struct agent_resolver_frame)
#define DATAGRAM_MAX 65535
#define BUFFER (FRAME + DATAGRAM_MAX)

#define ASKERS_MAX 256 /* the last so many questions that an answer may come to */
#define CONNECTIONS_MAX 64
#define BACKLOG 16

struct asker {
	uint32_t tag;
	struct sockaddr_in address;
};

/* A TCP connection of the container to the resolver. */
struct resolver_connection {
	struct resolver_connection *next;
	struct resolver *resolver; /* NULL: that has gone */
	uint32_t tag;
	struct relay_pair pair;
};

struct resolver {
	struct watch datagrams, listener, stream;
	bool connected;
	uint32_t last_tag;
	struct asker askers[ASKERS_MAX];
	struct resolver_connection *connections;
	unsigned n_connections;
	size_t in_used, out_used, out_sent;
	unsigned char in[BUFFER], out[BUFFER];
};

static void close_watch(struct watch *watch)
{
	int fd = watch->fd;

	loop_remove(watch);
	if (fd >= 0)
		close(fd);
}

/* --- programs ---------------------------------------------------------------------------------------------------- */

size_t resolver_compile(uint16_t from, uint16_t to, uint8_t protocol, struct bpf_insn code[RESOLVER_PROGRAM_MAX])
{
	static const uint8_t load = BPF_LDX | BPF_W | BPF_MEM, unequal = BPF_JMP | BPF_JNE | BPF_K;
	size_t n = 0;

	code[n++] = (struct bpf_insn){load, 2, 1, offsetof(struct bpf_sock_addr, user_ip4), 0};
	code[n++] =
	    (struct bpf_insn){unequal, 2, 0, (int16_t)(protocol ? 6 : 4), (int32_t)htonl(AGENT_RESOLVER_ADDRESS)};
	if (protocol) {
		code[n++] = (struct bpf_insn){load, 2, 1, offsetof(struct bpf_sock_addr, protocol), 0};
		code[n++] = (struct bpf_insn){unequal, 2, 0, 4, protocol};
	}
	code[n++] = (struct bpf_insn){load, 2, 1, offsetof(struct bpf_sock_addr, user_port), 0};
	code[n++] = (struct bpf_insn){unequal, 2, 0, 2, from};
	code[n++] = (struct bpf_insn){BPF_ALU | BPF_MOV | BPF_K, 2, 0, 0, to};
	code[n++] = (struct bpf_insn){BPF_STX | BPF_W | BPF_MEM, 1, 2, offsetof(struct bpf_sock_addr, user_port), 0};
	code[n++] = (struct bpf_insn){BPF_ALU | BPF_MOV | BPF_K, 0, 0, 0, 1};
	code[n++] = (struct bpf_insn){BPF_JMP | BPF_EXIT, 0, 0, 0, 0};
	return n;
}

static int attach(int cgroup, unsigned place, uint16_t from, uint16_t to, uint8_t protocol)
{
	static const char license[] = "Apache-2.0";
	struct bpf_insn code[RESOLVER_PROGRAM_MAX];
	union bpf_attr load = {
	    .prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
	    .insns = (uintptr_t)code,
	    .insn_cnt = (uint32_t)resolver_compile(from, to, protocol, code),
	    .license = (uintptr_t)license,
	    .expected_attach_type = place,
	};
	union bpf_attr attaching = {
	    .target_fd = (uint32_t)cgroup, .attach_type = place, .attach_flags = BPF_F_ALLOW_MULTI};
	cleanup_close int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));

	if (program < 0)
		return -1;
	attaching.attach_bpf_fd = (uint32_t)program;
	return (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attaching, sizeof(attaching));
}

/* They go with the cgroup. */
static int attach_all(int cgroup, uint16_t udp, uint16_t tcp, struct error *err)
{
	uint16_t known = htons(AGENT_RESOLVER_PORT);

	if (attach(cgroup, BPF_CGROUP_INET4_CONNECT, known, udp, IPPROTO_UDP) < 0 ||
	    attach(cgroup, BPF_CGROUP_INET4_CONNECT, known, tcp, IPPROTO_TCP) < 0 ||
	    attach(cgroup, BPF_CGROUP_UDP4_SENDMSG, known, udp, 0) < 0 ||
	    attach(cgroup, BPF_CGROUP_UDP4_RECVMSG, udp, known, 0) < 0)
		return error_set_errno(err, "resolver: attach a program to the container's cgroup");
	return 0;
}

/* --- to the host ------------------------------------------------------------------------------------------------- */

static bool has_room(const struct resolver *resolver)
{
	return resolver->connected && resolver->out_used == 0;
}

/* Questions are read only while there is room for one: others wait in their sockets, and in the end are lost. */
static void update_watches(struct resolver *resolver)
{
	uint32_t wanted = has_room(resolver) ? EPOLLIN : 0;

	if (resolver->datagrams.fd >= 0)
		loop_set(&resolver->datagrams, wanted);
	if (resolver->listener.fd >= 0)
		loop_set(&resolver->listener, wanted);
	if (resolver->stream.fd >= 0)
		loop_set(&resolver->stream, has_room(resolver) ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

static void flush(struct resolver *resolver)
{
	while (resolver->out_sent < resolver->out_used) {
		ssize_t n = send(resolver->stream.fd, resolver->out + resolver->out_sent,
				 resolver->out_used - resolver->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			break;
		resolver->out_sent += (size_t)n;
	}
	if (resolver->out_sent == resolver->out_used)
		resolver->out_sent = resolver->out_used = 0;
	update_watches(resolver);
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

static void datagram_ready(struct watch *watch, uint32_t events)
{
	struct resolver *resolver = (struct resolver *)((char *)watch - offsetof(struct resolver, datagrams));
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	struct asker *asker;
	ssize_t n;

	(void)events;
	if (!has_room(resolver))
		return;
	n = recvfrom(watch->fd, resolver->out + FRAME, DATAGRAM_MAX, MSG_DONTWAIT, (struct sockaddr *)&address,
		     &length);
	if (n < 0 || length != sizeof(address))
		return;
	asker = &resolver->askers[++resolver->last_tag % ASKERS_MAX];
	*asker = (struct asker){.tag = resolver->last_tag, .address = address};
	send_frame(resolver, asker->tag, AGENT_RESOLVER_DATAGRAM, (size_t)n);
}

/* --- TCP connections --------------------------------------------------------------------------------------------- */

static void unlink_connection(struct resolver_connection *connection)
{
	struct resolver_connection **link;

	if (!connection->resolver)
		return;
	link = &connection->resolver->connections;
	while (*link != connection)
		link = &(*link)->next;
	*link = connection->next;
	connection->resolver->n_connections--;
}

static void end_connection(struct resolver_connection *connection)
{
	unlink_connection(connection);
	relay_pair_stop(&connection->pair);
	free(connection);
}

static void pair_ended(struct relay_pair *pair)
{
	end_connection(pair->owner);
}

static void settle_connection(struct resolver *resolver, uint32_t tag, uint32_t port)
{
	struct resolver_connection *connection = resolver->connections;
	struct error err;

	while (connection && (connection->tag != tag || connection->pair.fd < 0))
		connection = connection->next;
	if (connection && (port == 0 || relay_pair_start(&connection->pair, port, &err) < 0))
		end_connection(connection);
}

static void connection_ready(struct watch *watch, uint32_t events)
{
	struct resolver *resolver = (struct resolver *)((char *)watch - offsetof(struct resolver, listener));
	struct resolver_connection *connection;
	int fd;

	(void)events;
	if (!has_room(resolver))
		return;
	fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	connection = resolver->n_connections < CONNECTIONS_MAX ? calloc(1, sizeof(*connection)) : NULL;
	if (!connection) {
		close(fd);
		return;
	}
	connection->resolver = resolver;
	connection->tag = ++resolver->last_tag;
	connection->pair = (struct relay_pair){.fd = fd, .ended = pair_ended, .owner = connection};
	connection->next = resolver->connections;
	resolver->connections = connection;
	resolver->n_connections++;
	send_frame(resolver, connection->tag, AGENT_RESOLVER_CONNECTION, 0);
}

/* --- from the host ----------------------------------------------------------------------------------------------- */

static void take_answer(struct resolver *resolver, uint32_t tag, size_t size)
{
	const struct asker *asker = &resolver->askers[tag % ASKERS_MAX];

	if (asker->tag != tag || tag == 0)
		return;
	/* One that does not fit or whom nobody waits for is lost, as datagrams are. */
	sendto(resolver->datagrams.fd, resolver->in + FRAME, size, MSG_DONTWAIT | MSG_NOSIGNAL,
	       (const struct sockaddr *)&asker->address, sizeof(asker->address));
}

static void take_frame(struct resolver *resolver, const struct agent_resolver_frame *frame)
{
	uint32_t port;

	if (le16toh(frame->kind) == AGENT_RESOLVER_DATAGRAM)
		take_answer(resolver, le32toh(frame->tag), le16toh(frame->size));
	else if (le16toh(frame->size) == sizeof(port)) {
		memcpy(&port, resolver->in + FRAME, sizeof(port));
		settle_connection(resolver, le32toh(frame->tag), le32toh(port));
	}
}

static void read_stream(struct resolver *resolver)
{
	struct agent_resolver_frame frame = {0};
	size_t wanted = FRAME;
	ssize_t n;

	if (resolver->in_used >= FRAME) {
		memcpy(&frame, resolver->in, FRAME);
		wanted += le16toh(frame.size);
	}
	n = recv(resolver->stream.fd, resolver->in + resolver->in_used, wanted - resolver->in_used, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		/* hull-net has gone: nobody answers any more. */
		close_watch(&resolver->stream);
		resolver->connected = false;
		update_watches(resolver);
		return;
	}
	resolver->in_used += (size_t)n;
	if (resolver->in_used < FRAME)
		return;
	memcpy(&frame, resolver->in, FRAME);
	if (resolver->in_used < FRAME + le16toh(frame.size))
		return;
	resolver->in_used = 0;
	take_frame(resolver, &frame);
}

static void stream_ready(struct watch *watch, uint32_t events)
{
	struct resolver *resolver = (struct resolver *)((char *)watch - offsetof(struct resolver, stream));

	if (events & EPOLLOUT) {
		resolver->connected = true;
		flush(resolver);
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		read_stream(resolver);
}

/* --- beginning and end ------------------------------------------------------------------------------------------- */

/* Returns the port, as the network has it, or -1. */
static int bind_any(int fd)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(AGENT_RESOLVER_ADDRESS)};
	socklen_t length = sizeof(address);

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		return -1;
	return address.sin_port;
}

static int open_sockets(struct resolver *resolver, uint32_t port, int cgroup, struct error *err)
{
	int datagrams = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int stream = vsock_connect_later(port, err);
	int udp = bind_any(datagrams), tcp = bind_any(listener);

	/* What is watched is closed with the resolver. */
	if (datagrams >= 0 && loop_add(&resolver->datagrams, datagrams, 0) < 0)
		close(datagrams);
	if (listener >= 0 && loop_add(&resolver->listener, listener, 0) < 0)
		close(listener);
	if (stream >= 0 && loop_add(&resolver->stream, stream, EPOLLIN | EPOLLOUT) < 0)
		close(stream);
	if (stream < 0)
		return -1;
	if (udp < 0 || tcp < 0 || listen(listener, BACKLOG) < 0 || resolver->datagrams.fd < 0 ||
	    resolver->listener.fd < 0 || resolver->stream.fd < 0)
		return error_set_errno(err, "resolver: listen in the container's network namespace");
	return attach_all(cgroup, (uint16_t)udp, (uint16_t)tcp, err);
}

struct resolver *resolver_new(uint32_t port, int cgroup, struct error *err)
{
	struct resolver *resolver = calloc(1, sizeof(*resolver));

	if (!resolver) {
		error_set_errno(err, "resolver");
		return NULL;
	}
	resolver->datagrams = (struct watch){.fd = -1, .ready = datagram_ready};
	resolver->listener = (struct watch){.fd = -1, .ready = connection_ready};
	resolver->stream = (struct watch){.fd = -1, .ready = stream_ready};
	if (open_sockets(resolver, port, cgroup, err) == 0)
		return resolver;
	resolver_free(resolver);
	return NULL;
}

void resolver_free(struct resolver *resolver)
{
	struct resolver_connection *connection, *next;

	if (!resolver)
		return;
	close_watch(&resolver->datagrams);
	close_watch(&resolver->listener);
	close_watch(&resolver->stream);
	for (connection = resolver->connections; connection; connection = next) {
		next = connection->next;
		if (connection->pair.fd >= 0)
			end_connection(connection);
		else
			/* What is joined goes on by itself until both its ends have had enough. */
			connection->resolver = NULL;
	}
	free(resolver);
}
