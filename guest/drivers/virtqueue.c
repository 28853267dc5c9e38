/*
 * A split virtqueue, the driver's side: virtio 1.2, section 2.7 "Split Virtqueues", with indirect
 * descriptors (2.7.5.3) and event indices (2.7.7, 2.7.10) where the device offers them.
 *
 * Memory is shared with the device while both run, so the order of accesses is the protocol: 2.7.13 says
 * where the barriers stand. What the device returns is checked before it is used as an index.
 */
#include "drivers/virtqueue.h"

#include <stddef.h>

#include "kernel/memory.h"
#include "kernel/mmio.h"
#include "kernel/print.h"
#include "kernel/riscv.h"

enum {
    DESCRIPTOR_NEXT = 1,
    DESCRIPTOR_WRITE = 2,
    DESCRIPTOR_INDIRECT = 4,
    AVAILABLE_NO_INTERRUPT = 1,
    USED_NO_NOTIFY = 1,
};

struct virtqueue_descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};

struct virtqueue_available {
    uint16_t flags;
    volatile uint16_t index;
    uint16_t ring[]; /* and behind it used_event */
};

struct virtqueue_used {
    volatile uint16_t flags;
    volatile uint16_t index;
    volatile struct {
        uint32_t id;
        uint32_t length;
    } ring[]; /* and behind it avail_event */
};

/* 2.7.7: "interrupt me when you pass this index", written by us. */
static volatile uint16_t* used_event(const struct virtqueue* queue) {
    return &queue->available->ring[queue->size];
}
/* 2.7.10: "ring the doorbell when you pass this index", written by the device. */
static volatile uint16_t* available_event(const struct virtqueue* queue) {
    return (volatile uint16_t*)&queue->used->ring[queue->size];
}

void virtqueue_start(struct virtqueue* queue, uint16_t index, uint16_t size) {
    queue->index = index;
    queue->size = size;
    /* 2.7: the alignments are 16, 2 and 4; both rings end with their event index. */
    queue->descriptors = memory_allocate(size * sizeof(struct virtqueue_descriptor), 16);
    queue->available = memory_allocate(sizeof(struct virtqueue_available) + size * 2ul + 2, 2);
    queue->used = memory_allocate(sizeof(struct virtqueue_used) + size * 8ul + 2, 4);
    if (queue->has_indirect)
        queue->indirect =
            memory_allocate(size * VIRTQUEUE_MAX_SEGMENTS * sizeof(struct virtqueue_descriptor), 16);
    queue->descriptors_address =
        dma_share(queue->dma, queue->descriptors, size * sizeof(struct virtqueue_descriptor));
    queue->available_address =
        dma_share(queue->dma, queue->available, sizeof(struct virtqueue_available) + size * 2ul + 2);
    queue->used_address = dma_share(queue->dma, queue->used, sizeof(struct virtqueue_used) + size * 8ul + 2);
    if (queue->has_indirect)
        queue->indirect_address = dma_share(
            queue->dma, queue->indirect, size * VIRTQUEUE_MAX_SEGMENTS * sizeof(struct virtqueue_descriptor));
    for (uint16_t i = 0; i < size; i++) queue->descriptors[i].next = (uint16_t)(i + 1);
    queue->free_count = size;
}

static void fill(const struct virtqueue* queue, struct virtqueue_descriptor* descriptor,
                 const struct virtqueue_segment* segment, bool more) {
    descriptor->address = dma_map(queue->dma, segment->address, segment->length, segment->device_writes);
    descriptor->length = segment->length;
    descriptor->flags =
        (uint16_t)((segment->device_writes ? DESCRIPTOR_WRITE : 0) | (more ? DESCRIPTOR_NEXT : 0));
}

