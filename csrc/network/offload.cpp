// What a NIC with checksum and segmentation offload does in hardware, for receivers that cannot do without:
// internet checksums (RFC 1071), TCP segmentation over IPv4 and IPv6 (RFC 9293), UDP fragmentation (RFC 791,
// RFC 8200).
//
// Untrusted input: the whole frame and its offload request, which a guest wrote. A frame that does not
// hold what the request claims is dropped.
#include <algorithm>

#include "network/ethernet.h"
#include "network/headers.h"

namespace wirt::network {

namespace {

// A driver may ask for segments of one byte; no real one goes below the smallest MSS in use (48 bytes), and
// cutting a frame into more pieces than that gives is refused.
constexpr std::size_t max_segments = 2048;

constexpr u8 next_fragment = 44;

constexpr u8 tcp_fin = 0x01;
constexpr u8 tcp_psh = 0x08;
constexpr u8 tcp_cwr = 0x80;

// The checksum field holds the sum of the pseudo header; the rest is added here (virtio 1.2, 5.1.6.2).
void complete_checksum(std::vector<u8>& bytes, const FrameOffload& offload, bool udp) {
    u8* field = &bytes[std::size_t{offload.csum_start} + offload.csum_offset];
    const u16 sum = checksum(&bytes[offload.csum_start], bytes.size() - offload.csum_start);
    // A UDP checksum of zero would say that there is none (RFC 768).
    store_be16(field, udp && sum == 0 ? 0xffff : sum);
}

using Frames = std::vector<FramePtr>;

void append(Frames& frames, std::vector<u8> bytes, FrameOffload offload) {
    frames.push_back(std::make_shared<const Frame>(Frame{std::move(bytes), offload}));
}

// Whether the checksum that was asked for is the one of the packet's own transport header.
bool completes_transport(const FrameOffload& offload, const std::optional<Headers>& headers) {
    if (!headers || headers->fragment || offload.csum_start != headers->transport) return false;
    return (headers->protocol == protocol_tcp && offload.csum_offset == 16) ||
           (headers->protocol == protocol_udp && offload.csum_offset == 6);
}

Frames segment_tcp(const Frame& frame, const Headers& headers, std::size_t largest) {
    const std::vector<u8>& bytes = frame.bytes;
    const std::size_t tcp = headers.transport;
    if (headers.protocol != protocol_tcp || bytes.size() < tcp + 20) return {};
    const std::size_t payload = tcp + std::size_t{bytes[tcp + 12]} / 16 * 4;
    if (payload < tcp + 20 || bytes.size() < payload) return {};
    // The request must mean the header that was found.
    if (frame.offload.csum_start != tcp || frame.offload.csum_offset != 16) return {};

    const std::size_t step = frame.offload.gso_size;
    const std::size_t total = bytes.size() - payload;
    const std::size_t count = std::max<std::size_t>(1, (total + step - 1) / step);
    if (count > max_segments || payload + std::min(step, total) > largest) return {};

    const u16 identification = load_be16(&bytes[headers.network + 4]);
    const u32 sequence = load_be32(&bytes[tcp + 4]);
    const u8 flags = bytes[tcp + 13];
    Frames frames;
    frames.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t from = i * step;
        const std::size_t length = std::min(step, total - from);
        std::vector<u8> segment;
        segment.reserve(payload + length);
        segment.assign(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(payload));
        const auto data = bytes.begin() + static_cast<std::ptrdiff_t>(payload + from);
        segment.insert(segment.end(), data, data + static_cast<std::ptrdiff_t>(length));

        if (!headers.v6) store_be16(&segment[headers.network + 4], identification + i);
        store_ip_length(segment, headers);
        store_be32(&segment[tcp + 4], static_cast<u32>(sequence + from));
        // FIN and PSH belong to the last byte, CWR to the first segment (RFC 3168, 6.1.2).
        u8 kept = flags;
        if (i + 1 < count) kept &= static_cast<u8>(~(tcp_fin | tcp_psh));
        if (i > 0) kept &= static_cast<u8>(~tcp_cwr);
        segment[tcp + 13] = kept;
        store_be16(&segment[tcp + 16], 0);
        store_be16(&segment[tcp + 16],
                   checksum(&segment[tcp], segment.size() - tcp, pseudo_header_sum(segment, headers)));
        append(frames, std::move(segment), {.data_valid = true});
    }
    return frames;
}

// The identification of IPv6 fragments: the same for the pieces of one datagram, and derived from the content
// so that a deterministic machine sends the same bytes each time (FNV-1a).
u32 fragment_identification(const std::vector<u8>& bytes, std::size_t from) {
    u32 hash = 0x811c9dc5;
    for (std::size_t i = from; i < bytes.size(); ++i) hash = (hash ^ bytes[i]) * 0x01000193;
    return hash;
}

Frames fragment_udp(const Frame& frame, const Headers& headers, std::size_t largest) {
    const std::size_t udp = headers.transport;
    if (headers.protocol != protocol_udp || frame.bytes.size() < udp + 8) return {};
    if (frame.offload.csum_start != udp || frame.offload.csum_offset != 6) return {};
    // Every fragment but the last is a multiple of 8 bytes (RFC 791, 3.2; RFC 8200, 4.5).
    const std::size_t step = frame.offload.gso_size & ~std::size_t{7};
    if (step == 0) return {};

    std::vector<u8> bytes = frame.bytes;
    const std::size_t total = bytes.size() - udp;
    store_be16(&bytes[udp + 4], total);
    store_be16(&bytes[udp + 6], 0);
    const u16 sum = checksum(&bytes[udp], total, pseudo_header_sum(bytes, headers));
    store_be16(&bytes[udp + 6], sum == 0 ? 0xffff : sum);

    const std::size_t extra = headers.v6 ? 8 : 0;
    const std::size_t count = (total + step - 1) / step;
    if (count > max_segments || udp + extra + std::min(step, total) > largest || total > 0xffff) return {};
    const u32 identification = headers.v6 ? fragment_identification(bytes, headers.network) : 0;
    Frames frames;
    frames.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t from = i * step;
        const std::size_t length = std::min(step, total - from);
        const bool more = i + 1 < count;
        std::vector<u8> fragment;
        fragment.reserve(udp + extra + length);
        fragment.assign(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(udp));
        if (headers.v6) {
            fragment[headers.next_header_offset] = next_fragment;
            fragment.resize(udp + extra);
            fragment[udp] = protocol_udp;
            store_be16(&fragment[udp + 2], from | (more ? 1 : 0));
            store_be32(&fragment[udp + 4], identification);
        } else {
            store_be16(&fragment[headers.network + 6], from / 8 | (more ? 0x2000 : 0));
        }
        const auto data = bytes.begin() + static_cast<std::ptrdiff_t>(udp + from);
        fragment.insert(fragment.end(), data, data + static_cast<std::ptrdiff_t>(length));
        store_ip_length(fragment, headers);
        append(frames, std::move(fragment), {});
    }
    return frames;
}

}  // namespace

