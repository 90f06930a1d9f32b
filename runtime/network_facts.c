#include "runtime/network_facts.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* How often a table may change while it is read before that is a failure. */
#define ATTEMPTS 10

#define LOOPBACK_INDEX 1 /* in every namespace */

/* --- interfaces -------------------------------------------------------------------------------------------------- */

/* What the kernel makes in each namespace as soon as it knows of such tunnels. */
static bool is_fallback_tunnel(const char *kind, const struct network_link *link)
{
	static const char *const kinds[] = {"gretap", "erspan", "ipip", "sit",	 "gre",
					    "ip6tnl", "vti",	"vti6", "ip6gre"};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kind, kinds[i]) == 0)
			return !link->up;
	return false;
}

static bool is_own_tap(const char *kind, const char *name)
{
	return strcmp(kind, "tun") == 0 && strncmp(name, NETWORK_TAP_PREFIX, strlen(NETWORK_TAP_PREFIX)) == 0;
}

/* IFLA_INET6_CONF is an array of numbers, by the kernel's enum. */
static bool is_without_ipv6(struct netlink_attributes attributes)
{
	struct netlink_attributes families, inet6;
	struct netlink_attribute numbers;
	int32_t value;

	if (!netlink_find_nested(attributes, IFLA_AF_SPEC, &families) ||
	    !netlink_find_nested(families, AF_INET6, &inet6) || !netlink_find(inet6, IFLA_INET6_CONF, &numbers) ||
	    numbers.size < (DEVCONF_DISABLE_IPV6 + 1) * sizeof(value))
		return false;
	memcpy(&value, (const char *)numbers.data + DEVCONF_DISABLE_IPV6 * sizeof(value), sizeof(value));
	return value != 0;
}

static int take_link(const struct netlink_message *message, void *context, struct error *err)
{
	const struct ifinfomsg *info = message->body;
	struct network_links *links = context;
	struct netlink_attributes attributes, described;
	struct netlink_attribute mac;
	struct network_link link = {0};
	char kind[32] = "";
	uint32_t master;

	if (message->type != RTM_NEWLINK || !netlink_attributes(message, sizeof(*info), &attributes) ||
	    info->ifi_type == ARPHRD_LOOPBACK ||
	    !netlink_find_text(attributes, IFLA_IFNAME, link.name, sizeof(link.name)))
		return 0;
	link.index = info->ifi_index;
	link.up = info->ifi_flags & IFF_UP;
	link.no_arp = info->ifi_flags & IFF_NOARP;
	link.no_ipv6 = is_without_ipv6(attributes);
	if (netlink_find_nested(attributes, IFLA_LINKINFO, &described))
		netlink_find_text(described, IFLA_INFO_KIND, kind, sizeof(kind));
	if (is_own_tap(kind, link.name) || netlink_find_u32(attributes, IFLA_MASTER, &master) ||
	    is_fallback_tunnel(kind, &link))
		return 0;
	/* It has its parent's hardware address, and hands on no frames that come in by a redirection. */
	if (strcmp(kind, "ipvlan") == 0) {
		snprintf(links->left_out, sizeof(links->left_out), "%s: ipvlan cannot be redirected", link.name);
		return 0;
	}
	if (info->ifi_type != ARPHRD_ETHER || !netlink_find(attributes, IFLA_ADDRESS, &mac) ||
	    mac.size != sizeof(link.mac) || !netlink_find_u32(attributes, IFLA_MTU, &link.mtu)) {
		snprintf(links->left_out, sizeof(links->left_out), "%s: it is not an Ethernet interface", link.name);
		return 0;
	}
	memcpy(link.mac, mac.data, sizeof(link.mac));
	if (links->n == NETWORK_LINKS_MAX)
		return error_set(err, E2BIG, "more than %d interfaces", NETWORK_LINKS_MAX);
	links->list[links->n++] = link;
	return 0;
}

