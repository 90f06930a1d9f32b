/*
 * Theory of operation.
 *
 * Out: a chain is a header and a frame. The header is copied, checked and written to the tap from the copy; the frame
 * behind it goes from guest memory to the tap within the same writev. When the tap takes no more, the chain stays in
 * the ring until the tap says that it does.
 *
 * In: how long the next frame is shows only when it has been read, so chains are taken from the ring ahead (struct
 * room) until the largest frame would fit, and one readv fills them. What does not fit, since the driver is behind,
 * goes to the end of the same readv: a buffer of this device (`spill`). It is copied when the driver has given more;
 * until then nothing more is read, and the tap's own queue fills up on the host's account. The driver is asked to ring
 * only while the device waits for it.
 *
 * The host's kernel parses the headers as well, but it has not always done so with care (CVE-2024-41090,
 * CVE-2024-41091, CVE-2024-43817): what no driver has reason to write does not get there.
 *
 * A turn moves a bounded number of frames; what is left comes again after the other devices.
 *
 * System calls at run time: readv, writev; epoll_ctl, clock_gettime (loop).
 */
#include "vmm/virtio/net.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/log.h"
#include "vmm/virtio/room.h"

#define QUEUE_RECEIVE 0
#define QUEUE_TRANSMIT 1
#define QUEUE_COUNT 2
#define QUEUE_SIZE 256

#define HEADER_SIZE sizeof(struct virtio_net_hdr_v1)
/* With its header: segmentation leaves frames with IP packets of up to 64 KiB, and there may be VLAN tags. */
#define FRAME_MAX (HEADER_SIZE + 65536u + 64u)

/* In a row, in either direction. */
#define TURN_FRAMES 64
#define TURN_BYTES (512u << 10)

/* Linux goes down to 48 bytes with up to 40 of them options. */
#define SEGMENT_MIN 8u
#define SEGMENT_MAX 0xfffeu /* beyond it is a word of the kernel's own */
#define TCP_CHECKSUM offsetof(struct tcphdr, check)

#define BIT(feature) (1ull << (feature))
#define FEATURES_IN                                                                                                    \
	(BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |                  \
	 BIT(VIRTIO_NET_F_GUEST_ECN))
#define FEATURES_OUT_TSO (BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN))
#define FEATURES_OUT (BIT(VIRTIO_NET_F_CSUM) | FEATURES_OUT_TSO)

struct net {
	struct virtio_device base;
	struct virtio_net_config config;
	struct loop_source wire;
	struct loop_timer again; /* more to send after a turn */
	bool lost;		 /* there is no wire any more */
	bool full;		 /* the wire takes no more */
	bool starved;		 /* the driver has to give room first */
	struct chain chain;	 /* the one at hand */
	struct room room;
	size_t spilled, spilled_at; /* bytes that wait in spill, and where they belong in the room; 0: none */
	struct {
		uint64_t frames, dropped;
	} in, out;
	uint8_t spill[FRAME_MAX];
};

static struct net *net_of(struct virtio_device *device)
{
	return (struct net *)device;
}

static void watch(struct net *net)
{
	loop_watch(net->base.loop, &net->wire, (net->starved ? 0 : EPOLLIN) | (net->full ? EPOLLOUT : 0));
}

/* Whoever had the other end has let go of it. */
static void lose_wire(struct net *net)
{
	loop_remove(net->base.loop, &net->wire);
	net->lost = true;
	net->full = false;
	net->config.status = 0;
	virtio_device_config_changed(&net->base);
}

static void ring_broken(struct net *net)
{
	loop_remove(net->base.loop, &net->wire);
	virtio_device_failed(&net->base, "ring");
}

/* --- in --------------------------------------------------------------------------------------------------------------
 */

/* Enough for the largest frame if that can be had, and for `needed` bytes at least. False when the driver has to give
 * more first, and will ring then; or when the device has failed. */
static bool have_room(struct net *net, size_t needed)
{
	struct queue *queue = &net->base.queues[QUEUE_RECEIVE];
	int result = room_fill(&net->room, queue, FRAME_MAX, &net->chain);

	if (result == 0 && net->room.size < needed && !room_is_full(&net->room)) {
		queue_notifications(queue, true);
		/* It may have given some before it saw that. */
		result = room_fill(&net->room, queue, FRAME_MAX, &net->chain);
		net->starved = result == 0 && net->room.size < needed && !room_is_full(&net->room);
		if (!net->starved)
			queue_notifications(queue, false);
	}
	if (result < 0)
		ring_broken(net);
	return result == 0 && !net->starved;
}

