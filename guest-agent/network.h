/*
 * A container's network in the guest: the order "network". The host has put network cards on the PCI bus of the running
 * machine; they are found here, moved into the container's network namespace, and set up as the host says: nothing is
 * asked of the network itself.
 */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "common/error.h"
#include "guest-agent/network_order.h"
#include "guest-agent/resolver.h"

struct network_card {
	unsigned slot;
	int host;  /* number of the interface that it stands for on the host */
	int index; /* of its own */
	char name[IFNAMSIZ];
	uint8_t mac[6];
	bool ipv6;
};

/* The cards of one container. Zeroed: none. */
struct network {
	struct network_card cards[NETWORK_CARDS_MAX];
	size_t n;
	struct resolver *resolver; /* or NULL */
};

/* The container that is meant: its first process, and a descriptor of its cgroup. */
struct network_place {
	pid_t pid;
	int pidfd;
	int cgroup;
};

/* dropped gets the slots of cards that the container had before a
 * new beginning. All is tried; the first failure is what is told. Returns 0 or -1. */
int network_set(struct network *network, const struct network_place *place, struct network_order *order,
		json_t *dropped, struct error *err);

/* Lets go of all cards. */
void network_release(struct network *network);
