/*
 * `bench=net`: frames through a network card, to a peer that runs `bench=netserve` or speaks the same
 * protocol from the host. Sizes are those of IP packets: the smallest useful one, what Ethernet carries, and
 * what only a card takes that segments TCP itself.
 *
 *   bench=net ip=10.0.0.1 to=10.0.0.2        measures sending and round trips
 *   bench=netserve ip=10.0.0.2               measures receiving; ends when the other does
 *   bench.ops=2048                           packets a section (an eighth of it for the large ones)
 *   bench.label=host-                        stands in the sections' names before the work
 *
 * Every packet's data (port 7701 at both ends) begins with 24 bytes, little-endian: u32 magic 0x314e4257
 * ("WBN1"), u32 type, u64 packet size or sequence, u64 value. At most a window of bytes is under way, small
 * enough that no ring runs over: nothing is lost, and nothing is sent twice.
 *
 *   HELLO  a section begins: `value` packets of `sequence` bytes each    READY  the answer to it
 *   DATA   packet number `sequence`; the large ones may arrive in pieces  ACK    `value` bytes have arrived
 *   END    the section is over                                           RESULT the answer: `value` as in ACK
 *   ECHO   is answered with REPLY and the same numbers                    BYE    no more sections
 */
#include "drivers/nic.h"
#include "kernel/bootargs.h"
#include "kernel/clock.h"
#include "kernel/print.h"
#include "network/packet.h"
#include "network/stack.h"
#include "programs/bench.h"

enum { PORT = 7701, MAGIC = 0x314e4257, WINDOW_PACKETS = 128, ANSWER_SECONDS = 30, REPEAT_TICKS = 5 };
enum { HELLO = 1, READY, DATA, ACK, END, RESULT, ECHO, REPLY, BYE };
enum { UDP_HEADERS = 20 + 8, TCP_IP_HEADERS = 20 + 20, LARGE_SIZE = 65000 };

struct message {
    uint32_t magic;
    uint32_t type;
    uint64_t sequence;
    uint64_t value;
} __attribute__((packed));

static struct {
    struct nic* nic;
    struct peer peer;
    uint32_t answer; /* the type of message that is waited for and came */
    uint64_t answer_value;
    uint64_t acknowledged; /* bytes */

    /* serving */
    struct bench_section section;
    bool measuring, over;
    uint64_t size, received, told; /* bytes: of a packet's data, arrived, and said to have arrived */
    uint64_t next;                 /* the packet that should come next */
    bool in_order;
} net;

/* What the other side is, in front of the section's name. */
static const char* label(void) {
    return bootargs_text("bench.label", "");
}

/* The data in an IP packet of `size` bytes. */
static size_t data_length(size_t size) {
    return size - (size == LARGE_SIZE ? TCP_IP_HEADERS : UDP_HEADERS);
}

static uint64_t window(size_t size) {
    /* As many pieces as packets of a usual size would be. */
    return size == LARGE_SIZE ? 2 * data_length(size) : WINDOW_PACKETS * data_length(size);
}

static bool send(uint32_t type, uint64_t sequence, uint64_t value, size_t length) {
    uint8_t* buffer = stack_udp_buffer();
    if (buffer == NULL) return false;
    *(struct message*)buffer = (struct message){MAGIC, type, sequence, value};
    stack_udp_send(&net.peer, PORT, length);
    return true;
}

static bool send_large(uint64_t sequence) {
    uint8_t* buffer = stack_segment_buffer();
    if (buffer == NULL) return false;
    *(struct message*)buffer = (struct message){MAGIC, DATA, sequence, 0};
    size_t length = data_length(LARGE_SIZE);
    stack_segment_send(&net.peer, PORT, (uint32_t)(sequence * length), length);
    return true;
}

static void tell(uint32_t type, uint64_t value) {
    while (!send(type, 0, value, sizeof(struct message))) stack_wait();
    stack_flush();
}

/* --- the side that sends --- */

static void sender_receives(const struct peer* from, const uint8_t* data, size_t length) {
    (void)from;
    const struct message* message = (const struct message*)data;
    if (length < sizeof *message || message->magic != MAGIC) return;
    net.answer = message->type;
    net.answer_value = message->value;
    if (message->type == ACK || message->type == RESULT) net.acknowledged = message->value;
}

/* Sends until the answer comes. */
static bool ask(uint32_t type, uint64_t sequence, uint64_t value, uint32_t answer) {
    net.answer = 0;
    uint64_t end = clock_ticks + ANSWER_SECONDS * CLOCK_TICKS_PER_SECOND;
    while (clock_ticks < end) {
        send(type, sequence, value, sizeof(struct message));
        stack_flush();
        for (uint64_t again = clock_ticks + REPEAT_TICKS; clock_ticks < again;) {
            if (net.answer == answer) return true;
            if (stack_poll() == 0) stack_wait();
        }
    }
    return false;
}

