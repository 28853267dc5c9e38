/* The virtio block device; what it finds is registered with drivers/block.h. */
#ifndef GUEST_DRIVERS_VIRTIO_BLK_H
#define GUEST_DRIVERS_VIRTIO_BLK_H

#include "drivers/virtio.h"

void virtio_blk_start(const struct virtio_device* found);

#endif
