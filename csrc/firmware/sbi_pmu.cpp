// The SBI's performance monitoring extension (SBI 2.0, chapter 11): the counters of cycles and of retired
// instructions, and, on harts with Sscofpmf, those that can be programmed.
//
// What counts what is in the hart's own registers, and nothing is kept here: a counter whose event is zero is
// free. Untrusted input: all arguments.
#include <optional>

#include "base/bits.h"
#include "firmware/sbi.h"
#include "firmware/sbi_error.h"

namespace wirt::firmware {

using riscv::Hart;

namespace {

constexpr unsigned cycle_counter = 0, time_counter = 1, instret_counter = 2;

// counter_config_matching (11.7) and counter_start, counter_stop (11.8, 11.9)
constexpr u64 cfg_skip_match = 1, cfg_clear_value = 2, cfg_auto_start = 4, cfg_uinh = 32, cfg_sinh = 64,
              cfg_minh = 128;
constexpr u64 start_set_value = 1, stop_reset = 1;

// event_idx (11.1 to 11.3)
constexpr u64 type_hardware = 0, type_cache = 1, type_raw = 2;

u64 argument(const Hart& hart, unsigned index) {
    return hart.x(10 + index);
}

bool programmable(const Hart& hart, u64 counter) {
    using riscv::Performance;
    return hart.isa().has(riscv::Extension::sscofpmf) && counter >= Performance::first &&
           counter < Performance::first + Performance::count;
}

bool exists(const Hart& hart, u64 counter) {
    return counter == cycle_counter || counter == instret_counter || programmable(hart, counter);
}

u16 event_register(u64 counter) {
    return static_cast<u16>(riscv::csr_mhpmevent3 + (counter - 3));
}
u16 value_register(u64 counter) {
    return static_cast<u16>(riscv::csr_mcycle + counter);
}

// What mhpmevent selects for an event.
std::optional<u64> selector_of(const Hart& hart, u64 event, u64 data) {
    const u64 type = bits(event, 16, 4);
    u64 selector = riscv::event::none;
    if (type == type_hardware && (event == riscv::event::cycles || event == riscv::event::instructions)) {
        selector = event;
    } else if (type == type_cache) {
        selector = event;
    } else if (type == type_raw) {
        selector = data & riscv::event::selector;
    }
    if (selector == riscv::event::none || !hart.counts_event(selector)) return std::nullopt;
    return selector;
}

void set_inhibited(Hart& hart, u64 counter, bool inhibited) {
    const u64 old = *hart.peek_csr(riscv::csr_mcountinhibit);
    const u64 bit = u64{1} << counter;
    hart.poke_csr(riscv::csr_mcountinhibit, inhibited ? old | bit : old & ~bit);
}

void start_counter(Hart& hart, u64 counter) {
    const u64 event = *hart.peek_csr(event_register(counter));
    hart.poke_csr(event_register(counter), event & ~riscv::mhpmevent::of);
    set_inhibited(hart, counter, false);
}

}  // namespace

Sbi::Result Sbi::pmu(Hart& hart, u64 function) {
    using riscv::Performance;
    const bool more = hart.isa().has(riscv::Extension::sscofpmf);
    switch (function) {
        case 0:
            return {success, Performance::first + (more ? Performance::count : 0)};
        case 1: {  // counter_get_info: CSR number, width - 1, hardware (11.6)
            const u64 counter = argument(hart, 0);
            if (!exists(hart, counter)) return {invalid_param, 0};
            return {success, (riscv::csr_cycle + counter) | u64{63} << 12};
        }
        case 2:
            return pmu_configure(hart);
        case 3:
            return pmu_switch(hart, true);
        case 4:
            return pmu_switch(hart, false);
        default:
            return {not_supported, 0};
    }
}

Sbi::Result Sbi::pmu_configure(Hart& hart) {
    using riscv::Performance;
    const u64 base = argument(hart, 0), mask = argument(hart, 1), flags = argument(hart, 2);
    const u64 event = argument(hart, 3);
    const auto offered = [&](u64 counter) {
        return counter >= base && counter - base < 64 && bit(mask, counter - base);
    };
    std::optional<u64> chosen;
    u64 selector = riscv::event::none;
    if ((flags & cfg_skip_match) != 0) {
        // The first of them, configured before.
        for (u64 i = 0; i < 64 && !chosen; ++i) {
            if (bit(mask, i)) chosen = base + i;
        }
        if (!chosen || !exists(hart, *chosen)) return {invalid_param, 0};
        if (programmable(hart, *chosen))
            selector = *hart.peek_csr(event_register(*chosen)) & riscv::event::selector;
    } else {
        const auto found = selector_of(hart, event, argument(hart, 4));
        if (!found) return {not_supported, 0};
        selector = *found;
        // One that can be programmed can overflow with an interrupt, and leave modes out.
        for (u64 counter = Performance::first; counter < Performance::first + Performance::count; ++counter) {
            if (chosen || !programmable(hart, counter) || !offered(counter)) continue;
            if ((*hart.peek_csr(event_register(counter)) & riscv::event::selector) == riscv::event::none)
                chosen = counter;
        }
        const unsigned fixed = event == riscv::event::cycles         ? cycle_counter
                               : event == riscv::event::instructions ? instret_counter
                                                                     : time_counter;
        if (!chosen && fixed != time_counter && offered(fixed)) chosen = fixed;
        if (!chosen) return {not_supported, 0};
    }
    if (programmable(hart, *chosen)) {
        // Configured, but not started.
        set_inhibited(hart, *chosen, true);
        u64 value = selector;
        if ((flags & cfg_uinh) != 0) value |= riscv::mhpmevent::uinh;
        if ((flags & cfg_sinh) != 0) value |= riscv::mhpmevent::sinh;
        if ((flags & cfg_minh) != 0) value |= riscv::mhpmevent::minh;
        hart.poke_csr(event_register(*chosen), value);
        if ((flags & cfg_auto_start) != 0) start_counter(hart, *chosen);
    }
    if ((flags & cfg_clear_value) != 0) hart.poke_csr(value_register(*chosen), 0);
    return {success, *chosen};
}

// The fixed counters run on when they are stopped, which only their reader could notice.
Sbi::Result Sbi::pmu_switch(Hart& hart, bool start) {
    const u64 base = argument(hart, 0), mask = argument(hart, 1), flags = argument(hart, 2);
    Result result{success, 0};
    for (unsigned i = 0; i < 64; ++i) {
        if (bit(mask, i) && !exists(hart, base + i)) return {invalid_param, 0};
    }
    for (unsigned i = 0; i < 64; ++i) {
        if (!bit(mask, i)) continue;
        const u64 counter = base + i;
        if (start && (flags & start_set_value) != 0)
            hart.poke_csr(value_register(counter), argument(hart, 3));
        if (!programmable(hart, counter)) continue;
        const bool stopped = bit(*hart.peek_csr(riscv::csr_mcountinhibit), static_cast<unsigned>(counter));
        if (stopped != start) result.error = start ? already_started : already_stopped;
        if (start) {
            start_counter(hart, counter);
        } else {
            set_inhibited(hart, counter, true);
            if ((flags & stop_reset) != 0) hart.poke_csr(event_register(counter), riscv::event::none);
        }
    }
    return result;
}

}  // namespace wirt::firmware
