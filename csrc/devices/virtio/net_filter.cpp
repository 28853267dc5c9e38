#include "devices/virtio/net_filter.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "network/headers.h"

namespace wirt::devices::virtio {

namespace {

using network::address_length;
using network::load_be16;

constexpr std::size_t ethernet_header = network::ethernet_header_length;

}  // namespace

void ReceiveFilter::reset() {
    *this = {};
}

void ReceiveFilter::set_table(std::span<const u8> unicast, std::span<const u8> multicast) {
    auto keep = [](std::span<const u8> from, std::vector<u8>& table, bool& overflow) {
        overflow = from.size() > table_limit * address_length;
        table.assign(from.begin(), overflow ? from.begin() : from.end());
    };
    keep(unicast, unicast_, unicast_overflow_);
    keep(multicast, multicast_, multicast_overflow_);
}

bool ReceiveFilter::listed(const std::vector<u8>& table, const u8* address) const {
    for (std::size_t at = 0; at + address_length <= table.size(); at += address_length) {
        if (std::memcmp(&table[at], address, address_length) == 0) return true;
    }
    return false;
}

bool ReceiveFilter::passes(std::span<const u8> frame, const network::MacAddress& own,
                           bool filter_vlans) const {
    auto mode = [this](Mode which) { return modes_[static_cast<std::size_t>(which)]; };
    if (frame.size() < ethernet_header) return false;
    if (mode(Mode::promiscuous)) return true;
    if (filter_vlans && load_be16(&frame[12]) == network::ethertype_vlan && frame.size() >= 16 &&
        !vlans_[load_be16(&frame[14]) % vlan_count]) {
        return false;
    }
    static constexpr u8 broadcast[address_length] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const u8* to = frame.data();
    if (std::memcmp(to, broadcast, address_length) == 0) return !mode(Mode::no_broadcast);
    if (to[0] & 1) {
        return !mode(Mode::no_multicast) &&
               (mode(Mode::all_multicast) || multicast_overflow_ || listed(multicast_, to));
    }
    return !mode(Mode::no_unicast) &&
           (mode(Mode::all_unicast) || unicast_overflow_ ||
            std::memcmp(to, own.data(), address_length) == 0 || listed(unicast_, to));
}

void ReceiveFilter::visit_state(StateVisitor& v) {
    u8 modes = static_cast<u8>(modes_.to_ulong());
    v.field("modes", modes);
    v.blob("unicast_table", unicast_, table_limit * address_length);
    v.blob("multicast_table", multicast_, table_limit * address_length);
    v.field("unicast_overflow", unicast_overflow_);
    v.field("multicast_overflow", multicast_overflow_);
    std::array<u8, vlan_count / 8> vlans{};
    for (unsigned id = 0; id < vlan_count; ++id) vlans[id / 8] |= static_cast<u8>(vlans_[id] << (id % 8));
    v.field("vlans", vlans);
    if (!v.loading()) return;
    modes_ = modes;
    for (unsigned id = 0; id < vlan_count; ++id) vlans_[id] = vlans[id / 8] >> (id % 8) & 1;
}

u8 FlowTable::bucket(std::span<const u8> frame) {
    const auto headers = network::parse_headers(frame);
    if (!headers) return 0;
    const std::size_t address_bytes = headers->v6 ? 16 : 4;
    const std::size_t addresses = headers->network + (headers->v6 ? 8 : 12);
    // Source and destination are added, so that the order of the two does not matter.
    u32 hash = 0;
    for (std::size_t i = 0; i < address_bytes; ++i) {
        hash = hash * 31 + frame[addresses + i] + frame[addresses + address_bytes + i];
    }
    const bool has_ports = !headers->fragment && (headers->protocol == network::protocol_tcp ||
                                                  headers->protocol == network::protocol_udp);
    const std::size_t ports = headers->transport;
    if (has_ports && frame.size() >= ports + 4) {
        hash = hash * 31 + load_be16(&frame[ports]) + load_be16(&frame[ports + 2]);
    }
    hash ^= hash >> 16;
    return static_cast<u8>(hash ^ hash >> 8);
}

}  // namespace wirt::devices::virtio