int network_links_read(struct netlink *netlink, struct network_links *links, struct error *err)
{
	struct ifinfomsg body = {.ifi_family = AF_UNSPEC};
	struct netlink_request request;
	int result = -1;

	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		*links = (struct network_links){0};
		netlink_begin(&request, RTM_GETLINK, 0, &body, sizeof(body));
		netlink_add_u32(&request, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
		result = netlink_dump(netlink, &request, take_link, links, err);
		if (result == 0 || err->code != EINTR)
			break;
	}
	return result < 0 ? error_prefix(err, "read the interfaces") : 0;
}

const struct network_link *network_links_find(const struct network_links *links, int index)
{
	for (size_t i = 0; i < links->n; i++)
		if (links->list[i].index == index)
			return &links->list[i];
	return NULL;
}

/* --- facts ------------------------------------------------------------------------------------------------------- */

void network_facts_release(struct network_facts *facts)
{
	for (size_t i = 0; i < facts->n; i++)
		free(facts->list[i].data);
	free(facts->list);
	*facts = (struct network_facts){0};
}

static bool is_known(const struct network_links *links, int index)
{
	return index == LOOPBACK_INDEX || network_links_find(links, index);
}

/* Begins a fact with the body and those attributes whose types are in the list. Only the bytes behind the request's
 * header are wanted, in the layout that the kernel reads. */
static void begin_fact(struct netlink_request *request, const void *body, size_t body_size,
		       struct netlink_attributes from, const uint8_t *types, size_t n_types)
{
	struct netlink_attribute attribute;

	netlink_begin(request, 0, 0, body, body_size);
	while (netlink_next_attribute(&from, &attribute))
		if (memchr(types, (int)attribute.type, n_types))
			netlink_add(request, attribute.type, attribute.data, attribute.size);
}

static int end_fact(const struct netlink_request *request, enum network_fact_kind kind, struct network_fact *fact,
		    struct error *err)
{
	if (request->overflow)
		return error_set(err, E2BIG, "a route with more than %d bytes", NETLINK_REQUEST_MAX);
	fact->kind = kind;
	fact->size = request->size - NLMSG_HDRLEN;
	fact->data = malloc(fact->size);
	if (!fact->data)
		return error_set_errno(err, "allocate %zu bytes", fact->size);
	memcpy(fact->data, request->bytes + NLMSG_HDRLEN, fact->size);
	return 1;
}

/* Where the kernel adds these to lo by itself. */
static bool is_loopback_address(const struct ifaddrmsg *body, struct netlink_attributes attributes)
{
	static const uint8_t ipv4[4] = {127, 0, 0, 1}, ipv6[16] = {[15] = 1};
	struct netlink_attribute address;

	if (body->ifa_index != LOOPBACK_INDEX || !netlink_find(attributes, IFA_ADDRESS, &address))
		return false;
	return (address.size == sizeof(ipv4) && memcmp(address.data, ipv4, sizeof(ipv4)) == 0) ||
	       (address.size == sizeof(ipv6) && memcmp(address.data, ipv6, sizeof(ipv6)) == 0);
}

/* What a state of the address is, not a wish. */
#define ADDRESS_STATE                                                                                                  \
	(IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_OPTIMISTIC | IFA_F_DEPRECATED | IFA_F_SECONDARY | IFA_F_PERMANENT | \
	 IFA_F_STABLE_PRIVACY)

/* The address has been found to be free on the host: its guest has it from the first moment on. Those that routers
 * announce the guest hears of itself. */
static int take_address(const struct netlink_message *message, const struct network_links *links,
			struct network_fact *fact, struct error *err)
{
	static const uint8_t types[] = {IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_RT_PRIORITY};
	struct netlink_attributes attributes;
	struct netlink_request request;
	struct ifaddrmsg body;
	uint32_t flags;

