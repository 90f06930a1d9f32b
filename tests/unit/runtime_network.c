#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <linux/fib_rules.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "runtime/network.h"
#include "runtime/network_facts.h"

static const struct network_links links = {.n = 1, .list = {{.index = 7, .name = "eth0"}}};

/* --- facts ------------------------------------------------------------------------------------------------------- */

/* What a message of the kernel, as it stands in a request, becomes: hexadecimal digits, or "". */
static const char *take(const struct netlink_request *request)
{
	static char text[4096];
	const struct nlmsghdr *header = (const struct nlmsghdr *)request->bytes;
	struct netlink_message message = {
	    .type = header->nlmsg_type, .body = NLMSG_DATA(header), .size = request->size - NLMSG_HDRLEN};
	struct network_fact fact;
	struct error err;
	int taken = network_fact_take(&message, &links, &fact, &err);
	size_t used = 0;

	assert_true(taken >= 0);
	text[0] = '\0';
	if (taken == 0)
		return text;
	used = (size_t)sprintf(text, "%d%s ", fact.kind, fact.last ? "+" : "");
	for (size_t i = 0; i < fact.size; i++)
		used += (size_t)sprintf(text + used, "%02x", fact.data[i]);
	free(fact.data);
	return text;
}

static const char *take_address(unsigned char family, int index, uint32_t flags, const char *address, size_t size)
{
	struct ifaddrmsg body = {
	    .ifa_family = family, .ifa_prefixlen = 24, .ifa_flags = (uint8_t)flags, .ifa_index = (unsigned)index};
	struct ifa_cacheinfo cache = {0};
	struct netlink_request request;

	netlink_begin(&request, RTM_NEWADDR, 0, &body, sizeof(body));
	netlink_add(&request, IFA_ADDRESS, address, size);
	netlink_add(&request, IFA_CACHEINFO, &cache, sizeof(cache));
	netlink_add_u32(&request, IFA_FLAGS, flags);
	return take(&request);
}

static void test_addresses(void **state)
{
	static const char ipv6[16] = "\xfd\x09", one6[16] = {[15] = 1};

	(void)state;
	assert_string_equal(take_address(AF_INET, 7, IFA_F_PERMANENT, "\x0a\x09\x00\x02", 4),
			    "0 0218000007000000080001000a0900020800080000000000");
	/* No detection of duplicates, and what is a state is left out. */
	assert_string_equal(take_address(AF_INET6, 7, IFA_F_PERMANENT | IFA_F_TENTATIVE, ipv6, 16),
			    "0 0a1802000700000014000100fd0900000000000000000000000000000800080002000000");
	assert_string_equal(take_address(AF_INET, 7, IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE, "\x0a\x09\x00\x02", 4),
			    "0 0218000007000000080001000a0900020800080000020000");
	/* A lease; an announcement; a duplicate; another interface; what lo has in any case, and what it has not. */
	assert_string_not_equal(take_address(AF_INET, 7, 0, "\x0a\x09\x00\x02", 4), "");
	assert_string_equal(take_address(AF_INET6, 7, 0, ipv6, 16), "");
	assert_string_equal(take_address(AF_INET6, 7, IFA_F_PERMANENT | IFA_F_DADFAILED, ipv6, 16), "");
	assert_string_equal(take_address(AF_INET, 8, IFA_F_PERMANENT, "\x0a\x09\x00\x02", 4), "");
	assert_string_equal(take_address(AF_INET, 1, IFA_F_PERMANENT, "\x7f\x00\x00\x01", 4), "");
	assert_string_equal(take_address(AF_INET6, 1, IFA_F_PERMANENT, one6, 16), "");
	assert_string_not_equal(take_address(AF_INET, 1, IFA_F_PERMANENT, "\x0a\x00\x00\x01", 4), "");
}

static void begin_route(struct netlink_request *request, unsigned protocol, unsigned type, unsigned table)
{
	struct rtmsg body = {.rtm_family = AF_INET,
			     .rtm_protocol = (unsigned char)protocol,
			     .rtm_type = (unsigned char)type,
			     .rtm_table = (unsigned char)table,
			     .rtm_flags = RTNH_F_LINKDOWN | RTNH_F_ONLINK};

	netlink_begin(request, RTM_NEWROUTE, 0, &body, sizeof(body));
}

static void add_way(struct netlink_request *request, int first, int second)
{
	struct rtnexthop ways[2] = {{.rtnh_len = sizeof(ways[0]), .rtnh_ifindex = first},
				    {.rtnh_len = sizeof(ways[0]), .rtnh_ifindex = second}};

	netlink_add(request, RTA_MULTIPATH, ways, sizeof(ways));
}

