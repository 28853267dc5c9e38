/*
 * The virtio network device: virtio 1.2, section 5.1. One pair of queues, no offloads: every buffer is one
 * frame behind a 12-byte header (5.1.6), which is all zero on the way out and ignored on the way in.
 */
#include "drivers/virtio_net.h"

#include "kernel/memory.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "kernel/string.h"

/* 5.1.3 */
#define VIRTIO_NET_F_MTU (1ul << 3)
#define VIRTIO_NET_F_MAC (1ul << 5)

/* 5.1.4 */
enum { CONFIG_MAC = 0, CONFIG_MTU = 10 };

enum { RECEIVE_QUEUE = 0, TRANSMIT_QUEUE = 1, QUEUE_SIZE = 256 };
enum { HEADER_SIZE = 12, ETHERNET_HEADER = 14, DEFAULT_MTU = 1500, MAX_MTU = 9000 };
/* Two bytes in front put the IP header on a multiple of four and the payload of UDP on one of eight. */
enum { HEADER_AT = 2 };

static struct {
    struct virtio_device device;
    struct virtqueue receive, transmit;
    bool present;
    uint8_t address[6];
    unsigned mtu;
    size_t buffer_size;
    uint8_t* transmit_buffers; /* QUEUE_SIZE of them; those not under way are on the free list */
    uint8_t* transmit_free[QUEUE_SIZE];
    unsigned transmit_free_count;
} net;

static void queues_changed(void* driver) {
    (void)driver; /* the interrupt ends the WFI; the rest is polled */
}

static void give_receive_buffer(uint8_t* buffer) {
    struct virtqueue_segment segment = {buffer + HEADER_AT, (uint32_t)(net.buffer_size - HEADER_AT), true};
    virtqueue_add(&net.receive, &segment, 1, buffer);
}

uint8_t* virtio_net_transmit_buffer(void) {
    if (net.transmit_free_count == 0) {
        uint8_t* buffer;
        while ((buffer = virtqueue_take(&net.transmit, NULL)) != NULL)
            net.transmit_free[net.transmit_free_count++] = buffer;
        virtqueue_interrupt_never(&net.transmit);
        if (net.transmit_free_count == 0) return NULL;
    }
    return net.transmit_free[net.transmit_free_count - 1] + HEADER_AT + HEADER_SIZE;
}

void virtio_net_send(size_t length) {
    uint8_t* buffer = net.transmit_free[--net.transmit_free_count];
    struct virtqueue_segment segment = {buffer + HEADER_AT, (uint32_t)(HEADER_SIZE + length), false};
    virtqueue_add(&net.transmit, &segment, 1, buffer);
}

void virtio_net_flush(void) {
    virtqueue_kick(&net.transmit);
}

uint8_t* virtio_net_receive(size_t* length) {
    uint32_t written;
    uint8_t* buffer = virtqueue_take(&net.receive, &written);
    if (buffer == NULL) return NULL;
    *length = written > HEADER_SIZE && written <= net.buffer_size ? written - HEADER_SIZE : 0;
    return buffer + HEADER_AT + HEADER_SIZE;
}

void virtio_net_release(uint8_t* frame) {
    give_receive_buffer(frame - HEADER_AT - HEADER_SIZE);
    /* Buffers go back in batches: each doorbell is an exit to the host. */
    if ((uint16_t)(net.receive.available_index - net.receive.kicked_index) >= net.receive.size / 4)
        virtqueue_kick(&net.receive);
}

bool virtio_net_receivable(void) {
    return !virtqueue_interrupt_next(&net.receive);
}

void virtio_net_start(const struct virtio_device* found) {
    if (net.present) return;
    net.device = *found;
    if (!virtio_negotiate(&net.device, VIRTIO_NET_F_MAC | VIRTIO_NET_F_MTU)) return;
    if (!virtio_start_queue(&net.device, &net.receive, RECEIVE_QUEUE, QUEUE_SIZE) ||
        !virtio_start_queue(&net.device, &net.transmit, TRANSMIT_QUEUE, QUEUE_SIZE)) {
        print_failure("virtio-net at 0x%lx lacks a queue\n", found->base);
        return;
    }
    static const uint8_t local_address[6] = {0x02, 'w', 'i',
                                             'r',  't', 0}; /* 5.1.4.2: without F_MAC we choose */
    for (unsigned i = 0; i < 6; i++)
        net.address[i] = (net.device.features & VIRTIO_NET_F_MAC)
                             ? virtio_config8(&net.device, CONFIG_MAC + i)
                             : local_address[i];
    net.mtu = DEFAULT_MTU;
    if ((net.device.features & VIRTIO_NET_F_MTU) != 0) net.mtu = virtio_config16(&net.device, CONFIG_MTU);
    if (net.mtu > MAX_MTU) net.mtu = MAX_MTU;
    net.buffer_size = (HEADER_AT + HEADER_SIZE + ETHERNET_HEADER + net.mtu + 63) & ~63ul;

    virtio_ready(&net.device, queues_changed, &net);
    uint8_t* receive_buffers = memory_allocate(net.receive.size * net.buffer_size, 64);
    net.transmit_buffers = memory_allocate(net.transmit.size * net.buffer_size, 64);
    for (unsigned i = 0; i < net.receive.size; i++)
        give_receive_buffer(receive_buffers + i * net.buffer_size);
    for (unsigned i = 0; i < net.transmit.size; i++)
        net.transmit_free[net.transmit_free_count++] = net.transmit_buffers + i * net.buffer_size;
    virtqueue_interrupt_never(&net.transmit);
    virtqueue_kick(&net.receive);
    net.present = true;
}

bool virtio_net_present(void) {
    return net.present;
}
const struct virtio_device* virtio_net_device(void) {
    return &net.device;
}
const uint8_t* virtio_net_address(void) {
    return net.address;
}
unsigned virtio_net_mtu(void) {
    return net.mtu;
}