static bool stream(size_t size, uint64_t packets) {
    size_t length = data_length(size);
    uint64_t limit = window(size), sent = 0, last_progress = clock_ticks;
    net.acknowledged = 0;
    while (net.acknowledged < packets * length) {
        uint64_t before = net.acknowledged;
        bool sent_any = false;
        while (sent < packets && (sent + 1) * length <= before + limit) {
            if (!(size == LARGE_SIZE ? send_large(sent) : send(DATA, sent, 0, length))) break;
            sent++;
            sent_any = true;
        }
        if (sent_any) stack_flush();
        if (stack_poll() == 0) stack_wait();
        if (net.acknowledged != before) last_progress = clock_ticks;
        if (clock_ticks > last_progress + ANSWER_SECONDS * CLOCK_TICKS_PER_SECOND) return false;
    }
    return true;
}

static void measure_stream(size_t size, uint64_t packets) {
    struct bench_section section;
    if (!bench_wanted(&section, "network/%s/%ssend/%zu", net.nic->interface, label(), size)) return;
    section.interrupt = net.nic->interrupt;
    bool good = ask(HELLO, size, packets, READY);
    bench_begin(&section, packets, packets * size);
    good = good && stream(size, packets);
    bench_end(&section);
    good = good && ask(END, 0, 0, RESULT) && net.answer_value == packets * data_length(size);
    bench_report(&section, good);
}

static bool round_trips(size_t size, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        net.answer = 0;
        if (!send(ECHO, i, 0, data_length(size))) return false;
        stack_flush();
        for (uint64_t end = clock_ticks + ANSWER_SECONDS * CLOCK_TICKS_PER_SECOND; net.answer != REPLY;) {
            if (clock_ticks > end) return false;
            if (stack_poll() == 0) stack_wait();
        }
    }
    return true;
}

static void measure_round_trips(size_t size, uint64_t count) {
    struct bench_section section;
    if (!bench_wanted(&section, "network/%s/%sround-trip/%zu", net.nic->interface, label(), size)) return;
    section.interrupt = net.nic->interrupt;
    bench_begin(&section, count, 2 * count * size);
    bool good = round_trips(size, count);
    bench_end(&section);
    bench_report(&section, good);
}

/* --- the side that serves --- */

static void begin(uint64_t size, uint64_t packets) {
    if (net.measuring && net.received == 0) return; /* HELLO came twice */
    net.measuring = bench_wanted(&net.section, "network/%s/%sreceive/%lu", net.nic->interface, label(), size);
    net.section.interrupt = net.nic->interrupt;
    net.size = size;
    net.received = net.told = net.next = 0;
    net.in_order = true;
    bench_begin(&net.section, packets, packets * size);
}

static void finish(void) {
    if (!net.measuring) return;
    net.measuring = false;
    bench_end(&net.section);
    bool good = net.in_order && net.received == net.section.operations * data_length(net.size);
    bench_report(&net.section, good);
}

static void server_receives(const struct peer* from, const uint8_t* data, size_t length) {
    const struct message* message = (const struct message*)data;
    /* Pieces of a large packet behind the first carry no header; their bytes are all zero there. */
    bool headed = length >= sizeof *message && message->magic == MAGIC;
    if (!headed || message->type == DATA) {
        if (headed && message->sequence != net.next++) net.in_order = false;
        net.received += length;
        return;
    }
    net.peer = *from;
    switch (message->type) {
        case HELLO:
            begin(message->sequence, message->value);
            tell(READY, 0);
            break;
        case END:
            finish();
            tell(RESULT, net.received);
            break;
        case ECHO:
            while (!send(REPLY, message->sequence, message->value, length)) stack_wait();
            stack_flush();
            break;
        case BYE:
            net.over = true;
            break;
        default:
            break;
    }
}

static void serve(void) {
    stack_listen(PORT, server_receives);
    uint64_t last = clock_ticks;
    while (!net.over && clock_ticks < last + 4 * ANSWER_SECONDS * CLOCK_TICKS_PER_SECOND) {
        bool idle = stack_poll() == 0;
        if (!idle) last = clock_ticks;
        uint64_t untold = net.received - net.told;
        if (net.measuring && untold != 0 && (idle || untold >= window(net.size) / 4)) {
            net.told = net.received;
            tell(ACK, net.told);
        }
        if (idle) stack_wait();
    }
    if (!net.over) print_failure("bench=netserve: the peer has gone\n");
}

void bench_network(bool serving) {
    uint32_t ip = ip_from_text(bootargs_text("ip", ""));
    if (nic_count == 0 || ip == 0) {
        print_failure("bench=net needs a network card and ip=, an IPv4 address such as 10.0.0.1\n");
        return;
    }
    net.nic = nics[0];
    stack_start(net.nic, ip);
    if (serving) {
        serve();
        return;
    }
    net.peer.ip = ip_from_text(bootargs_text("to", ""));
    if (net.peer.ip == 0 || !stack_resolve(&net.peer, ANSWER_SECONDS)) {
        print_failure("bench=net: nobody answers for to=%s\n", bootargs_text("to", ""));
        return;
    }
    stack_listen(PORT, sender_receives);
    uint64_t packets = bootargs_number("bench.ops", 2048);
    measure_stream(64, packets);
    measure_stream(DEFAULT_MTU, packets);
    if (net.nic->segments_tcp) measure_stream(LARGE_SIZE, packets / 8 + 1);
    measure_round_trips(64, packets / 4 + 1);
    send(BYE, 0, 0, sizeof(struct message));
    stack_flush();
    stack_wait();
}
