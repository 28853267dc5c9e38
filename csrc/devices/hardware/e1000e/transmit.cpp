#include "devices/hardware/e1000e/transmit.h"

#include <algorithm>

#include "devices/hardware/e1000e/statistics.h"
#include "network/headers.h"

namespace wirt::devices::hardware::e1000e {

namespace {

using network::Frame;
using network::FramePtr;

// What one run looks at before others of the executor have their turn.
constexpr unsigned descriptors_a_run = 256;
constexpr std::size_t bytes_a_run = 256 * KiB;

constexpr u32 address_of(unsigned queue) {
    return TDBAL + queue * ring_bytes;
}

constexpr u8 tcp_cwr = 0x80;
constexpr std::size_t tcp_checksum = 16, tcp_flags = 13, tcp_header = 20;

// Ones' complement sum over [start, end), complemented, into `at`; where that is not inside, nothing happens.
void store_checksum(std::vector<u8>& bytes, std::size_t start, std::size_t end, std::size_t at) {
    if (start >= end || end > bytes.size() || at + 2 > bytes.size()) return;
    network::store_be16(&bytes[at], network::checksum(&bytes[start], end - start));
}

}  // namespace

void Transmitter::reset() {
    queues_ = {};
}

bool Transmitter::run(unsigned index, const memory::DmaView& dma, std::vector<FramePtr>& frames) {
    if (!enabled() || (registers_[TARC + index * ring_bytes] & tarc_enable) == 0) return false;
    Queue& queue = queues_[index];
    Ring ring(registers_, address_of(index));
    const u32 before = ring.available();
    bool written_back = false;
    bool may_delay = true;
    std::size_t bytes = 0;
    unsigned budget = descriptors_a_run;
    for (; ring.available() != 0 && budget != 0 && bytes < bytes_a_run; --budget) {
        const auto descriptor = ring.fetch(dma);
        // Nothing can be said of what memory does not give: the ring stands still until the next TDT.
        if (!descriptor) break;
        const u32 command = static_cast<u32>(descriptor->high);
        const bool legacy = (command & txd_dext) == 0;
        if (!legacy && (command & txd_dtyp) == txd_dtyp_context) {
            load_context(queue.context, *descriptor);
        } else {
            gather(queue.packet, *descriptor, legacy, dma);
            if ((command & txd_eop) != 0) {
                bytes += queue.packet.bytes.size();
                if (FramePtr frame = finish(queue)) frames.push_back(std::move(frame));
            }
        }
        if ((command & txd_rs) != 0) {
            const u32 status = static_cast<u32>(descriptor->high >> 32) | txd_dd;
            // Where it was read it can be written, short of an IOMMU that says otherwise and has reported it.
            if (dma.store<u32>(ring.address() + 12, status)) written_back = true;
            may_delay = may_delay && (command & txd_ide) != 0;
        }
        ring.advance(1);
    }
    DeviceCounters::add(counters_.bytes_moved, bytes);
    DeviceCounters::add(counters_.bytes_copied, bytes);

    const u32 after = ring.available();
    u32 causes = 0;
    if (before != 0 && after == 0) {
        causes |= icr_txqe;
        registers_.count(ICTXQEC);
    }
    // 10.2.6: TXDCTL.LWTHRESH, in units of eight descriptors.
    const u32 low = (registers_[TXDCTL + index * ring_bytes] >> 25) * 8;
    if (before > low && after <= low && low != 0) {
        causes |= icr_txd_low;
        registers_.count(ICTXQMTC);
    }
    if (causes != 0) interrupts_.raise(causes);
    if (written_back) interrupts_.transmitted(index, may_delay);
    return after != 0 && (budget == 0 || bytes >= bytes_a_run);
}

void Transmitter::load_context(Context& context, const Descriptor& descriptor) {
    const u64 low = descriptor.low, high = descriptor.high;
    context.ipcss = static_cast<u8>(low);
    context.ipcso = static_cast<u8>(low >> 8);
    context.ipcse = static_cast<u16>(low >> 16);
    context.tucss = static_cast<u8>(low >> 32);
    context.tucso = static_cast<u8>(low >> 40);
    context.tucse = static_cast<u16>(low >> 48);
    context.tucmd = static_cast<u32>(high);
    context.hdrlen = static_cast<u8>(high >> 40);
    context.mss = static_cast<u16>(high >> 48);
    if ((context.tucmd & txd_tse) != 0) registers_.count(TSCTC);
}

void Transmitter::gather(Packet& packet, const Descriptor& descriptor, bool legacy,
                         const memory::DmaView& dma) {
    const u32 command = static_cast<u32>(descriptor.high);
    const u32 options = static_cast<u32>(descriptor.high >> 32);
    if (!packet.open) {
        packet.open = true;
        packet.failed = false;
        packet.legacy = legacy;
        packet.command = command;
        packet.checksum_offset = legacy ? static_cast<u8>(command >> 16) : u8{0};
        packet.options = options;
        packet.bytes.clear();
    }
    // 7.2.3: the tag is that of the last descriptor, the other options are those of the first.
    packet.options = (packet.options & 0xffff) | (options & 0xffff'0000);
    packet.command |= command & (txd_eop | txd_vle | txd_ifcs);

    const std::size_t length = command & (legacy ? 0xffff : 0xf'ffff);
    const bool large = !legacy && (packet.command & txd_tse) != 0;
    const std::size_t limit = large ? network::frame_limit : longest_frame + fcs_length;
    if (packet.failed || length == 0) return;
    const std::size_t at = packet.bytes.size();
    // A driver that says more than there may be is not given the memory to say it in.
    if (length > limit - std::min(at, limit)) {
        packet.failed = true;
        return;
    }
    packet.bytes.resize(at + length);
    packet.failed = !dma.read(descriptor.low, packet.bytes.data() + at, length);
}

FramePtr Transmitter::finish(Queue& queue) {
    Packet& packet = queue.packet;
    packet.open = false;
    auto frame = std::make_shared<Frame>();
    frame->bytes = std::move(packet.bytes);
    packet.bytes = {};
    std::vector<u8>& bytes = frame->bytes;
    // 7.2.3: without IFCS the packet ends with a check sequence of its own.
    if ((packet.command & txd_ifcs) == 0)
        bytes.resize(bytes.size() - std::min<std::size_t>(bytes.size(), fcs_length));
    if (packet.failed || bytes.size() < network::ethernet_header_length) return nullptr;

    const bool segmented = !packet.legacy && (packet.command & txd_tse) != 0;
    if (segmented) {
        if (!segment(queue.context, *frame)) {
            registers_.count(TSCTFC);
            return nullptr;
        }
    } else {
        // 10.2.6: TCTL.PSP.
        if ((registers_[TCTL] & tctl_psp) != 0 && bytes.size() < shortest_frame) bytes.resize(shortest_frame);
        insert_checksums(packet, queue.context, *frame);
    }
    if ((packet.command & txd_vle) != 0 && (registers_[CTRL] & ctrl_vme) != 0) {
        insert_tag(static_cast<u16>(packet.options >> 16), *frame);
    }
    // What is left of a context that made no sense.
    if (!network::offload_valid(*frame)) return nullptr;
    count_sent(*frame);
    DeviceCounters::add(counters_.operations);
    return frame;
}

// 7.3: one large TCP packet, whose headers say of the whole what they are to say of each segment.
bool Transmitter::segment(const Context& context, Frame& frame) const {
    std::vector<u8>& bytes = frame.bytes;
    const auto headers = network::parse_headers(bytes);
    if (!headers || headers->fragment || headers->protocol != network::protocol_tcp) return false;
    if ((context.tucmd & txd_tucmd_tcp) == 0 || headers->v6 == ((context.tucmd & txd_tucmd_ip) != 0))
        return false;
    const std::size_t tcp = headers->transport;
    // The headers are replicated: they must be where the context says, and whole.
    if (context.tucss != tcp || context.ipcss != headers->network || bytes.size() < tcp + tcp_header)
        return false;
    const std::size_t header_length = tcp + std::size_t{bytes[tcp + 12]} / 16 * 4;
    if (context.hdrlen != header_length || context.tucso != tcp + tcp_checksum) return false;
    if (header_length < tcp + tcp_header || bytes.size() < header_length) return false;
    // 7.3: an MSS of zero makes no progress, and a segment is a frame.
    if (context.mss == 0 || header_length + context.mss > longest_frame) return false;
    if (bytes.size() - headers->network > 65535) return false;

    network::store_ip_length(bytes, *headers);
    network::store_be16(&bytes[tcp + tcp_checksum],
                        network::fold(network::pseudo_header_sum(bytes, *headers)));
    frame.offload.needs_checksum = true;
    frame.offload.csum_start = static_cast<u16>(tcp);
    frame.offload.csum_offset = tcp_checksum;
    if (bytes.size() - header_length <= context.mss) return true;
    frame.offload.gso_type = headers->v6 ? network::gso_tcpv6 : network::gso_tcpv4;
    if ((bytes[tcp + tcp_flags] & tcp_cwr) != 0) frame.offload.gso_type |= network::gso_ecn;
    frame.offload.gso_size = context.mss;
    frame.offload.header_length = static_cast<u16>(header_length);
    return true;
}

// 7.2.5: where a checksum runs to the end of the packet, it is left to whoever needs it.
void Transmitter::insert_checksums(const Packet& packet, const Context& context, Frame& frame) const {
    std::vector<u8>& bytes = frame.bytes;
    const auto to_the_end = [&](std::size_t start, std::size_t at) {
        if (start > at || at + 2 > bytes.size()) return;
        frame.offload.needs_checksum = true;
        frame.offload.csum_start = static_cast<u16>(start);
        frame.offload.csum_offset = static_cast<u16>(at - start);
    };
    if (packet.legacy) {
        if ((packet.command & txd_ic) != 0) to_the_end(packet.options >> 8 & 0xff, packet.checksum_offset);
        return;
    }
    // The end is that of the last byte that counts.
    if ((packet.options & txd_popts_ixsm) != 0) {
        store_checksum(bytes, context.ipcss, std::size_t{context.ipcse} + 1, context.ipcso);
    }
    if ((packet.options & txd_popts_txsm) == 0) return;
    if (context.tucse == 0 || std::size_t{context.tucse} + 1 >= bytes.size()) {
        to_the_end(context.tucss, context.tucso);
    } else {
        store_checksum(bytes, context.tucss, std::size_t{context.tucse} + 1, context.tucso);
    }
}

// 7.5
void Transmitter::insert_tag(u16 tag, Frame& frame) const {
    u8 field[network::vlan_tag_length];
    network::store_be16(field, registers_[VET]);
    network::store_be16(field + 2, tag);
    frame.bytes.insert(frame.bytes.begin() + 2 * network::address_length, std::begin(field), std::end(field));
    if (frame.offload.needs_checksum) {
        frame.offload.csum_start = static_cast<u16>(frame.offload.csum_start + sizeof field);
    }
    if (frame.offload.gso_type != network::gso_none) {
        frame.offload.header_length = static_cast<u16>(frame.offload.header_length + sizeof field);
    }
}

// What goes over the wire are segments.
void Transmitter::count_sent(const Frame& frame) {
    const u32 length = static_cast<u32>(frame.bytes.size());
    u32 frames = 1;
    u32 last = length;
    u64 octets = length;
    if (frame.offload.gso_type != network::gso_none) {
        const u32 header = frame.offload.header_length, size = frame.offload.gso_size;
        const u32 payload = length - header;
        frames = (payload + size - 1) / size;
        last = header + payload - (frames - 1) * size;
        octets = payload + u64{frames} * header;
        count_size(registers_, PTC64, header + size + fcs_length, frames - 1);
    }
    octets += u64{frames} * fcs_length;
    count_size(registers_, PTC64, last + fcs_length, 1);
    registers_.count(TPT, frames);
    registers_.count(GPTC, frames);
    registers_.count_octets(TOTL, octets);
    registers_.count_octets(GOTCL, octets);
    const u8* to = frame.bytes.data();
    if ((to[0] & 1) != 0) {
        const bool broadcast =
            std::all_of(to, to + network::address_length, [](u8 byte) { return byte == 0xff; });
        registers_.count(broadcast ? BPTC : MPTC, frames);
    }
}

void Transmitter::visit_state(StateVisitor& v) {
    for (Queue& queue : queues_) {
        Context& context = queue.context;
        v.field("ipcss", context.ipcss);
        v.field("ipcso", context.ipcso);
        v.field("ipcse", context.ipcse);
        v.field("tucss", context.tucss);
        v.field("tucso", context.tucso);
        v.field("tucse", context.tucse);
        v.field("tucmd", context.tucmd);
        v.field("hdrlen", context.hdrlen);
        v.field("mss", context.mss);
        Packet& packet = queue.packet;
        v.field("open", packet.open);
        v.field("failed", packet.failed);
        v.field("legacy", packet.legacy);
        v.field("command", packet.command);
        v.field("options", packet.options);
        v.field("checksum_offset", packet.checksum_offset);
        v.blob("packet", packet.bytes, network::frame_limit);
    }
}

}  // namespace wirt::devices::hardware::e1000e
