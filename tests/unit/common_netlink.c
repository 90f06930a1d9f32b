#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/socket.h>

#include "common/netlink.h"

static void test_requests(void **state)
{
	struct ifinfomsg body = {.ifi_index = 7};
	struct netlink_request request;
	const struct nlmsghdr *header = (const struct nlmsghdr *)request.bytes;
	struct netlink_message message;
	struct netlink_attributes attributes, inner;
	char text[8];
	uint32_t number;
	size_t nest;

	(void)state;
	netlink_begin(&request, RTM_NEWLINK, NLM_F_CREATE, &body, sizeof(body));
	netlink_add_text(&request, IFLA_IFNAME, "eth0");
	nest = netlink_nest(&request, IFLA_LINKINFO);
	netlink_add_u32(&request, 1, 0x01020304);
	netlink_nest_end(&request, nest);
	assert_false(request.overflow);
	assert_int_equal(request.size % 4, 0);
	assert_int_equal(header->nlmsg_type, RTM_NEWLINK);
	assert_int_equal(header->nlmsg_flags, NLM_F_REQUEST | NLM_F_CREATE);
	message = (struct netlink_message){.body = NLMSG_DATA(header), .size = request.size - NLMSG_HDRLEN};
	assert_true(netlink_attributes(&message, sizeof(body), &attributes));
	assert_true(netlink_find_text(attributes, IFLA_IFNAME, text, sizeof(text)));
	assert_string_equal(text, "eth0");
	assert_true(netlink_find_nested(attributes, IFLA_LINKINFO, &inner));
	assert_true(netlink_find_u32(inner, 1, &number));
	assert_int_equal(number, 0x01020304);
	assert_false(netlink_find_u32(attributes, IFLA_MTU, &number));
	/* Neither a text that does not fit nor a number of another size. */
	assert_false(netlink_find_text(attributes, IFLA_IFNAME, text, 4));
	assert_false(netlink_find_u32(attributes, IFLA_IFNAME, &number));
}

static void test_a_request_too_large(void **state)
{
	static const char data[1000];
	struct netlink_request request;
	struct rtmsg body = {0};
	struct netlink netlink = NETLINK_NONE;
	struct error err;

	(void)state;
	netlink_begin(&request, RTM_NEWROUTE, 0, &body, sizeof(body));
	for (int i = 0; i < 5; i++)
		netlink_add(&request, RTA_DST, data, sizeof(data));
	assert_true(request.overflow);
	assert_true(request.size <= sizeof(request.bytes));
	/* It stays one, whatever follows. */
	netlink_nest_end(&request, netlink_nest(&request, 1));
	assert_int_equal(netlink_call(&netlink, &request, &err), -1);
	assert_int_equal(err.code, E2BIG);
	netlink_begin(&request, RTM_NEWROUTE, 0, &body, sizeof(body));
	assert_false(request.overflow);
	netlink_add(&request, RTA_DST, data, 70000);
	assert_true(request.overflow);
}

static void put_header(unsigned char *at, uint32_t length, uint16_t type)
{
	struct nlmsghdr header = {.nlmsg_len = length, .nlmsg_type = type};

	memcpy(at, &header, sizeof(header));
}

static void test_messages_that_are_none(void **state)
{
	_Alignas(8) unsigned char data[64] = {0};
	struct netlink_reader reader = {data, 40};
	const struct nlmsghdr *header;

	(void)state;
	put_header(data, 18, 20);
	put_header(data + 20, 20, 21);
	header = netlink_next(&reader);
	assert_non_null(header);
	assert_int_equal(header->nlmsg_type, 20);
	header = netlink_next(&reader);
	assert_non_null(header);
	assert_int_equal(header->nlmsg_type, 21);
	assert_null(netlink_next(&reader));
	/* Shorter than its header, longer than what came, the end in the middle of the padding. */
	put_header(data, 15, 20);
	assert_null(netlink_next(&(struct netlink_reader){data, 40}));
	put_header(data, 41, 20);
	assert_null(netlink_next(&(struct netlink_reader){data, 40}));
	put_header(data, 0xffffffff, 20);
	assert_null(netlink_next(&(struct netlink_reader){data, 40}));
	assert_null(netlink_next(&(struct netlink_reader){data, 15}));
	put_header(data, 17, 20);
	reader = (struct netlink_reader){data, 17};
	assert_non_null(netlink_next(&reader));
	assert_null(netlink_next(&reader));
}

