/*
 * The network card (virtio 1.2, section 5.1): one pair of queues between the guest and a tap, or anything else that
 * takes and gives one frame a call, each behind a struct virtio_net_hdr_v1.
 *
 * Checksums and segmentation are left to whoever needs them, in both directions. Since it is the tap's owner who says
 * what the host may leave out, and the VMM cannot change it, a driver has to accept what comes: one that does not take
 * VIRTIO_NET_F_GUEST_CSUM, GUEST_TSO4, GUEST_TSO6 and GUEST_ECN does not get FEATURES_OK. There is no control queue:
 * every frame of the wire is delivered, and there are no more queues than two, since one thread serves them.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"
#include "vmm/loop.h"
#include "vmm/virtio/device.h"

#define NET_MAC_SIZE 6
#define NET_MTU_MIN 68

/* fd does not block; it is taken over when this succeeds. mtu: bytes, 0: the guest is not told. EINVAL: the descriptor,
 * the address or the MTU is not possible. */
struct virtio_device *net_new(int fd, const uint8_t mac[NET_MAC_SIZE], uint16_t mtu, struct loop *loop,
			      struct error *err);