	if (!netlink_attributes(message, sizeof(body), &attributes))
		return 0;
	memcpy(&body, message->body, sizeof(body));
	flags = body.ifa_flags;
	netlink_find_u32(attributes, IFA_FLAGS, &flags);
	if ((body.ifa_family != AF_INET && body.ifa_family != AF_INET6) || !is_known(links, (int)body.ifa_index) ||
	    (flags & IFA_F_DADFAILED) || is_loopback_address(&body, attributes))
		return 0;
	if (body.ifa_family == AF_INET6 && !(flags & IFA_F_PERMANENT))
		return 0;
	flags &= ~(uint32_t)ADDRESS_STATE;
	if (body.ifa_family == AF_INET6)
		flags |= IFA_F_NODAD;
	body.ifa_flags = (uint8_t)flags;
	begin_fact(&request, &body, sizeof(body), attributes, types, sizeof(types));
	netlink_add_u32(&request, IFA_FLAGS, flags);
	return end_fact(&request, NETWORK_ADDRESS, fact, err);
}

/* Whether all ways that the route takes lead over known interfaces. */
static bool leads_over(struct netlink_attributes attributes, const struct network_links *links)
{
	struct netlink_attribute ways;
	uint32_t index;

	if (netlink_find_u32(attributes, RTA_OIF, &index) && !is_known(links, (int)index))
		return false;
	if (!netlink_find(attributes, RTA_MULTIPATH, &ways))
		return true;
	for (size_t at = 0; ways.size - at >= sizeof(struct rtnexthop);) {
		struct rtnexthop way;

		memcpy(&way, (const char *)ways.data + at, sizeof(way));
		if (way.rtnh_len < sizeof(way) || way.rtnh_len > ways.size - at || !is_known(links, way.rtnh_ifindex))
			return false;
		at += RTNH_ALIGN((size_t)way.rtnh_len);
		if (at > ways.size)
			break;
	}
	return true;
}

/* Those that are made from addresses, by routers' announcements or by the kernel come by themselves. */
static bool is_set_route(const struct rtmsg *body, struct netlink_attributes attributes)
{
	static const uint8_t types[] = {RTN_UNICAST, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW};
	uint32_t table = body->rtm_table;

	netlink_find_u32(attributes, RTA_TABLE, &table);
	return (body->rtm_family == AF_INET || body->rtm_family == AF_INET6) && !(body->rtm_flags & RTM_F_CLONED) &&
	       table != RT_TABLE_LOCAL && body->rtm_protocol != RTPROT_KERNEL && body->rtm_protocol != RTPROT_RA &&
	       body->rtm_protocol != RTPROT_REDIRECT && memchr(types, body->rtm_type, sizeof(types));
}

static bool has_gateway(struct netlink_attributes attributes)
{
	struct netlink_attribute found;

	return netlink_find(attributes, RTA_GATEWAY, &found) || netlink_find(attributes, RTA_VIA, &found) ||
	       netlink_find(attributes, RTA_MULTIPATH, &found);
}

static int take_route(const struct netlink_message *message, const struct network_links *links,
		      struct network_fact *fact, struct error *err)
{
	static const uint8_t types[] = {RTA_DST,     RTA_SRC,	  RTA_OIF,	 RTA_GATEWAY, RTA_PRIORITY,
					RTA_PREFSRC, RTA_METRICS, RTA_MULTIPATH, RTA_TABLE,   RTA_VIA,
					RTA_PREF,    RTA_ENCAP,	  RTA_ENCAP_TYPE};
	struct netlink_attributes attributes;
	struct netlink_request request;
	struct rtmsg body;

	if (!netlink_attributes(message, sizeof(body), &attributes))
		return 0;
	memcpy(&body, message->body, sizeof(body));
	if (!is_set_route(&body, attributes) || !leads_over(attributes, links))
		return 0;
	body.rtm_flags &= RTNH_F_ONLINK;
	fact->last = has_gateway(attributes);
	begin_fact(&request, &body, sizeof(body), attributes, types, sizeof(types));
	return end_fact(&request, NETWORK_ROUTE, fact, err);
}