static void put_attribute(unsigned char *at, uint16_t length, uint16_t type)
{
	struct rtattr attribute = {.rta_len = length, .rta_type = type};

	memcpy(at, &attribute, sizeof(attribute));
}

static void test_attributes_that_are_none(void **state)
{
	unsigned char data[32] = {0};
	struct netlink_attributes attributes = {data, 16};
	struct netlink_attribute attribute;
	struct netlink_message message = {.body = data, .size = 7};

	(void)state;
	put_attribute(data, 5, 3 | NLA_F_NESTED);
	put_attribute(data + 8, 8, 4);
	assert_true(netlink_next_attribute(&attributes, &attribute));
	assert_int_equal(attribute.type, 3);
	assert_int_equal(attribute.size, 1);
	assert_true(netlink_next_attribute(&attributes, &attribute));
	assert_int_equal(attribute.type, 4);
	assert_false(netlink_next_attribute(&attributes, &attribute));
	put_attribute(data, 3, 3);
	assert_false(netlink_next_attribute(&(struct netlink_attributes){data, 16}, &attribute));
	put_attribute(data, 17, 3);
	assert_false(netlink_next_attribute(&(struct netlink_attributes){data, 16}, &attribute));
	assert_false(netlink_next_attribute(&(struct netlink_attributes){data, 3}, &attribute));
	assert_false(netlink_attributes(&message, 8, &attributes));
	assert_true(netlink_attributes(&message, 7, &attributes));
	assert_int_equal(attributes.size, 0);
}

/* A text without an end is as long as its attribute. */
static void test_texts(void **state)
{
	unsigned char data[12] = {0};
	char text[8];

	(void)state;
	put_attribute(data, 8, 1);
	memcpy(data + 4, "abcd", 4);
	assert_true(netlink_find_text((struct netlink_attributes){data, 8}, 1, text, sizeof(text)));
	assert_string_equal(text, "abcd");
	assert_false(netlink_find_text((struct netlink_attributes){data, 8}, 1, text, 4));
}

static int count(const struct netlink_message *message, void *context, struct error *err)
{
	(void)err;
	if (message->type == RTM_NEWLINK)
		++*(int *)context;
	return 0;
}

/* With the kernel that this runs on: what anybody may ask. */
static void test_the_kernel(void **state)
{
	struct ifinfomsg body = {.ifi_family = AF_UNSPEC};
	cleanup_netlink struct netlink netlink = NETLINK_NONE;
	struct netlink_request request;
	struct error err;
	int n = 0;

	(void)state;
	if (netlink_open(&netlink, &err) < 0)
		skip();
	netlink_begin(&request, RTM_GETLINK, 0, &body, sizeof(body));
	assert_int_equal(netlink_dump(&netlink, &request, count, &n, &err), 0);
	assert_true(n >= 1);
	n = 0;
	netlink_begin(&request, RTM_GETLINK, 0, &body, sizeof(body));
	netlink_add_text(&request, IFLA_IFNAME, "lo");
	assert_int_equal(netlink_get(&netlink, &request, count, &n, &err), 0);
	assert_int_equal(n, 1);
	netlink_begin(&request, RTM_GETLINK, 0, &body, sizeof(body));
	netlink_add_text(&request, IFLA_IFNAME, "no-such-link");
	assert_int_equal(netlink_get(&netlink, &request, count, &n, &err), -1);
	assert_int_equal(err.code, ENODEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_requests),
	    cmocka_unit_test(test_a_request_too_large),
	    cmocka_unit_test(test_messages_that_are_none),
	    cmocka_unit_test(test_attributes_that_are_none),
	    cmocka_unit_test(test_texts),
	    cmocka_unit_test(test_the_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
