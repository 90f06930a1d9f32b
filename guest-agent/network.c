#include "guest-agent/network.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/netlink.h"
#include "guest-agent/boot.h"
#include "guest-agent/places.h"

#define PCI_DEVICES PLACE_SYS "/bus/pci/devices"
#define OWN_NAMESPACE PLACE_PROC "/self/ns/net"
#define LOOPBACK_INDEX 1

/* --- cards on the bus -------------------------------------------------------------------------------------------- */

/* For this only: a container's processes are forked from here and must not find it. */
static int mount_sysfs(struct error *err)
{
	if ((mkdir(PLACE_SYS, 0755) < 0 && errno != EEXIST) || mount("sysfs", PLACE_SYS, "sysfs", 0, NULL) < 0)
		return error_set_errno(err, "mount sysfs");
	return 0;
}

static void unmount_sysfs(void)
{
	umount2(PLACE_SYS, MNT_DETACH);
}

static int write_one(const char *path)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, "1", 1) == 1 ? 0 : -1;
}

/* That it is not there any more is what is wanted. */
static void remove_from_bus(unsigned slot)
{
	char path[80];

	snprintf(path, sizeof(path), PCI_DEVICES "/0000:00:%02x.0/remove", slot);
	write_one(path);
}

static int read_index(const char *folder, const char *name)
{
	char path[300], text[16];
	cleanup_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s/ifindex", folder, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	return (int)strtol(text, NULL, 10);
}

/* The one entry of a folder that begins with these letters. */
static int find_entry(const char *folder, const char *prefix, char *name, size_t size)
{
	DIR *directory = opendir(folder);
	const struct dirent *entry;
	int found = -1;

	while (directory && found < 0 && (entry = readdir(directory))) {
		if (entry->d_name[0] == '.' || strncmp(entry->d_name, prefix, strlen(prefix)) != 0 ||
		    strlen(entry->d_name) >= size)
			continue;
		memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
		found = 0;
	}
	if (directory)
		closedir(directory);
	return found;
}

/* The number of the interface that the kernel has made for the card, in the agent's network namespace. */
static int find_interface(unsigned slot, int *index, struct error *err)
{
	char path[160], name[64];
	int length = snprintf(path, sizeof(path), PCI_DEVICES "/0000:00:%02x.0", slot);

	if (find_entry(path, "virtio", name, sizeof(name)) == 0) {
		snprintf(path + length, sizeof(path) - (size_t)length, "/%s/net", name);
		if (find_entry(path, "", name, sizeof(name)) == 0) {
			*index = read_index(path, name);
			if (*index > 0)
				return 0;
		}
	}
	return error_set(err, ENODEV, "the machine has no card at 0000:00:%02x.0", slot);
}

static struct network_card *find_card(struct network *network, unsigned slot)
{
	for (size_t i = 0; i < network->n; i++)
		if (network->cards[i].slot == slot)
			return &network->cards[i];
	return NULL;
}

static bool has_new_cards(struct network *network, const struct network_order *order)
{
	for (size_t i = 0; i < order->n_links; i++)
		if (!find_card(network, order->links[i].card))
			return true;
	return false;
}

/* Their names are temporary: the one that is wanted may still be another card's. */
static int add_card(struct network *network, const struct network_link_order *link, struct error *err)
{
	struct network_card card = {.slot = link->card, .host = link->index, .ipv6 = true};

	if (network->n == NETWORK_CARDS_MAX || !link->is_set)
		return error_set(err, EINVAL, "card %u is one too many, or nothing is said of it", link->card);
	if (find_interface(link->card, &card.index, err) < 0)
		return -1;
	memcpy(card.mac, link->mac, sizeof(card.mac));
	network->cards[network->n++] = card;
	return 0;
}

static int add_cards(struct network *network, const struct network_order *order, struct error *err)
{
	if (write_one(PLACE_SYS "/bus/pci/rescan") < 0)
		return error_set_errno(err, "scan the PCI bus");
	for (size_t i = 0; i < order->n_links; i++)
		if (!find_card(network, order->links[i].card) && add_card(network, &order->links[i], err) < 0)
			return -1;
	return 0;
}

static void drop_card(struct network *network, unsigned slot)
{
	struct network_card *card = find_card(network, slot);

	remove_from_bus(slot);
	if (card)
		*card = network->cards[--network->n];
}

