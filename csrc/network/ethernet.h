// What stands behind a NIC: ports that exchange Ethernet frames, and the in-process switch that joins them.
#pragma once

#include <sys/uio.h>

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/types.h"

namespace wirt::network {

using MacAddress = std::array<u8, 6>;

// What a frame carries beside its bytes, so that a large TCP segment need not be cut up nor its checksum
// computed between two guests (virtio 1.2, 5.1.6; the fields of struct virtio_net_hdr).
struct FrameOffload {
    bool needs_checksum = false;  // checksum still to be stored at csum_start + csum_offset
    bool data_valid = false;      // checksum known to be good
    u8 gso_type = 0;              // VIRTIO_NET_HDR_GSO_*
    u16 header_length = 0;
    u16 gso_size = 0;
    u16 csum_start = 0;
    u16 csum_offset = 0;
};

// A frame in flight, without FCS. Shared between all receivers of a broadcast.
struct Frame {
    std::vector<u8> bytes;
    FrameOffload offload;
};
using FramePtr = std::shared_ptr<const Frame>;

// Values of gso_type (virtio 1.2, 5.1.6).
inline constexpr u8 gso_none = 0;
inline constexpr u8 gso_tcpv4 = 1;
inline constexpr u8 gso_udp = 3;
inline constexpr u8 gso_tcpv6 = 4;
inline constexpr u8 gso_ecn = 0x80;  // set beside one of the others

// The largest frame there is: 64 KiB of IP packet behind an Ethernet header with one VLAN tag.
inline constexpr std::size_t frame_limit = 65535 + 18;
inline constexpr std::size_t ethernet_header_length = 14;

// What a receiver can take as it is; for one that cannot, the sender's side segments and checksums first.
struct OffloadCapabilities {
    bool checksum = false;
    bool tso4 = false;
    bool tso6 = false;
    bool ufo = false;
    bool ecn = false;  // segments that carry TCP congestion notification
    std::size_t largest_frame = 1518;
};

// From the view of who holds the port: sent into the network, received from it, dropped in either direction.
struct PortStats {
    u64 sent_frames = 0, sent_bytes = 0, received_frames = 0, received_bytes = 0, dropped_frames = 0;
};

// One end of a cable. The NIC holds one, the switch (or a Python end point) the other side of it.
class Port {
  public:
    virtual ~Port() = default;

    // NIC -> network. Thread-safe, never blocks for long; may drop.
    virtual void send(FramePtr frame) = 0;
    // Network -> NIC: called on any thread for each frame. The receiver queues or drops; it must not block,
    // and it may not call back into the port. Null detaches; no call is under way once this has returned.
    virtual void attach(std::function<void(FramePtr)> receiver, OffloadCapabilities capabilities) = 0;
    virtual void set_capabilities(OffloadCapabilities capabilities) = 0;
    virtual PortStats stats() const = 0;

    // Whether the cable is in. Without it nothing passes in either direction.
    virtual bool link() const = 0;
    virtual void set_link(bool up) = 0;
    // What the NIC is to hear of link(), under the rules of attach(): it looks later, elsewhere. Null
    // detaches.
    virtual void on_link_change(std::function<void()> listener) = 0;
};

// A learning switch in the process.
class Switch : public std::enable_shared_from_this<Switch> {
  public:
    static std::shared_ptr<Switch> create();
    virtual ~Switch() = default;
    // How many stations it knows.
    virtual std::size_t stations() const = 0;
    // A new port; dropping the last reference unplugs it.
    virtual std::shared_ptr<Port> add_port(std::string name) = 0;
};

// Whether the offload request lies inside the frame and makes sense (virtio 1.2, 5.1.6.2): checksum field in
// range, a segment size and a checksum with every GSO type. Who takes frames from a guest asks this first.
bool offload_valid(const Frame& frame);

// Makes `frame` fit for a receiver: completes the checksum, cuts a GSO frame into segments. The result is
// `frame` itself when nothing has to be done; empty when its headers are malformed (then it is dropped).
std::vector<FramePtr> adapt(FramePtr frame, const OffloadCapabilities& receiver);

}  // namespace wirt::network
