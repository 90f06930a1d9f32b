#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <endian.h>
#include <linux/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/agent_protocol.h"
#include "runtime/resolver.h"

#define WAIT_MS 2000

static struct resolver resolver = {.stream = -1};
static int guest = -1, server = -1;
static uint32_t next_port;

static uint32_t connected(int fd, void *owner)
{
	assert_ptr_equal(owner, &next_port);
	assert_true(fd >= 0);
	return next_port;
}

/* A network namespace of our own, where 127.0.0.11 port 53 is free and ours to take. */
static int set_up(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(AGENT_RESOLVER_PORT),
				      .sin_addr.s_addr = htonl(AGENT_RESOLVER_ADDRESS)};
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	struct error err;
	int ends[2];

	(void)state;
	if (unshare(geteuid() == 0 ? CLONE_NEWNET : CLONE_NEWNET | CLONE_NEWUSER) < 0)
		return 0;
	server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (ioctl(server, SIOCSIFFLAGS, &request) < 0 || resolver_is_there() ||
	    bind(server, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	if (!resolver_is_there() || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	guest = ends[0];
	resolver.connect = connected;
	resolver.owner = &next_port;
	return resolver_open(&resolver, ends[1], &err);
}

static int tear_down(void **state)
{
	(void)state;
	if (guest >= 0)
		close(guest);
	if (server >= 0)
		close(server);
	resolver_close(&resolver);
	guest = server = -1;
	return 0;
}

/* One turn of the loop. */
static void serve(void)
{
	struct pollfd polled[RESOLVER_POLLS_MAX];
	size_t n = resolver_poll(&resolver, polled);

	assert_true(n > 0);
	assert_int_not_equal(poll(polled, n, WAIT_MS), 0);
	resolver_serve(&resolver, polled, n);
}

static void send_frame(uint32_t tag, unsigned kind, const void *data, size_t size)
{
	struct agent_resolver_frame frame = {htole32(tag), htole16((uint16_t)kind), htole16((uint16_t)size)};

	assert_int_equal(send(guest, &frame, sizeof(frame), 0), sizeof(frame));
	serve();
	if (size > 0) {
		assert_int_equal(send(guest, data, size, 0), size);
		serve();
	}
}

static void expect_frame(uint32_t tag, unsigned kind, const void *data, size_t size)
{
	struct agent_resolver_frame frame;
	char got[64];

	assert_int_equal(recv(guest, &frame, sizeof(frame), MSG_WAITALL), sizeof(frame));
	assert_int_equal(le32toh(frame.tag), tag);
	assert_int_equal(le16toh(frame.kind), kind);
	assert_int_equal(le16toh(frame.size), size);
	assert_int_equal(recv(guest, got, size, MSG_WAITALL), size);
	assert_memory_equal(got, data, size);
}

static struct sockaddr_in expect_question(const char *text)
{
	struct sockaddr_in asker;
	socklen_t length = sizeof(asker);
	char got[64] = "";

	assert_int_equal(recvfrom(server, got, sizeof(got) - 1, 0, (struct sockaddr *)&asker, &length), strlen(text));
	assert_string_equal(got, text);
	return asker;
}

static void reply(const struct sockaddr_in *asker, const char *text)
{
	assert_int_equal(sendto(server, text, strlen(text), 0, (const struct sockaddr *)asker, sizeof(*asker)),
			 strlen(text));
}

static void test_questions(void **state)
{
	struct sockaddr_in first, second;

	(void)state;
	if (guest < 0)
		skip();
	send_frame(7, AGENT_RESOLVER_DATAGRAM, "one", 3);
	send_frame(8, AGENT_RESOLVER_DATAGRAM, "two", 3);
	first = expect_question("one");
	second = expect_question("two");
	assert_int_not_equal(first.sin_port, second.sin_port);
	reply(&second, "second");
	serve();
	expect_frame(8, AGENT_RESOLVER_DATAGRAM, "second", 6);
	reply(&first, "first");
	serve();
	expect_frame(7, AGENT_RESOLVER_DATAGRAM, "first", 5);
	/* An answer to nobody's question goes nowhere. */
	sendto(server, "late", 4, 0, (const struct sockaddr *)&first, sizeof(first));
}

static void test_more_questions_than_places(void **state)
{
	(void)state;
	if (guest < 0)
		skip();
	for (uint32_t i = 0; i < RESOLVER_QUESTIONS_MAX + 5; i++)
		send_frame(i + 1, AGENT_RESOLVER_DATAGRAM, "q", 1);
	for (uint32_t i = 0; i < RESOLVER_QUESTIONS_MAX; i++)
		expect_question("q");
	assert_int_equal(recv(server, &(char){0}, 1, MSG_DONTWAIT), -1);
}

static void test_connections(void **state)
{
	uint32_t port = htole32(4711), none = 0;

	(void)state;
	if (guest < 0)
		skip();
	next_port = 4711;
	send_frame(3, AGENT_RESOLVER_CONNECTION, NULL, 0);
	expect_frame(3, AGENT_RESOLVER_CONNECTION, &port, sizeof(port));
	next_port = 0;
	send_frame(4, AGENT_RESOLVER_CONNECTION, NULL, 0);
	expect_frame(4, AGENT_RESOLVER_CONNECTION, &none, sizeof(none));
	/* It holds no bytes. */
	send_frame(5, AGENT_RESOLVER_CONNECTION, "x", 1);
	assert_int_equal(resolver.stream, -1);
}

static void test_a_bad_agent(void **state)
{
	(void)state;
	if (guest < 0)
		skip();
	send_frame(1, 9, NULL, 0);
	assert_int_equal(resolver.stream, -1);
	assert_int_equal(resolver_poll(&resolver, NULL), 0);
}

static void test_an_agent_that_goes(void **state)
{
	(void)state;
	if (guest < 0)
		skip();
	send_frame(1, AGENT_RESOLVER_DATAGRAM, "q", 1);
	close(guest);
	guest = -1;
	serve();
	assert_int_equal(resolver.stream, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_questions, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_more_questions_than_places, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_connections, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_a_bad_agent, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_an_agent_that_goes, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
