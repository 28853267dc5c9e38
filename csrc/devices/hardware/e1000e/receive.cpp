#include "devices/hardware/e1000e/receive.h"

#include <algorithm>
#include <utility>

#include "devices/hardware/e1000e/statistics.h"

namespace wirt::devices::hardware::e1000e {

namespace {

using network::Frame;
using network::Headers;
using network::load_be16;

constexpr std::size_t longest_standard_frame = 1514;  // without FCS and tag
// RCTL.LPE: up to 16384 bytes (10.2.5).
constexpr std::size_t longest_long_frame = 16384 - fcs_length;

constexpr u32 address_of(unsigned queue) {
    return RDBAL + queue * ring_bytes;
}

// The frame check sequence (IEEE 802.3, 3.2.9) over the pieces, one after the other.
constexpr std::array<u32, 256> crc_table = [] {
    std::array<u32, 256> table{};
    for (u32 i = 0; i < 256; ++i) {
        u32 value = i;
        for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xedb8'8320 : 0);
        table[i] = value;
    }
    return table;
}();

u32 crc(std::span<const u8> bytes, u32 before = 0) {
    u32 value = ~before;
    for (const u8 byte : bytes) value = value >> 8 ^ crc_table[(value ^ byte) & 0xff];
    return ~value;
}

constexpr std::array<u8, shortest_frame> padding{};

}  // namespace

network::OffloadCapabilities Receiver::capabilities() const {
    network::OffloadCapabilities capabilities;
    const bool longer = (registers_[RCTL] & rctl_lpe) != 0;
    capabilities.largest_frame =
        longer ? longest_long_frame : longest_standard_frame + network::vlan_tag_length;
    return capabilities;
}

std::size_t Receiver::buffer_length() const {
    const u32 control = registers_[RCTL];
    if (const u32 kilobytes = control >> rctl_flxbuf_shift & 0xf; kilobytes != 0) return kilobytes * KiB;
    const std::size_t length = 2048u >> (control >> rctl_bsize_shift & 3);
    // 10.2.5: with BSEX sixteen times as much, and 00b is reserved.
    return (control & rctl_bsex) == 0 ? length : std::min<std::size_t>(length * 16, 16 * KiB);
}

std::size_t Receiver::split_length(unsigned buffer) const {
    const u32 field = registers_[PSRCTL] >> (8 * buffer) & 0x7f;
    return buffer == 0 ? field * 128 : (field & 0x3f) * KiB;
}

bool Receiver::deliver(const Frame& frame, const memory::DmaView& dma, bool first_try) {
    const std::span<const u8> bytes = frame.bytes;
    const bool tagged = is_tagged(registers_, bytes);
    const u32 wire_length = std::max(static_cast<u32>(bytes.size()), shortest_frame) + fcs_length;
    const FilterResult match = filter(registers_, bytes);
    const std::size_t longest = (registers_[RCTL] & rctl_lpe) != 0
                                    ? longest_long_frame
                                    : longest_standard_frame + (tagged ? network::vlan_tag_length : 0);
    const bool too_long = bytes.size() > longest;
    if (first_try) {
        registers_.count(TPR);
        registers_.count_octets(TORL, wire_length);
        if (match.pass && too_long) registers_.count(ROC);
    }
    if (!match.pass || too_long) return true;

    const auto headers = network::parse_headers(bytes);
    const Steering steering = steer(registers_, bytes, headers);
    WriteBack result;
    result.status = rxd_dd | rxd_eop | checksum_status(frame, headers) | (match.inexact ? rxd_pif : 0);
    result.hash_type = steering.type;
    result.hash = steering.hash;
    if ((registers_[RXCSUM] & rxcsum_pcsd) == 0) {
        // 7.1.5: complemented, and as it would be in the packet.
        const std::size_t start = std::min<std::size_t>(registers_[RXCSUM] & 0xff, bytes.size());
        u8 field[4] = {};
        if (headers && !headers->v6) std::copy_n(&bytes[headers->network + 4], 2, field);
        network::store_be16(field + 2, network::checksum(&bytes[0] + start, bytes.size() - start));
        result.hash = load_le<u32>(field);
    }

    Content content;
    const bool strip = tagged && (registers_[CTRL] & ctrl_vme) != 0;
    constexpr std::size_t type_offset = 2 * network::address_length;
    if (strip) {
        result.status |= rxd_vp;
        result.tag = load_be16(&bytes[type_offset + 2]);
        content.append(bytes.first(type_offset));
        content.append(bytes.subspan(type_offset + network::vlan_tag_length));
    } else {
        content.append(bytes);
    }
    const auto pad = std::span(padding).first(wire_length - fcs_length - bytes.size());
    content.append(pad);
    u8 check[fcs_length];
    if ((registers_[RCTL] & rctl_secrc) == 0) {
        store_le<u32>(check, crc(pad, crc(bytes)));
        content.append(check);
    }

    std::size_t split = 0;
    if (headers && packet_split()) {
        split = headers->transport;
        if (headers->protocol == network::protocol_udp) split += 8;
        if (headers->protocol == network::protocol_tcp && bytes.size() > split + 12)
            split += bytes[split + 12] / 16 * 4;
        if (strip) split -= network::vlan_tag_length;
        split = std::min(split, content.length());
    }

    Ring ring(registers_, address_of(steering.queue));
    const u32 available = ring.available();
    const std::size_t length = content.length();
    if (!place(ring, dma, content, result, split)) {
        if (first_try) registers_.count(RNBC);
        return false;
    }
    count_received(match, wire_length);
    DeviceCounters::add(counters_.operations);
    DeviceCounters::add(counters_.bytes_moved, length);
    DeviceCounters::add(counters_.bytes_copied, length);
    delivered_ |= 1u << steering.queue;
    // 10.2.5: RCTL.RDMTS, a half, a quarter or an eighth of the ring.
    const u32 threshold = ring.size() >> ((registers_[RCTL] >> rctl_rdmts_shift & 3) + 1);
    if (available > threshold && ring.available() <= threshold) causes_ |= icr_rxdmt0;
    if (bytes.size() + fcs_length <= registers_[RSRPD]) causes_ |= icr_srpd;
    return true;
}

void Receiver::notify() {
    u32 causes = std::exchange(causes_, 0);
    if ((causes & icr_rxdmt0) != 0) registers_.count(ICRXDMTC);
    if (causes != 0) interrupts_.raise(causes);
    const u32 delivered = std::exchange(delivered_, 0);
    for (unsigned queue = 0; queue < queue_count; ++queue) {
        if ((delivered >> queue & 1) != 0) interrupts_.received(queue);
    }
}

// 7.1.10: which checksums were looked at, and which are wrong.
u32 Receiver::checksum_status(const Frame& frame, const std::optional<Headers>& headers) const {
    if (!headers) return rxd_ixsm;
    const u32 control = registers_[RXCSUM];
    const std::span<const u8> bytes = frame.bytes;
    u32 status = 0;
    if (!headers->v6 && (control & rxcsum_ipofld) != 0) {
        status |= rxd_ipcs;
        const std::size_t length = headers->transport - headers->network;
        if (network::checksum(&bytes[headers->network], length) != 0) status |= rxd_ipe;
    }
    const bool tcp = headers->protocol == network::protocol_tcp;
    const bool udp = headers->protocol == network::protocol_udp;
    const auto end = network::packet_end(bytes, *headers);
    const std::size_t transport = headers->transport;
    const std::size_t shortest = tcp ? 20 : 8;
    if ((control & rxcsum_tuofld) != 0 && (tcp || udp) && !headers->fragment && end &&
        *end - transport >= shortest) {
        // A UDP checksum of zero is none (RFC 768).
        if (!udp || load_be16(&bytes[transport + 6]) != 0) {
            status |= rxd_tcpcs | (udp ? rxd_udpcs : 0);
            const auto packet = bytes.first(*end);
            const bool good = frame.offload.data_valid ||
                              network::checksum(&bytes[transport], *end - transport,
                                                network::pseudo_header_sum(packet, *headers)) == 0;
            if (!good) status |= rxd_tcpe;
        }
    }
    return status == 0 ? rxd_ixsm : status;
}

// Writes the frame to as many buffers as it needs. False, with nothing done, when there are too few.
bool Receiver::place(Ring& ring, const memory::DmaView& dma, Content& content, WriteBack result,
                     std::size_t split) {
    const bool pages = packet_split();
    const u32 units = pages ? 2 : 1;
    const std::size_t room = buffer_length();
    const std::size_t needed = pages ? units : (content.length() + room - 1) / room;
    // 7.1.7: the ring is never full. What needs more than there can be is lost.
    if (needed >= ring.size()) return true;
    if (needed > ring.available()) return false;

    if (pages) {
        if (!place_split(ring, dma, content, result, split)) return false;
        ring.advance(units);
        return true;
    }
    std::size_t left = content.length();
    u32 used = 0;
    for (; left != 0; ++used) {
        const auto descriptor = ring.fetch(dma, used);
        if (!descriptor) break;
        const std::size_t length = std::min(left, room);
        left -= length;
        WriteBack mine = left == 0 ? result : WriteBack{.status = rxd_dd};
        if (!content.write(dma, descriptor->low, length)) mine.status |= rxd_rxe;
        const u64 at = ring.address(used);
        // DD is in the second half, which is stored last.
        if (extended()) {
            (void)dma.store<u64>(at, mine.hash_type | u64{mine.hash} << 32);
            (void)dma.store<u64>(at + 8, mine.status | u64{length} << 32 | u64{mine.tag} << 48);
        } else {
            const u64 checksum = mine.hash >> 16;
            (void)dma.store<u64>(at + 8, length | checksum << 16 | u64{mine.status & 0xff} << 32 |
                                             u64{mine.status >> 24} << 40 | u64{mine.tag} << 48);
        }
    }
    ring.advance(used);
    return used != 0;
}

// 7.1.6: four addresses; what is written back takes their place. Without a header that fits the first buffer
// the frame fills the buffers one after the other.
bool Receiver::place_split(const Ring& ring, const memory::DmaView& dma, Content& content,
                           const WriteBack& result, std::size_t split) {
    const auto first = ring.fetch(dma);
    const auto second = ring.fetch(dma, 1);
    if (!first || !second) return false;
    const u64 addresses[4] = {first->low, first->high, second->low, second->high};
    const bool header_fits = split != 0 && split <= split_length(0);
    std::size_t lengths[4] = {};
    std::size_t left = content.length();
    u32 status = result.status;
    for (unsigned buffer = 0; buffer < 4; ++buffer) {
        const std::size_t room = buffer == 0 && header_fits ? split : split_length(buffer);
        lengths[buffer] = std::min(left, room);
        left -= lengths[buffer];
        if (!content.write(dma, addresses[buffer], lengths[buffer])) status |= rxd_rxe;
    }
    // Larger than all four buffers together: the rest is lost.
    if (left != 0) status |= rxd_rxe;
    const u64 header = header_fits ? split | rxd_sph : 0;
    (void)dma.store<u64>(ring.address(1),
                         header | u64{lengths[1]} << 16 | u64{lengths[2]} << 32 | u64{lengths[3]} << 48);
    (void)dma.store<u64>(ring.address(1) + 8, 0);
    (void)dma.store<u64>(ring.address(), result.hash_type | u64{result.hash} << 32);
    (void)dma.store<u64>(ring.address() + 8, status | u64{lengths[0]} << 32 | u64{result.tag} << 48);
    return true;
}

bool Receiver::Content::write(const memory::DmaView& dma, u64 address, std::size_t length) {
    bool written = true;
    while (length != 0) {
        std::span<const u8>& piece = pieces_[next_];
        const std::size_t part = std::min(length, piece.size());
        written = written && dma.write(address, piece.data(), part);
        address += part;
        length -= part;
        piece = piece.subspan(part);
        if (piece.empty()) ++next_;
    }
    return written;
}

void Receiver::count_received(const FilterResult& match, u32 length) {
    count_size(registers_, PRC64, length, 1);
    registers_.count(GPRC);
    registers_.count_octets(GORCL, length);
    if (match.broadcast) registers_.count(BPRC);
    if (match.multicast) registers_.count(MPRC);
}

}  // namespace wirt::devices::hardware::e1000e
