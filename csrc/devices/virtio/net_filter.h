// Which frames a virtio NIC passes to its driver (virtio 1.2, sections 5.1.6.5.1 to 5.1.6.5.3), and on which
// of its queue pairs (5.1.6.5.6).
//
// Untrusted input: frames of any length and content; tables as the driver sets them.
#pragma once

#include <bitset>
#include <span>
#include <vector>

#include "base/state_visitor.h"
#include "network/ethernet.h"

namespace wirt::devices::virtio {

class ReceiveFilter {
  public:
    // Entries beyond this are not kept; their kind is then received unfiltered, as 5.1.6.5.2 allows.
    static constexpr std::size_t table_limit = 64;
    static constexpr unsigned vlan_count = 4096;

    // VIRTIO_NET_CTRL_RX commands, by their number.
    enum class Mode : u8 { promiscuous, all_multicast, all_unicast, no_multicast, no_unicast, no_broadcast };

    void reset();
    void set_mode(Mode mode, bool on) { modes_[static_cast<std::size_t>(mode)] = on; }
    // `unicast` and `multicast` are the 6-byte addresses one after the other.
    void set_table(std::span<const u8> unicast, std::span<const u8> multicast);
    void set_vlan(u16 id, bool pass) { vlans_[id] = pass; }
    // `filter_vlans`: VIRTIO_NET_F_CTRL_VLAN was negotiated.
    bool passes(std::span<const u8> frame, const network::MacAddress& own, bool filter_vlans) const;
    void visit_state(StateVisitor& v);

  private:
    bool listed(const std::vector<u8>& table, const u8* address) const;

    std::bitset<6> modes_{1};
    std::vector<u8> unicast_;
    std::vector<u8> multicast_;
    bool unicast_overflow_ = false;
    bool multicast_overflow_ = false;
    std::bitset<vlan_count> vlans_;
};

// Remembers on which queue pair a flow was last sent, so that its answers arrive there.
class FlowTable {
  public:
    void reset() { pairs_.fill(0); }
    void sent(std::span<const u8> frame, unsigned pair) { pairs_[bucket(frame)] = static_cast<u8>(pair); }
    unsigned pair_for(std::span<const u8> frame) const { return pairs_[bucket(frame)]; }
    void visit_state(StateVisitor& v) { v.field("flows", pairs_); }

  private:
    // The same for both directions of a flow.
    static u8 bucket(std::span<const u8> frame);

    std::array<u8, 256> pairs_{};
};

}  // namespace wirt::devices::virtio
