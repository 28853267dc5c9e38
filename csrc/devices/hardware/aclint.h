// Machine timer and machine software interrupts in the layout of SiFive's CLINT.
//
// Implements: RISC-V ACLINT specification 1.0-rc4, chapters 2 (MTIMER) and 3 (MSWI), at the offsets of
// section 1.1 "Backward Compatibility With SiFive CLINT": MSIP at 0x0, MTIMECMP at 0x4000, MTIME at 0xbff8.
// The timer interrupt itself is the hart's: it compares Clock::ticks() with mtimecmp().
//
// Untrusted input: every register write, its offset and its size.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/interrupt.h"
#include "memory/mmio.h"

namespace wirt::devices::hardware {

class Aclint final : public memory::MmioDevice {
  public:
    static constexpr u64 region_size = 0x10000;

    // One software-interrupt line (MSIP) a hart.
    Aclint(std::string name, Clock& clock, std::vector<InterruptLine> software_lines);

    // Any thread, no lock needed.
    u64 mtimecmp(unsigned hart) const { return timecmp_[hart].load(std::memory_order_acquire); }
    // Called after a write of mtimecmp (or, for every hart, of mtime), with mutex() held: the listener may
    // read mtimecmp() and the clock, wake the hart, but not access the device's registers.
    void on_change(std::function<void(unsigned hart)> listener) { listener_ = std::move(listener); }

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override { return registers_; }
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override;
    void visit_state(StateVisitor& v) override;

  private:
    unsigned harts() const { return static_cast<unsigned>(software_lines_.size()); }
    void set_msip(unsigned hart, bool value);
    void changed(unsigned hart) const;

    const std::string name_;
    Clock& clock_;
    const std::vector<InterruptLine> software_lines_;
    std::vector<std::string> register_names_;
    std::vector<memory::Register> registers_;
    std::function<void(unsigned)> listener_;

    std::vector<u8> msip_;
    std::vector<std::atomic<u64>> timecmp_;
};

}  // namespace wirt::devices::hardware
