#include "runtime/network_watch.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "common/netlink.h"
#include "common/vmm_control.h"
#include "runtime/agent.h"
#include "runtime/network_facts.h"
#include "runtime/redirect.h"
#include "runtime/resolver.h"
#include "runtime/watch.h"

/* Seconds for the VMM or the guest to do one thing. */
#define TIMEOUT 30

/* Changes come in groups: an interface, its addresses, its routes. They are waited for this long after each. */
#define SETTLE_MS 20

/* --- state ------------------------------------------------------------------------------------------------------- */

/* A network card of the machine, and what it stands for. */
struct card {
	struct network_link link; /* as the guest was told of it */
	int tap;		  /* number of the interface */
	uint32_t slot;
	bool told; /* the guest knows of it */
	bool gone;
};

struct network {
	const struct network_watcher *watcher;
	struct netlink netlink, events;
	struct card cards[NETWORK_LINKS_MAX];
	size_t n;
	struct network_facts facts; /* as the guest was told */
	struct resolver resolver;
	uint32_t resolver_port; /* that the guest has to be told of, or 0 */
	bool begun;
	bool changed; /* something was heard of */
};

static struct card *find_card(struct network *network, int index)
{
	for (size_t i = 0; i < network->n; i++)
		if (network->cards[i].link.index == index)
			return &network->cards[i];
	return NULL;
}

static bool is_tap(const struct network *network, int index)
{
	for (size_t i = 0; i < network->n; i++)
		if (network->cards[i].tap == index)
			return true;
	return false;
}

static struct watch begin_watch(void)
{
	struct watch watch = WATCH_NONE;

	watch_set_timeout(&watch, TIMEOUT);
	return watch;
}

/* --- cards ------------------------------------------------------------------------------------------------------- */

static int add_card(struct network *network, const struct network_link *link, struct error *err)
{
	uint32_t owner = network->watcher->owner_pid;
	struct card card = {.link = *link};
	struct watch watch = begin_watch();
	cleanup_close int tap = -1;
	struct error second;

	if (network->n == NETWORK_LINKS_MAX)
		return error_set(err, E2BIG, "more than %d interfaces", NETWORK_LINKS_MAX);
	tap = redirect_make_tap(&network->netlink, link->mtu, &card.tap, err);
	if (tap < 0 || redirect_join(&network->netlink, link->index, card.tap, owner, err) < 0)
		return -1;
	if (vmm_control_add_net(network->watcher->control, &watch, tap, link->mac, &card.slot, err) < 0) {
		redirect_undo(&network->netlink, link->index, owner, &second);
		return -1;
	}
	network->cards[network->n++] = card;
	return 0;
}

static int add_new_cards(struct network *network, const struct network_links *links, struct error *err)
{
	for (size_t i = 0; i < links->n; i++) {
		const struct network_link *link = &links->list[i];

		if (find_card(network, link->index))
			continue;
		if (add_card(network, link, err) == 0)
			continue;
		error_prefix(err, "interface %s", link->name);
		/* At the start the container has all of them or does not run. */
		if (!network->begun)
			return -1;
		log_line("%s", err->message);
	}
	return 0;
}

static void mark_gone_cards(struct network *network, const struct network_links *links)
{
	for (size_t i = 0; i < network->n; i++)
		network->cards[i].gone = !network_links_find(links, network->cards[i].link.index);
}

/* The guest has let go of them. */
static void remove_gone_cards(struct network *network)
{
	size_t kept = 0;

	for (size_t i = 0; i < network->n; i++) {
		struct watch watch = begin_watch();
		struct error err;

		if (!network->cards[i].gone)
			network->cards[kept++] = network->cards[i];
		else if (vmm_control_remove_net(network->watcher->control, &watch, network->cards[i].slot, &err) < 0)
			log_line("%s", err.message);
	}
	network->n = kept;
}

/* --- the engine's resolver --------------------------------------------------------------------------------------- */

static uint32_t connect_resolver(int fd, void *owner)
{
	const struct network *network = owner;
	struct watch watch = begin_watch();
	struct error err;
	uint32_t port;

	if (vmm_control_stream(network->watcher->control, &watch, fd, VMM_STREAM_IN | VMM_STREAM_OUT, &port, &err) == 0)
		return port;
	log_line("%s", err.message);
	return 0;
}

/* It may come with the first network that has one. */
static int look_for_resolver(struct network *network, struct error *err)
{
	struct watch watch = begin_watch();
	cleanup_close int theirs = -1;
	int ends[2];

	if (network->resolver.stream >= 0 || !resolver_is_there())
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set_errno(err, "make a socket pair");
	theirs = ends[1];
	network->resolver.connect = connect_resolver;
	network->resolver.owner = network;
	if (resolver_open(&network->resolver, ends[0], err) < 0)
		return -1;
	if (vmm_control_stream(network->watcher->control, &watch, theirs, VMM_STREAM_IN | VMM_STREAM_OUT,
			       &network->resolver_port, err) == 0)
		return 0;
	resolver_close(&network->resolver);
	return -1;
}

