/*
 * What a network namespace of the host holds that the guest has to have as well: its interfaces, and facts about them,
 * which are addresses, routes, permanent neighbours and rules. A fact is a message of rtnetlink(7) as the kernel gave
 * it, less what only tells of a state: it can be given to another kernel as it is, but for the numbers of interfaces.
 */
#pragma once

#include <linux/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "common/netlink.h"

#define NETWORK_LINKS_MAX 24
#define NETWORK_FACTS_MAX 4096
#define NETWORK_TAP_PREFIX "hull"

struct network_link {
	int index;
	char name[IFNAMSIZ];
	uint8_t mac[6];
	uint32_t mtu;
	bool up, no_arp;
	bool no_ipv6; /* net.ipv6.conf.NAME.disable_ipv6 */
};

struct network_links {
	struct network_link list[NETWORK_LINKS_MAX];
	size_t n;
	/* The first one that there is but that no virtual machine can have, and why; "" for none. */
	char left_out[IFNAMSIZ + 64];
};

/* Finds the interfaces of the socket's namespace; not the loopback interface, the taps of hull, interfaces that are
 * part of another one, and those that the kernel makes in each namespace for its tunnels. */
int network_links_read(struct netlink *netlink, struct network_links *links, struct error *err);
const struct network_link *network_links_find(const struct network_links *links, int index);

enum network_fact_kind {
	NETWORK_ADDRESS,
	NETWORK_ROUTE,
	NETWORK_NEIGHBOUR,
	NETWORK_RULE,
	NETWORK_FACT_KINDS,
};

struct network_fact {
	enum network_fact_kind kind;
	bool last; /* depends on others of its kind: a route by way of a gateway */
	unsigned char *data;
	size_t size;
};

/* In an order in which they can be set. */
struct network_facts {
	struct network_fact *list;
	size_t n;
};

void network_facts_release(struct network_facts *facts);
#define cleanup_network_facts __attribute__((cleanup(network_facts_release)))

/* Reads the facts about these interfaces and the loopback interface. What the kernel makes by itself from others is
 * left out. */
int network_facts_read(struct netlink *netlink, const struct network_links *links, struct network_facts *facts,
		       struct error *err);

/* What one message of the kernel says, as a fact. Returns 1 with *fact filled in, 0 when it is none, or -1. */
int network_fact_take(const struct netlink_message *message, const struct network_links *links,
		      struct network_fact *fact, struct error *err);

/* Writes those of `of` that `without` does not have, as a list in JSON of [KIND, HEX]; backwards when they are to be
 * taken away. Returns how many. */
size_t network_facts_write(const struct network_facts *of, const struct network_facts *without, bool backwards,
			   FILE *out);
