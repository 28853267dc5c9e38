/*
 * The MMIO transport: virtio 1.2, section 4.2 "Virtio Over MMIO", register layout of table 4.1. Modern
 * devices only (Version = 2).
 */
#include "drivers/virtio_mmio.h"

#include "kernel/mmio.h"
#include "kernel/page_table.h"
#include "kernel/print.h"

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

static const uint32_t MAGIC = 0x74726976; /* "virt" */

static uint8_t status(const struct virtio_device* device) {
    return (uint8_t)mmio_read32(device->base + STATUS);
}

static void set_status(const struct virtio_device* device, uint8_t value) {
    mmio_write32(device->base + STATUS, value);
}

static uint64_t offered_features(const struct virtio_device* device) {
    mmio_write32(device->base + DEVICE_FEATURES_SELECT, 1);
    uint64_t high = mmio_read32(device->base + DEVICE_FEATURES);
    mmio_write32(device->base + DEVICE_FEATURES_SELECT, 0);
    return high << 32 | mmio_read32(device->base + DEVICE_FEATURES);
}

static void accept_features(const struct virtio_device* device, uint64_t features) {
    mmio_write32(device->base + DRIVER_FEATURES_SELECT, 1);
    mmio_write32(device->base + DRIVER_FEATURES, (uint32_t)(features >> 32));
    mmio_write32(device->base + DRIVER_FEATURES_SELECT, 0);
    mmio_write32(device->base + DRIVER_FEATURES, (uint32_t)features);
}

/* 4.2.3.2 Virtqueue Configuration */
static uint32_t select_queue(const struct virtio_device* device, uint16_t index) {
    mmio_write32(device->base + QUEUE_SELECT, index);
    return mmio_read32(device->base + QUEUE_READY) == 0 ? mmio_read32(device->base + QUEUE_NUM_MAX) : 0;
}

static void write_address(const struct virtio_device* device, unsigned low_register, uint64_t area) {
    mmio_write32(device->base + low_register, (uint32_t)area);
    mmio_write32(device->base + low_register + 4, (uint32_t)(area >> 32));
}

static void enable_queue(const struct virtio_device* device, struct virtqueue* queue) {
    mmio_write32(device->base + QUEUE_NUM, queue->size);
    write_address(device, QUEUE_DESC_LOW, queue->descriptors_address);
    write_address(device, QUEUE_DRIVER_LOW, queue->available_address);
    write_address(device, QUEUE_DEVICE_LOW, queue->used_address);
    mmio_write32(device->base + QUEUE_READY, 1);
    queue->doorbell = device->base + QUEUE_NOTIFY;
    queue->doorbell_is_wide = true;
}

static uint8_t acknowledge(const struct virtio_device* device) {
    uint32_t reasons = mmio_read32(device->base + INTERRUPT_STATUS);
    if (reasons != 0) mmio_write32(device->base + INTERRUPT_ACK, reasons);
    return (uint8_t)reasons;
}

static uint32_t generation(const struct virtio_device* device) {
    return mmio_read32(device->base + CONFIG_GENERATION);
}

static const struct virtio_transport transport = {status,          set_status,   offered_features,
                                                  accept_features, select_queue, enable_queue,
                                                  acknowledge,     generation};

bool virtio_mmio_probe(struct virtio_device* device, const struct device_place* place) {
    uintptr_t base = page_table_map_device(place->base, place->size);
    *device = (struct virtio_device){
        .transport = &transport, .base = base, .config = base + CONFIG, .interrupt = place->interrupt};
    if (mmio_read32(base + MAGIC_VALUE) != MAGIC) return false;
    device->id = mmio_read32(base + DEVICE_ID);
    if (device->id == VIRTIO_NONE) return false; /* 4.2.3.1.1: an empty slot */
    if (mmio_read32(base + VERSION) != 2) {
        print("virtio at 0x%lx: device %u speaks only the legacy interface, skipped\n", base, device->id);
        return false;
    }
    if (place->behind_iommu) device->dma = iommu_space(place->device_id);
    return true;
}