/* A frame lies in the room. */
static void deliver(struct net *net, size_t size)
{
	uint16_t chains = htole16((uint16_t)room_chains(&net->room, size));

	room_write(&net->room, offsetof(struct virtio_net_hdr_v1, num_buffers), &chains, sizeof(chains));
	room_push(&net->room, &net->base.queues[QUEUE_RECEIVE], size);
	net->in.frames++;
}

/* False when the rest of the frame has to wait for room. */
static bool place_spilled(struct net *net)
{
	size_t size = net->spilled_at + net->spilled;

	if (!have_room(net, size))
		return false;
	if (net->room.size >= size) {
		room_write(&net->room, net->spilled_at, net->spill, net->spilled);
		deliver(net, size);
	} else {
		/* As many chains as a frame may have, or the only one that it may have, are too small for it. */
		net->in.dropped++;
	}
	net->spilled = 0;
	return true;
}

/* Takes one frame from the wire. Returns its size, or 0 when there is none or no room. */
static size_t receive_one(struct net *net)
{
	ssize_t got;

	if (!have_room(net, 1))
		return 0;
	got = room_read(&net->room, net->wire.fd, net->spill, sizeof(net->spill));
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0) {
		lose_wire(net);
		return 0;
	}
	/* More than FRAME_MAX bytes may have been cut off, since there was that much room behind what the driver gave.
	 */
	if ((size_t)got > FRAME_MAX || (size_t)got < HEADER_SIZE + ETHER_HDR_LEN) {
		net->in.dropped++;
	} else if ((size_t)got > net->room.size) {
		net->spilled_at = net->room.size;
		net->spilled = (size_t)got - net->room.size;
		place_spilled(net);
	} else {
		deliver(net, (size_t)got);
	}
	return (size_t)got;
}

static void receive(struct net *net)
{
	size_t bytes = 0, got = 1;

	if (net->spilled && !place_spilled(net))
		got = 0;
	for (unsigned i = 0; i < TURN_FRAMES && bytes < TURN_BYTES && got > 0 && !net->spilled; i++) {
		got = receive_one(net);
		bytes += got;
	}
	if (!net->base.active)
		return;
	virtio_device_signal(&net->base, QUEUE_RECEIVE);
	watch(net);
}

/* --- out -------------------------------------------------------------------------------------------------------------
 */

/* What a checksum left out needs (5.1.6.2). Sizes are the guest's; frame is the true one, without the header. */
static bool check_checksum(const struct net *net, const struct virtio_net_hdr_v1 *header, size_t frame)
{
	size_t start = le16toh(header->csum_start), end = start + le16toh(header->csum_offset) + sizeof(uint16_t);

	return net->base.features & BIT(VIRTIO_NET_F_CSUM) && start >= ETHER_HDR_LEN && end <= frame;
}

static bool check_segmentation(const struct net *net, const struct virtio_net_hdr_v1 *header, size_t frame)
{
	uint64_t needed = 0;
	uint16_t size = le16toh(header->gso_size);

	switch (header->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		needed = BIT(VIRTIO_NET_F_HOST_TSO4);
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		needed = BIT(VIRTIO_NET_F_HOST_TSO6);
		break;
	default:
		return false;
	}
	if (header->gso_type & VIRTIO_NET_HDR_GSO_ECN)
		needed |= BIT(VIRTIO_NET_F_HOST_ECN);
	return (net->base.features & needed) == needed && (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
	       le16toh(header->csum_offset) == TCP_CHECKSUM &&
	       le16toh(header->csum_start) + sizeof(struct tcphdr) <= frame && size >= SEGMENT_MIN &&
	       size <= SEGMENT_MAX && le16toh(header->hdr_len) <= frame;
}

/* Checks the copy of a header and takes out of it what has no meaning. False when the frame is to be dropped. */
static bool check_header(const struct net *net, struct virtio_net_hdr_v1 *header, size_t frame)
{
	if (frame < ETHER_HDR_LEN || frame > FRAME_MAX - HEADER_SIZE)
		return false;
	header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	header->num_buffers = 0;
	if (!header->flags)
		header->csum_start = header->csum_offset = 0;
	else if (!check_checksum(net, header, frame))
		return false;
	if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE)
		return check_segmentation(net, header, frame);
	header->gso_size = header->hdr_len = 0;
	return true;
}