bool offload_valid(const Frame& frame) {
    const FrameOffload& offload = frame.offload;
    if (frame.bytes.size() < ethernet_header_length || frame.bytes.size() > frame_limit) return false;
    if (offload.needs_checksum &&
        std::size_t{offload.csum_start} + offload.csum_offset + 2 > frame.bytes.size()) {
        return false;
    }
    switch (offload.gso_type & ~gso_ecn) {
        // ECN alone is no type.
        case gso_none:
            return offload.gso_type == gso_none;
        case gso_tcpv4:
        case gso_tcpv6:
        case gso_udp:
            return offload.gso_size != 0 && offload.needs_checksum;
        default:
            return false;
    }
}

std::vector<FramePtr> adapt(FramePtr frame, const OffloadCapabilities& receiver) {
    if (!offload_valid(*frame)) return {};
    const FrameOffload& offload = frame->offload;
    const bool fits = frame->bytes.size() <= receiver.largest_frame;
    const u8 type = offload.gso_type & ~gso_ecn;
    if (type == gso_none) {
        if (!fits) return {};
        if (!offload.needs_checksum || receiver.checksum) return {std::move(frame)};
        const auto headers = parse_headers(frame->bytes);
        auto finished = std::make_shared<Frame>(
            Frame{frame->bytes, {.data_valid = completes_transport(offload, headers)}});
        complete_checksum(finished->bytes, offload,
                          headers && !headers->fragment && headers->protocol == protocol_udp);
        return {std::move(finished)};
    }
    const bool takes_type = (type == gso_tcpv4 && receiver.tso4) || (type == gso_tcpv6 && receiver.tso6) ||
                            (type == gso_udp && receiver.ufo);
    const bool takes_ecn = !(offload.gso_type & gso_ecn) || receiver.ecn;
    if (fits && receiver.checksum && takes_type && takes_ecn) return {std::move(frame)};

    const auto headers = parse_headers(frame->bytes);
    // A fragment has no transport header of its own to cut along.
    if (!headers || headers->fragment || (type == gso_tcpv4 && headers->v6) ||
        (type == gso_tcpv6 && !headers->v6))
        return {};
    return type == gso_udp ? fragment_udp(*frame, *headers, receiver.largest_frame)
                           : segment_tcp(*frame, *headers, receiver.largest_frame);
}

}  // namespace wirt::network