void network_release(struct network *network)
{
	struct error err;

	resolver_free(network->resolver);
	network->resolver = NULL;
	if (network->n == 0 || mount_sysfs(&err) < 0)
		return;
	while (network->n > 0)
		drop_card(network, network->cards[0].slot);
	unmount_sysfs();
}

/* --- interfaces -------------------------------------------------------------------------------------------------- */

static void begin_link(struct netlink_request *request, int index, unsigned flags, unsigned change)
{
	struct ifinfomsg body = {.ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = flags, .ifi_change = change};

	netlink_begin(request, RTM_NEWLINK, 0, &body, sizeof(body));
}

/* From the agent's network namespace to the container's, under a name that nobody else has; in the machine's own, only
 * that. */
static int move(struct netlink *outside, struct netlink *inside, struct network_card *card, pid_t pid, bool is_same,
		struct error *err)
{
	struct netlink_request request;

	snprintf(card->name, sizeof(card->name), "hull-card%u", card->slot);
	begin_link(&request, card->index, 0, 0);
	netlink_add_text(&request, IFLA_IFNAME, card->name);
	if (!is_same)
		netlink_add_u32(&request, IFLA_NET_NS_PID, (uint32_t)pid);
	if (netlink_call(outside, &request, err) < 0)
		return error_prefix(err, "move card %u", card->slot);
	if (netlink_find_link(inside, card->name, &card->index, err) < 0)
		return error_prefix(err, "find card %u", card->slot);
	return 0;
}

/* All addresses come from the host. Without IPv6 the kernel knows no such mode. */
static void make_no_addresses(struct netlink *inside, const struct network_card *card)
{
	uint8_t mode = IN6_ADDR_GEN_MODE_NONE;
	struct netlink_request request;
	size_t families, inet6;
	struct error err;

	begin_link(&request, card->index, 0, 0);
	families = netlink_nest(&request, IFLA_AF_SPEC);
	inet6 = netlink_nest(&request, AF_INET6);
	netlink_add(&request, IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof(mode));
	netlink_nest_end(&request, inet6);
	netlink_nest_end(&request, families);
	netlink_call(inside, &request, &err);
}

/* The kernel shows whoever reads or writes the parameters of the network namespace that he is in. */
static int set_ipv6(const char *name, bool on, struct error *err)
{
	cleanup_close int fd = -1;
	char path[96];

	snprintf(path, sizeof(path), PLACE_PROC "/sys/net/ipv6/conf/%s/disable_ipv6", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, on ? "0" : "1", 1) != 1)
		return error_set_errno(err, "interface %s: switch IPv6 %s", name, on ? "on" : "off");
	return 0;
}

static int rename_card(struct netlink *inside, struct network_card *card, const char *name, struct error *err)
{
	struct netlink_request request;

	/* One that is up keeps its name. */
	begin_link(&request, card->index, 0, IFF_UP);
	if (netlink_call(inside, &request, err) < 0)
		return error_prefix(err, "interface %s", name);
	begin_link(&request, card->index, 0, 0);
	netlink_add_text(&request, IFLA_IFNAME, name);
	if (netlink_call(inside, &request, err) < 0)
		return error_prefix(err, "name an interface %s", name);
	snprintf(card->name, sizeof(card->name), "%s", name);
	return 0;
}

static int set_link(struct netlink *inside, struct network_card *card, const struct network_link_order *link,
		    struct error *err)
{
	bool is_new = strcmp(card->name, link->name) != 0;
	struct netlink_request request;

	if (is_new && rename_card(inside, card, link->name, err) < 0)
		return -1;
	if (is_new)
		make_no_addresses(inside, card);
	begin_link(&request, card->index, link->arp ? 0 : IFF_NOARP, IFF_NOARP);
	netlink_add_u32(&request, IFLA_MTU, link->mtu);
	if (memcmp(card->mac, link->mac, sizeof(card->mac)) != 0)
		netlink_add(&request, IFLA_ADDRESS, link->mac, sizeof(link->mac));
	if (netlink_call(inside, &request, err) < 0)
		return error_prefix(err, "interface %s", link->name);
	memcpy(card->mac, link->mac, sizeof(card->mac));
	if (card->ipv6 != link->ipv6 && set_ipv6(link->name, link->ipv6, err) < 0)
		return -1;
	card->ipv6 = link->ipv6;
	return 0;
}

static int set_up(struct netlink *inside, const struct network_card *card, const struct network_link_order *link,
		  struct error *err)
{
	struct netlink_request request;

