/* Starting and serving a virtio device: virtio 1.2, 3.1.1 "Driver Requirements: Device Initialization". */
#include "drivers/virtio.h"

#include "kernel/controller.h"
#include "kernel/mmio.h"
#include "kernel/print.h"
#include "kernel/riscv.h"

/* 2.1, device status */
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64, FAILED = 128 };

static void add_status(const struct virtio_device* device, uint8_t bits) {
    device->transport->set_status(device, device->transport->status(device) | bits);
}

bool virtio_negotiate(struct virtio_device* device, uint64_t wanted) {
    const struct virtio_transport* transport = device->transport;
    transport->set_status(device, 0);
    while (transport->status(device) != 0) { /* 2.4.2: a reset is over when zero reads back */
    }
    add_status(device, ACKNOWLEDGE);
    add_status(device, DRIVER);
    wanted |= VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_ACCESS_PLATFORM;
    device->features = transport->offered_features(device) & wanted;
    /* 6.1: without ACCESS_PLATFORM the device takes addresses to be physical, whatever stands before it. */
    if ((device->features & VIRTIO_F_ACCESS_PLATFORM) == 0) device->dma = NULL;
    transport->accept_features(device, device->features);
    add_status(device, FEATURES_OK);
    bool agreed =
        (device->features & VIRTIO_F_VERSION_1) != 0 && (transport->status(device) & FEATURES_OK) != 0;
    if (!agreed) {
        add_status(device, FAILED);
        print_failure("virtio at 0x%lx: device %u refuses the features\n", device->base, device->id);
    }
    return agreed;
}

bool virtio_start_queue(struct virtio_device* device, struct virtqueue* queue, uint16_t index,
                        uint16_t limit) {
    uint32_t maximum = device->transport->select_queue(device, index);
    if (maximum == 0) return false;
    if (limit > VIRTQUEUE_MAX_SIZE) limit = VIRTQUEUE_MAX_SIZE;
    uint16_t size = 1;
    while (size * 2u <= limit && size * 2u <= maximum) size = (uint16_t)(size * 2);
    *queue = (struct virtqueue){
        .has_event_index = (device->features & VIRTIO_F_EVENT_IDX) != 0,
        .has_indirect = (device->features & VIRTIO_F_INDIRECT_DESC) != 0,
        .dma = device->dma,
    };
    virtqueue_start(queue, index, size);
    device->transport->enable_queue(device, queue);
    return true;
}

static void handle_interrupt(void* context) {
    struct virtio_device* device = context;
    uint8_t reasons = device->transport->acknowledge(device);
    if (reasons == 0) return;
    fence_after_status();
    /* Only a device that gave up needs a look at its status; the rest of its configuration we read once. */
    if ((reasons & VIRTIO_INTERRUPT_CONFIGURATION) != 0 &&
        (device->transport->status(device) & NEEDS_RESET) != 0)
        panic("virtio at 0x%lx: device %u needs a reset\n", device->base, device->id);
    if ((reasons & VIRTIO_INTERRUPT_QUEUE) != 0) device->queues_changed(device->driver);
}

void virtio_ready(struct virtio_device* device, void (*queues_changed)(void* driver), void* driver) {
    device->queues_changed = queues_changed;
    device->driver = driver;
    controller_connect(device->interrupt, handle_interrupt, device);
    add_status(device, DRIVER_OK);
}

uint8_t virtio_config8(const struct virtio_device* device, unsigned offset) {
    return mmio_read8(device->config + offset);
}
uint16_t virtio_config16(const struct virtio_device* device, unsigned offset) {
    return mmio_read16(device->config + offset);
}
uint32_t virtio_config32(const struct virtio_device* device, unsigned offset) {
    return mmio_read32(device->config + offset);
}

/* 2.5.1: two halves belong together only if the configuration's generation did not change in between. */
uint64_t virtio_config64(const struct virtio_device* device, unsigned offset) {
    for (;;) {
        uint32_t generation = device->transport->generation(device);
        uint64_t low = virtio_config32(device, offset);
        uint64_t high = virtio_config32(device, offset + 4);
        if (device->transport->generation(device) == generation) return high << 32 | low;
    }
}
