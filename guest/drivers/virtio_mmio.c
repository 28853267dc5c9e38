/*
 * The MMIO transport: virtio 1.2, section 4.2 "Virtio Over MMIO", register layout of table 4.1, and the
 * device initialization of section 3.1.1. Modern devices only (Version = 2).
 */
#include "drivers/virtio_mmio.h"

#include "kernel/mmio.h"
#include "kernel/page_table.h"
#include "kernel/plic.h"
#include "kernel/print.h"
#include "kernel/riscv.h"

enum {
    MAGIC_VALUE = 0x000,
    VERSION = 0x004,
    DEVICE_ID = 0x008,
    DEVICE_FEATURES = 0x010,
    DEVICE_FEATURES_SELECT = 0x014,
    DRIVER_FEATURES = 0x020,
    DRIVER_FEATURES_SELECT = 0x024,
    QUEUE_SELECT = 0x030,
    QUEUE_NUM_MAX = 0x034,
    QUEUE_NUM = 0x038,
    QUEUE_READY = 0x044,
    QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060,
    INTERRUPT_ACK = 0x064,
    STATUS = 0x070,
    QUEUE_DESC_LOW = 0x080,
    QUEUE_DRIVER_LOW = 0x090,
    QUEUE_DEVICE_LOW = 0x0a0,
    CONFIG_GENERATION = 0x0fc,
    CONFIG = 0x100,
};

/* 2.1, device status */
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64, FAILED = 128 };

/* InterruptStatus */
enum { USED_BUFFER = 1, CONFIGURATION_CHANGE = 2 };

static const uint32_t MAGIC = 0x74726976; /* "virt" */

bool virtio_probe(struct virtio_device* device, const struct device_place* place) {
    uintptr_t base = page_table_map_device(place->base, place->size);
    *device = (struct virtio_device){.base = base, .interrupt = place->interrupt};
    if (mmio_read32(base + MAGIC_VALUE) != MAGIC) return false;
    device->id = mmio_read32(base + DEVICE_ID);
    if (device->id == VIRTIO_NONE) return false; /* 4.2.3.1.1: an empty slot */
    if (mmio_read32(base + VERSION) != 2) {
        print("virtio at 0x%lx: device %u speaks only the legacy interface, skipped\n", base, device->id);
        return false;
    }
    return true;
}

static void add_status(struct virtio_device* device, uint32_t bits) {
    mmio_write32(device->base + STATUS, mmio_read32(device->base + STATUS) | bits);
}

static uint64_t offered_features(const struct virtio_device* device) {
    mmio_write32(device->base + DEVICE_FEATURES_SELECT, 1);
    uint64_t high = mmio_read32(device->base + DEVICE_FEATURES);
    mmio_write32(device->base + DEVICE_FEATURES_SELECT, 0);
    return high << 32 | mmio_read32(device->base + DEVICE_FEATURES);
}

bool virtio_negotiate(struct virtio_device* device, uint64_t wanted) {
    mmio_write32(device->base + STATUS, 0);
    while (mmio_read32(device->base + STATUS) != 0) { /* 2.4.2: a reset is over when zero reads back */
    }
    add_status(device, ACKNOWLEDGE);
    add_status(device, DRIVER);
    wanted |= VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
    device->features = offered_features(device) & wanted;
    mmio_write32(device->base + DRIVER_FEATURES_SELECT, 1);
    mmio_write32(device->base + DRIVER_FEATURES, (uint32_t)(device->features >> 32));
    mmio_write32(device->base + DRIVER_FEATURES_SELECT, 0);
    mmio_write32(device->base + DRIVER_FEATURES, (uint32_t)device->features);
    add_status(device, FEATURES_OK);
    bool agreed = (device->features & VIRTIO_F_VERSION_1) != 0 &&
                  (mmio_read32(device->base + STATUS) & FEATURES_OK) != 0;
    if (!agreed) {
        add_status(device, FAILED);
        print_failure("virtio at 0x%lx: device %u refuses the features\n", device->base, device->id);
    }
    return agreed;
}

static void write_address(const struct virtio_device* device, unsigned low_register, const void* area) {
    mmio_write32(device->base + low_register, (uint32_t)(uintptr_t)area);
    mmio_write32(device->base + low_register + 4, (uint32_t)((uintptr_t)area >> 32));
}

/* 4.2.3.2 Virtqueue Configuration */
bool virtio_start_queue(struct virtio_device* device, struct virtqueue* queue, uint16_t index,
                        uint16_t limit) {
    mmio_write32(device->base + QUEUE_SELECT, index);
    uint32_t maximum = mmio_read32(device->base + QUEUE_NUM_MAX);
    if (maximum == 0 || mmio_read32(device->base + QUEUE_READY) != 0) return false;
    if (limit > VIRTQUEUE_MAX_SIZE) limit = VIRTQUEUE_MAX_SIZE;
    uint16_t size = 1;
    while (size * 2u <= limit && size * 2u <= maximum) size = (uint16_t)(size * 2);
    *queue = (struct virtqueue){
        .notify = device->base + QUEUE_NOTIFY,
        .has_event_index = (device->features & VIRTIO_F_EVENT_IDX) != 0,
        .has_indirect = (device->features & VIRTIO_F_INDIRECT_DESC) != 0,
    };
    virtqueue_start(queue, index, size);
    mmio_write32(device->base + QUEUE_NUM, size);
    write_address(device, QUEUE_DESC_LOW, queue->descriptors);
    write_address(device, QUEUE_DRIVER_LOW, queue->available);
    write_address(device, QUEUE_DEVICE_LOW, queue->used);
    mmio_write32(device->base + QUEUE_READY, 1);
    return true;
}

static void handle_interrupt(void* context) {
    struct virtio_device* device = context;
    uint32_t status = mmio_read32(device->base + INTERRUPT_STATUS);
    if (status == 0) return;
    mmio_write32(device->base + INTERRUPT_ACK, status);
    fence_after_status();
    /* Only a device that gave up needs a look at its status; the rest of its configuration we read once. */
    if ((status & CONFIGURATION_CHANGE) != 0 && (mmio_read32(device->base + STATUS) & NEEDS_RESET) != 0)
        panic("virtio at 0x%lx: device %u needs a reset\n", device->base, device->id);
    if ((status & USED_BUFFER) != 0) device->queues_changed(device->driver);
}

void virtio_ready(struct virtio_device* device, void (*queues_changed)(void* driver), void* driver) {
    device->queues_changed = queues_changed;
    device->driver = driver;
    plic_connect(device->interrupt, handle_interrupt, device);
    add_status(device, DRIVER_OK);
}

uint8_t virtio_config8(const struct virtio_device* device, unsigned offset) {
    return mmio_read8(device->base + CONFIG + offset);
}
uint16_t virtio_config16(const struct virtio_device* device, unsigned offset) {
    return mmio_read16(device->base + CONFIG + offset);
}
uint32_t virtio_config32(const struct virtio_device* device, unsigned offset) {
    return mmio_read32(device->base + CONFIG + offset);
}

/* 2.5.1: two halves belong together only if the configuration's generation did not change in between. */
uint64_t virtio_config64(const struct virtio_device* device, unsigned offset) {
    for (;;) {
        uint32_t generation = mmio_read32(device->base + CONFIG_GENERATION);
        uint64_t low = virtio_config32(device, offset);
        uint64_t high = virtio_config32(device, offset + 4);
        if (mmio_read32(device->base + CONFIG_GENERATION) == generation) return high << 32 | low;
    }
}