static void test_routes(void **state)
{
	struct netlink_request request;

	(void)state;
	begin_route(&request, RTPROT_BOOT, RTN_UNICAST, RT_TABLE_MAIN);
	netlink_add_u32(&request, RTA_GATEWAY, 0x0100090a);
	netlink_add_u32(&request, RTA_OIF, 7);
	netlink_add_u32(&request, RTA_CACHEINFO, 0);
	assert_string_equal(take(&request), "1+ 02000000fe0300010400000008000500"
					    "0a090001"
					    "0800040007000000");
	begin_route(&request, RTPROT_STATIC, RTN_UNICAST, 100);
	netlink_add_u32(&request, RTA_OIF, 7);
	assert_string_equal(take(&request), "1 02000000640400010400000008000400"
					    "07000000");
	begin_route(&request, RTPROT_BOOT, RTN_BLACKHOLE, RT_TABLE_MAIN);
	assert_string_not_equal(take(&request), "");
	begin_route(&request, RTPROT_BOOT, RTN_UNICAST, RT_TABLE_MAIN);
	add_way(&request, 7, 1);
	assert_string_not_equal(take(&request), "");
	/* By way of an interface that the guest does not have; and what comes by itself. */
	begin_route(&request, RTPROT_BOOT, RTN_UNICAST, RT_TABLE_MAIN);
	add_way(&request, 7, 8);
	assert_string_equal(take(&request), "");
	begin_route(&request, RTPROT_BOOT, RTN_UNICAST, RT_TABLE_MAIN);
	netlink_add_u32(&request, RTA_OIF, 8);
	assert_string_equal(take(&request), "");
	begin_route(&request, RTPROT_KERNEL, RTN_UNICAST, RT_TABLE_MAIN);
	assert_string_equal(take(&request), "");
	begin_route(&request, RTPROT_RA, RTN_UNICAST, RT_TABLE_MAIN);
	assert_string_equal(take(&request), "");
	begin_route(&request, RTPROT_BOOT, RTN_LOCAL, RT_TABLE_MAIN);
	assert_string_equal(take(&request), "");
	begin_route(&request, RTPROT_BOOT, RTN_UNICAST, RT_TABLE_UNSPEC);
	netlink_add_u32(&request, RTA_TABLE, RT_TABLE_LOCAL);
	assert_string_equal(take(&request), "");
}

static const char *take_neighbour(int index, unsigned neighbour_state, unsigned flags)
{
	struct ndmsg body = {.ndm_family = AF_INET,
			     .ndm_ifindex = index,
			     .ndm_state = (uint16_t)neighbour_state,
			     .ndm_flags = (uint8_t)flags};
	struct netlink_request request;

	netlink_begin(&request, RTM_NEWNEIGH, 0, &body, sizeof(body));
	netlink_add(&request, NDA_DST, "\x0a\x09\x00\x01", 4);
	netlink_add(&request, NDA_LLADDR, "\x02\x00\x00\x00\x00\x01", 6);
	netlink_add_u32(&request, NDA_PROBES, 3);
	return take(&request);
}

static void test_neighbours(void **state)
{
	(void)state;
	assert_string_equal(take_neighbour(7, NUD_PERMANENT, 0),
			    "2 020000000700000080000000080001000a0900010a0002000200000000010000");
	assert_string_equal(take_neighbour(7, NUD_REACHABLE, 0), "");
	assert_string_equal(take_neighbour(7, NUD_PERMANENT, NTF_PROXY), "");
	assert_string_equal(take_neighbour(8, NUD_PERMANENT, 0), "");
}

static void test_rules(void **state)
{
	struct fib_rule_hdr body = {
	    .family = AF_INET, .table = 100, .action = FR_ACT_TO_TBL, .flags = FIB_RULE_IIF_DETACHED};
	struct netlink_request request;
	uint8_t protocol = RTPROT_KERNEL;

	(void)state;
	netlink_begin(&request, RTM_NEWRULE, 0, &body, sizeof(body));
	netlink_add_u32(&request, FRA_PRIORITY, 50);
	assert_string_equal(take(&request), "3 020000006400000100000000"
					    "0800060032000000");
	netlink_add(&request, FRA_PROTOCOL, &protocol, 1);
	assert_string_equal(take(&request), "");
}

static void test_short_messages(void **state)
{
	static const unsigned types[] = {RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH, RTM_NEWRULE, RTM_NEWLINK};
	struct netlink_request request;

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		netlink_begin(&request, types[i], 0, "\x02\x00\x00", 4);
		assert_string_equal(take(&request), "");
	}
}

