/* The virtio network device: virtio 1.2, section 5.1. */
#ifndef GUEST_DRIVERS_VIRTIO_NET_H
#define GUEST_DRIVERS_VIRTIO_NET_H

#include "drivers/virtio.h"

void virtio_net_start(const struct virtio_device* found);

#endif
