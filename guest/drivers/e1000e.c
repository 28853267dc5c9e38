/*
 * The Intel 82574L: 82574 GbE Controller Family Datasheet; section numbers stand where they matter. One
 * receive and one transmit queue. Both are rings of 16-byte descriptors in memory between a head, which the
 * card moves, and a tail, which we move by a store to a register: the doorbell. That a descriptor is done the
 * card writes into the descriptor itself, so that neither side's progress is ever asked for through a
 * register. Buffers are the driver's own, and are shared with the card for good.
 */
#include "drivers/e1000e.h"

#include "drivers/nic.h"
#include "kernel/bootargs.h"
#include "kernel/controller.h"
#include "kernel/iommu.h"
#include "kernel/memory.h"
#include "kernel/mmio.h"
#include "kernel/page_table.h"
#include "kernel/platform.h"
#include "kernel/print.h"
#include "kernel/riscv.h"
#include "network/packet.h"

/* 10.2 */
enum {
    CTRL = 0x0000,
    ICR = 0x00c0,
    ITR = 0x00c4,
    IMS = 0x00d0,
    IMC = 0x00d8,
    RCTL = 0x0100,
    TCTL = 0x0400,
    TIPG = 0x0410,
    RDBAL = 0x2800,
    RDBAH = 0x2804,
    RDLEN = 0x2808,
    RDH = 0x2810,
    RDT = 0x2818,
    TDBAL = 0x3800,
    TDBAH = 0x3804,
    TDLEN = 0x3808,
    TDH = 0x3810,
    TDT = 0x3818,
    RFCTL = 0x5008,
    RAL = 0x5400,
    RAH = 0x5404,
};
#define CTRL_LINK_UP (1u << 6)
#define CTRL_RESET (1u << 26)
#define INTERRUPT_RECEIVE (1u << 7) /* RXT0 */
#define RCTL_ENABLE (1u << 1)
#define RCTL_BROADCAST (1u << 15)
#define RCTL_STRIP_CRC (1u << 26)
#define TCTL_ENABLE (1u << 1)
#define TCTL_PAD_SHORT (1u << 3)
#define TCTL_COLLISIONS (0x0fu << 4 | 0x3fu << 12) /* the recommended values of CT and COLD */
#define TIPG_COPPER (8u | 8u << 10 | 6u << 20)
#define RFCTL_EXTENDED (1u << 15)

/* 7.1.5: what we write, and what the card writes over it */
union receive_descriptor {
    struct {
        uint64_t address;
        uint64_t zero; /* where the status will be */
    } read;
    struct {
        uint32_t queue;
        uint32_t hash;
        volatile uint32_t status;
        volatile uint16_t length;
        uint16_t vlan;
    } done;
};
enum { RECEIVE_DONE = 1 << 0, RECEIVE_END_OF_PACKET = 1 << 1 };

/* 7.2.2: data descriptors, and the context descriptor that tells how to segment what follows */
union transmit_descriptor {
    struct {
        uint64_t address;
        uint32_t length_and_command;
        volatile uint8_t status;
        uint8_t options;
        uint16_t vlan;
    } data;
    struct {
        uint8_t ip_start, ip_checksum;
        uint16_t ip_end;
        uint8_t tcp_start, tcp_checksum;
        uint16_t tcp_end;
        uint32_t length_and_command;
        uint8_t status;
        uint8_t header_length;
        uint16_t segment;
    } context;
};
_Static_assert(sizeof(union receive_descriptor) == 16 && sizeof(union transmit_descriptor) == 16,
               "7.1.5, 7.2.2");
#define TRANSMIT_END_OF_PACKET (1u << 24)
#define TRANSMIT_INSERT_FCS (1u << 25)
#define TRANSMIT_SEGMENT (1u << 26)
#define TRANSMIT_REPORT_STATUS (1u << 27)
#define TRANSMIT_EXTENDED (1u << 29)
#define TRANSMIT_DATA (1u << 20) /* DTYP: 1 is data, 0 context */
#define CONTEXT_TCP (1u << 24)
#define CONTEXT_IPV4 (1u << 25)
enum { TRANSMIT_DONE = 1, OPTION_IP_CHECKSUM = 1, OPTION_TCP_CHECKSUM = 2 };
enum { LARGEST_PIECE = 16384 - 64 };

