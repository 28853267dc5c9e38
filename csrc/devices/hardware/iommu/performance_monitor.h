// The hardware performance monitor: a cycle counter and 31 event counters with filters.
//
// Implements: RISC-V IOMMU Architecture Specification 1.0, 6.19 to 6.23 (iocountovf, iocountinh, iohpmcycles,
// iohpmctr, iohpmevt). A cycle is a nanosecond of guest time.
//
// Untrusted input: every register value. The owner's lock guards it.
#pragma once

#include <array>
#include <atomic>

#include "base/clock.h"
#include "base/state_visitor.h"

namespace wirt::devices::hardware::iommu {

enum class Event : u16 {
    none = 0,
    untranslated_request = 1,
    translated_request = 2,
    ats_translation_request = 3,
    tlb_miss = 4,
    device_directory_walk = 5,
    process_directory_walk = 6,
    first_stage_walk = 7,
    second_stage_walk = 8,
};

// Whose event it is, as far as that is known when it happens.
struct EventIds {
    u32 device_id = 0;
    bool pv = false, pscv = false, gscv = false;
    u32 process_id = 0, pscid = 0, gscid = 0;
};

class PerformanceMonitor {
  public:
    static constexpr unsigned counters = 31;

    explicit PerformanceMonitor(Clock& clock) : clock_(clock) {}

    // True when a counter overflowed that had not before: the interrupt is then pending.
    [[nodiscard]] bool count(Event event, const EventIds& ids);
    // Whether any counter counts anything: what does not ask may skip count().
    bool counting() const { return counting_.load(std::memory_order_relaxed); }

    // Registers; `n` is 1..31. A cycle counter that overflows shows it when it is looked at: call advance()
    // before any access. Its result is that of count().
    [[nodiscard]] bool advance();
    u32 overflow() const;
    u32 inhibit() const { return inhibit_; }
    u64 cycles() const { return cycles_; }
    u64 counter(unsigned n) const { return counter_[n - 1]; }
    u64 event(unsigned n) const { return event_[n - 1]; }
    void set_inhibit(u32 value);
    void set_cycles(u64 value) { cycles_ = value; }
    void set_counter(unsigned n, u64 value) { counter_[n - 1] = value; }
    void set_event(unsigned n, u64 value);

    void reset();
    void visit_fields(StateVisitor& v);

  private:
    void update_counting();

    Clock& clock_;
    u64 last_ns_ = 0;
    u64 cycles_ = 0;  // OF in bit 63
    u32 inhibit_ = 0;
    std::array<u64, counters> counter_{};
    std::array<u64, counters> event_{};
    std::atomic<bool> counting_{false};
};

}  // namespace wirt::devices::hardware::iommu
