/*
 * The virtio network device: virtio 1.2, section 5.1. One pair of queues; every buffer is one frame behind a
 * 12-byte header (5.1.6). When large sends are wanted the header asks the device to segment, and says of what
 * arrives that nobody has segmented it: between two such guests nothing is ever cut up.
 */
#include "drivers/virtio_net.h"

#include "drivers/nic.h"
#include "kernel/memory.h"
#include "kernel/print.h"
#include "network/packet.h"

/* 5.1.3 */
#define VIRTIO_NET_F_CSUM (1ul << 0)
#define VIRTIO_NET_F_GUEST_CSUM (1ul << 1)
#define VIRTIO_NET_F_MTU (1ul << 3)
#define VIRTIO_NET_F_MAC (1ul << 5)
#define VIRTIO_NET_F_GUEST_TSO4 (1ul << 7)
#define VIRTIO_NET_F_HOST_TSO4 (1ul << 11)
#define LARGE_FEATURES \
    (VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_HOST_TSO4)

/* 5.1.4 */
enum { CONFIG_MAC = 0, CONFIG_MTU = 10 };

/* 5.1.6 */
struct virtio_net_header {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t header_length;
    uint16_t gso_size;
    uint16_t checksum_start;
    uint16_t checksum_offset;
    uint16_t buffer_count;
} __attribute__((packed));
enum { HEADER_NEEDS_CHECKSUM = 1, HEADER_GSO_TCPV4 = 1 };

enum { RECEIVE_QUEUE = 0, TRANSMIT_QUEUE = 1, QUEUE_SIZE = 256, LARGE_QUEUE_SIZE = 64 };
enum { HEADER_SIZE = sizeof(struct virtio_net_header), MAX_MTU = 9000 };
/* Two bytes in front put the IP header on a multiple of four and the payload of UDP on one of eight. */
enum { HEADER_AT = 2 };

struct virtio_net {
    struct nic nic; /* first: a struct nic* of ours is a struct virtio_net* */
    struct virtio_device device;
    struct virtqueue receive, transmit;
    size_t buffer_size;
    uint8_t* transmit_free[QUEUE_SIZE]; /* those not under way */
    unsigned transmit_free_count;
};

static void queues_changed(void* driver) {
    (void)driver; /* the interrupt ends the WFI; the rest is polled */
}

static void give_receive_buffer(struct virtio_net* net, uint8_t* buffer) {
    struct virtqueue_segment segment = {buffer + HEADER_AT, (uint32_t)(net->buffer_size - HEADER_AT), true};
    virtqueue_add(&net->receive, &segment, 1, buffer);
}

static uint8_t* transmit_buffer(struct nic* nic) {
    struct virtio_net* net = (struct virtio_net*)nic;
    if (net->transmit_free_count == 0) {
        uint8_t* buffer;
        while ((buffer = virtqueue_take(&net->transmit, NULL)) != NULL)
            net->transmit_free[net->transmit_free_count++] = buffer;
        virtqueue_interrupt_never(&net->transmit);
        if (net->transmit_free_count == 0) return NULL;
    }
    return net->transmit_free[net->transmit_free_count - 1] + HEADER_AT + HEADER_SIZE;
}

static void send(struct nic* nic, size_t length, uint16_t segment) {
    struct virtio_net* net = (struct virtio_net*)nic;
    uint8_t* buffer = net->transmit_free[--net->transmit_free_count];
    struct virtio_net_header* header = (struct virtio_net_header*)(buffer + HEADER_AT);
    *header = (struct virtio_net_header){0};
    if (segment != 0) {
        /* 5.1.6.2: the device goes on from the checksum of the pseudo header. */
        struct ipv4_header* ip = (struct ipv4_header*)(buffer + HEADER_AT + HEADER_SIZE + ETHERNET_HEADER);
        struct tcp_header* tcp = (struct tcp_header*)(ip + 1);
        tcp->checksum = tcp_pseudo_checksum(ip, (uint16_t)(length - ETHERNET_HEADER - sizeof *ip));
        header->flags = HEADER_NEEDS_CHECKSUM;
        header->checksum_start = ETHERNET_HEADER + sizeof *ip;
        header->checksum_offset = offsetof(struct tcp_header, checksum);
        header->header_length = TCP_HEADERS;
        if (length > TCP_HEADERS + (size_t)segment) {
            header->gso_type = HEADER_GSO_TCPV4;
            header->gso_size = segment;
        }
    }
    struct virtqueue_segment piece = {buffer + HEADER_AT, (uint32_t)(HEADER_SIZE + length), false};
    virtqueue_add(&net->transmit, &piece, 1, buffer);
}

