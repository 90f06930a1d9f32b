#include "guest-agent/network_order.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "common/netlink.h"
#include "common/spec_values.h"

#define FACTS_MAX 4096

static const struct {
	const char *name;
	size_t body; /* bytes of the structure that the message starts with */
} kinds[NETWORK_FACT_KINDS] = {
    [NETWORK_ADDRESS] = {"address", sizeof(struct ifaddrmsg)},
    [NETWORK_ROUTE] = {"route", sizeof(struct rtmsg)},
    [NETWORK_NEIGHBOUR] = {"neighbour", sizeof(struct ndmsg)},
    [NETWORK_RULE] = {"rule", sizeof(struct fib_rule_hdr)},
};

/* --- reading ----------------------------------------------------------------------------------------------------- */

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Exactly size bytes. */
static int read_hex(const char *text, unsigned char *data, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		int high = digit(text[2 * i]), low = high < 0 ? -1 : digit(text[2 * i + 1]);

		if (low < 0)
			return -1;
		data[i] = (unsigned char)(high << 4 | low);
	}
	return text[2 * size] == '\0' ? 0 : -1;
}

static int read_fact(const json_t *json, struct network_fact *fact, struct error *err)
{
	const char *name = json_string_value(json_array_get(json, 0));
	const char *text = json_string_value(json_array_get(json, 1));
	int kind = 0;

	while (name && kind < NETWORK_FACT_KINDS && strcmp(kinds[kind].name, name) != 0)
		kind++;
	if (!name || !text || kind == NETWORK_FACT_KINDS)
		return error_set(err, EINVAL, "network: a fact must be a kind and hexadecimal digits");
	fact->kind = (enum network_fact_kind)kind;
	fact->size = strlen(text) / 2;
	if (fact->size < kinds[kind].body || fact->size > NETLINK_REQUEST_MAX - NLMSG_HDRLEN)
		return error_set(err, EINVAL, "network: a fact of %zu bytes", fact->size);
	fact->data = malloc(fact->size);
	if (!fact->data)
		return error_set(err, ENOMEM, "out of memory");
	if (read_hex(text, fact->data, fact->size) == 0)
		return 0;
	free(fact->data);
	return error_set(err, EINVAL, "network: a fact must be a kind and hexadecimal digits");
}

static int read_facts(const json_t *list, struct network_facts *facts, struct error *err)
{
	const json_t *element;
	size_t i;

	if (json_array_size(list) > FACTS_MAX)
		return error_set(err, E2BIG, "network: more than %d facts", FACTS_MAX);
	facts->list = calloc(json_array_size(list) + 1, sizeof(*facts->list));
	if (!facts->list)
		return error_set(err, ENOMEM, "out of memory");
	json_array_foreach(list, i, element)
	{
		if (read_fact(element, &facts->list[i], err) < 0)
			return -1;
		facts->n++;
	}
	return 0;
}

static int read_slot(const json_t *value, unsigned *slot, struct error *err)
{
	uint64_t number;

	if (spec_get_u64(value, &number) < 0 || number == 0 || number > NETWORK_SLOT_MAX)
		return error_set(err, EINVAL, "network: a card must be a number from 1 to %d", NETWORK_SLOT_MAX);
	*slot = (unsigned)number;
	return 0;
}

/* As the kernel checks it, and no temporary name of the agent's. */
static bool is_name(const char *name)
{
	size_t length = name ? strlen(name) : 0;

	return length > 0 && length < IFNAMSIZ && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	       !strpbrk(name, "/: \t\n\v\f\r%");
}

static int read_link(const json_t *json, struct network_link_order *link, struct error *err)
{
	const char *name = json_string_value(json_object_get(json, "name"));
	const char *mac = json_string_value(json_object_get(json, "mac"));
	uint64_t index, mtu;

	if (read_slot(json_object_get(json, "card"), &link->card, err) < 0)
		return -1;
	if (spec_get_u64(json_object_get(json, "index"), &index) < 0 || index < 2 || index > INT32_MAX)
		return error_set(err, EINVAL, "network: index must be the number of an interface");
	link->index = (int)index;
	link->is_set = json_object_get(json, "name") != NULL;
	if (!link->is_set)
		return 0;
	if (!is_name(name) || !mac || read_hex(mac, link->mac, sizeof(link->mac)) < 0 ||
	    spec_get_u64(json_object_get(json, "mtu"), &mtu) < 0 || mtu > UINT32_MAX)
		return error_set(err, EINVAL, "network: name, mac or mtu of card %u is none", link->card);
	memcpy(link->name, name, strlen(name) + 1);
	link->mtu = (uint32_t)mtu;
	link->up = json_is_true(json_object_get(json, "up"));
	link->arp = json_is_true(json_object_get(json, "arp"));
	link->ipv6 = json_is_true(json_object_get(json, "ipv6"));
	return 0;
}

