#include "runtime/redirect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_mirred.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/vmm_control.h"
#include "runtime/network_facts.h"

#define TUN_DEVICE "/dev/net/tun"

#define INGRESS_HANDLE 0xffff0000u
#define INGRESS_PARENT (INGRESS_HANDLE | TC_H_MIN_INGRESS) /* of an ingress and of a clsact discipline */
#define FILTER_PRIORITY 0xc0deu				   /* behind whatever an engine may have there */
#define FILTER_INFO ((FILTER_PRIORITY << 16) | htons(ETH_P_ALL))
#define FILTER_KIND "matchall"

/* In a filter's handle: the discipline that it is in was made for it. */
#define MADE_DISCIPLINE 0x80000000u

/* --- the tap ----------------------------------------------------------------------------------------------------- */

static int open_tap(char name[IFNAMSIZ], struct error *err)
{
	struct ifreq request = {.ifr_name = NETWORK_TAP_PREFIX "%d", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	cleanup_close int fd = open(TUN_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	int header = VMM_NET_HEADER;

	if (fd < 0)
		return error_set_errno(err, "open " TUN_DEVICE);
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return error_set_errno(err, "make a tap");
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0 || ioctl(fd, TUNSETOFFLOAD, (unsigned long)VMM_NET_OFFLOADS) < 0)
		return error_set_errno(err, "set a tap up");
	memcpy(name, request.ifr_name, IFNAMSIZ);
	name[IFNAMSIZ - 1] = '\0';
	return take_fd(&fd);
}

static int find_index(struct netlink *netlink, const char *name, int *index, struct error *err)
{
	if (netlink_find_link(netlink, name, index, err) < 0)
		return error_prefix(err, "find tap %s", name);
	return *index > 0 ? 0 : error_set(err, ENODEV, "tap %s is not in the network namespace", name);
}

/* It shall not send anything of its own to the guest. A kernel without IPv6 refuses, and has no such wish. */
static void silence(struct netlink *netlink, int tap)
{
	struct ifinfomsg body = {.ifi_family = AF_UNSPEC, .ifi_index = tap};
	struct netlink_request request;
	uint8_t mode = IN6_ADDR_GEN_MODE_NONE;
	struct error err;
	size_t families, inet6;

	netlink_begin(&request, RTM_NEWLINK, 0, &body, sizeof(body));
	families = netlink_nest(&request, IFLA_AF_SPEC);
	inet6 = netlink_nest(&request, AF_INET6);
	netlink_add(&request, IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof(mode));
	netlink_nest_end(&request, inet6);
	netlink_nest_end(&request, families);
	netlink_call(netlink, &request, &err);
}

static int bring_up(struct netlink *netlink, int tap, uint32_t mtu, struct error *err)
{
	struct ifinfomsg body = {.ifi_family = AF_UNSPEC, .ifi_index = tap, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	struct netlink_request request;

	netlink_begin(&request, RTM_NEWLINK, 0, &body, sizeof(body));
	netlink_add_u32(&request, IFLA_MTU, mtu);
	return netlink_call(netlink, &request, err) < 0 ? error_prefix(err, "bring a tap up") : 0;
}

int redirect_make_tap(struct netlink *netlink, uint32_t mtu, int *index, struct error *err)
{
	char name[IFNAMSIZ];
	cleanup_close int fd = open_tap(name, err);

	if (fd < 0 || find_index(netlink, name, index, err) < 0)
		return -1;
	silence(netlink, *index);
	return bring_up(netlink, *index, mtu, err) < 0 ? -1 : take_fd(&fd);
}

int redirect_set_mtu(struct netlink *netlink, int tap, uint32_t mtu, struct error *err)
{
	return bring_up(netlink, tap, mtu, err);
}

/* --- filters ----------------------------------------------------------------------------------------------------- */

static int change_discipline(struct netlink *netlink, unsigned type, unsigned flags, int link, struct error *err)
{
	struct tcmsg body = {
	    .tcm_family = AF_UNSPEC, .tcm_ifindex = link, .tcm_handle = INGRESS_HANDLE, .tcm_parent = TC_H_INGRESS};
	struct netlink_request request;

	netlink_begin(&request, type, flags, &body, sizeof(body));
	netlink_add_text(&request, TCA_KIND, "ingress");
	return netlink_call(netlink, &request, err);
}

static void begin_filter(struct netlink_request *request, unsigned type, unsigned flags, int link, uint32_t handle)
{
	struct tcmsg body = {.tcm_family = AF_UNSPEC,
			     .tcm_ifindex = link,
			     .tcm_handle = handle,
			     .tcm_parent = INGRESS_PARENT,
			     .tcm_info = FILTER_INFO};

	netlink_begin(request, type, flags, &body, sizeof(body));
	netlink_add_text(request, TCA_KIND, FILTER_KIND);
}

static int add_filter(struct netlink *netlink, int from, int to, uint32_t handle, struct error *err)
{
	struct tc_mirred mirred = {.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)to};
	struct netlink_request request;
	size_t options, actions, action, parameters;

	begin_filter(&request, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, from, handle);
	options = netlink_nest(&request, TCA_OPTIONS);
	actions = netlink_nest(&request, TCA_MATCHALL_ACT);
	action = netlink_nest(&request, 1);
	netlink_add_text(&request, TCA_ACT_KIND, "mirred");
	parameters = netlink_nest(&request, TCA_ACT_OPTIONS);
	netlink_add(&request, TCA_MIRRED_PARMS, &mirred, sizeof(mirred));
	netlink_nest_end(&request, parameters);
	netlink_nest_end(&request, action);
	netlink_nest_end(&request, actions);
	netlink_nest_end(&request, options);
	return netlink_call(netlink, &request, err);
}

static int take_handle(const struct netlink_message *message, void *context, struct error *err)
{
	struct netlink_attributes attributes;
	struct tcmsg body;
	char kind[16];

	(void)err;
	if (message->type != RTM_NEWTFILTER || !netlink_attributes(message, sizeof(body), &attributes))
		return 0;
	memcpy(&body, message->body, sizeof(body));
	if (body.tcm_info >> 16 == FILTER_PRIORITY && body.tcm_handle != 0 &&
	    netlink_find_text(attributes, TCA_KIND, kind, sizeof(kind)) && strcmp(kind, FILTER_KIND) == 0)
		*(uint32_t *)context = body.tcm_handle;
	return 0;
}

/* The handle of the filter that hull has there, or 0. */
static int find_filter(struct netlink *netlink, int link, uint32_t *handle, struct error *err)
{
	struct tcmsg body = {.tcm_family = AF_UNSPEC, .tcm_ifindex = link, .tcm_parent = INGRESS_PARENT};
	struct netlink_request request;

	*handle = 0;
	netlink_begin(&request, RTM_GETTFILTER, 0, &body, sizeof(body));
	return netlink_dump(netlink, &request, take_handle, handle, err);
}

/* A discipline that was made for the filter goes with it, in one step: whoever is killed in between would leave one
 * that nobody knows as ours. */
static int remove_filter(struct netlink *netlink, int link, uint32_t handle, struct error *err)
{
	struct netlink_request request;
	int result;

	if (handle & MADE_DISCIPLINE) {
		result = change_discipline(netlink, RTM_DELQDISC, 0, link, err);
	} else {
		begin_filter(&request, RTM_DELTFILTER, 0, link, handle);
		result = netlink_call(netlink, &request, err);
	}
	return result < 0 && err->code != ENOENT && err->code != EINVAL && err->code != ENODEV ? -1 : 0;
}

/* What was left by somebody who has ended stands in nobody's way. */
static int make_way(struct netlink *netlink, int link, uint32_t owner, struct error *err)
{
	uint32_t handle, other;

	if (find_filter(netlink, link, &handle, err) < 0)
		return -1;
	other = handle & ~MADE_DISCIPLINE;
	if (handle == 0)
		return 0;
	if (other != owner && (kill((pid_t)other, 0) == 0 || errno != ESRCH))
		return error_set(err, EBUSY,
				 "it leads to the virtual machine of process %u already; containers that share a "
				 "network namespace have to share a sandbox",
				 other);
	return remove_filter(netlink, link, handle, err);
}

/* A discipline that is there already stays, whoever has made it. */
static int redirect(struct netlink *netlink, int from, int to, uint32_t owner, struct error *err)
{
	uint32_t handle = owner | MADE_DISCIPLINE;

	if (make_way(netlink, from, owner, err) < 0)
		return -1;
	if (change_discipline(netlink, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, from, err) < 0) {
		if (err->code != EEXIST)
			return error_prefix(err, "make an ingress discipline");
		handle = owner;
	}
	if (add_filter(netlink, from, to, handle, err) == 0)
		return 0;
	if (handle & MADE_DISCIPLINE)
		change_discipline(netlink, RTM_DELQDISC, 0, from, &(struct error){0});
	return error_prefix(err, "redirect what comes in");
}

int redirect_join(struct netlink *netlink, int link, int tap, uint32_t owner, struct error *err)
{
	struct error second;

	if (redirect(netlink, tap, link, owner, err) < 0)
		return -1;
	if (redirect(netlink, link, tap, owner, err) == 0)
		return 0;
	redirect_undo(netlink, tap, owner, &second);
	return -1;
}

int redirect_undo(struct netlink *netlink, int link, uint32_t owner, struct error *err)
{
	uint32_t handle;

	if (find_filter(netlink, link, &handle, err) < 0)
		return err->code == ENODEV ? 0 : -1;
	return (handle & ~MADE_DISCIPLINE) == owner ? remove_filter(netlink, link, handle, err) : 0;
}

int redirect_undo_all(struct netlink *netlink, uint32_t owner, struct error *err)
{
	struct network_links links;

	if (network_links_read(netlink, &links, err) < 0)
		return -1;
	for (size_t i = 0; i < links.n; i++)
		if (redirect_undo(netlink, links.list[i].index, owner, err) < 0)
			return error_prefix(err, "give interface %s back", links.list[i].name);
	return 0;
}
