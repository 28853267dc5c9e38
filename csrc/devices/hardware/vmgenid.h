// Virtual machine generation ID, `microsoft,vmgenid`: 128 random bits that change when the machine goes on
// from a copy of its state, so that a guest does not draw the same random numbers as the copy's other heirs.
//
// Implements: Microsoft, "Virtual Machine Generation ID" (2012), with the memory and the interrupt of Linux's
// binding rng/microsoft,vmgenid.yaml, in the form that drivers/virt/vmgenid.c drives. The line rises with
// every new ID and stays up until the guest reads the ID: a controller whose gateway is busy with the one
// before, as in a copy that was taken in the middle of the driver's handler, then asks again and loses
// nothing.
//
// Untrusted input: which of its bytes a guest reads, and when. It can write nothing.
#pragma once

#include <array>
#include <string>

#include "base/interrupt.h"
#include "memory/mmio.h"

namespace wirt::devices::hardware {

class VmGenId final : public memory::MmioDevice {
  public:
    static constexpr u64 region_size = 0x1000;
    using Guid = std::array<u8, 16>;

    VmGenId(std::string name, InterruptLine line, const Guid& generation);

    // From here on the guest reads `generation`, and is told by an edge. Any thread, without mutex().
    void set_generation(const Guid& generation);

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override;
    u64 read(u64 offset, unsigned size) override;
    void write(u64, unsigned, u64) override {}
    // The ID outlives a restart of the guest: nothing was copied.
    void reset() override {}
    void visit_state(StateVisitor& v) override;

  private:
    const std::string name_;
    const InterruptLine line_;

    Guid generation_;
    bool unread_ = false;  // the line
};

}  // namespace wirt::devices::hardware