/* --- the order to the agent -------------------------------------------------------------------------------------- */

static bool is_changed(const struct network_link *a, const struct network_link *b)
{
	return strcmp(a->name, b->name) != 0 || memcmp(a->mac, b->mac, sizeof(a->mac)) != 0 || a->mtu != b->mtu ||
	       a->up != b->up || a->no_arp != b->no_arp || a->no_ipv6 != b->no_ipv6;
}

static const char *word(bool value)
{
	return value ? "true" : "false";
}

/* Names of interfaces may hold what JSON escapes, or what is no text in it. */
static int write_name(const char *name, FILE *out, struct error *err)
{
	json_t *string = json_string(name);
	int result = string && json_dumpf(string, out, JSON_ENCODE_ANY) == 0
			 ? 0
			 : error_set(err, EINVAL, "the name of an interface is not UTF-8");

	json_decref(string);
	return result;
}

static int write_link(const struct card *card, const struct network_link *link, FILE *out, struct error *err)
{
	fprintf(out, "{\"card\":%u,\"index\":%d", card->slot, card->link.index);
	if (!card->told || is_changed(&card->link, link)) {
		fputs(",\"name\":", out);
		if (write_name(link->name, out, err) < 0)
			return -1;
		fprintf(out, ",\"mac\":\"%02x%02x%02x%02x%02x%02x\",\"mtu\":%u,\"up\":%s,\"arp\":%s,\"ipv6\":%s",
			link->mac[0], link->mac[1], link->mac[2], link->mac[3], link->mac[4], link->mac[5], link->mtu,
			word(link->up), word(!link->no_arp), word(!link->no_ipv6));
	}
	fputc('}', out);
	return 0;
}

/* Returns whether there is anything to say. */
static bool write_cards(const struct network *network, FILE *out)
{
	const char *separator = "";
	bool any = false;

	fputs("\"goneCards\":[", out);
	for (size_t i = 0; i < network->n; i++) {
		if (!network->cards[i].gone)
			continue;
		fprintf(out, "%s%u", separator, network->cards[i].slot);
		separator = ",";
		any = true;
	}
	fputs("],", out);
	return any;
}

static int write_links(const struct network *network, const struct network_links *links, bool *any, FILE *out,
		       struct error *err)
{
	const char *separator = "";

	fputs("\"links\":[", out);
	for (size_t i = 0; i < network->n; i++) {
		const struct card *card = &network->cards[i];
		const struct network_link *link = network_links_find(links, card->link.index);

		if (!link)
			continue;
		*any |= !card->told || is_changed(&card->link, link);
		fputs(separator, out);
		if (write_link(card, link, out, err) < 0)
			return -1;
		separator = ",";
	}
	fputs("],", out);
	return 0;
}

static int write_order(const struct network *network, const struct network_links *links,
		       const struct network_facts *facts, bool *any, FILE *out, struct error *err)
{
	/* Ids hold nothing that JSON would escape: see state_check_id. */
	fprintf(out, "{\"order\":\"network\",\"id\":\"%s\",\"begin\":%s,", network->watcher->id, word(!network->begun));
	*any = write_cards(network, out);
	if (network->resolver_port)
		fprintf(out, "\"resolver\":%u,", network->resolver_port);
	*any |= network->resolver_port != 0;
	if (write_links(network, links, any, out, err) < 0)
		return -1;
	fputs("\"goneFacts\":", out);
	*any |= network_facts_write(&network->facts, facts, true, out) > 0;
	fputs(",\"facts\":", out);
	*any |= network_facts_write(facts, &network->facts, false, out) > 0;
	fputc('}', out);
	return 0;
}

/* NULL with an empty error: there is nothing to say. */
static char *make_order(const struct network *network, const struct network_links *links,
			const struct network_facts *facts, size_t *size, struct error *err)
{
	cleanup_free char *text = NULL;
	FILE *out = open_memstream(&text, size);
	bool any = false;
	int result;

	err->message[0] = '\0';
	if (!out) {
		error_set_errno(err, "make an order");
		return NULL;
	}
	result = write_order(network, links, facts, &any, out, err);
	if (fclose(out) != 0) {
		error_set_errno(err, "make an order");
		return NULL;
	}
	return result == 0 && any ? take_pointer(text) : NULL;
}