static int take_neighbour(const struct netlink_message *message, const struct network_links *links,
			  struct network_fact *fact, struct error *err)
{
	static const uint8_t types[] = {NDA_DST, NDA_LLADDR};
	struct netlink_attributes attributes;
	struct netlink_request request;
	struct ndmsg body;

	if (!netlink_attributes(message, sizeof(body), &attributes))
		return 0;
	memcpy(&body, message->body, sizeof(body));
	if ((body.ndm_family != AF_INET && body.ndm_family != AF_INET6) || !(body.ndm_state & NUD_PERMANENT) ||
	    (body.ndm_flags & NTF_PROXY) || !network_links_find(links, body.ndm_ifindex))
		return 0;
	body.ndm_state = NUD_PERMANENT;
	body.ndm_flags &= NTF_ROUTER;
	begin_fact(&request, &body, sizeof(body), attributes, types, sizeof(types));
	return end_fact(&request, NETWORK_NEIGHBOUR, fact, err);
}

static int take_rule(const struct netlink_message *message, const struct network_links *links,
		     struct network_fact *fact, struct error *err)
{
	static const uint8_t types[] = {FRA_DST,      FRA_SRC,	    FRA_IIFNAME,	  FRA_GOTO,
					FRA_PRIORITY, FRA_FWMARK,   FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN,
					FRA_TABLE,    FRA_FWMASK,   FRA_OIFNAME,	  FRA_UID_RANGE,
					FRA_PROTOCOL, FRA_IP_PROTO, FRA_SPORT_RANGE,	  FRA_DPORT_RANGE};
	struct netlink_attributes attributes;
	struct netlink_attribute protocol;
	struct netlink_request request;
	struct fib_rule_hdr body;

	(void)links;
	if (!netlink_attributes(message, sizeof(body), &attributes))
		return 0;
	memcpy(&body, message->body, sizeof(body));
	/* The three that each namespace begins with. */
	if ((body.family != AF_INET && body.family != AF_INET6) ||
	    (netlink_find(attributes, FRA_PROTOCOL, &protocol) && protocol.size == 1 &&
	     *(const uint8_t *)protocol.data == RTPROT_KERNEL))
		return 0;
	body.flags &= FIB_RULE_INVERT | FIB_RULE_FIND_SADDR;
	begin_fact(&request, &body, sizeof(body), attributes, types, sizeof(types));
	return end_fact(&request, NETWORK_RULE, fact, err);
}

int network_fact_take(const struct netlink_message *message, const struct network_links *links,
		      struct network_fact *fact, struct error *err)
{
	*fact = (struct network_fact){0};
	switch (message->type) {
	case RTM_NEWADDR:
		return take_address(message, links, fact, err);
	case RTM_NEWROUTE:
		return take_route(message, links, fact, err);
	case RTM_NEWNEIGH:
		return take_neighbour(message, links, fact, err);
	case RTM_NEWRULE:
		return take_rule(message, links, fact, err);
	default:
		return 0;
	}
}

/* --- reading them ------------------------------------------------------------------------------------------------ */

struct reading {
	const struct network_links *links;
	struct network_facts *facts;
	unsigned char family; /* AF_UNSPEC: any */
};

static int take_any(const struct netlink_message *message, void *context, struct error *err)
{
	const struct reading *reading = context;
	struct network_facts *facts = reading->facts;
	struct network_fact fact, *larger;
	int taken;

	/* Without IPv6, the kernel answers a question about it with all that it has. */
	if (message->size < 1 ||
	    (reading->family != AF_UNSPEC && *(const unsigned char *)message->body != reading->family))
		return 0;
	taken = network_fact_take(message, reading->links, &fact, err);
	if (taken <= 0)
		return taken;
	larger = facts->n < NETWORK_FACTS_MAX ? realloc(facts->list, (facts->n + 1) * sizeof(*larger)) : NULL;
	if (!larger) {
		free(fact.data);
		return error_set(err, E2BIG, "more than %d addresses, routes and rules", NETWORK_FACTS_MAX);
	}
	facts->list = larger;
	larger[facts->n++] = fact;
	return 0;
}

