/*
 * A small IPv4 host: ARP (RFC 826), IPv4 without fragments or options (RFC 791), ICMP echo (RFC 792) and UDP
 * (RFC 768), and TCP segments that are datagrams of their own, over any network card. Frames come from other
 * machines: every length in them is checked against what really arrived before it is used.
 */
#include "network/stack.h"

#include "kernel/clock.h"
#include "kernel/riscv.h"
#include "kernel/string.h"
#include "network/packet.h"

enum { ECHO_IDENTIFIER = 0x5754, ECHO_PAYLOAD = 56, TIME_TO_LIVE = 64 };

static struct {
    struct nic* nic;
    uint32_t ip;
    struct peer resolving; /* ip: whose address we want; mac: the answer */
    bool resolved;
    uint16_t echo_expected;
    bool echo_arrived;
    uint16_t port;
    udp_receiver* receiver;
    uint16_t identification;
} stack;

/* RFC 1071: the one's complement of the one's complement sum of 16-bit words. */
static uint16_t checksum(const void* data, size_t length) {
    const uint8_t* bytes = data;
    uint32_t sum = 0;
    for (; length > 1; length -= 2, bytes += 2) sum += (uint32_t)bytes[0] << 8 | bytes[1];
    if (length == 1) sum += (uint32_t)bytes[0] << 8;
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return swap16((uint16_t)~sum);
}

static void fill_ethernet(uint8_t* frame, const uint8_t to[6], uint16_t type) {
    struct ethernet_header* ethernet = (struct ethernet_header*)frame;
    memcpy(ethernet->to, to, 6);
    memcpy(ethernet->from, stack.nic->mac, 6);
    ethernet->type = swap16(type);
}

/* Returns where the payload begins. */
static uint8_t* fill_ipv4(uint8_t* frame, const struct peer* to, uint8_t protocol, size_t payload_length) {
    fill_ethernet(frame, to->mac, ETHERTYPE_IPV4);
    struct ipv4_header* ip = (struct ipv4_header*)(frame + sizeof(struct ethernet_header));
    *ip = (struct ipv4_header){
        .version_and_length = IPV4_NO_OPTIONS,
        .total_length = swap16((uint16_t)(sizeof *ip + payload_length)),
        .identification = swap16(stack.identification++),
        .fragment = swap16(IPV4_DO_NOT_FRAGMENT),
        .time_to_live = TIME_TO_LIVE,
        .protocol = protocol,
        .source = stack.ip,
        .destination = to->ip,
    };
    ip->checksum = checksum(ip, sizeof *ip);
    return (uint8_t*)(ip + 1);
}

static void send_ipv4(size_t payload_length) {
    stack.nic->send(stack.nic, sizeof(struct ethernet_header) + sizeof(struct ipv4_header) + payload_length,
                    0);
}

static void send_arp(uint16_t operation, const struct peer* target, const uint8_t ethernet_to[6]) {
    uint8_t* frame = stack.nic->transmit_buffer(stack.nic);
    if (frame == NULL) return; /* the asker asks again */
    fill_ethernet(frame, ethernet_to, ETHERTYPE_ARP);
    struct arp_packet* arp = (struct arp_packet*)(frame + sizeof(struct ethernet_header));
    *arp = (struct arp_packet){
        .hardware_type = swap16(ARP_ETHERNET),
        .protocol_type = swap16(ETHERTYPE_IPV4),
        .hardware_length = 6,
        .protocol_length = 4,
        .operation = swap16(operation),
        .sender_ip = stack.ip,
        .target_ip = target->ip,
    };
    memcpy(arp->sender_mac, stack.nic->mac, 6);
    memcpy(arp->target_mac, target->mac, 6);
    stack.nic->send(stack.nic, sizeof(struct ethernet_header) + sizeof *arp, 0);
}

static void receive_arp(const uint8_t* payload, size_t length) {
    const struct arp_packet* arp = (const struct arp_packet*)payload;
    if (length < sizeof *arp || arp->hardware_type != swap16(ARP_ETHERNET) ||
        arp->protocol_type != swap16(ETHERTYPE_IPV4))
        return;
    struct peer sender = {.ip = arp->sender_ip};
    memcpy(sender.mac, arp->sender_mac, 6);
    if (sender.ip == stack.resolving.ip) {
        stack.resolving = sender;
        stack.resolved = true;
    }
    if (arp->operation == swap16(ARP_REQUEST) && arp->target_ip == stack.ip)
        send_arp(ARP_REPLY, &sender, sender.mac);
}