static void flush(struct nic* nic) {
    virtqueue_kick(&((struct virtio_net*)nic)->transmit);
}

static uint8_t* receive(struct nic* nic, size_t* length) {
    struct virtio_net* net = (struct virtio_net*)nic;
    uint32_t written;
    uint8_t* buffer = virtqueue_take(&net->receive, &written);
    if (buffer == NULL) return NULL;
    *length = written > HEADER_SIZE && written <= net->buffer_size ? written - HEADER_SIZE : 0;
    return buffer + HEADER_AT + HEADER_SIZE;
}

static void release(struct nic* nic, uint8_t* frame) {
    struct virtio_net* net = (struct virtio_net*)nic;
    give_receive_buffer(net, frame - HEADER_AT - HEADER_SIZE);
    /* Buffers go back in batches: each doorbell is an exit to the host. */
    if ((uint16_t)(net->receive.available_index - net->receive.kicked_index) >= net->receive.size / 4)
        virtqueue_kick(&net->receive);
}

static bool receivable(struct nic* nic) {
    return !virtqueue_interrupt_next(&((struct virtio_net*)nic)->receive);
}

void virtio_net_start(const struct virtio_device* found) {
    struct virtio_net* net = memory_allocate(sizeof *net, 64);
    net->device = *found;
    bool large = nic_large_sends_wanted();
    if (!virtio_negotiate(&net->device, VIRTIO_NET_F_MAC | VIRTIO_NET_F_MTU | (large ? LARGE_FEATURES : 0)))
        return;
    large = large && (net->device.features & LARGE_FEATURES) == LARGE_FEATURES;
    uint16_t queue_size = large ? LARGE_QUEUE_SIZE : QUEUE_SIZE;
    if (!virtio_start_queue(&net->device, &net->receive, RECEIVE_QUEUE, queue_size) ||
        !virtio_start_queue(&net->device, &net->transmit, TRANSMIT_QUEUE, queue_size)) {
        print_failure("virtio-net at 0x%lx lacks a queue\n", net->device.base);
        return;
    }
    net->nic = (struct nic){
        .interface = found->on_pci ? "virtio-net-pci" : "virtio-net",
        .address = net->device.base,
        .interrupt = net->device.interrupt,
        .mac = {0x02, 'w', 'i', 'r', 't', 0}, /* 5.1.4.2: without F_MAC we choose */
        .mtu = DEFAULT_MTU,
        .segments_tcp = large,
        .transmit_buffer = transmit_buffer,
        .send = send,
        .flush = flush,
        .receive = receive,
        .release = release,
        .receivable = receivable,
    };
    if ((net->device.features & VIRTIO_NET_F_MAC) != 0)
        for (unsigned i = 0; i < 6; i++) net->nic.mac[i] = virtio_config8(&net->device, CONFIG_MAC + i);
    if ((net->device.features & VIRTIO_NET_F_MTU) != 0)
        net->nic.mtu = virtio_config16(&net->device, CONFIG_MTU);
    if (net->nic.mtu > MAX_MTU) net->nic.mtu = MAX_MTU;
    size_t largest = large ? LARGEST_SEND : ETHERNET_HEADER + net->nic.mtu;
    net->buffer_size = (HEADER_AT + HEADER_SIZE + largest + 63) & ~63ul;

    virtio_ready(&net->device, queues_changed, net);
    uint8_t* receive_buffers = memory_allocate(net->receive.size * net->buffer_size, 64);
    uint8_t* transmit_buffers = memory_allocate(net->transmit.size * net->buffer_size, 64);
    for (unsigned i = 0; i < net->receive.size; i++)
        give_receive_buffer(net, receive_buffers + i * net->buffer_size);
    for (unsigned i = 0; i < net->transmit.size; i++)
        net->transmit_free[net->transmit_free_count++] = transmit_buffers + i * net->buffer_size;
    virtqueue_interrupt_never(&net->transmit);
    virtqueue_kick(&net->receive);
    nic_register(&net->nic);
}
