/* A virtio device behind the MMIO transport: virtio 1.2, section 4.2. */
#ifndef GUEST_DRIVERS_VIRTIO_MMIO_H
#define GUEST_DRIVERS_VIRTIO_MMIO_H

#include <stdbool.h>
#include <stdint.h>

#include "drivers/virtqueue.h"
#include "kernel/platform.h"

/* Section 5: device numbers. */
enum virtio_device_id {
    VIRTIO_NONE = 0,
    VIRTIO_NET = 1,
    VIRTIO_BLOCK = 2,
    VIRTIO_CONSOLE = 3,
    VIRTIO_ENTROPY = 4,
};

/* Section 6: feature bits that belong to no device in particular. */
#define VIRTIO_F_INDIRECT_DESC (1ul << 28)
#define VIRTIO_F_EVENT_IDX (1ul << 29)
#define VIRTIO_F_VERSION_1 (1ul << 32)

struct virtio_device {
    uintptr_t base;
    uint32_t interrupt;
    uint32_t id;
    uint64_t features; /* what both sides agreed on */
    void (*queues_changed)(void* driver);
    void* driver;
};

/* What sits in a slot. False for an empty or a legacy (0.9) one. */
bool virtio_probe(struct virtio_device* device, const struct device_place* place);

/* The steps of 3.1.1 up to the feature handshake; `wanted` are the driver's bits. False if refused. */
bool virtio_negotiate(struct virtio_device* device, uint64_t wanted);

/* Gives the device a queue of at most `limit` requests; false if it has no such queue. */
bool virtio_start_queue(struct virtio_device* device, struct virtqueue* queue, uint16_t index,
                        uint16_t limit);

/* The last steps of 3.1.1; from here on `queues_changed` runs when a queue has something for us. */
void virtio_ready(struct virtio_device* device, void (*queues_changed)(void* driver), void* driver);

/* The device-specific configuration space (4.2.2, offset 0x100). */
uint8_t virtio_config8(const struct virtio_device* device, unsigned offset);
uint16_t virtio_config16(const struct virtio_device* device, unsigned offset);
uint32_t virtio_config32(const struct virtio_device* device, unsigned offset);
uint64_t virtio_config64(const struct virtio_device* device, unsigned offset);

#endif