bool virtqueue_add(struct virtqueue* queue, const struct virtqueue_segment* segments, unsigned count,
                   void* cookie) {
    bool indirect = queue->has_indirect && count > 1;
    unsigned needed = indirect ? 1 : count;
    if (count == 0 || count > VIRTQUEUE_MAX_SEGMENTS) panic("a virtqueue request of %u segments\n", count);
    if (queue->free_count < needed) return false;

    uint16_t head = queue->free_head;
    struct virtqueue_descriptor* descriptor = &queue->descriptors[head];
    if (indirect) {
        struct virtqueue_descriptor* table = &queue->indirect[head * VIRTQUEUE_MAX_SEGMENTS];
        for (unsigned i = 0; i < count; i++) {
            fill(queue, &table[i], &segments[i], i + 1 < count);
            table[i].next = (uint16_t)(i + 1);
        }
        queue->free_head = descriptor->next;
        descriptor->address =
            queue->indirect_address + (uint64_t)((uintptr_t)table - (uintptr_t)queue->indirect);
        descriptor->length = (uint32_t)(count * sizeof *table);
        descriptor->flags = DESCRIPTOR_INDIRECT;
    } else {
        for (unsigned i = 0; i < count; i++) {
            descriptor = &queue->descriptors[queue->free_head];
            fill(queue, descriptor, &segments[i], i + 1 < count);
            queue->free_head = descriptor->next; /* the free chain already links them in this order */
        }
    }
    queue->free_count = (uint16_t)(queue->free_count - needed);
    queue->cookies[head] = cookie;
    queue->available->ring[queue->available_index++ & (queue->size - 1)] = head;
    return true;
}

/* 2.7.7.2 and 2.7.10: has the index moved past `event` since `before`? All arithmetic is modulo 65536. */
static bool passed(uint16_t event, uint16_t now, uint16_t before) {
    return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

/* The device is done with a chain: what was mapped for it is so no longer. */
static void unmap_chain(const struct virtqueue* queue, const struct virtqueue_descriptor* table,
                        uint16_t at) {
    dma_unmap(queue->dma, table[at].address, table[at].length);
    while ((table[at].flags & DESCRIPTOR_NEXT) != 0) {
        at = table[at].next;
        dma_unmap(queue->dma, table[at].address, table[at].length);
    }
}

void virtqueue_kick(struct virtqueue* queue) {
    if (queue->available_index == queue->kicked_index) return;
    fence_write_write(); /* 2.7.13.3: the entries before the index that covers them */
    queue->available->index = queue->available_index;
    fence_full(); /* 2.7.13.4: the index before we look whether the device wants to be told */
    bool wanted = queue->has_event_index
                      ? passed(*available_event(queue), queue->available_index, queue->kicked_index)
                      : (queue->used->flags & USED_NO_NOTIFY) == 0;
    queue->kicked_index = queue->available_index;
    if (!wanted) return;
    if (queue->doorbell_is_wide)
        mmio_write32(queue->doorbell, queue->index);
    else
        mmio_write16(queue->doorbell, queue->index);
}

void* virtqueue_take(struct virtqueue* queue, uint32_t* written) {
    if (queue->used_index == queue->used->index) return NULL;
    fence_read_read(); /* 2.7.14: the index before the entry that it covers */
    unsigned slot = queue->used_index & (queue->size - 1);
    uint32_t head = queue->used->ring[slot].id;
    if (written != NULL) *written = queue->used->ring[slot].length;
    if (head >= queue->size || queue->cookies[head] == NULL)
        panic("queue %u: the device returned request %u, which it did not have\n", queue->index, head);
    queue->used_index++;

    if (queue->dma != NULL) {
        if ((queue->descriptors[head].flags & DESCRIPTOR_INDIRECT) != 0)
            unmap_chain(queue, &queue->indirect[head * VIRTQUEUE_MAX_SEGMENTS], 0);
        else
            unmap_chain(queue, queue->descriptors, (uint16_t)head);
        dma_finish_unmapping(queue->dma);
    }
    uint16_t last = (uint16_t)head, freed = 1;
    while ((queue->descriptors[last].flags & DESCRIPTOR_NEXT) != 0) {
        last = queue->descriptors[last].next;
        freed++;
    }
    queue->descriptors[last].next = queue->free_head;
    queue->free_head = (uint16_t)head;
    queue->free_count = (uint16_t)(queue->free_count + freed);
    void* cookie = queue->cookies[head];
    queue->cookies[head] = NULL;
    return cookie;
}

bool virtqueue_interrupt_next(struct virtqueue* queue) {
    if (queue->has_event_index)
        *used_event(queue) = queue->used_index;
    else
        queue->available->flags = 0;
    fence_full(); /* our wish before the second look, or both sides could miss each other */
    return queue->used_index == queue->used->index;
}

void virtqueue_interrupt_never(struct virtqueue* queue) {
    if (queue->has_event_index)
        *used_event(queue) = (uint16_t)(queue->used_index - 1); /* 65535 requests away */
    else
        queue->available->flags = AVAILABLE_NO_INTERRUPT;
}
