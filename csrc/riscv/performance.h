// The programmable counters of a hart with Sscofpmf (Privileged Architecture, chapters 3 and "Sscofpmf").
#pragma once

#include "base/types.h"
#include "riscv/csr_fields.h"

namespace wirt::riscv {

// mhpmevent selects one of these. Where the SBI has a number for an event (SBI 2.0, 11.1 and 11.2), it is
// that.
namespace event {
inline constexpr u64 none = 0, cycles = 1, instructions = 2, exceptions = 0x100, interrupts = 0x101,
                     load_tlb_misses = 0x10019, store_tlb_misses = 0x1001b, fetch_tlb_misses = 0x10021;
inline constexpr u64 selector = (u64{1} << 56) - 1;
}  // namespace event

struct Performance {
    static constexpr unsigned first = 3, count = 4;  // mhpmcounter3 onward; the others are read-only zero
    static constexpr u64 mask = ((u64{1} << count) - 1) << first;

    struct Counter {
        u64 event = 0;  // mhpmevent
        u64 value = 0;  // as of when its source stood at `since`
        u64 since = 0;
    };
    Counter counters[count];
    bool active = false;                  // one counts, in some mode
    Privilege mode = Privilege::machine;  // in which they count
    bool guest = false;                   // V, likewise
    // Sources that are counted nowhere else.
    u64 interrupts = 0;
    u64 tlb_misses[3] = {};  // by Access
};

}  // namespace wirt::riscv