enum { RING_SIZE = 256, RECEIVE_BUFFER = 2048, GIVE_BACK_EVERY = 16 };
/* As for virtio-net: two bytes in front put the IP header on a multiple of four. */
enum { FRAME_AT = 2, LARGE_TRANSMIT_BUFFERS = 128 };
/* Interrupts a second at most: what Linux begins with. ITR counts in 256 ns (10.2.4.2). */
enum { INTERRUPT_RATE = 20000 };

struct e1000e {
    struct nic nic; /* first: a struct nic* of ours is a struct e1000e* */
    uintptr_t registers;
    struct dma_space* dma;

    union receive_descriptor* receive_ring;
    uint8_t* receive_buffers;
    uint64_t receive_address, transmit_address; /* of the buffers, for the card */
    unsigned receive_next;                      /* the descriptor that is filled next */
    unsigned receive_given;                     /* frames released since the card was last told */

    union transmit_descriptor* transmit_ring;
    uint8_t* transmit_buffers;
    unsigned buffer_count;
    size_t buffer_size;
    unsigned buffer_next; /* buffers are used in turn */
    unsigned buffers_free;
    unsigned transmit_next;         /* the descriptor that is written next */
    unsigned transmit_oldest;       /* the first that may not be done */
    bool last_of_buffer[RING_SIZE]; /* does the descriptor end a frame, and so free its buffer? */
};

static uint32_t get(const struct e1000e* card, unsigned number) {
    return mmio_read32(card->registers + number);
}
static void set(const struct e1000e* card, unsigned number, uint32_t value) {
    mmio_write32(card->registers + number, value);
}

/* 7.4.3: reading ICR clears it, and with it the level on the line. */
static void handle_interrupt(void* context) {
    (void)get(context, ICR);
}

/* --- receiving --- */

static uint8_t* receive(struct nic* nic, size_t* length) {
    struct e1000e* card = (struct e1000e*)nic;
    union receive_descriptor* descriptor = &card->receive_ring[card->receive_next];
    if ((descriptor->done.status & RECEIVE_DONE) == 0) return NULL;
    fence_after_status();
    /* A frame over several buffers is larger than any that is meant for us: its pieces count as empty. */
    *length = (descriptor->done.status & RECEIVE_END_OF_PACKET) != 0 ? descriptor->done.length : 0;
    uint8_t* frame = card->receive_buffers + card->receive_next * RECEIVE_BUFFER + FRAME_AT;
    card->receive_next = (card->receive_next + 1) % RING_SIZE;
    return frame;
}

static void release(struct nic* nic, uint8_t* frame) {
    struct e1000e* card = (struct e1000e*)nic;
    unsigned index = (unsigned)(frame - card->receive_buffers) / RECEIVE_BUFFER;
    card->receive_ring[index].read.address =
        card->receive_address + (uint64_t)(frame - card->receive_buffers);
    card->receive_ring[index].read.zero = 0;
    if (++card->receive_given < GIVE_BACK_EVERY) return;
    card->receive_given = 0;
    fence_before_doorbell();
    set(card, RDT, index);
}

static bool receivable(struct nic* nic) {
    const struct e1000e* card = (const struct e1000e*)nic;
    return (card->receive_ring[card->receive_next].done.status & RECEIVE_DONE) != 0;
}

/* --- sending --- */

static void collect_sent(struct e1000e* card) {
    while (card->transmit_oldest != card->transmit_next) {
        union transmit_descriptor* descriptor = &card->transmit_ring[card->transmit_oldest];
        if ((descriptor->data.status & TRANSMIT_DONE) == 0) return;
        if (card->last_of_buffer[card->transmit_oldest]) card->buffers_free++;
        card->transmit_oldest = (card->transmit_oldest + 1) % RING_SIZE;
    }
}

static unsigned descriptors_free(const struct e1000e* card) {
    /* One stays unused: head and tail on the same descriptor mean an empty ring (7.2.3). */
    return (card->transmit_oldest + RING_SIZE - card->transmit_next - 1) % RING_SIZE;
}