static void receive_icmp(const struct peer* from, const uint8_t* payload, size_t length) {
    const struct icmp_echo* echo = (const struct icmp_echo*)payload;
    if (length < sizeof *echo || checksum(payload, length) != 0) return;
    if (echo->type == ICMP_ECHO_REPLY && echo->identifier == swap16(ECHO_IDENTIFIER) &&
        echo->sequence == swap16(stack.echo_expected))
        stack.echo_arrived = true;
    if (echo->type != ICMP_ECHO) return;
    uint8_t* frame = stack.nic->transmit_buffer(stack.nic);
    if (frame == NULL || length > stack.nic->mtu - sizeof(struct ipv4_header)) return;
    uint8_t* reply = fill_ipv4(frame, from, PROTOCOL_ICMP, length);
    memcpy(reply, payload, length);
    struct icmp_echo* header = (struct icmp_echo*)reply;
    header->type = ICMP_ECHO_REPLY;
    header->checksum = 0;
    header->checksum = checksum(reply, length);
    send_ipv4(length);
}

static void receive_udp(const struct peer* from, const uint8_t* payload, size_t length) {
    const struct udp_header* udp = (const struct udp_header*)payload;
    if (length < sizeof *udp || swap16(udp->length) < sizeof *udp || swap16(udp->length) > length) return;
    if (stack.receiver != NULL && udp->destination_port == swap16(stack.port))
        stack.receiver(from, payload + sizeof *udp, swap16(udp->length) - sizeof *udp);
}

/* There are no connections: whoever listens takes the data of every segment to its port. */
static void receive_segment(const struct peer* from, const uint8_t* payload, size_t length) {
    const struct tcp_header* tcp = (const struct tcp_header*)payload;
    if (length < sizeof *tcp || tcp->data_offset != TCP_NO_OPTIONS) return;
    if (stack.receiver != NULL && tcp->destination_port == swap16(stack.port))
        stack.receiver(from, payload + sizeof *tcp, length - sizeof *tcp);
}

static void receive_ipv4(const struct ethernet_header* ethernet, const uint8_t* payload, size_t length) {
    const struct ipv4_header* ip = (const struct ipv4_header*)payload;
    if (length < sizeof *ip || ip->version_and_length != IPV4_NO_OPTIONS || ip->destination != stack.ip)
        return;
    /* Ethernet pads short frames, so the datagram may be shorter than what arrived, but never longer. */
    size_t total = swap16(ip->total_length);
    if (total < sizeof *ip || total > length || (swap16(ip->fragment) & IPV4_FRAGMENT_MASK) != 0) return;
    if (checksum(ip, sizeof *ip) != 0) return;
    struct peer from = {.ip = ip->source};
    memcpy(from.mac, ethernet->from, 6);
    if (ip->protocol == PROTOCOL_ICMP) receive_icmp(&from, payload + sizeof *ip, total - sizeof *ip);
    if (ip->protocol == PROTOCOL_UDP) receive_udp(&from, payload + sizeof *ip, total - sizeof *ip);
    if (ip->protocol == PROTOCOL_TCP) receive_segment(&from, payload + sizeof *ip, total - sizeof *ip);
}

void stack_start(struct nic* nic, uint32_t ip) {
    stack.nic = nic;
    stack.ip = ip;
}

unsigned stack_poll(void) {
    unsigned count = 0;
    size_t length;
    uint8_t* frame;
    while ((frame = stack.nic->receive(stack.nic, &length)) != NULL) {
        count++;
        const struct ethernet_header* ethernet = (const struct ethernet_header*)frame;
        if (length >= sizeof *ethernet) {
            const uint8_t* payload = frame + sizeof *ethernet;
            if (ethernet->type == swap16(ETHERTYPE_ARP)) receive_arp(payload, length - sizeof *ethernet);
            if (ethernet->type == swap16(ETHERTYPE_IPV4))
                receive_ipv4(ethernet, payload, length - sizeof *ethernet);
        }
        stack.nic->release(stack.nic, frame);
    }
    stack.nic->flush(stack.nic);
    return count;
}

bool stack_wait(void) {
    return clock_wait(stack.nic->receivable(stack.nic), 0);
}

bool stack_resolve(struct peer* peer, unsigned seconds) {
    static const uint8_t everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    stack.resolving = (struct peer){.ip = peer->ip};
    stack.resolved = false;
    uint64_t end = clock_ticks + seconds * CLOCK_TICKS_PER_SECOND;
    while (!stack.resolved && clock_ticks < end) {
        send_arp(ARP_REQUEST, &stack.resolving, everyone);
        stack.nic->flush(stack.nic);
        for (uint64_t again = clock_ticks + 5; !stack.resolved && clock_ticks < again; stack_poll())
            stack_wait();
    }
    if (stack.resolved) *peer = stack.resolving;
    return stack.resolved;
}

