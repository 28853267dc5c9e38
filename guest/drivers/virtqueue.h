/* A split virtqueue, the driver's side: virtio 1.2, section 2.7. */
#ifndef GUEST_DRIVERS_VIRTQUEUE_H
#define GUEST_DRIVERS_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernel/iommu.h"

enum { VIRTQUEUE_MAX_SIZE = 256, VIRTQUEUE_MAX_SEGMENTS = 4 };

/* One piece of a request, physically contiguous; `device_writes` is the direction. */
struct virtqueue_segment {
    const void* address;
    uint32_t length;
    bool device_writes;
};

struct virtqueue {
    uint16_t index; /* which queue of the device */
    uint16_t size;
    uintptr_t doorbell; /* a register; 4.2.3.3: 32 bits wide on MMIO, 4.1.5.2: 16 bits on PCI */
    bool doorbell_is_wide;
    struct dma_space* dma; /* where the device finds memory */
    bool has_event_index;
    bool has_indirect;

    struct virtqueue_descriptor* descriptors; /* 2.7.5 */
    struct virtqueue_available* available;    /* 2.7.6 */
    struct virtqueue_used* used;              /* 2.7.8 */
    struct virtqueue_descriptor* indirect;    /* 2.7.5.3: MAX_SEGMENTS for each descriptor */
    uint64_t descriptors_address, available_address, used_address, indirect_address; /* for the device */

    uint16_t free_head; /* unused descriptors are chained through `next` */
    uint16_t free_count;
    uint16_t available_index; /* where the next request goes; the device sees it after a kick */
    uint16_t kicked_index;    /* what the device has seen */
    uint16_t used_index;      /* how far we have read what the device gave back */
    void* cookies[VIRTQUEUE_MAX_SIZE];
};

/* Allocates the three areas for `size` (a power of two) requests. */
void virtqueue_start(struct virtqueue* queue, uint16_t index, uint16_t size);

/*
 * Makes one request of the segments, readable ones first (2.7.4.2). False when the queue is full.
 * The device does not look at it before the next virtqueue_kick, so many can share one doorbell.
 */
bool virtqueue_add(struct virtqueue* queue, const struct virtqueue_segment* segments, unsigned count,
                   void* cookie);

void virtqueue_kick(struct virtqueue* queue);

/* The cookie of a finished request and how many bytes the device wrote, or NULL. */
void* virtqueue_take(struct virtqueue* queue, uint32_t* written);

/*
 * Asks for an interrupt at the next request that finishes. False if one has finished already: then there
 * may be no interrupt for it, and the caller takes it now.
 */
bool virtqueue_interrupt_next(struct virtqueue* queue);

/* Asks for no interrupts (a hint: the device may still send some). */
void virtqueue_interrupt_never(struct virtqueue* queue);

#endif
