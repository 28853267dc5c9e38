/*
 * What goes over the wire. All numbers are big-endian there ("network order"); the structs are laid over the
 * bytes of a frame, and their fields are read and written through the functions below.
 */
#ifndef GUEST_NETWORK_PACKET_H
#define GUEST_NETWORK_PACKET_H

#include <stdint.h>

static inline uint16_t swap16(uint16_t value) {
    return (uint16_t)(value << 8 | value >> 8);
}
static inline uint32_t swap32(uint32_t value) {
    return __builtin_bswap32(value);
}
static inline uint64_t swap64(uint64_t value) {
    return __builtin_bswap64(value);
}

/* IEEE 802.3, 3.2 */
struct ethernet_header {
    uint8_t to[6];
    uint8_t from[6];
    uint16_t type;
} __attribute__((packed));
enum { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_ARP = 0x0806 };

/* RFC 826, for IPv4 over Ethernet */
struct arp_packet {
    uint16_t hardware_type;
    uint16_t protocol_type;
    uint8_t hardware_length;
    uint8_t protocol_length;
    uint16_t operation;
    uint8_t sender_mac[6];
    uint32_t sender_ip;
    uint8_t target_mac[6];
    uint32_t target_ip;
} __attribute__((packed));
enum { ARP_REQUEST = 1, ARP_REPLY = 2, ARP_ETHERNET = 1 };

/* RFC 791, 3.1 */
struct ipv4_header {
    uint8_t version_and_length;
    uint8_t service;
    uint16_t total_length;
    uint16_t identification;
    uint16_t fragment;
    uint8_t time_to_live;
    uint8_t protocol;
    uint16_t checksum;
    uint32_t source;
    uint32_t destination;
} __attribute__((packed));
enum { IPV4_NO_OPTIONS = 0x45, IPV4_DO_NOT_FRAGMENT = 0x4000, IPV4_FRAGMENT_MASK = 0x3fff };
enum { PROTOCOL_ICMP = 1, PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };

/* RFC 792, echo and echo reply */
struct icmp_echo {
    uint8_t type;
    uint8_t code;
    uint16_t checksum;
    uint16_t identifier;
    uint16_t sequence;
} __attribute__((packed));
enum { ICMP_ECHO_REPLY = 0, ICMP_ECHO = 8 };

/* RFC 768 */
struct udp_header {
    uint16_t source_port;
    uint16_t destination_port;
    uint16_t length;
    uint16_t checksum;
} __attribute__((packed));

/* RFC 9293, 3.1 */
struct tcp_header {
    uint16_t source_port;
    uint16_t destination_port;
    uint32_t sequence;
    uint32_t acknowledgment;
    uint8_t data_offset; /* in its upper half: words of the header */
    uint8_t flags;
    uint16_t window;
    uint16_t checksum;
    uint16_t urgent;
} __attribute__((packed));
enum { TCP_NO_OPTIONS = 5 << 4, TCP_ACKNOWLEDGE = 1 << 4 };

/*
 * RFC 9293, 3.1: the sum over the pseudo header, from which a card goes on when it computes the checksum of a
 * segment. `length` is that of the TCP header and its data; cards that add the length themselves take 0.
 */
static inline uint16_t tcp_pseudo_checksum(const struct ipv4_header* ip, uint16_t length) {
    uint64_t sum = (uint64_t)ip->source + ip->destination + swap16(ip->protocol) + swap16(length);
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

#endif