/* Cards that a predecessor of this process had put there. */
static void remove_dropped(const struct network *network, const json_t *answer)
{
	const json_t *slot;
	size_t i;

	json_array_foreach(json_object_get(answer, "dropped"), i, slot)
	{
		struct watch watch = begin_watch();
		struct error err;

		if (i == NETWORK_LINKS_MAX)
			break;
		if (json_is_integer(slot) && vmm_control_remove_net(network->watcher->control, &watch,
								    (uint32_t)json_integer_value(slot), &err) < 0)
			log_line("%s", err.message);
	}
}

static void remember(struct network *network, const struct network_links *links, struct network_facts *facts)
{
	remove_gone_cards(network);
	network->resolver_port = 0;
	for (size_t i = 0; i < network->n; i++) {
		const struct network_link *link = network_links_find(links, network->cards[i].link.index);
		struct error err;

		if (link && link->mtu != network->cards[i].link.mtu &&
		    redirect_set_mtu(&network->netlink, network->cards[i].tap, link->mtu, &err) < 0)
			log_line("%s: %s", link->name, err.message);
		network->cards[i].told = true;
		if (link)
			network->cards[i].link = *link;
	}
	network_facts_release(&network->facts);
	network->facts = *facts;
	*facts = (struct network_facts){0};
}

/* Tells the guest what differs from what it was told last. Whether it could do as told or not, that is what it was
 * told. Returns -1 when the container cannot be started so, or when there is nobody there any more. */
static int synchronize(struct network *network, struct error *err)
{
	cleanup_network_facts struct network_facts facts = {0};
	cleanup_free char *order = NULL;
	struct watch watch;
	struct network_links links;
	json_t *answer = NULL;
	size_t size;
	int result;

	if (network_links_read(&network->netlink, &links, err) < 0)
		return -1;
	mark_gone_cards(network, &links);
	if (add_new_cards(network, &links, err) < 0 || network_facts_read(&network->netlink, &links, &facts, err) < 0 ||
	    look_for_resolver(network, err) < 0)
		return -1;
	order = make_order(network, &links, &facts, &size, err);
	if (!order)
		return *err->message ? -1 : 0;
	watch = begin_watch();
	result = agent_order(network->watcher->agent, &watch, order, size, &answer, err);
	if (result < 0 && (!network->begun || watch.event != WATCH_NOTHING))
		return -1;
	if (result < 0)
		log_line("the container's network: %s", err->message);
	if (!network->begun)
		remove_dropped(network, answer);
	json_decref(answer);
	remember(network, &links, &facts);
	return 0;
}

/* --- what happens on the host ------------------------------------------------------------------------------------ */

/* What becomes of the taps is our own doing. The messages about links and neighbours have the number of the interface
 * in one place, those about addresses in another; routes and rules are of no single one. */
static int hear(const struct netlink_message *message, void *context, struct error *err)
{
	struct network *network = context;
	int index = 0;

	(void)err;
	if ((message->type == RTM_NEWLINK || message->type == RTM_DELLINK) && message->size >= sizeof(struct ifinfomsg))
		index = ((const struct ifinfomsg *)message->body)->ifi_index;
	else if ((message->type == RTM_NEWADDR || message->type == RTM_DELADDR) &&
		 message->size >= sizeof(struct ifaddrmsg))
		index = (int)((const struct ifaddrmsg *)message->body)->ifa_index;
	else if ((message->type == RTM_NEWNEIGH || message->type == RTM_DELNEIGH) &&
		 message->size >= sizeof(struct ndmsg))
		index = ((const struct ndmsg *)message->body)->ndm_ifindex;
	if (index == 0 || !is_tap(network, index))
		network->changed = true;
	return 0;
}

static int open_events(struct network *network, struct error *err)
{
	static const unsigned groups[] = {RTNLGRP_LINK,	      RTNLGRP_NEIGH,	 RTNLGRP_IPV4_IFADDR,
					  RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR,
					  RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE, 0};

	if (netlink_open(&network->events, err) < 0)
		return -1;
	return netlink_listen(&network->events, groups, err);
}

/* Returns 1 when the container has ended. */
static int wait_for_change(struct network *network, int timeout_ms, struct error *err)
{
	struct pollfd polled[2 + RESOLVER_POLLS_MAX] = {{.fd = network->watcher->owner, .events = POLLIN},
							{.fd = network->events.fd, .events = POLLIN}};
	size_t of_resolver = resolver_poll(&network->resolver, polled + 2);
	int n = poll(polled, 2 + of_resolver, timeout_ms);

	if (n < 0 && errno != EINTR)
		return error_set_errno(err, "wait for changes");
	if (n > 0 && polled[0].revents)
		return 1;
	if (n > 0)
		resolver_serve(&network->resolver, polled + 2, of_resolver);
	if (n > 0 && polled[1].revents) {
		int lost = netlink_hear(&network->events, hear, network, err);

		if (lost < 0)
			return -1;
		network->changed |= lost > 0;
	}
	return 0;
}

