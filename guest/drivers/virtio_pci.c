/*
 * The PCI transport: virtio 1.2, section 4.1 "Virtio Over PCI Bus". Vendor-specific capabilities say in which
 * BAR each structure lies (4.1.4). The interrupt is the function's pin, and reading the ISR byte takes it
 * back (4.1.4.5); message-signalled interrupts would spare that read, and need a controller that takes
 * messages.
 */
#include "drivers/virtio_pci.h"

#include "kernel/mmio.h"
#include "kernel/page_table.h"
#include "kernel/print.h"

enum { FIRST_MODERN_ID = 0x1040, CAPABILITY_VENDOR = 0x09 };

/* 4.1.4, struct virtio_pci_cap, and the structures it may be about */
enum { CAP_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_NOTIFY_MULTIPLIER = 16 };
enum { COMMON = 1, NOTIFY = 2, ISR = 3, DEVICE = 4 };

/* 4.1.4.3, struct virtio_pci_common_cfg */
enum {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    DEVICE_STATUS = 0x14,
    CONFIG_GENERATION = 0x15,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFFSET = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
};

static uint8_t status(const struct virtio_device* device) {
    return mmio_read8(device->base + DEVICE_STATUS);
}

static void set_status(const struct virtio_device* device, uint8_t value) {
    mmio_write8(device->base + DEVICE_STATUS, value);
}

static uint64_t offered_features(const struct virtio_device* device) {
    mmio_write32(device->base + DEVICE_FEATURE_SELECT, 1);
    uint64_t high = mmio_read32(device->base + DEVICE_FEATURE);
    mmio_write32(device->base + DEVICE_FEATURE_SELECT, 0);
    return high << 32 | mmio_read32(device->base + DEVICE_FEATURE);
}

static void accept_features(const struct virtio_device* device, uint64_t features) {
    mmio_write32(device->base + DRIVER_FEATURE_SELECT, 1);
    mmio_write32(device->base + DRIVER_FEATURE, (uint32_t)(features >> 32));
    mmio_write32(device->base + DRIVER_FEATURE_SELECT, 0);
    mmio_write32(device->base + DRIVER_FEATURE, (uint32_t)features);
}

static uint32_t select_queue(const struct virtio_device* device, uint16_t index) {
    mmio_write16(device->base + QUEUE_SELECT, index);
    return mmio_read16(device->base + QUEUE_SIZE);
}

static void write_address(const struct virtio_device* device, unsigned low_register, uint64_t area) {
    mmio_write32(device->base + low_register, (uint32_t)area);
    mmio_write32(device->base + low_register + 4, (uint32_t)(area >> 32));
}

static void enable_queue(const struct virtio_device* device, struct virtqueue* queue) {
    mmio_write16(device->base + QUEUE_SIZE, queue->size);
    write_address(device, QUEUE_DESC, queue->descriptors_address);
    write_address(device, QUEUE_DRIVER, queue->available_address);
    write_address(device, QUEUE_DEVICE, queue->used_address);
    mmio_write16(device->base + QUEUE_ENABLE, 1);
    /* 4.1.4.4: where a queue's doorbell is */
    queue->doorbell =
        device->notify + mmio_read16(device->base + QUEUE_NOTIFY_OFFSET) * device->notify_multiplier;
}

static uint8_t acknowledge(const struct virtio_device* device) {
    return mmio_read8(device->isr);
}

static uint32_t generation(const struct virtio_device* device) {
    return mmio_read8(device->base + CONFIG_GENERATION);
}

static const struct virtio_transport transport = {status,          set_status,   offered_features,
                                                  accept_features, select_queue, enable_queue,
                                                  acknowledge,     generation};

bool virtio_pci_probe(struct virtio_device* device, const struct pci_function* function) {
    if (function->device_id < FIRST_MODERN_ID) return false; /* 4.1.2: a transitional device */
    *device = (struct virtio_device){
        .transport = &transport,
        .on_pci = true,
        .interrupt = function->interrupt,
        .id = (uint32_t)function->device_id - FIRST_MODERN_ID,
    };
    pci_enable(function);
    uintptr_t bars[PCI_BAR_COUNT] = {0};
    for (unsigned at = pci_capability(function, CAPABILITY_VENDOR, 0); at != 0;
         at = pci_capability(function, CAPABILITY_VENDOR, at)) {
        unsigned bar = pci_read8(function, at + CAP_BAR);
        unsigned type = pci_read8(function, at + CAP_TYPE);
        if (bar >= PCI_BAR_COUNT || function->bar[bar] == 0) continue;
        if (bars[bar] == 0) bars[bar] = page_table_map_device(function->bar[bar], function->bar_size[bar]);
        uintptr_t structure = bars[bar] + pci_read32(function, at + CAP_OFFSET);
        /* 4.1.4.1: of several of a type the first counts. */
        if (type == COMMON && device->base == 0) device->base = structure;
        if (type == ISR && device->isr == 0) device->isr = structure;
        if (type == DEVICE && device->config == 0) device->config = structure;
        if (type == NOTIFY && device->notify == 0) {
            device->notify = structure;
            device->notify_multiplier = pci_read32(function, at + CAP_NOTIFY_MULTIPLIER);
        }
    }
    if (device->base == 0 || device->notify == 0 || device->isr == 0) {
        print("virtio on pci 00:%02x.%u: not all structures are there, skipped\n", function->device,
              function->function);
        return false;
    }
    if (function->behind_iommu) device->dma = iommu_space(function->requester_id);
    return true;
}