static int read_cards(const json_t *json, struct network_order *order, struct error *err)
{
	const json_t *links = json_object_get(json, "links"), *gone = json_object_get(json, "goneCards"), *element;
	size_t i;

	if (json_array_size(links) > NETWORK_CARDS_MAX || json_array_size(gone) > NETWORK_CARDS_MAX)
		return error_set(err, E2BIG, "network: more than %d cards", NETWORK_CARDS_MAX);
	json_array_foreach(links, i, element)
	{
		if (read_link(element, &order->links[order->n_links++], err) < 0)
			return -1;
	}
	json_array_foreach(gone, i, element)
	{
		if (read_slot(element, &order->gone_cards[order->n_gone_cards++], err) < 0)
			return -1;
	}
	return 0;
}

int network_order_read(const json_t *json, struct network_order *order, struct error *err)
{
	const json_t *resolver = json_object_get(json, "resolver");
	uint64_t port = 0;

	if (resolver && (spec_get_u64(resolver, &port) < 0 || port == 0 || port >= UINT32_MAX))
		return error_set(err, EINVAL, "network: resolver must be a port of the host");
	order->resolver = (uint32_t)port;
	order->begin = json_is_true(json_object_get(json, "begin"));
	if (read_cards(json, order, err) < 0 || read_facts(json_object_get(json, "goneFacts"), &order->gone, err) < 0)
		return -1;
	return read_facts(json_object_get(json, "facts"), &order->facts, err);
}

static void release_facts(struct network_facts *facts)
{
	for (size_t i = 0; i < facts->n; i++)
		free(facts->list[i].data);
	free(facts->list);
	*facts = (struct network_facts){0};
}

void network_order_release(struct network_order *order)
{
	release_facts(&order->gone);
	release_facts(&order->facts);
}

/* --- numbers of interfaces --------------------------------------------------------------------------------------- */

struct translation {
	network_translate *translate;
	const void *context;
	struct error *err;
};

/* The place may be anywhere in the message. */
static int translate_at(void *place, const struct translation *translation)
{
	int32_t index;

	memcpy(&index, place, sizeof(index));
	index = translation->translate(index, translation->context);
	if (index == 0)
		return error_set(translation->err, ENODEV, "its interface is not there");
	memcpy(place, &index, sizeof(index));
	return 0;
}

static int translate_ways(unsigned char *ways, size_t size, const struct translation *translation)
{
	size_t at = 0;

	while (at < size && size - at >= sizeof(struct rtnexthop)) {
		struct rtnexthop way;

		memcpy(&way, ways + at, sizeof(way));
		if (way.rtnh_len < sizeof(way) || way.rtnh_len > size - at)
			return error_set(translation->err, EINVAL, "its ways are none");
		/* The others tell of its state. */
		ways[at + offsetof(struct rtnexthop, rtnh_flags)] &= RTNH_F_ONLINK;
		if (translate_at(ways + at + offsetof(struct rtnexthop, rtnh_ifindex), translation) < 0)
			return -1;
		at += RTNH_ALIGN((size_t)way.rtnh_len);
	}
	return 0;
}

static int translate_route(struct network_fact *fact, const struct translation *translation)
{
	struct netlink_message message = {.body = fact->data, .size = fact->size};
	struct netlink_attributes attributes;
	struct netlink_attribute attribute;

	if (!netlink_attributes(&message, sizeof(struct rtmsg), &attributes))
		return error_set(translation->err, EINVAL, "it is too short");
	while (netlink_next_attribute(&attributes, &attribute)) {
		unsigned char *data = fact->data + ((const unsigned char *)attribute.data - fact->data);

		if (attribute.type == RTA_OIF && attribute.size == sizeof(int32_t) &&
		    translate_at(data, translation) < 0)
			return -1;
		if (attribute.type == RTA_MULTIPATH && translate_ways(data, attribute.size, translation) < 0)
			return -1;
	}
	return 0;
}

int network_fact_translate(struct network_fact *fact, network_translate *translate, const void *context,
			   struct error *err)
{
	const struct translation translation = {translate, context, err};

	switch (fact->kind) {
	case NETWORK_ADDRESS:
		return translate_at(fact->data + offsetof(struct ifaddrmsg, ifa_index), &translation);
	case NETWORK_NEIGHBOUR:
		return translate_at(fact->data + offsetof(struct ndmsg, ndm_ifindex), &translation);
	case NETWORK_ROUTE:
		return translate_route(fact, &translation);
	default:
		return 0;
	}
}
