// The 82574's receiver: frames in, descriptors and buffers out.
//
// Implements: Intel 82574 GbE Controller Family Datasheet, 7.1 (legacy, extended and packet-split
// descriptors, buffers, checksum status, receive-side scaling), 7.5 (VLAN tag stripping), 10.2.5 and the
// receive statistics of 10.2.7. A frame is given the minimum length and, where RCTL.SECRC asks for it, the
// check sequence that it would have had on a wire.
//
// Untrusted input: every descriptor, read once; frames from the network. A frame that finds too few
// descriptors waits, one that can never fit is dropped. Data that memory did not take is reported in the
// descriptor (RXE).
#pragma once

#include <array>
#include <optional>
#include <span>

#include "base/counters.h"
#include "devices/hardware/e1000e/filters.h"
#include "devices/hardware/e1000e/interrupts.h"
#include "devices/hardware/e1000e/ring.h"
#include "network/ethernet.h"

namespace wirt::devices::hardware::e1000e {

// All with the device's mutex held.
class Receiver {
  public:
    Receiver(RegisterFile& registers, Interrupts& interrupts, DeviceCounters& counters)
        : registers_(registers), interrupts_(interrupts), counters_(counters) {}

    // As the registers stand.
    network::OffloadCapabilities capabilities() const;
    bool enabled() const { return (registers_[RCTL] & rctl_en) != 0; }
    // False when the frame has to wait for descriptors. `first_try` is false for one that did before.
    bool deliver(const network::Frame& frame, const memory::DmaView& dma, bool first_try);
    // Announces what was delivered since the last call.
    void notify();

  private:
    // What goes to memory, piece by piece: the frame without its tag, padding, check sequence.
    class Content {
      public:
        void append(std::span<const u8> piece) {
            if (!piece.empty()) pieces_[count_++] = piece;
            length_ += piece.size();
        }
        std::size_t length() const { return length_; }
        // Moves `length` bytes on into memory; false when it is not all RAM.
        bool write(const memory::DmaView& dma, u64 address, std::size_t length);

      private:
        std::array<std::span<const u8>, 4> pieces_;
        unsigned count_ = 0;
        unsigned next_ = 0;
        std::size_t length_ = 0;
    };
    // What the last descriptor of a frame says of it.
    struct WriteBack {
        u32 status = 0;
        u16 tag = 0;
        u8 hash_type = 0;
        u32 hash = 0;  // or the packet checksum and the IP identification
    };

    u32 checksum_status(const network::Frame& frame, const std::optional<network::Headers>& headers) const;
    bool place(Ring& ring, const memory::DmaView& dma, Content& content, WriteBack result, std::size_t split);
    bool place_split(const Ring& ring, const memory::DmaView& dma, Content& content, const WriteBack& result,
                     std::size_t split);
    void count_received(const FilterResult& match, u32 length);
    bool extended() const { return (registers_[RFCTL] & rfctl_exsten) != 0; }
    bool packet_split() const { return extended() && (registers_[RCTL] & rctl_dtyp) == rctl_dtyp_split; }
    std::size_t buffer_length() const;
    // Of the header buffer (0) and of the three page buffers (PSRCTL).
    std::size_t split_length(unsigned buffer) const;

    RegisterFile& registers_;
    Interrupts& interrupts_;
    DeviceCounters& counters_;
    u32 delivered_ = 0;  // one bit a queue
    u32 causes_ = 0;
};

}  // namespace wirt::devices::hardware::e1000e