	begin_link(&request, card->index, link->up ? IFF_UP : 0, IFF_UP);
	if (netlink_call(inside, &request, err) < 0)
		return error_prefix(err, "bring interface %s %s", link->name, link->up ? "up" : "down");
	return 0;
}

/* --- facts ------------------------------------------------------------------------------------------------------- */

static int translate(int index, const void *context)
{
	const struct network *network = context;

	if (index == LOOPBACK_INDEX)
		return LOOPBACK_INDEX;
	for (size_t i = 0; i < network->n; i++)
		if (network->cards[i].host == index)
			return network->cards[i].index;
	return 0;
}

/* Replacing an IPv6 route would replace all that have the same destination. */
static unsigned flags_of(const struct network_fact *fact)
{
	unsigned char family = fact->data[0];

	if (fact->kind == NETWORK_RULE)
		return NLM_F_CREATE | NLM_F_EXCL;
	if (fact->kind == NETWORK_ROUTE && family == AF_INET6)
		return NLM_F_CREATE | NLM_F_APPEND;
	return NLM_F_CREATE | NLM_F_REPLACE;
}

static int set_fact(struct netlink *inside, const struct network *network, struct network_fact *fact, struct error *err)
{
	static const struct {
		unsigned type;
		const char *name;
	} kinds[NETWORK_FACT_KINDS] = {
	    [NETWORK_ADDRESS] = {RTM_NEWADDR, "an address"},
	    [NETWORK_ROUTE] = {RTM_NEWROUTE, "a route"},
	    [NETWORK_NEIGHBOUR] = {RTM_NEWNEIGH, "a neighbour"},
	    [NETWORK_RULE] = {RTM_NEWRULE, "a rule"},
	};
	struct netlink_request request;

	if (network_fact_translate(fact, translate, network, err) < 0)
		return error_prefix(err, "set %s", kinds[fact->kind].name);
	netlink_begin(&request, kinds[fact->kind].type, flags_of(fact), fact->data, fact->size);
	if (netlink_call(inside, &request, err) < 0 && err->code != EEXIST)
		return error_prefix(err, "set %s", kinds[fact->kind].name);
	return 0;
}

/* The container may have done the same before. */
static void remove_fact(struct netlink *inside, const struct network *network, struct network_fact *fact)
{
	static const unsigned types[NETWORK_FACT_KINDS] = {[NETWORK_ADDRESS] = RTM_DELADDR,
							   [NETWORK_ROUTE] = RTM_DELROUTE,
							   [NETWORK_NEIGHBOUR] = RTM_DELNEIGH,
							   [NETWORK_RULE] = RTM_DELRULE};
	struct netlink_request request;
	struct error err;

	if (network_fact_translate(fact, translate, network, &err) < 0)
		return;
	netlink_begin(&request, types[fact->kind], 0, fact->data, fact->size);
	netlink_call(inside, &request, &err);
}

/* --- the order --------------------------------------------------------------------------------------------------- */

/* The first failure counts, and the rest is done all the same. */
static void note(int result, const struct error *failure, struct error *err, int *status)
{
	if (result < 0 && *status == 0) {
		*err = *failure;
		*status = -1;
	}
}

static int set_links(struct netlink *inside, struct network *network, const struct network_order *order, bool up,
		     struct error *err)
{
	int status = 0;

	for (size_t i = 0; i < order->n_links; i++) {
		const struct network_link_order *link = &order->links[i];
		struct network_card *card = find_card(network, link->card);
		struct error failure = {0};

		if (!link->is_set || !card)
			continue;
		note(up ? set_up(inside, card, link, &failure) : set_link(inside, card, link, &failure), &failure, err,
		     &status);
	}
	return status;
}

static int set_facts(struct netlink *inside, const struct network *network, struct network_facts *facts, bool addresses,
		     struct error *err)
{
	int status = 0;

	for (size_t i = 0; i < facts->n; i++) {
		struct error failure = {0};

		if ((facts->list[i].kind == NETWORK_ADDRESS) == addresses)
			note(set_fact(inside, network, &facts->list[i], &failure), &failure, err, &status);
	}
	return status;
}