/* 1: the wire has the frame; 0: it takes none now; -1: it will not take this one. */
static int put_on_wire(struct net *net, struct virtio_net_hdr_v1 *header)
{
	struct iovec iovecs[1 + CHAIN_BUFFERS_MAX] = {{.iov_base = header, .iov_len = sizeof(*header)}};
	unsigned count = chain_readable_iovecs(&net->chain, FRAME_MAX, iovecs + 1, CHAIN_BUFFERS_MAX);
	ssize_t put;

	do
		put = writev(net->wire.fd, iovecs, (int)count + 1);
	while (put < 0 && errno == EINTR);
	if (put >= 0)
		return 1;
	if (errno == EAGAIN)
		return 0;
	if (errno == EBADFD || errno == EPIPE || errno == ECONNRESET)
		lose_wire(net);
	return -1;
}

/* Sends the chain at hand. False when the wire is full. */
static bool send_frame(struct net *net)
{
	struct virtio_net_hdr_v1 header;
	int put = -1;

	if (chain_read(&net->chain, &header, sizeof(header)) == sizeof(header) && !net->lost &&
	    check_header(net, &header, chain_readable_left(&net->chain)))
		put = put_on_wire(net, &header);
	if (put == 0)
		return false;
	if (put > 0)
		net->out.frames++;
	else
		net->out.dropped++;
	return true;
}

/* Sends what is in the ring until it is empty (0), a turn is over or the wire is full (1), or the ring broken (-1). */
static int send_all(struct net *net)
{
	struct queue *queue = &net->base.queues[QUEUE_TRANSMIT];
	size_t bytes = 0;

	for (unsigned i = 0; i < TURN_FRAMES && bytes < TURN_BYTES; i++) {
		int popped = queue_pop(queue, &net->chain);

		if (popped <= 0)
			return popped;
		if (!send_frame(net)) {
			queue_put_back(queue, 1);
			net->full = true;
			return 1;
		}
		bytes += net->chain.readable;
		queue_push(queue, net->chain.head, 0);
	}
	return 1;
}

static void transmit(struct net *net)
{
	int left;

	if (net->full)
		return;
	left = send_all(net);
	if (left < 0) {
		ring_broken(net);
		return;
	}
	virtio_device_signal(&net->base, QUEUE_TRANSMIT);
	if (left > 0 && !net->full)
		loop_timer_set(net->base.loop, &net->again, 0);
	watch(net);
}

static void again(struct loop_timer *timer)
{
	struct net *net = timer->owner;

	if (net->base.active)
		transmit(net);
}

static void wire_event(struct loop_source *source, uint32_t events)
{
	struct net *net = source->owner;

	if (events & (EPOLLERR | EPOLLHUP)) {
		lose_wire(net);
		return;
	}
	if (events & EPOLLOUT) {
		net->full = false;
		transmit(net);
	}
	if ((events & EPOLLIN) && net->base.active && !net->lost)
		receive(net);
}

/* --- the device ------------------------------------------------------------------------------------------------------
 */

static void net_read_config(struct virtio_device *device, uint32_t offset, void *data, uint32_t size)
{
	const struct virtio_net_config *config = &net_of(device)->config;

	memset(data, 0, size);
	if (offset >= sizeof(*config))
		return;
	memcpy(data, (const char *)config + offset, size < sizeof(*config) - offset ? size : sizeof(*config) - offset);
}

static bool net_accepts(const struct virtio_device *device, uint64_t features)
{
	(void)device;
	/* What leaves out more than a checksum leaves that out as well (5.1.3.1). */
	if ((features & FEATURES_OUT_TSO) && !(features & BIT(VIRTIO_NET_F_CSUM)))
		return false;
	return (features & FEATURES_IN) == FEATURES_IN;
}

static int net_activate(struct virtio_device *device, struct error *err)
{
	struct net *net = net_of(device);

	room_init(&net->room, device->features & BIT(VIRTIO_NET_F_MRG_RXBUF) ? ROOM_CHAINS_MAX : 1);
	/* The first one brings the link up. */
	queue_notifications(&device->queues[QUEUE_RECEIVE], true);
	net->wire.events = EPOLLIN;
	return net->lost ? 0 : loop_add(device->loop, &net->wire, err);
}