static uint8_t* transmit_buffer(struct nic* nic) {
    struct e1000e* card = (struct e1000e*)nic;
    unsigned needed = 1 + (LARGEST_SEND + LARGEST_PIECE - 1) / LARGEST_PIECE;
    if (card->buffers_free == 0 || descriptors_free(card) < needed) collect_sent(card);
    if (card->buffers_free == 0 || descriptors_free(card) < needed) return NULL;
    return card->transmit_buffers + card->buffer_next * card->buffer_size + FRAME_AT;
}

static union transmit_descriptor* next_descriptor(struct e1000e* card, bool last) {
    card->last_of_buffer[card->transmit_next] = last;
    union transmit_descriptor* descriptor = &card->transmit_ring[card->transmit_next];
    card->transmit_next = (card->transmit_next + 1) % RING_SIZE;
    return descriptor;
}

/* 7.3.6.2: for segmentation the IP length is zero, and the pseudo header's sum is without the length. */
static void prepare_segmentation(struct e1000e* card, uint8_t* frame, size_t length, uint16_t segment) {
    struct ipv4_header* ip = (struct ipv4_header*)(frame + ETHERNET_HEADER);
    struct tcp_header* tcp = (struct tcp_header*)(ip + 1);
    ip->total_length = 0;
    ip->checksum = 0;
    tcp->checksum = tcp_pseudo_checksum(ip, 0);
    union transmit_descriptor context = {
        .context = {
            .ip_start = ETHERNET_HEADER,
            .ip_checksum = ETHERNET_HEADER + offsetof(struct ipv4_header, checksum),
            .ip_end = ETHERNET_HEADER + sizeof *ip - 1,
            .tcp_start = ETHERNET_HEADER + sizeof *ip,
            .tcp_checksum = ETHERNET_HEADER + sizeof *ip + offsetof(struct tcp_header, checksum),
            .length_and_command = (uint32_t)(length - TCP_HEADERS) | CONTEXT_TCP | CONTEXT_IPV4 |
                                  TRANSMIT_SEGMENT | TRANSMIT_REPORT_STATUS | TRANSMIT_EXTENDED,
            .header_length = TCP_HEADERS,
            .segment = segment,
        }};
    *next_descriptor(card, false) = context;
}

static void send(struct nic* nic, size_t length, uint16_t segment) {
    struct e1000e* card = (struct e1000e*)nic;
    uint8_t* frame = card->transmit_buffers + card->buffer_next * card->buffer_size + FRAME_AT;
    card->buffer_next = (card->buffer_next + 1) % card->buffer_count;
    card->buffers_free--;
    uint32_t command = TRANSMIT_INSERT_FCS | TRANSMIT_REPORT_STATUS | TRANSMIT_EXTENDED | TRANSMIT_DATA;
    uint8_t options = 0;
    if (segment != 0) {
        prepare_segmentation(card, frame, length, segment);
        command |= TRANSMIT_SEGMENT;
        options = OPTION_IP_CHECKSUM | OPTION_TCP_CHECKSUM;
    }
    for (size_t at = 0; at < length; at += LARGEST_PIECE) {
        size_t piece = length - at < LARGEST_PIECE ? length - at : LARGEST_PIECE;
        bool last = at + piece == length;
        union transmit_descriptor descriptor = {
            .data = {
                .address = card->transmit_address + (uint64_t)(frame + at - card->transmit_buffers),
                .length_and_command = (uint32_t)piece | command | (last ? TRANSMIT_END_OF_PACKET : 0),
                .options = options,
            }};
        *next_descriptor(card, last) = descriptor;
    }
}

static void flush(struct nic* nic) {
    struct e1000e* card = (struct e1000e*)nic;
    fence_before_doorbell();
    set(card, TDT, card->transmit_next);
}

/* --- setting up: 4.6 --- */

static bool reset(struct e1000e* card) {
    set(card, IMC, 0xffffffff);
    set(card, CTRL, get(card, CTRL) | CTRL_RESET);
    uint64_t end = read_time() + platform.timebase_frequency / 10;
    while ((get(card, CTRL) & CTRL_RESET) != 0)
        if (read_time() > end) return false;
    set(card, IMC, 0xffffffff);
    (void)get(card, ICR);
    set(card, CTRL, get(card, CTRL) | CTRL_LINK_UP);
    return true;
}

