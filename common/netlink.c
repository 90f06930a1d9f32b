#include "common/netlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel fills a read of at least this size with as much of a table as goes in. */
#define RECEIVE_MAX 32768

/* Some messages of the kernel say no more than "out of memory" without it: texts, and the place that they are about. */
static void ask_for_words(int fd)
{
	int on = 1;

	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
}

int netlink_open(struct netlink *netlink, struct error *err)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK};

	*netlink = (struct netlink){.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)};
	if (netlink->fd < 0)
		return error_set_errno(err, "open a netlink socket");
	ask_for_words(netlink->fd);
	if (bind(netlink->fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	error_set_errno(err, "bind a netlink socket");
	netlink_close(netlink);
	return -1;
}

void netlink_close(struct netlink *netlink)
{
	if (netlink->fd >= 0)
		close(netlink->fd);
	*netlink = NETLINK_NONE;
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

/* Room for that many bytes, filled up with zeros to the next boundary; NULL when there is none. */
static void *append(struct netlink_request *request, size_t size)
{
	void *place = request->bytes + request->size;
	size_t padded = NLMSG_ALIGN(size);

	if (request->overflow || padded < size || padded > sizeof(request->bytes) - request->size) {
		request->overflow = true;
		return NULL;
	}
	memset(place, 0, padded);
	request->size += padded;
	return place;
}

void netlink_begin(struct netlink_request *request, unsigned type, unsigned flags, const void *body, size_t size)
{
	struct nlmsghdr *header;
	void *place;

	request->size = 0;
	request->overflow = false;
	header = append(request, NLMSG_HDRLEN);
	header->nlmsg_type = (uint16_t)type;
	header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	place = append(request, size);
	if (place)
		memcpy(place, body, size);
}

void netlink_add(struct netlink_request *request, unsigned type, const void *data, size_t size)
{
	struct rtattr *attribute = size > UINT16_MAX - RTA_LENGTH(0) ? NULL : append(request, RTA_LENGTH(size));

	if (!attribute) {
		request->overflow = true;
		return;
	}
	attribute->rta_type = (uint16_t)type;
	attribute->rta_len = (uint16_t)RTA_LENGTH(size);
	if (size > 0)
		memcpy(RTA_DATA(attribute), data, size);
}

void netlink_add_u32(struct netlink_request *request, unsigned type, uint32_t value)
{
	netlink_add(request, type, &value, sizeof(value));
}

void netlink_add_text(struct netlink_request *request, unsigned type, const char *text)
{
	netlink_add(request, type, text, strlen(text) + 1);
}

size_t netlink_nest(struct netlink_request *request, unsigned type)
{
	size_t nest = request->size;

	netlink_add(request, type, NULL, 0);
	return nest;
}

void netlink_nest_end(struct netlink_request *request, size_t nest)
{
	if (!request->overflow)
		((struct rtattr *)(request->bytes + nest))->rta_len = (uint16_t)(request->size - nest);
}

/* --- what the kernel tells --------------------------------------------------------------------------------------- */

const struct nlmsghdr *netlink_next(struct netlink_reader *reader)
{
	const struct nlmsghdr *header = (const struct nlmsghdr *)reader->data;
	size_t whole;

	if (!header || reader->size < sizeof(*header) || header->nlmsg_len < sizeof(*header) ||
	    header->nlmsg_len > reader->size)
		return NULL;
	whole = NLMSG_ALIGN((size_t)header->nlmsg_len);
	if (whole > reader->size)
		whole = reader->size;
	reader->data += whole;
	reader->size -= whole;
	return header;
}

bool netlink_attributes(const struct netlink_message *message, size_t body_size, struct netlink_attributes *attributes)
{
	size_t skipped = NLMSG_ALIGN(body_size);

	if (message->size < body_size)
		return false;
	if (skipped > message->size)
		skipped = message->size;
	*attributes =
	    (struct netlink_attributes){(const unsigned char *)message->body + skipped, message->size - skipped};
	return true;
}

bool netlink_next_attribute(struct netlink_attributes *attributes, struct netlink_attribute *attribute)
{
	struct rtattr header;
	size_t whole;

	if (attributes->size < sizeof(header))
		return false;
	memcpy(&header, attributes->data, sizeof(header));
	if (header.rta_len < sizeof(header) || header.rta_len > attributes->size)
		return false;
	*attribute = (struct netlink_attribute){.type = header.rta_type & NLA_TYPE_MASK,
						.data = attributes->data + sizeof(header),
						.size = header.rta_len - sizeof(header)};
	whole = RTA_ALIGN((size_t)header.rta_len);
	if (whole > attributes->size)
		whole = attributes->size;
	attributes->data += whole;
	attributes->size -= whole;
	return true;
}

bool netlink_find(struct netlink_attributes attributes, unsigned type, struct netlink_attribute *attribute)
{
	while (netlink_next_attribute(&attributes, attribute))
		if (attribute->type == type)
			return true;
	return false;
}

bool netlink_find_u32(struct netlink_attributes attributes, unsigned type, uint32_t *value)
{
	struct netlink_attribute attribute;

	if (!netlink_find(attributes, type, &attribute) || attribute.size != sizeof(*value))
		return false;
	memcpy(value, attribute.data, sizeof(*value));
	return true;
}

bool netlink_find_nested(struct netlink_attributes attributes, unsigned type, struct netlink_attributes *inner)
{
	struct netlink_attribute attribute;

	if (!netlink_find(attributes, type, &attribute))
		return false;
	*inner = (struct netlink_attributes){attribute.data, attribute.size};
	return true;
}

bool netlink_find_text(struct netlink_attributes attributes, unsigned type, char *text, size_t size)
{
	struct netlink_attribute attribute;
	size_t length;

	if (!netlink_find(attributes, type, &attribute))
		return false;
	length = strnlen(attribute.data, attribute.size);
	if (length >= size)
		return false;
	memcpy(text, attribute.data, length);
	text[length] = '\0';
	return true;
}

/* --- conversations ----------------------------------------------------------------------------------------------- */

static int send_request(struct netlink *netlink, struct netlink_request *request, unsigned flags, struct error *err)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct nlmsghdr *header = (struct nlmsghdr *)request->bytes;

	if (request->overflow)
		return error_set(err, E2BIG, "a netlink request is larger than %d bytes", NETLINK_REQUEST_MAX);
	header->nlmsg_len = (uint32_t)request->size;
	header->nlmsg_flags |= (uint16_t)flags;
	header->nlmsg_seq = ++netlink->sequence;
	if (sendto(netlink->fd, request->bytes, request->size, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return error_set_errno(err, "send a netlink request");
	return 0;
}

/* Anybody may write to a netlink socket; only the kernel has port 0. */
static ssize_t receive(const struct netlink *netlink, void *data, size_t size, int flags, struct error *err)
{
	struct sockaddr_nl sender = {0};

	for (;;) {
		socklen_t length = sizeof(sender);
		ssize_t n = recvfrom(netlink->fd, data, size, MSG_TRUNC | flags, (struct sockaddr *)&sender, &length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, "receive from netlink");
		if (length != sizeof(sender) || sender.nl_pid != 0)
			continue;
		if ((size_t)n > size)
			return error_set(err, EMSGSIZE, "a netlink message is larger than %zu bytes", size);
		return n;
	}
}

/* NLMSG_ERROR: 0 is the acknowledgement. The words stand behind the header of the request that it is about. */
static int read_error(const struct nlmsghdr *header, struct error *err)
{
	size_t size = header->nlmsg_len - NLMSG_HDRLEN;
	const struct nlmsgerr *error = NLMSG_DATA(header);
	struct netlink_message message = {.body = error, .size = size};
	struct netlink_attributes attributes;
	size_t body = sizeof(*error);
	char text[256];

	if (size < sizeof(*error))
		return error_set(err, EPROTO, "netlink answered with a message that is none");
	if (error->error == 0)
		return 0;
	if (!(header->nlmsg_flags & NLM_F_CAPPED) && error->msg.nlmsg_len > sizeof(error->msg))
		body += error->msg.nlmsg_len - sizeof(error->msg);
	if ((header->nlmsg_flags & NLM_F_ACK_TLVS) && netlink_attributes(&message, body, &attributes) &&
	    netlink_find_text(attributes, NLMSGERR_ATTR_MSG, text, sizeof(text)))
		return error_set(err, -error->error, "%s (%s)", strerror(-error->error), text);
	return error_set(err, -error->error, "%s", strerror(-error->error));
}

struct conversation {
	struct netlink *netlink;
	netlink_visit *visit; /* NULL: an acknowledgement is all that is wanted */
	void *context;
	bool interrupted;
};

/* Returns 1 at the end of the answer. */
static int take_message(struct conversation *conversation, const struct nlmsghdr *header, struct error *err)
{
	struct netlink_message message = {
	    .type = header->nlmsg_type, .body = NLMSG_DATA(header), .size = header->nlmsg_len - NLMSG_HDRLEN};

	if (header->nlmsg_seq != conversation->netlink->sequence)
		return 0;
	if (header->nlmsg_flags & NLM_F_DUMP_INTR)
		conversation->interrupted = true;
	if (header->nlmsg_type == NLMSG_ERROR)
		return read_error(header, err) < 0 ? -1 : 1;
	if (header->nlmsg_type == NLMSG_DONE)
		return 1;
	if (header->nlmsg_type < NLMSG_MIN_TYPE || !conversation->visit)
		return 0;
	return conversation->visit(&message, conversation->context, err) < 0 ? -1 : 0;
}

static int converse(struct conversation *conversation, struct error *err)
{
	unsigned char *data = malloc(RECEIVE_MAX);
	int state = data ? 0 : error_set_errno(err, "allocate %d bytes", RECEIVE_MAX);

	while (state == 0) {
		ssize_t n = receive(conversation->netlink, data, RECEIVE_MAX, 0, err);
		struct netlink_reader reader = {data, n > 0 ? (size_t)n : 0};
		const struct nlmsghdr *header;

		if (n < 0)
			state = -1;
		while (state == 0 && (header = netlink_next(&reader)))
			state = take_message(conversation, header, err);
	}
	free(data);
	if (state > 0 && conversation->interrupted)
		return error_set(err, EINTR, "a table of the kernel changed while it was read");
	return state < 0 ? -1 : 0;
}

int netlink_call(struct netlink *netlink, struct netlink_request *request, struct error *err)
{
	struct conversation conversation = {.netlink = netlink};

	return send_request(netlink, request, NLM_F_ACK, err) < 0 ? -1 : converse(&conversation, err);
}

int netlink_dump(struct netlink *netlink, struct netlink_request *request, netlink_visit *visit, void *context,
		 struct error *err)
{
	struct conversation conversation = {.netlink = netlink, .visit = visit, .context = context};

	return send_request(netlink, request, NLM_F_DUMP, err) < 0 ? -1 : converse(&conversation, err);
}

int netlink_get(struct netlink *netlink, struct netlink_request *request, netlink_visit *visit, void *context,
		struct error *err)
{
	struct conversation conversation = {.netlink = netlink, .visit = visit, .context = context};

	return send_request(netlink, request, NLM_F_ACK, err) < 0 ? -1 : converse(&conversation, err);
}

/* --- hearing of changes ------------------------------------------------------------------------------------------ */

static int take_index(const struct netlink_message *message, void *context, struct error *err)
{
	const struct ifinfomsg *info = message->body;

	(void)err;
	if (message->type == RTM_NEWLINK && message->size >= sizeof(*info))
		*(int *)context = info->ifi_index;
	return 0;
}

int netlink_find_link(struct netlink *netlink, const char *name, int *index, struct error *err)
{
	struct ifinfomsg body = {.ifi_family = AF_UNSPEC};
	struct netlink_request request;

	*index = 0;
	netlink_begin(&request, RTM_GETLINK, 0, &body, sizeof(body));
	netlink_add_text(&request, IFLA_IFNAME, name);
	return netlink_get(netlink, &request, take_index, index, err);
}

int netlink_listen(struct netlink *netlink, const unsigned *groups, struct error *err)
{
	for (; *groups; groups++)
		if (setsockopt(netlink->fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, groups, sizeof(*groups)) < 0)
			return error_set_errno(err, "listen to netlink group %u", *groups);
	return 0;
}

int netlink_hear(struct netlink *netlink, netlink_visit *visit, void *context, struct error *err)
{
	_Alignas(8) unsigned char data[8192];
	const struct nlmsghdr *header;
	int lost = 0;

	for (;;) {
		ssize_t n = receive(netlink, data, sizeof(data), MSG_DONTWAIT, err);
		struct netlink_reader reader = {data, n > 0 ? (size_t)n : 0};

		if (n < 0 && err->code == EAGAIN)
			return lost;
		if (n < 0 && err->code != ENOBUFS && err->code != EMSGSIZE)
			return -1;
		lost |= n < 0;
		while ((header = netlink_next(&reader))) {
			struct netlink_message message = {.type = header->nlmsg_type,
							  .body = NLMSG_DATA(header),
							  .size = header->nlmsg_len - NLMSG_HDRLEN};

			if (visit(&message, context, err) < 0)
				return -1;
		}
	}
}
