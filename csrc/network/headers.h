// Where the headers of a frame lie, and internet checksums over them: what switches' and NICs' offloads
// share.
//
// Implements: Ethernet with up to two VLAN tags (IEEE 802.1Q, 802.1ad), IPv4 (RFC 791), IPv6 with hop-by-hop,
// destination and fragment headers (RFC 8200), internet checksums (RFC 1071).
//
// Untrusted input: the whole frame. Every header is found by walking the frame inside its bounds.
#pragma once

#include <optional>
#include <span>

#include "base/types.h"

namespace wirt::network {

inline constexpr std::size_t address_length = 6;
inline constexpr std::size_t vlan_tag_length = 4;

inline constexpr u16 ethertype_ipv4 = 0x0800, ethertype_vlan = 0x8100, ethertype_ipv6 = 0x86dd,
                     ethertype_service_vlan = 0x88a8;
inline constexpr u8 protocol_tcp = 6, protocol_udp = 17;

inline u16 load_be16(const u8* from) {
    return static_cast<u16>(from[0] << 8 | from[1]);
}
inline u32 load_be32(const u8* from) {
    return u32{load_be16(from)} << 16 | load_be16(from + 2);
}
inline void store_be16(u8* to, u64 value) {
    to[0] = static_cast<u8>(value >> 8);
    to[1] = static_cast<u8>(value);
}
inline void store_be32(u8* to, u32 value) {
    store_be16(to, value >> 16);
    store_be16(to + 2, value & 0xffff);
}

// The ones' complement sum of 16-bit words, not yet folded (RFC 1071).
u64 sum_words(const u8* data, std::size_t length, u64 sum = 0);
u16 fold(u64 sum);
// The checksum field for these bytes, and the sum of others added.
u16 checksum(const u8* data, std::size_t length, u64 sum = 0);

struct Headers {
    std::size_t network;             // offset of the IP header
    std::size_t transport;           // offset of what follows the IP header and its options
    std::size_t next_header_offset;  // of the field that names `protocol`
    bool v6;
    bool fragment;  // of a larger datagram: there is no whole transport header
    bool extended;  // IPv6 with extension headers
    u8 protocol;
};

// Nothing when the frame carries no IP packet, or the packet's headers do not lie in the frame.
std::optional<Headers> parse_headers(std::span<const u8> frame);

// The offset at which the IP packet says that it ends; nothing when that is not behind its headers or not in
// the frame. What follows is padding.
std::optional<std::size_t> packet_end(std::span<const u8> frame, const Headers& headers);

// The pseudo header's part in the transport checksum, for a packet that ends where `packet` ends (RFC 9293,
// 3.1; RFC 8200, 8.1).
u64 pseudo_header_sum(std::span<const u8> packet, const Headers& headers);

// Stores length fields and, for IPv4, the header checksum, for a packet that ends where `packet` ends.
void store_ip_length(std::span<u8> packet, const Headers& headers);

}  // namespace wirt::network