static void start_receiving(struct e1000e* card) {
    card->receive_ring = memory_allocate(RING_SIZE * sizeof *card->receive_ring, 128);
    card->receive_buffers = memory_allocate(RING_SIZE * RECEIVE_BUFFER, RECEIVE_BUFFER);
    card->receive_address = dma_share(card->dma, card->receive_buffers, RING_SIZE * RECEIVE_BUFFER);
    for (unsigned i = 0; i < RING_SIZE; i++)
        card->receive_ring[i].read.address = card->receive_address + i * RECEIVE_BUFFER + FRAME_AT;
    uint64_t ring = dma_share(card->dma, card->receive_ring, RING_SIZE * sizeof *card->receive_ring);
    set(card, RDBAL, (uint32_t)ring);
    set(card, RDBAH, (uint32_t)(ring >> 32));
    set(card, RDLEN, RING_SIZE * sizeof *card->receive_ring);
    set(card, RDH, 0);
    set(card, RDT, 0);
    set(card, RFCTL, RFCTL_EXTENDED);
    /* Buffers of 2048 bytes are the reset value of BSIZE; the two in front fit since frames are smaller. */
    set(card, RCTL, RCTL_ENABLE | RCTL_BROADCAST | RCTL_STRIP_CRC);
    fence_before_doorbell();
    set(card, RDT, RING_SIZE - 1);
}

static void start_transmitting(struct e1000e* card) {
    bool large = nic_large_sends_wanted();
    size_t largest = large ? LARGEST_SEND : ETHERNET_HEADER + DEFAULT_MTU;
    card->nic.segments_tcp = large;
    card->buffer_count = card->buffers_free = large ? LARGE_TRANSMIT_BUFFERS : RING_SIZE;
    card->buffer_size = (FRAME_AT + largest + 63) & ~63ul;
    card->transmit_ring = memory_allocate(RING_SIZE * sizeof *card->transmit_ring, 128);
    card->transmit_buffers = memory_allocate(card->buffer_count * card->buffer_size, 64);
    card->transmit_address =
        dma_share(card->dma, card->transmit_buffers, card->buffer_count * card->buffer_size);
    uint64_t ring = dma_share(card->dma, card->transmit_ring, RING_SIZE * sizeof *card->transmit_ring);
    set(card, TDBAL, (uint32_t)ring);
    set(card, TDBAH, (uint32_t)(ring >> 32));
    set(card, TDLEN, RING_SIZE * sizeof *card->transmit_ring);
    set(card, TDH, 0);
    set(card, TDT, 0);
    set(card, TIPG, TIPG_COPPER);
    set(card, TCTL, TCTL_ENABLE | TCTL_PAD_SHORT | TCTL_COLLISIONS);
}

void e1000e_start(const struct pci_function* function) {
    if (function->bar[0] == 0) return;
    pci_enable(function);
    struct e1000e* card = memory_allocate(sizeof *card, 64);
    if (function->behind_iommu) card->dma = iommu_space(function->requester_id);
    card->registers = page_table_map_device(function->bar[0], function->bar_size[0]);
    if (!reset(card)) {
        print_failure("e1000e at 0x%lx does not come out of its reset\n", function->bar[0]);
        return;
    }
    card->nic = (struct nic){
        .interface = "e1000e",
        .address = function->bar[0],
        .interrupt = function->interrupt,
        .mtu = DEFAULT_MTU,
        .transmit_buffer = transmit_buffer,
        .send = send,
        .flush = flush,
        .receive = receive,
        .release = release,
        .receivable = receivable,
    };
    /* The reset has filled the first receive address from the card's EEPROM. */
    uint32_t low = get(card, RAL), high = get(card, RAH);
    for (unsigned i = 0; i < 6; i++) card->nic.mac[i] = (uint8_t)(i < 4 ? low >> 8 * i : high >> 8 * (i - 4));
    start_transmitting(card);
    start_receiving(card);
    controller_connect(function->interrupt, handle_interrupt, card);
    set(card, ITR, 1000000000 / 256 / (uint32_t)bootargs_number("e1000e.rate", INTERRUPT_RATE));
    set(card, IMS, INTERRUPT_RECEIVE);
    nic_register(&card->nic);
}