/* An address needs its interface to have its name, a route the interface to be up. */
static int set_all(struct netlink *inside, struct network *network, struct network_order *order, struct error *err)
{
	struct error failure = {0};
	int status = 0;

	note(set_links(inside, network, order, false, &failure), &failure, err, &status);
	note(set_facts(inside, network, &order->facts, true, &failure), &failure, err, &status);
	note(set_links(inside, network, order, true, &failure), &failure, err, &status);
	note(set_facts(inside, network, &order->facts, false, &failure), &failure, err, &status);
	return status;
}

static void drop_cards(struct network *network, const struct network_order *order, json_t *dropped)
{
	for (size_t i = 0; i < order->n_gone_cards; i++)
		drop_card(network, order->gone_cards[i]);
	while (order->begin && network->n > 0) {
		json_array_append_new(dropped, json_integer(network->cards[0].slot));
		drop_card(network, network->cards[0].slot);
	}
}

/* In the agent's network namespace, where new cards appear. */
static int change_cards(struct network *network, const struct network_order *order, json_t *dropped, struct error *err)
{
	int status = 0;

	if (order->n_gone_cards == 0 && !(order->begin && network->n > 0) && !has_new_cards(network, order))
		return 0;
	if (mount_sysfs(err) < 0)
		return -1;
	drop_cards(network, order, dropped);
	if (has_new_cards(network, order))
		status = add_cards(network, order, err);
	unmount_sysfs();
	return status;
}

static bool is_own_namespace(pid_t pid)
{
	struct stat theirs, ours;
	char path[64];

	snprintf(path, sizeof(path), PLACE_PROC "/%d/ns/net", (int)pid);
	return stat(path, &theirs) == 0 && stat(OWN_NAMESPACE, &ours) == 0 && theirs.st_ino == ours.st_ino;
}

struct task {
	struct network *network;
	struct network_order *order;
	struct netlink outside;
	const struct network_place *place;
	bool is_same;
};

static int move_cards(struct task *task, struct netlink *inside, struct error *err)
{
	for (size_t i = 0; i < task->network->n; i++) {
		struct network_card *card = &task->network->cards[i];

		if (*card->name == '\0' && move(&task->outside, inside, card, task->place->pid, task->is_same, err) < 0)
			return -1;
	}
	return 0;
}

/* In the container's network namespace, as the next. */
static int set_resolver(struct task *task, struct error *err)
{
	resolver_free(task->network->resolver);
	task->network->resolver = resolver_new(task->order->resolver, task->place->cgroup, err);
	return task->network->resolver ? 0 : -1;
}

static int set_inside(struct task *task, struct error *err)
{
	cleanup_netlink struct netlink inside = NETLINK_NONE;

	if (netlink_open(&inside, err) < 0 || move_cards(task, &inside, err) < 0)
		return -1;
	if (task->order->resolver && set_resolver(task, err) < 0)
		return -1;
	return set_all(&inside, task->network, task->order, err);
}

static int remove_inside(struct task *task, struct error *err)
{
	cleanup_netlink struct netlink inside = NETLINK_NONE;

	if (netlink_open(&inside, err) < 0)
		return -1;
	for (size_t i = 0; i < task->order->gone.n; i++)
		remove_fact(&inside, task->network, &task->order->gone.list[i]);
	return 0;
}

/* An agent that stayed in a container's network namespace would be at its mercy. */
static int within(int pidfd, struct task *task, int (*work)(struct task *task, struct error *err), struct error *err)
{
	cleanup_close int own = open(OWN_NAMESPACE, O_RDONLY | O_CLOEXEC);
	struct error fatal;
	int status;

	if (own < 0 || setns(pidfd, CLONE_NEWNET) < 0)
		return error_set_errno(err, "enter the container's network namespace");
	status = work(task, err);
	if (setns(own, CLONE_NEWNET) < 0) {
		error_set_errno(&fatal, "return from a container's network namespace");
		boot_fail(&fatal);
	}
	return status;
}

int network_set(struct network *network, const struct network_place *place, struct network_order *order,
		json_t *dropped, struct error *err)
{
	struct task task = {.network = network,
			    .order = order,
			    .outside = NETLINK_NONE,
			    .place = place,
			    .is_same = is_own_namespace(place->pid)};
	int status = netlink_open(&task.outside, err);

	if (status == 0 && order->gone.n > 0)
		status = within(place->pidfd, &task, remove_inside, err);
	if (status == 0)
		status = change_cards(network, order, dropped, err);
	if (status == 0)
		status = within(place->pidfd, &task, set_inside, err);
	netlink_close(&task.outside);
	return status;
}
