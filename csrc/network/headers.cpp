#include "network/headers.h"

#include "base/bits.h"

namespace wirt::network {

namespace {

constexpr u8 next_hop_by_hop = 0;
constexpr u8 next_fragment = 44;
constexpr u8 next_destination_options = 60;

constexpr std::size_t header_length_v6 = 40;

std::size_t header_length_v4(const u8* ip) {
    return std::size_t{ip[0] & 0xfu} * 4;
}

bool parse_v4(std::span<const u8> frame, Headers& headers) {
    const std::size_t at = headers.network;
    if (frame.size() < at + 20 || frame[at] >> 4 != 4) return false;
    const std::size_t length = header_length_v4(&frame[at]);
    if (length < 20 || frame.size() < at + length) return false;
    headers.fragment = load_be16(&frame[at + 6]) & 0x3fff;
    headers.next_header_offset = at + 9;
    headers.transport = at + length;
    return true;
}

bool parse_v6(std::span<const u8> frame, Headers& headers) {
    const std::size_t at = headers.network;
    if (frame.size() < at + header_length_v6 || frame[at] >> 4 != 6) return false;
    headers.v6 = true;
    headers.next_header_offset = at + 6;
    headers.transport = at + header_length_v6;
    for (;;) {
        const u8 next = frame[headers.next_header_offset];
        const bool fragment = next == next_fragment;
        if (next != next_hop_by_hop && next != next_destination_options && !fragment) return true;
        if (frame.size() < headers.transport + 8) return false;
        // A fragment header has no length field (RFC 8200, 4.5).
        const std::size_t length = fragment ? 8 : (std::size_t{frame[headers.transport + 1]} + 1) * 8;
        headers.extended = true;
        headers.fragment |= fragment;
        headers.next_header_offset = headers.transport;
        headers.transport += length;
        if (frame.size() < headers.transport) return false;
    }
}

}  // namespace

// The sum of words in the host's order is that in the network's with its bytes swapped (RFC 1071, 2): four
// bytes a step.
u64 sum_words(const u8* data, std::size_t length, u64 sum) {
    u64 swapped = 0;
    for (; length >= 4; data += 4, length -= 4) swapped += load_le<u32>(data);
    const u16 folded = fold(swapped);
    sum += static_cast<u16>(folded << 8 | folded >> 8);
    for (; length >= 2; data += 2, length -= 2) sum += load_be16(data);
    return length ? sum + (u64{*data} << 8) : sum;
}

u16 fold(u64 sum) {
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<u16>(sum);
}

u16 checksum(const u8* data, std::size_t length, u64 sum) {
    return static_cast<u16>(~fold(sum_words(data, length, sum)));
}

std::optional<Headers> parse_headers(std::span<const u8> frame) {
    std::size_t at = 2 * address_length;
    u16 type = 0;
    for (int tags = 0;; ++tags) {
        if (frame.size() < at + 2) return std::nullopt;
        type = load_be16(&frame[at]);
        if ((type != ethertype_vlan && type != ethertype_service_vlan) || tags == 2) break;
        at += vlan_tag_length;
    }
    Headers headers{};
    headers.network = at + 2;
    const bool known = type == ethertype_ipv4   ? parse_v4(frame, headers)
                       : type == ethertype_ipv6 ? parse_v6(frame, headers)
                                                : false;
    if (!known) return std::nullopt;
    headers.protocol = frame[headers.next_header_offset];
    return headers;
}

std::optional<std::size_t> packet_end(std::span<const u8> frame, const Headers& headers) {
    const u8* ip = &frame[headers.network];
    const std::size_t end =
        headers.network + (headers.v6 ? header_length_v6 + load_be16(ip + 4) : load_be16(ip + 2));
    if (end < headers.transport || end > frame.size()) return std::nullopt;
    return end;
}

u64 pseudo_header_sum(std::span<const u8> packet, const Headers& headers) {
    const u8* ip = &packet[headers.network];
    const u64 sum = headers.v6 ? sum_words(ip + 8, 32) : sum_words(ip + 12, 8);
    return sum + headers.protocol + (packet.size() - headers.transport);
}

void store_ip_length(std::span<u8> packet, const Headers& headers) {
    u8* ip = &packet[headers.network];
    if (headers.v6) {
        store_be16(ip + 4, packet.size() - headers.network - header_length_v6);
        return;
    }
    store_be16(ip + 2, packet.size() - headers.network);
    store_be16(ip + 10, 0);
    store_be16(ip + 10, checksum(ip, header_length_v4(ip)));
}

}  // namespace wirt::network
