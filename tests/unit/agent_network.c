#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include "guest-agent/order.h"

static int read_text(const char *members, struct order *order, struct error *err)
{
	char text[4096];
	json_t *json;
	int status;

	snprintf(text, sizeof(text), "{\"order\":\"network\",\"id\":\"c\",%s}", members);
	json = json_loads(text, 0, NULL);
	assert_non_null(json);
	status = order_parse(json, order, err);
	/* Nothing of it may point into the JSON. */
	json_decref(json);
	return status;
}

static void test_whole(void **state)
{
	struct order order;
	struct error err;
	const struct network_order *network;

	(void)state;
	if (read_text("\"begin\":true,\"links\":[{\"card\":5,\"index\":2,\"name\":\"eth0\",\"mac\":\"0242ac110002\","
		      "\"mtu\":1500,"
		      "\"up\":true,\"arp\":true,\"ipv6\":false},{\"card\":6,\"index\":9}],\"goneCards\":[7,31],"
		      "\"goneFacts\":[],\"facts\":[[\"address\",\"0218000002000000080001000a090002\"],"
		      "[\"rule\",\"020000006400000100000000\"]]",
		      &order, &err) < 0)
		fail_msg("%s", err.message);
	network = order.network;
	assert_int_equal(order.kind, ORDER_NETWORK);
	assert_true(network->begin);
	assert_int_equal(network->n_links, 2);
	assert_int_equal(network->links[0].card, 5);
	assert_int_equal(network->links[0].index, 2);
	assert_true(network->links[0].is_set);
	assert_string_equal(network->links[0].name, "eth0");
	assert_memory_equal(network->links[0].mac, "\x02\x42\xac\x11\x00\x02", 6);
	assert_int_equal(network->links[0].mtu, 1500);
	assert_true(network->links[0].up && network->links[0].arp && !network->links[0].ipv6);
	assert_false(network->links[1].is_set);
	assert_int_equal(network->n_gone_cards, 2);
	assert_int_equal(network->gone_cards[1], 31);
	assert_int_equal(network->gone.n, 0);
	assert_int_equal(network->facts.n, 2);
	assert_int_equal(network->facts.list[0].kind, NETWORK_ADDRESS);
	assert_int_equal(network->facts.list[0].size, 16);
	assert_int_equal(network->facts.list[0].data[1], 0x18);
	order_clear(&order);
}

static void expect_refused(const char *members, const char *message)
{
	struct order order;
	struct error err = {0};

	assert_int_equal(read_text(members, &order, &err), -1);
	assert_string_equal(err.message, message);
	order_clear(&order);
}

#define LINK "\"mac\":\"020000000001\",\"mtu\":1500"