bool stack_ping(const struct peer* peer, uint16_t sequence, unsigned seconds, uint64_t* ticks) {
    uint8_t* frame = stack.nic->transmit_buffer(stack.nic);
    if (frame == NULL) return false;
    size_t length = sizeof(struct icmp_echo) + ECHO_PAYLOAD;
    uint8_t* payload = fill_ipv4(frame, peer, PROTOCOL_ICMP, length);
    struct icmp_echo* echo = (struct icmp_echo*)payload;
    *echo = (struct icmp_echo){
        .type = ICMP_ECHO, .identifier = swap16(ECHO_IDENTIFIER), .sequence = swap16(sequence)};
    for (unsigned i = 0; i < ECHO_PAYLOAD; i++) payload[sizeof *echo + i] = (uint8_t)i;
    echo->checksum = checksum(payload, length);
    stack.echo_expected = sequence;
    stack.echo_arrived = false;
    uint64_t start = read_time();
    send_ipv4(length);
    stack.nic->flush(stack.nic);
    uint64_t end = clock_ticks + seconds * CLOCK_TICKS_PER_SECOND;
    while (!stack.echo_arrived && clock_ticks < end) {
        stack_wait();
        stack_poll();
    }
    *ticks = read_time() - start;
    return stack.echo_arrived;
}

void stack_listen(uint16_t port, udp_receiver* receiver) {
    stack.port = port;
    stack.receiver = receiver;
}

enum {
    UDP_PAYLOAD_AT = sizeof(struct ethernet_header) + sizeof(struct ipv4_header) + sizeof(struct udp_header)
};

uint8_t* stack_udp_buffer(void) {
    uint8_t* frame = stack.nic->transmit_buffer(stack.nic);
    return frame == NULL ? NULL : frame + UDP_PAYLOAD_AT;
}

size_t stack_udp_capacity(void) {
    return stack.nic->mtu - sizeof(struct ipv4_header) - sizeof(struct udp_header);
}

void stack_udp_send(const struct peer* peer, uint16_t port, size_t length) {
    uint8_t* frame = stack.nic->transmit_buffer(stack.nic); /* the one that stack_udp_buffer gave */
    struct udp_header* udp = (struct udp_header*)fill_ipv4(frame, peer, PROTOCOL_UDP, sizeof *udp + length);
    *udp = (struct udp_header){
        .source_port = swap16(port),
        .destination_port = swap16(port),
        .length = swap16((uint16_t)(sizeof *udp + length)),
        .checksum = 0, /* RFC 768: none; the stream has a checksum over everything */
    };
    send_ipv4(sizeof *udp + length);
}

uint8_t* stack_segment_buffer(void) {
    uint8_t* frame = stack.nic->transmit_buffer(stack.nic);
    return frame == NULL ? NULL : frame + TCP_HEADERS;
}

void stack_segment_send(const struct peer* peer, uint16_t port, uint32_t sequence, size_t length) {
    uint8_t* frame = stack.nic->transmit_buffer(stack.nic); /* the one that stack_segment_buffer gave */
    struct tcp_header* tcp = (struct tcp_header*)fill_ipv4(frame, peer, PROTOCOL_TCP, sizeof *tcp + length);
    *tcp = (struct tcp_header){
        .source_port = swap16(port),
        .destination_port = swap16(port),
        .sequence = swap32(sequence),
        .data_offset = TCP_NO_OPTIONS,
        .flags = TCP_ACKNOWLEDGE,
        .window = swap16(0xffff),
    };
    size_t segment = stack.nic->mtu - sizeof(struct ipv4_header) - sizeof *tcp;
    stack.nic->send(stack.nic, TCP_HEADERS + length, (uint16_t)segment);
}

void stack_flush(void) {
    stack.nic->flush(stack.nic);
}

uint32_t ip_from_text(const char* text) {
    uint8_t bytes[4];
    for (unsigned i = 0; i < 4; i++) {
        unsigned number = 0, digits = 0;
        for (; *text >= '0' && *text <= '9' && digits < 3; text++, digits++)
            number = number * 10 + (unsigned)(*text - '0');
        if (digits == 0 || number > 255 || *text != (i < 3 ? '.' : '\0')) return 0;
        bytes[i] = (uint8_t)number;
        text++;
    }
    uint32_t ip;
    memcpy(&ip, bytes, 4);
    return ip;
}
