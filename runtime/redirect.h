/*
 * The wire between an interface of the host and a virtual machine's network card: a tap beside the interface, and
 * filters of tc(8) that hand every frame which comes in at one of the two out at the other. The interface keeps its
 * addresses, but the host's kernel no longer hears anything from it.
 *
 * Everything here is about the network namespace of the netlink socket. What is made can be told from what others have
 * made, and from what was made for others: each filter bears its owner's number, the process id that stands for the
 * container. So it can be taken away by somebody who knows nothing but that number. A tap goes with its last
 * descriptor.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"
#include "common/netlink.h"

/* Makes a tap in the caller's namespace as VMM_NET_ADD wants one, up, and sets *index. Returns its descriptor or -1. */
int redirect_make_tap(struct netlink *netlink, uint32_t mtu, int *index, struct error *err);

int redirect_set_mtu(struct netlink *netlink, int tap, uint32_t mtu, struct error *err);

/* EBUSY: the interface leads to another virtual machine already. On failure nothing is left. */
int redirect_join(struct netlink *netlink, int link, int tap, uint32_t owner, struct error *err);

/* Gives an interface back to the host's kernel; that it is not there or not the owner's is no error. */
int redirect_undo(struct netlink *netlink, int link, uint32_t owner, struct error *err);

/* The same for all interfaces that there are. */
int redirect_undo_all(struct netlink *netlink, uint32_t owner, struct error *err);