static void test_refused(void **state)
{
	static const char fact[] = "network: a fact must be a kind and hexadecimal digits";
	char many[2000] = "\"goneCards\":[1";

	(void)state;
	expect_refused("\"links\":[{\"card\":0,\"index\":2}]", "network: a card must be a number from 1 to 31");
	expect_refused("\"links\":[{\"card\":32,\"index\":2}]", "network: a card must be a number from 1 to 31");
	expect_refused("\"links\":[{\"index\":2}]", "network: a card must be a number from 1 to 31");
	expect_refused("\"links\":[3]", "network: a card must be a number from 1 to 31");
	expect_refused("\"goneCards\":[\"1\"]", "network: a card must be a number from 1 to 31");
	expect_refused("\"links\":[{\"card\":1,\"index\":1}]", "network: index must be the number of an interface");
	expect_refused("\"links\":[{\"card\":1,\"index\":4294967298}]",
		       "network: index must be the number of an interface");
	for (const char *const *name =
		 (const char *const[]){"", ".", "..", "a/b", "a b", "a:b", "hull%d", "sixteen-letters-", NULL};
	     *name; name++) {
		char members[200];

		snprintf(members, sizeof(members), "\"links\":[{\"card\":1,\"index\":2,\"name\":\"%s\"," LINK "}]",
			 *name);
		expect_refused(members, "network: name, mac or mtu of card 1 is none");
	}
	expect_refused("\"links\":[{\"card\":1,\"index\":2,\"name\":\"a\",\"mac\":\"02000000000\",\"mtu\":1}]",
		       "network: name, mac or mtu of card 1 is none");
	expect_refused("\"links\":[{\"card\":1,\"index\":2,\"name\":\"a\",\"mac\":\"02000000000102\",\"mtu\":1}]",
		       "network: name, mac or mtu of card 1 is none");
	expect_refused("\"links\":[{\"card\":1,\"index\":2,\"name\":\"a\",\"mac\":\"020000000001\"}]",
		       "network: name, mac or mtu of card 1 is none");
	expect_refused("\"facts\":[[\"nothing\",\"00\"]]", fact);
	expect_refused("\"facts\":[[\"address\"]]", fact);
	expect_refused("\"facts\":[7]", fact);
	expect_refused("\"facts\":[[\"address\",\"021800000200000x\"]]", fact);
	expect_refused("\"facts\":[[\"address\",\"02180000020000000\"]]", fact);
	expect_refused("\"goneFacts\":[[\"route\",\"0218000002000000\"]]", "network: a fact of 8 bytes");
	for (int i = 0; i < NETWORK_CARDS_MAX; i++)
		strcat(many, ",1");
	strcat(many, "]");
	expect_refused(many, "network: more than 24 cards");
}

/* --- numbers of interfaces --------------------------------------------------------------------------------------- */

static int add_hundred(int index, const void *context)
{
	(void)context;
	return index < 10 ? index + 100 : 0;
}

static void test_translation(void **state)
{
	struct {
		struct rtmsg body;
		struct rtattr way_header;
		struct rtnexthop ways[2];
		struct rtattr out_header;
		int32_t out;
	} route = {
	    .body = {.rtm_family = 2},
	    .way_header = {.rta_len = sizeof(struct rtattr) + sizeof(route.ways), .rta_type = RTA_MULTIPATH},
	    .ways = {{.rtnh_len = sizeof(struct rtnexthop),
		      .rtnh_ifindex = 3,
		      .rtnh_flags = RTNH_F_DEAD | RTNH_F_ONLINK},
		     {.rtnh_len = sizeof(struct rtnexthop), .rtnh_ifindex = 4}},
	    .out_header = {.rta_len = sizeof(struct rtattr) + 4, .rta_type = RTA_OIF},
	    .out = 5,
	};
	struct ifaddrmsg address = {.ifa_family = 2, .ifa_index = 6};
	struct network_fact fact = {NETWORK_ROUTE, (unsigned char *)&route, sizeof(route)};
	struct error err;

	(void)state;
	assert_int_equal(network_fact_translate(&fact, add_hundred, NULL, &err), 0);
	assert_int_equal(route.ways[0].rtnh_ifindex, 103);
	assert_int_equal(route.ways[0].rtnh_flags, RTNH_F_ONLINK);
	assert_int_equal(route.ways[1].rtnh_ifindex, 104);
	assert_int_equal(route.out, 105);
	/* 105 is none that there is. */
	assert_int_equal(network_fact_translate(&fact, add_hundred, NULL, &err), -1);
	assert_int_equal(err.code, ENODEV);
	route.ways[0] = (struct rtnexthop){.rtnh_len = 60, .rtnh_ifindex = 3};
	assert_int_equal(network_fact_translate(&fact, add_hundred, NULL, &err), -1);
	assert_int_equal(err.code, EINVAL);
	route.ways[0].rtnh_len = 0;
	assert_int_equal(network_fact_translate(&fact, add_hundred, NULL, &err), -1);
	fact = (struct network_fact){NETWORK_ADDRESS, (unsigned char *)&address, sizeof(address)};
	assert_int_equal(network_fact_translate(&fact, add_hundred, NULL, &err), 0);
	assert_int_equal(address.ifa_index, 106);
	fact.kind = NETWORK_RULE;
	assert_int_equal(network_fact_translate(&fact, add_hundred, NULL, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_translation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
