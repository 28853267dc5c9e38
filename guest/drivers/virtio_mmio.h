/* Virtio devices in the memory-mapped slots that the device tree names. */
#ifndef GUEST_DRIVERS_VIRTIO_MMIO_H
#define GUEST_DRIVERS_VIRTIO_MMIO_H

#include "drivers/virtio.h"
#include "kernel/platform.h"

/* What sits in a slot. False for an empty or a legacy (0.9) one. */
bool virtio_mmio_probe(struct virtio_device* device, const struct device_place* place);

#endif
