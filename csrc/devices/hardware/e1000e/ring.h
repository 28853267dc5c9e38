// A descriptor ring as the registers describe it at one moment (82574 datasheet, 7.1.7 and 7.2.4).
//
// Untrusted input: base, length, head and tail. A head or a tail that lies outside the ring stops it.
#pragma once

#include <optional>

#include "base/bits.h"
#include "devices/hardware/e1000e/register_file.h"
#include "memory/dma.h"

namespace wirt::devices::hardware::e1000e {

// Sixteen bytes, the unit in which heads and tails count.
struct Descriptor {
    u64 low = 0;
    u64 high = 0;

    static constexpr u64 bytes = 16;
};

class Ring {
  public:
    // `base_register` is RDBAL or TDBAL of a queue; the others of the ring lie at the same distances.
    Ring(RegisterFile& registers, u32 base_register)
        : head_register_(registers[base_register + (RDH - RDBAL)]),
          base_(registers[base_register] | u64{registers[base_register + (RDBAH - RDBAL)]} << 32),
          size_(registers[base_register + (RDLEN - RDBAL)] / Descriptor::bytes),
          head_(head_register_),
          tail_(registers[base_register + (RDT - RDBAL)]) {
        static_assert(RDBAH - RDBAL == TDBAH - TDBAL && RDLEN - RDBAL == TDLEN - TDBAL &&
                      RDH - RDBAL == TDH - TDBAL && RDT - RDBAL == TDT - TDBAL);
        if (head_ >= size_ || tail_ >= size_) head_ = tail_ = 0;
    }

    u32 size() const { return size_; }
    // Descriptors from head to tail: what the hardware owns.
    u32 available() const { return tail_ >= head_ ? tail_ - head_ : tail_ + size_ - head_; }
    u64 address(u32 ahead = 0) const { return base_ + ((head_ + ahead) % size_) * Descriptor::bytes; }
    // Both of its words are read once.
    std::optional<Descriptor> fetch(const memory::DmaView& dma, u32 ahead = 0) const {
        Descriptor descriptor;
        if (!dma.read(address(ahead), &descriptor, sizeof descriptor)) return std::nullopt;
        return descriptor;
    }
    void advance(u32 count) {
        head_ = (head_ + count) % size_;
        head_register_ = head_;
    }

  private:
    u32& head_register_;
    const u64 base_;
    const u32 size_;
    u32 head_;
    u32 tail_;
};

}  // namespace wirt::devices::hardware::e1000e
