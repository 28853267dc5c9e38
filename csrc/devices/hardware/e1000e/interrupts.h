// The 82574's interrupts: causes and masks, messages and their vectors, moderation and delays.
//
// Implements: Intel 82574 GbE Controller Family Datasheet, 7.4 (interrupts) and 10.2.4: ICR, ICS, IMS, IMC,
// EIAC, IAM and IVAR; throttling by ITR and EITR; the delays of RDTR, RADV, TIDV and TADV (10.2.5, 10.2.6).
// Time is the machine's clock.
//
// Untrusted input: every register. A delay is at most 67 ms, a throttled vector is due after at most 17 ms.
#pragma once

#include <array>

#include "base/clock.h"
#include "base/counters.h"
#include "devices/hardware/e1000e/register_file.h"

namespace wirt::devices::hardware::e1000e {

// The PCI function's side.
class InterruptPins {
  public:
    virtual ~InterruptPins() = default;
    virtual bool vectors_enabled() = 0;     // MSI-X
    virtual void set_line(bool level) = 0;  // INTx; says nothing while messages are enabled
    virtual void send_message(unsigned vector) = 0;
    // When run_timers() is to be called; ~0: not at all.
    virtual void set_timer(u64 due_ns) = 0;
};

// All with the device's mutex held.
class Interrupts {
  public:
    Interrupts(RegisterFile& registers, InterruptPins& pins, const Clock& clock, DeviceCounters& counters)
        : registers_(registers), pins_(pins), clock_(clock), counters_(counters) {}

    // After the registers were reset.
    void reset();

    u32 read_causes();  // ICR, with what a read does
    void clear_causes(u32 causes);
    void raise(u32 causes);
    void set_mask(u32 causes);
    void clear_mask(u32 causes);
    // ITR (the last) or an EITR was written.
    void interval_changed(unsigned timer);

    // Frames were written to a queue's buffers; descriptors of a queue were written back, with `delay` if all
    // of them may wait (7.2.3: IDE).
    void received(unsigned queue);
    void transmitted(unsigned queue, bool delay);
    // RDTR.FPD and TIDV.FPD: what is delayed is due now.
    void flush_received();
    void flush_transmitted();
    void run_timers();

    void visit_state(StateVisitor& v);

    static constexpr unsigned itr_timer = vector_count;

  private:
    static constexpr u64 never = ~u64{0};

    // A packet timer that each event starts anew, and an absolute one that the first one starts (7.4.4).
    struct Delay {
        u64 packet_due = never;
        u64 absolute_due = never;
        u32 queues = 0;  // one bit a queue

        void start(unsigned queue, u64 now, u32 packet, u32 absolute);
        u32 stop();
        void visit_state(StateVisitor& v, const char* name);
    };

    u32 queue_causes(u32 queues, u32 single, u32 first_of_queues);
    u32 vector_causes(unsigned vector) const;
    void update();
    void deliver(unsigned timer, u32 causes);
    void publish_timer();

    RegisterFile& registers_;
    InterruptPins& pins_;
    const Clock& clock_;
    DeviceCounters& counters_;

    u32 announced_ = 0;  // causes that an interrupt went out for and that are still active
    std::array<u64, vector_count + 1> open_{};  // no interrupt before this moment: one a vector, and ITR's
    u64 throttled_until_ = never;               // the nearest of those at which one waits
    Delay receive_;
    Delay transmit_;
};

}  // namespace wirt::devices::hardware::e1000e
