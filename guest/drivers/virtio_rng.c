/* The virtio entropy device: virtio 1.2, section 5.4. One queue of buffers that the device fills. */
#include "drivers/virtio_rng.h"

#include "kernel/clock.h"
#include "kernel/print.h"

static struct {
    struct virtio_device device;
    struct virtqueue queue;
    bool present;
    volatile bool done;
    volatile uint32_t written;
} rng;

static void queue_changed(void* driver) {
    (void)driver;
    do {
        uint32_t written;
        while (virtqueue_take(&rng.queue, &written) != NULL) {
            rng.written = written;
            rng.done = true;
        }
    } while (!virtqueue_interrupt_next(&rng.queue));
}

void virtio_rng_start(const struct virtio_device* found) {
    if (rng.present) return;
    rng.device = *found;
    if (!virtio_negotiate(&rng.device, 0) || !virtio_start_queue(&rng.device, &rng.queue, 0, 8)) return;
    virtio_ready(&rng.device, queue_changed, &rng);
    rng.present = true;
}

bool virtio_rng_present(void) {
    return rng.present;
}
const struct virtio_device* virtio_rng_device(void) {
    return &rng.device;
}

bool virtio_rng_read(void* buffer, size_t length) {
    uint8_t* at = buffer;
    while (rng.present && length > 0) {
        struct virtqueue_segment segment = {at, (uint32_t)length, true};
        interrupts_disable();
        rng.done = false;
        bool added = virtqueue_add(&rng.queue, &segment, 1, at);
        if (added) virtqueue_kick(&rng.queue);
        interrupts_enable();
        if (!added || !clock_wait(rng.done, 10)) return false;
        /* 5.4.6.1: the device may give less than was asked for, but not nothing. */
        if (rng.written == 0 || rng.written > length) return false;
        at += rng.written;
        length -= rng.written;
    }
    return rng.present;
}
