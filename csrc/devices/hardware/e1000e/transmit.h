// The 82574's transmitter: descriptors in, frames with their offload requests out.
//
// Implements: Intel 82574 GbE Controller Family Datasheet, 7.2 (legacy, context and data descriptors,
// checksum insertion), 7.3 (TCP segmentation), 7.5 (VLAN tag insertion), 10.2.6 and the transmit statistics
// of 10.2.7. A packet to be segmented leaves as one large frame: whoever cannot take it has it cut up.
// Segmentation of UDP is not implemented; such a packet is counted in TSCTFC and goes nowhere.
//
// Untrusted input: every descriptor, and the packet it points to. Each is read once. A run looks at a bounded
// number of descriptors and bytes; a packet holds at most network::frame_limit bytes however many descriptors
// it has. A packet that memory did not give, that is too long or whose headers are not where its context says
// is completed towards the driver and not sent.
#pragma once

#include <array>
#include <vector>

#include "base/counters.h"
#include "devices/hardware/e1000e/interrupts.h"
#include "devices/hardware/e1000e/ring.h"
#include "network/ethernet.h"

namespace wirt::devices::hardware::e1000e {

// All with the device's mutex held.
class Transmitter {
  public:
    Transmitter(RegisterFile& registers, Interrupts& interrupts, DeviceCounters& counters)
        : registers_(registers), interrupts_(interrupts), counters_(counters) {}

    // Forgets contexts and the packets that are half gathered.
    void reset();
    bool enabled() const { return (registers_[TCTL] & tctl_en) != 0; }
    // Takes packets off a queue's ring, in `frames`. True when it stopped at its bound.
    bool run(unsigned queue, const memory::DmaView& dma, std::vector<network::FramePtr>& frames);
    void visit_state(StateVisitor& v);

  private:
    // A context descriptor (7.2.3): where headers and their checksums are, and how to segment.
    struct Context {
        u8 ipcss = 0, ipcso = 0, tucss = 0, tucso = 0, hdrlen = 0;
        u16 ipcse = 0, tucse = 0, mss = 0;
        u32 tucmd = 0;
    };
    // The packet whose descriptors are being gathered. The first one says what is to be done with it.
    struct Packet {
        bool open = false;
        bool failed = false;
        bool legacy = false;
        u32 command = 0;         // the third word of its first descriptor
        u32 options = 0;         // the fourth: POPTS, or CSS; and VLAN
        u8 checksum_offset = 0;  // CSO of a legacy descriptor
        std::vector<u8> bytes;
    };
    struct Queue {
        Context context;
        Packet packet;
    };

    void load_context(Context& context, const Descriptor& descriptor);
    void gather(Packet& packet, const Descriptor& descriptor, bool legacy, const memory::DmaView& dma);
    network::FramePtr finish(Queue& queue);
    bool segment(const Context& context, network::Frame& frame) const;
    void insert_checksums(const Packet& packet, const Context& context, network::Frame& frame) const;
    void insert_tag(u16 tag, network::Frame& frame) const;
    void count_sent(const network::Frame& frame);

    RegisterFile& registers_;
    Interrupts& interrupts_;
    DeviceCounters& counters_;
    std::array<Queue, queue_count> queues_;
};

}  // namespace wirt::devices::hardware::e1000e
