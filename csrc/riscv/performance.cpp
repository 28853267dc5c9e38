// Counting for Sscofpmf: four programmable counters, overflow, and the interrupt that it raises.
//
// A counter holds its value as of a state of its source. It is brought up to date when something changes by
// which it counts (the mode, its event, its inhibition) or when it is looked at, and costs nothing in
// between. Overflows of cycles and instructions fall on the instruction: the run loop is bounded by them.
// Others are noticed when the counters are brought up to date the next time.
//
// Untrusted input: every value written.
#include <algorithm>

#include "base/bits.h"
#include "riscv/hart.h"

namespace wirt::riscv {

bool Hart::counts_event(u64 selector) const {
    switch (selector) {
        case event::none:
        case event::cycles:
        case event::instructions:
        case event::exceptions:
        case event::interrupts:
            return true;
        case event::load_tlb_misses:
        case event::store_tlb_misses:
        case event::fetch_tlb_misses:
            // What misses depends on what the host does besides: copies, dirty logs, snapshots.
            return !environment_.deterministic();
        default:
            return false;
    }
}

// The bits of mhpmevent beside the selector.
u64 Hart::event_flags() const {
    return mhpmevent::of | mhpmevent::minh | mhpmevent::sinh | mhpmevent::uinh |
           (has_h_ ? mhpmevent::vsinh | mhpmevent::vuinh : 0);
}

// `ahead` instructions were counted that have not been executed.
u64 Hart::event_total(u64 event, u64 ahead) const {
    switch (event & event::selector) {
        case event::cycles:
            return cycles_ - ahead;
        case event::instructions:
            return instructions() - ahead;
        case event::exceptions:
            return exceptions_;
        case event::interrupts:
            return performance_.interrupts;
        case event::load_tlb_misses:
            return performance_.tlb_misses[static_cast<unsigned>(Access::load)];
        case event::store_tlb_misses:
            return performance_.tlb_misses[static_cast<unsigned>(Access::store)];
        case event::fetch_tlb_misses:
            return performance_.tlb_misses[static_cast<unsigned>(Access::fetch)];
        default:
            return 0;
    }
}

bool Hart::counter_runs(unsigned index) const {
    const u64 event = performance_.counters[index].event;
    if ((event & event::selector) == event::none || bit(mcountinhibit_, Performance::first + index))
        return false;
    u64 inhibits;
    switch (performance_.mode) {
        case Privilege::machine:
            inhibits = mhpmevent::minh;
            break;
        case Privilege::supervisor:
            inhibits = performance_.guest ? mhpmevent::vsinh : mhpmevent::sinh;
            break;
        default:
            inhibits = performance_.guest ? mhpmevent::vuinh : mhpmevent::uinh;
            break;
    }
    return (event & inhibits) == 0;
}

void Hart::accrue(u64 ahead) {
    for (unsigned i = 0; i < Performance::count; ++i) {
        Performance::Counter& counter = performance_.counters[i];
        const u64 total = event_total(counter.event, ahead);
        if (counter_runs(i)) {
            const u64 before = counter.value;
            counter.value += total - counter.since;
            if (counter.value < before && (counter.event & mhpmevent::of) == 0) {
                counter.event |= mhpmevent::of;
                mip_.fetch_or(irq_bit(irq_lcofi));
                events_.fetch_or(ev_settle);
            }
        }
        counter.since = total;
    }
}

// After a change of events or inhibition. The next bound is computed when events are settled.
void Hart::update_performance() {
    performance_.active = false;
    for (unsigned i = 0; i < Performance::count; ++i) {
        performance_.active |= (performance_.counters[i].event & event::selector) != event::none &&
                               !bit(mcountinhibit_, Performance::first + i);
    }
    performance_.mode = privilege_;
    performance_.guest = virtual_;
    events_.fetch_or(ev_settle);
}

// Whoever changes the mode has counted the instruction that does.
void Hart::performance_mode_changed() {
    if (performance_.mode == privilege_ && performance_.guest == virtual_) return;
    accrue(0);
    performance_.mode = privilege_;
    performance_.guest = virtual_;
    events_.fetch_or(ev_settle);
    limit_.store(0, std::memory_order_seq_cst);
}

// Cycles that may pass before an overflow of cycles or of instructions, of which there are no more.
u64 Hart::until_overflow() {
    accrue(0);
    u64 least = ~u64{0};
    for (unsigned i = 0; i < Performance::count; ++i) {
        const Performance::Counter& counter = performance_.counters[i];
        const u64 selector = counter.event & event::selector;
        if (!counter_runs(i) || (selector != event::cycles && selector != event::instructions)) continue;
        if (counter.value != 0) least = std::min(least, -counter.value);
    }
    return least;
}

bool Hart::performance_read(u16 number, u64& value, u64 ahead) {
    if (number == csr_scountovf) {
        value = 0;
        for (unsigned i = 0; i < Performance::count; ++i) {
            if ((performance_.counters[i].event & mhpmevent::of) != 0)
                value |= u64{1} << (Performance::first + i);
        }
        if (privilege_ != Privilege::machine) value &= mcounteren_;
        return true;
    }
    const auto index_of = [&](u16 base) { return static_cast<unsigned>(number - base); };
    if (index_of(csr_mhpmevent3) < Performance::count) {
        value = performance_.counters[index_of(csr_mhpmevent3)].event;
        return true;
    }
    for (const u16 base : {csr_mhpmcounter3, csr_hpmcounter3}) {
        if (index_of(base) >= Performance::count) continue;
        accrue(ahead);
        value = performance_.counters[index_of(base)].value;
        return true;
    }
    return false;
}

bool Hart::performance_write(u16 number, u64 value, u64 ahead) {
    const auto index_of = [&](u16 base) { return static_cast<unsigned>(number - base); };
    if (index_of(csr_mhpmevent3) < Performance::count) {
        accrue(ahead);
        Performance::Counter& counter = performance_.counters[index_of(csr_mhpmevent3)];
        const u64 selector = counts_event(value & event::selector) ? value & event::selector : event::none;
        counter.event = (value & event_flags()) | selector;
        counter.since = event_total(counter.event, ahead);
        update_performance();
        return true;
    }
    if (index_of(csr_mhpmcounter3) < Performance::count) {
        accrue(ahead);
        performance_.counters[index_of(csr_mhpmcounter3)].value = value;
        update_performance();
        return true;
    }
    return false;
}

}  // namespace wirt::riscv
