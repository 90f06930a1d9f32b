/*
 * What rtnetlink says: any bytes are cut into messages, and what becomes a fact of it can be written and read again.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/network_facts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct network_links links = {.n = 1, .list = {{.index = 2, .name = "eth0"}}};

static void take(const struct nlmsghdr *header)
{
	const struct netlink_message message = {
	    .type = header->nlmsg_type, .body = NLMSG_DATA(header), .size = header->nlmsg_len - NLMSG_HDRLEN};
	struct netlink_message again = {.type = message.type};
	struct network_fact fact, second;
	struct error err;

	if (network_fact_take(&message, &links, &fact, &err) <= 0)
		return;
	/* A fact is what its kind begins with, and has nothing in it that would not be taken again. */
	again.body = fact.data;
	again.size = fact.size;
	if (network_fact_take(&again, &links, &second, &err) == 1)
		free(second.data);
	free(fact.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* As the kernel's messages lie in memory. */
	unsigned char *copy = malloc(size + 1);
	struct netlink_reader reader = {copy, size};
	const struct nlmsghdr *header;

	if (!copy)
		return 0;
	if (size > 0)
		memcpy(copy, data, size);
	while ((header = netlink_next(&reader)))
		take(header);
	free(copy);
	return 0;
}
