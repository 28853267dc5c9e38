/* A virtio device, whatever bus it is on: virtio 1.2, chapters 2 and 3. */
#ifndef GUEST_DRIVERS_VIRTIO_H
#define GUEST_DRIVERS_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "drivers/virtqueue.h"
#include "kernel/iommu.h"

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
#define VIRTIO_F_ACCESS_PLATFORM (1ul << 33)

struct virtio_device;

/* What a bus has registers for: virtio_mmio.c, virtio_pci.c. */
struct virtio_transport {
    uint8_t (*status)(const struct virtio_device* device);
    void (*set_status)(const struct virtio_device* device, uint8_t status);
    uint64_t (*offered_features)(const struct virtio_device* device);
    void (*accept_features)(const struct virtio_device* device, uint64_t features);
    /* The most requests that a queue can hold, 0 if there is no such queue; what follows is about this queue.
     */
    uint32_t (*select_queue)(const struct virtio_device* device, uint16_t index);
    /* Gives the device the areas of the selected queue, and the queue its doorbell. */
    void (*enable_queue)(const struct virtio_device* device, struct virtqueue* queue);
    /* Why the device interrupted (INTERRUPT_ below), which it then does no longer. */
    uint8_t (*acknowledge)(const struct virtio_device* device);
    uint32_t (*generation)(const struct virtio_device* device);
};
enum { VIRTIO_INTERRUPT_QUEUE = 1, VIRTIO_INTERRUPT_CONFIGURATION = 2 };

struct virtio_device {
    const struct virtio_transport* transport;
    bool on_pci;
    uintptr_t base;        /* of the registers, or of the common configuration */
    uintptr_t config;      /* of the device-specific configuration space */
    uintptr_t isr, notify; /* PCI only */
    uint32_t notify_multiplier;
    struct dma_space* dma;
    uint32_t interrupt;
    uint32_t id;
    uint64_t features; /* what both sides agreed on */
    void (*queues_changed)(void* driver);
    void* driver;
};

/* The steps of 3.1.1 up to the feature handshake; `wanted` are the driver's bits. False if refused. */
bool virtio_negotiate(struct virtio_device* device, uint64_t wanted);

/* Gives the device a queue of at most `limit` requests; false if it has no such queue. */
bool virtio_start_queue(struct virtio_device* device, struct virtqueue* queue, uint16_t index,
                        uint16_t limit);

/* The last steps of 3.1.1; from here on `queues_changed` runs when a queue has something for us. */
void virtio_ready(struct virtio_device* device, void (*queues_changed)(void* driver), void* driver);

/* The device-specific configuration space (2.5). */
uint8_t virtio_config8(const struct virtio_device* device, unsigned offset);
uint16_t virtio_config16(const struct virtio_device* device, unsigned offset);
uint32_t virtio_config32(const struct virtio_device* device, unsigned offset);
uint64_t virtio_config64(const struct virtio_device* device, unsigned offset);

#endif