static void test_difference(void **state)
{
	struct network_fact old[] = {{.kind = NETWORK_ADDRESS, .data = (unsigned char *)"\x01", .size = 1},
				     {.kind = NETWORK_ROUTE, .data = (unsigned char *)"\x02", .size = 1}};
	struct network_fact new[] = {{.kind = NETWORK_ROUTE, .data = (unsigned char *)"\x02", .size = 1},
				     {.kind = NETWORK_NEIGHBOUR, .data = (unsigned char *)"\x02", .size = 1},
				     {.kind = NETWORK_RULE, .data = (unsigned char *)"\x03", .size = 1}};
	const struct network_facts before = {old, 2}, after = {new, 3};
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	assert_int_equal(network_facts_write(&after, &before, false, out), 2);
	assert_int_equal(network_facts_write(&before, &after, true, out), 1);
	assert_int_equal(network_facts_write(&before, NULL, true, out), 2);
	assert_int_equal(network_facts_write(&before, &before, true, out), 0);
	fclose(out);
	assert_string_equal(text, "[[\"neighbour\",\"02\"],[\"rule\",\"03\"]][[\"address\",\"01\"]]"
				  "[[\"route\",\"02\"],[\"address\",\"01\"]][]");
	free(text);
}

/* --- what the spec says ------------------------------------------------------------------------------------------ */

static int read_plan(const char *namespaces, const struct joined *joined, struct network_plan *plan, struct error *err)
{
	struct spec spec = {0};
	char text[512];
	int status;

	snprintf(text, sizeof(text), "{\"linux\":{\"namespaces\":%s}}", namespaces);
	spec.json = json_loads(text, 0, NULL);
	assert_non_null(spec.json);
	status = network_plan_read(&spec, joined, plan, err);
	if (status == 0 && plan->path)
		plan->path = "";
	json_decref(spec.json);
	return status;
}

static void test_plan(void **state)
{
	const struct joined none = {0}, joined = {.ids = {[SHARED_NETWORK] = (char *)"pod"}};
	struct network_plan plan;
	struct error err;

	(void)state;
	assert_int_equal(read_plan("[{\"type\":\"pid\"}]", &none, &plan, &err), 0);
	assert_false(plan.own);
	assert_int_equal(read_plan("[{\"type\":\"network\"}]", &none, &plan, &err), 0);
	assert_true(plan.own && !plan.path && plan.fd < 0);
	assert_int_equal(read_plan("[{\"type\":\"network\",\"path\":\"\"}]", &none, &plan, &err), 0);
	assert_true(plan.own && !plan.path);
	assert_int_equal(read_plan("[{\"type\":\"network\",\"path\":\"/proc/1/ns/net\"}]", &joined, &plan, &err), 0);
	assert_false(plan.own);
	assert_int_equal(read_plan("[{\"type\":\"network\",\"path\":\"/proc/self/ns/net\"}]", &none, &plan, &err), -1);
	assert_string_equal(err.message, "config.json: linux.namespaces[0].path: `/proc/self/ns/net` is the host's own "
					 "network, which a virtual machine cannot share");
	network_plan_release(&plan);
	for (const char *const *path = (const char *const[]){"/proc/self/ns/uts", "/dev/null", "/nothing", "/", NULL};
	     *path; path++) {
		char text[100], message[200];

		snprintf(text, sizeof(text), "[{\"type\":\"network\",\"path\":\"%s\"}]", *path);
		snprintf(message, sizeof(message),
			 "config.json: linux.namespaces[0].path: `%s` is not a network namespace", *path);
		assert_int_equal(read_plan(text, &none, &plan, &err), -1);
		assert_string_equal(err.message, message);
	}
}

/* --- the record -------------------------------------------------------------------------------------------------- */

static void test_record(void **state)
{
	static const char format[] =
	    "{\"stage\":\"created\",\"id\":\"c\",\"bundle\":\"/b\",\"rootfs\":\"/r\",\"created\":"
	    "\"t\",\"network\":%s}";
	static const char *const bad[] = {"7", "{\"inode\":-1}", "{\"path\":3}", "{\"process\":{\"pid\":-2}}", NULL};
	struct state given = {.id = (char *)"c",
			      .bundle = (char *)"/b",
			      .rootfs = (char *)"/r",
			      .created = (char *)"t",
			      .has_network = true,
			      .netns_path = (char *)"/run/netns/a",
			      .netns = 4026532315,
			      .network = {.pid = 17, .start = 4}};
	char *text = state_format(&given), damaged[300];
	cleanup_state struct state again = {0}, none = {0};
	struct error err;

	(void)state;
	assert_non_null(text);
	assert_int_equal(state_parse(text, strlen(text), &again, &err), 0);
	assert_true(again.has_network);
	assert_string_equal(again.netns_path, "/run/netns/a");
	assert_int_equal(again.netns, 4026532315);
	assert_int_equal(again.network.pid, 17);
	free(text);
	for (size_t i = 0; bad[i]; i++) {
		snprintf(damaged, sizeof(damaged), format, bad[i]);
		assert_int_equal(state_parse(damaged, strlen(damaged), &none, &err), -1);
		assert_string_equal(err.message, "`network` is not the record of a network");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_addresses), cmocka_unit_test(test_routes),	     cmocka_unit_test(test_neighbours),
	    cmocka_unit_test(test_rules),     cmocka_unit_test(test_short_messages), cmocka_unit_test(test_difference),
	    cmocka_unit_test(test_plan),      cmocka_unit_test(test_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
