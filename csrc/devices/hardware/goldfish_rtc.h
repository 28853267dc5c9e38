// Goldfish real-time clock, `google,goldfish-rtc`: wall-clock nanoseconds and one alarm.
//
// Implements: "Goldfish Virtual Hardware", section "Goldfish timer", in the form that Linux's
// drivers/rtc/rtc-goldfish.c drives.
//
// Untrusted input: every register write, its offset and its size.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/deadline.h"
#include "base/interrupt.h"
#include "memory/mmio.h"

namespace wirt::devices::hardware {

class GoldfishRtc final : public memory::MmioDevice, public DeadlineSource {
  public:
    static constexpr u64 region_size = 0x1000;

    GoldfishRtc(std::string name, Clock& clock, Deadlines& deadlines, InterruptLine line);
    ~GoldfishRtc() override { retire(); }

    // The clock's wall time has jumped: an alarm that it passed rings now, others when their time comes. Any
    // thread, without mutex().
    void wall_clock_changed();

    std::string_view name() const override { return name_; }
    std::span<const memory::Register> registers() const override;
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void reset() override;
    void visit_state(StateVisitor& v) override;

  private:
    // Of the armed alarm.
    void on_deadline() override;
    u64 time_ns() const { return clock_.wall_ns() + time_offset_; }
    u64 deadline() const;
    void alarm_changed();
    void fire_if_due();
    void update_line() const;

    const std::string name_;
    Clock& clock_;
    const InterruptLine line_;

    u64 time_offset_ = 0;  // modulo 2^64: what the guest's writes added to the wall clock
    u32 time_high_ = 0;    // latched by a read of TIME_LOW
    u64 alarm_ns_ = 0;
    bool alarm_armed_ = false;
    bool interrupt_enabled_ = false;
    bool interrupt_pending_ = false;
};

}  // namespace wirt::devices::hardware