/* Waits until nothing has changed for a moment. Returns as wait_for_change. */
static int wait_until_settled(struct network *network, struct error *err)
{
	int state = 0;

	while (state == 0 && network->changed) {
		network->changed = false;
		state = wait_for_change(network, SETTLE_MS, err);
	}
	return state;
}

/* Whatever ends it: the container goes on with what it has. */
static void follow(struct network *network)
{
	struct error err;
	int state;

	do {
		bool changed;

		state = wait_for_change(network, -1, &err);
		changed = network->changed;
		if (state == 0)
			state = wait_until_settled(network, &err);
		if (state == 0 && changed && synchronize(network, &err) < 0)
			log_line("the container's network: %s", err.message);
	} while (state == 0);
	if (state < 0)
		log_line("the container's network: %s", err.message);
}

static void wait_for_owner(const struct network *network)
{
	struct pollfd polled = {.fd = network->watcher->owner, .events = POLLIN};

	while (poll(&polled, 1, -1) < 0 && errno == EINTR)
		;
}

static void give_back(struct network *network)
{
	struct error err;

	for (size_t i = 0; i < network->n; i++)
		if (redirect_undo(&network->netlink, network->cards[i].link.index, network->watcher->owner_pid, &err) <
		    0)
			log_line("give interface %s back: %s", network->cards[i].link.name, err.message);
}

/* The guest lets go of them: a card that vanishes under its driver would stop the agent. Where the machine has ended
 * there is nothing to be done. */
static int order_release(const struct network *network)
{
	struct watch watch = begin_watch();
	cleanup_free char *order = NULL;
	struct error err;

	if (asprintf(&order, "{\"order\":\"network\",\"id\":\"%s\",\"begin\":true}", network->watcher->id) < 0)
		return -1;
	/* A refusal is as good: the container is not known any more, and its cards went with it. */
	if (agent_order(network->watcher->agent, &watch, order, strlen(order), NULL, &err) < 0 &&
	    watch.event != WATCH_NOTHING)
		return -1;
	return 0;
}

/* In a sandbox that goes on without the container, they would stay. */
static void take_cards_back(struct network *network)
{
	if (network->n == 0 || order_release(network) < 0)
		return;
	for (size_t i = 0; i < network->n; i++)
		network->cards[i].gone = true;
	remove_gone_cards(network);
}

static void tell(const struct network_watcher *watcher, const char *text)
{
	if (write_exactly(watcher->ready, text, strlen(text)) < 0)
		log_line("the process that started hull-net has gone");
	close(watcher->ready);
}

int network_watcher_run(const struct network_watcher *watcher, struct error *err)
{
	struct network network = {
	    .watcher = watcher, .netlink = NETLINK_NONE, .events = NETLINK_NONE, .resolver = RESOLVER_NONE};

	/* Listening first: nothing may happen between the first look and that. */
	if (open_events(&network, err) < 0 || netlink_open(&network.netlink, err) < 0 ||
	    synchronize(&network, err) < 0) {
		give_back(&network);
		take_cards_back(&network);
		tell(watcher, err->message);
		return -1;
	}
	network.begun = true;
	tell(watcher, NETWORK_READY);
	follow(&network);
	wait_for_owner(&network);
	give_back(&network);
	take_cards_back(&network);
	return 0;
}

/* --- starting it ------------------------------------------------------------------------------------------------- */

static void pass(struct arguments *arguments, struct descriptors *descriptors, const char *name, int fd)
{
	arguments_add(arguments, "--%s=%d", name, fd);
	descriptors_add(descriptors, fd);
}

int network_watcher_spawn(const struct network_watcher *watcher, int namespace, int cgroup,
			  const struct lifeline *lifeline, struct child *child, struct error *err)
{
	cleanup_descriptors struct descriptors descriptors = {0};
	cleanup_arguments struct arguments arguments = {0};
	struct spawn spawning = {.program = "/proc/self/exe",
				 .arguments = &arguments,
				 .keep = &descriptors,
				 .lifeline = lifeline,
				 .network = namespace,
				 .cgroup = cgroup};

	arguments_add(&arguments, "hull-net");
	arguments_add(&arguments, "network");
	pass(&arguments, &descriptors, "control", watcher->control);
	pass(&arguments, &descriptors, "agent", watcher->agent);
	pass(&arguments, &descriptors, "owner", watcher->owner);
	pass(&arguments, &descriptors, "messages", watcher->log);
	pass(&arguments, &descriptors, "ready", watcher->ready);
	arguments_add(&arguments, "--owner-pid=%u", watcher->owner_pid);
	arguments_add(&arguments, "%s", watcher->id);
	return spawn(&spawning, child, err);
}