static void net_reset(struct virtio_device *device)
{
	struct net *net = net_of(device);

	loop_remove(device->loop, &net->wire);
	loop_timer_cancel(device->loop, &net->again);
	room_init(&net->room, 0);
	net->spilled = 0;
	net->full = net->starved = false;
	net->config.status = 0;
}

/* Only when the interface is up: Linux puts off for up to a second what it does about a carrier that was there before.
 */
static void bring_link_up(struct net *net)
{
	if (net->config.status)
		return;
	net->config.status = htole16(VIRTIO_NET_S_LINK_UP);
	virtio_device_config_changed(&net->base);
}

static void net_notify(struct virtio_device *device, unsigned queue)
{
	struct net *net = net_of(device);

	if (!device->active)
		return;
	if (queue == QUEUE_TRANSMIT) {
		transmit(net);
	} else if (!net->lost) {
		bring_link_up(net);
		queue_notifications(&device->queues[QUEUE_RECEIVE], false);
		if (!net->starved)
			return;
		net->starved = false;
		receive(net);
	}
}

static void net_free(struct virtio_device *device)
{
	struct net *net = net_of(device);

	net_reset(device);
	close(net->wire.fd);
	if (net->in.dropped || net->out.dropped)
		log_line("net: %llu frames to the guest and %llu dropped, %llu from it and %llu dropped",
			 (unsigned long long)net->in.frames, (unsigned long long)net->in.dropped,
			 (unsigned long long)net->out.frames, (unsigned long long)net->out.dropped);
	free(net);
}

static const struct virtio_device_operations net_operations = {
    .name = "net",
    .id = VIRTIO_ID_NET,
    .pci_class = 0x020000, /* Ethernet controller */
    .queue_count = QUEUE_COUNT,
    .queue_size_max = QUEUE_SIZE,
    .read_config = net_read_config,
    .accepts = net_accepts,
    .activate = net_activate,
    .reset = net_reset,
    .notify = net_notify,
    .free = net_free,
};

/* --- construction ----------------------------------------------------------------------------------------------------
 */

/* Whether it is a tap, and one with headers, cannot be seen without asking it, which the jail does not allow. */
static int check_wire(int fd, struct error *err)
{
	struct stat status;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &status) < 0)
		return error_set_errno(err, "network card");
	if (!S_ISCHR(status.st_mode) && !S_ISSOCK(status.st_mode))
		return error_set(err, EINVAL, "network card: its descriptor is no tap");
	if ((flags & O_PATH) || (flags & O_ACCMODE) != O_RDWR || !(flags & O_NONBLOCK))
		return error_set(err, EINVAL,
				 "network card: its descriptor has to be for both directions, and not to block");
	return 0;
}

static int check_values(const uint8_t mac[NET_MAC_SIZE], uint16_t mtu, struct error *err)
{
	static const uint8_t none[NET_MAC_SIZE];

	if ((mac[0] & 1) || memcmp(mac, none, NET_MAC_SIZE) == 0)
		return error_set(err, EINVAL, "network card: an address that no card can have");
	if (mtu != 0 && mtu < NET_MTU_MIN)
		return error_set(err, EINVAL, "network card: an MTU of %u bytes", mtu);
	return 0;
}

struct virtio_device *net_new(int fd, const uint8_t mac[NET_MAC_SIZE], uint16_t mtu, struct loop *loop,
			      struct error *err)
{
	struct net *net;

	if (check_wire(fd, err) < 0 || check_values(mac, mtu, err) < 0)
		return NULL;
	net = calloc(1, sizeof(*net));
	if (!net) {
		error_set_errno(err, "network card");
		return NULL;
	}
	net->base.operations = &net_operations;
	net->base.loop = loop;
	net->base.offered = FEATURES_IN | FEATURES_OUT | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_MAC) |
			    BIT(VIRTIO_NET_F_STATUS) | (mtu ? BIT(VIRTIO_NET_F_MTU) : 0);
	memcpy(net->config.mac, mac, NET_MAC_SIZE);
	net->config.mtu = htole16(mtu);
	net->wire = (struct loop_source){.fd = fd, .handle = wire_event, .owner = net};
	net->again = (struct loop_timer){.handle = again, .owner = net};
	return &net->base;
}
