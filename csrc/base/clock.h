// The machine's one clock. Nothing else in the core asks the host for the time.
//
// It has two sources: the host's monotonic clock (stopped while the machine is paused), or, in deterministic
// mode, the count of retired instructions, pushed in by the run loop.
#pragma once

#include <atomic>

#include "base/state_visitor.h"
#include "base/types.h"

namespace wirt {

class Clock {
  public:
    enum class Source : u8 { host, instructions };

    // Ticks per second of the `time` CSR and of mtime; what the device tree states as timebase-frequency.
    static constexpr u64 timebase_hz = 10'000'000;
    static constexpr u64 ns_per_tick = 1'000'000'000 / timebase_hz;

    explicit Clock(Source source) : source_(source) {}

    Source source() const { return source_; }
    // Nanoseconds of guest time since the machine was built.
    u64 now_ns() const;
    u64 ticks() const { return ticks_at(now_ns()); }
    u64 ticks_at(u64 ns) const { return ns / ns_per_tick + tick_offset_.load(std::memory_order_relaxed); }
    // A guest's write to mtime shifts ticks(), not now_ns().
    void set_ticks(u64 value) {
        tick_offset_.store(value - now_ns() / ns_per_tick, std::memory_order_relaxed);
    }
    // Nanoseconds since 1970 of the guest's wall clock: the host's at construction (or a fixed epoch in
    // deterministic mode) advanced by now_ns().
    u64 wall_ns() const { return wall_base() + now_ns(); }
    u64 wall_base() const { return wall_base_.load(std::memory_order_relaxed); }
    void set_wall_base(u64 ns_since_1970) { wall_base_.store(ns_since_1970, std::memory_order_relaxed); }
    // The wall clock jumps, as that of a machine does which goes on long after its state was saved: wall_ns()
    // is `ns_since_1970` now. Guest time and ticks go on where they are. What waits for a wall-clock time has
    // to work its deadline out anew: Board::set_wall_clock does both.
    void set_wall(u64 ns_since_1970) { set_wall_base(ns_since_1970 - now_ns()); }

    // Host source: called by the machine around running.
    void resume();
    void pause();
    // Instruction source: called by the run loop; never goes backwards.
    void advance_to_ns(u64 ns) { virtual_ns_.store(ns, std::memory_order_relaxed); }

    // While it is paused. What is loaded goes on where it was saved, whatever the host's clocks say. Throws
    // StateError for guest times that no machine lives to see.
    void visit_state(StateVisitor& v);

  private:
    const Source source_;
    std::atomic<u64> virtual_ns_{0};  // instruction source: now; host source: now at the last pause
    std::atomic<u64> host_origin_{
        0};  // host source, running: host ns at which guest time was 0; 0 when paused
    std::atomic<u64> tick_offset_{0};
    std::atomic<u64> wall_base_{0};
};

}  // namespace wirt
