/*
 * The order "network" (common/agent_protocol.h), read from JSON and checked: what a container's network namespace is to
 * have.
 */
#pragma once

#include <jansson.h>
#include <linux/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define NETWORK_CARDS_MAX 24
#define NETWORK_SLOT_MAX 31

struct network_link_order {
	unsigned card; /* slot on the PCI bus */
	int index;     /* what the facts call its interface by */
	bool is_set;   /* what follows is to be set */
	char name[IFNAMSIZ];
	uint8_t mac[6];
	uint32_t mtu;
	bool up, arp, ipv6;
};

enum network_fact_kind {
	NETWORK_ADDRESS,
	NETWORK_ROUTE,
	NETWORK_NEIGHBOUR,
	NETWORK_RULE,
	NETWORK_FACT_KINDS,
};

/* A message of rtnetlink(7) behind its header, with at least the structure that it starts with. */
struct network_fact {
	enum network_fact_kind kind;
	unsigned char *data;
	size_t size;
};

struct network_facts {
	struct network_fact *list;
	size_t n;
};

struct network_order {
	bool begin;
	uint32_t resolver; /* port of the host, or 0 */
	struct network_link_order links[NETWORK_CARDS_MAX];
	size_t n_links;
	unsigned gone_cards[NETWORK_CARDS_MAX];
	size_t n_gone_cards;
	struct network_facts gone, facts;
};

/* Returns 0, or -1 with err. To be released in either case. */
int network_order_read(const json_t *json, struct network_order *order, struct error *err);
void network_order_release(struct network_order *order);

/* Replaces the numbers of interfaces in a fact: translate returns the one to be used, or 0 when there is none. Returns
 * 0, or -1 with err when the fact is about an interface that is not there. */
typedef int network_translate(int index, const void *context);
int network_fact_translate(struct network_fact *fact, network_translate *translate, const void *context,
			   struct error *err);