/* rtnetlink knows who asks by the size: all of these questions begin with the family, and are this long at most. */
static int read_table(struct netlink *netlink, unsigned type, unsigned char family, const struct reading *reading,
		      struct error *err)
{
	struct rtmsg body = {.rtm_family = family};
	struct reading here = *reading;
	struct netlink_request request;

	here.family = family;
	netlink_begin(&request, type, 0, &body, sizeof(body));
	return netlink_dump(netlink, &request, take_any, &here, err);
}

static int read_tables(struct netlink *netlink, const struct reading *reading, struct error *err)
{
	static const struct {
		unsigned type;
		unsigned char family;
	} tables[] = {
	    {RTM_GETADDR, AF_UNSPEC},  {RTM_GETROUTE, AF_INET}, {RTM_GETROUTE, AF_INET6},
	    {RTM_GETNEIGH, AF_UNSPEC}, {RTM_GETRULE, AF_INET},	{RTM_GETRULE, AF_INET6},
	};

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		/* A kernel without policy routing has no rules, one without IPv6 none for that. */
		if (read_table(netlink, tables[i].type, tables[i].family, reading, err) < 0 &&
		    err->code != EOPNOTSUPP && err->code != EAFNOSUPPORT)
			return -1;
	return 0;
}

static int rank(const struct network_fact *fact)
{
	return 2 * (int)fact->kind + fact->last;
}

/* By kind, those that depend on others behind them; otherwise as they came: the first address of a network is the one
 * that is used. */
static void put_in_order(struct network_facts *facts)
{
	for (size_t i = 1; i < facts->n; i++) {
		struct network_fact moved = facts->list[i];
		size_t at = i;

		for (; at > 0 && rank(&facts->list[at - 1]) > rank(&moved); at--)
			facts->list[at] = facts->list[at - 1];
		facts->list[at] = moved;
	}
}

int network_facts_read(struct netlink *netlink, const struct network_links *links, struct network_facts *facts,
		       struct error *err)
{
	struct reading reading = {.links = links, .facts = facts};
	int result = -1;

	*facts = (struct network_facts){0};
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		network_facts_release(facts);
		result = read_tables(netlink, &reading, err);
		if (result == 0 || err->code != EINTR)
			break;
	}
	if (result < 0) {
		network_facts_release(facts);
		return error_prefix(err, "read addresses and routes");
	}
	put_in_order(facts);
	return 0;
}

/* --- writing them ------------------------------------------------------------------------------------------------ */

static bool has(const struct network_facts *facts, const struct network_fact *wanted)
{
	for (size_t i = 0; facts && i < facts->n; i++)
		if (facts->list[i].kind == wanted->kind && facts->list[i].size == wanted->size &&
		    memcmp(facts->list[i].data, wanted->data, wanted->size) == 0)
			return true;
	return false;
}

static void write_fact(const struct network_fact *fact, FILE *out)
{
	static const char *const names[NETWORK_FACT_KINDS] = {[NETWORK_ADDRESS] = "address",
							      [NETWORK_ROUTE] = "route",
							      [NETWORK_NEIGHBOUR] = "neighbour",
							      [NETWORK_RULE] = "rule"};

	fprintf(out, "[\"%s\",\"", names[fact->kind]);
	for (size_t i = 0; i < fact->size; i++)
		fprintf(out, "%02x", fact->data[i]);
	fputs("\"]", out);
}

size_t network_facts_write(const struct network_facts *of, const struct network_facts *without, bool backwards,
			   FILE *out)
{
	size_t written = 0;

	fputc('[', out);
	for (size_t i = 0; i < of->n; i++) {
		const struct network_fact *fact = &of->list[backwards ? of->n - 1 - i : i];

		if (has(without, fact))
			continue;
		if (written++ > 0)
			fputc(',', out);
		write_fact(fact, out);
	}
	fputc(']', out);
	return written;
}
