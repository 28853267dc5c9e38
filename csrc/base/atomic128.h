// A compare-and-swap of sixteen bytes, atomic towards all other accesses, sequentially consistent.
#pragma once

#include "base/types.h"

namespace wirt {

struct Pair {
    u64 low, high;
    bool operator==(const Pair&) const = default;
};

// What was there, which is `expected` when `desired` is there now. `target` is aligned to sixteen bytes.
inline Pair compare_exchange_pair(void* target, Pair expected, Pair desired) {
#if defined(__x86_64__)
    // Every x86-64 that runs a kernel of today has it; the compiler's own is a call where the baseline has
    // not.
    asm volatile("lock cmpxchg16b %0"
                 : "+m"(*static_cast<u128*>(target)), "+a"(expected.low), "+d"(expected.high)
                 : "b"(desired.low), "c"(desired.high)
                 : "cc");
    return expected;
#elif defined(__aarch64__)
    Pair found;
    u32 failed;
    do {
        // A store of what was found makes the pair that was loaded a single copy (B2.2.1).
        asm volatile(
            "ldaxp %[low], %[high], %[at]\n\t"
            "cmp %[low], %[expected_low]\n\t"
            "ccmp %[high], %[expected_high], #0, eq\n\t"
            "csel x16, %[desired_low], %[low], eq\n\t"
            "csel x17, %[desired_high], %[high], eq\n\t"
            "stlxp %w[failed], x16, x17, %[at]"
            : [low] "=&r"(found.low), [high] "=&r"(found.high), [failed] "=&r"(failed),
              [at] "+Q"(*static_cast<u128*>(target))
            : [expected_low] "r"(expected.low), [expected_high] "r"(expected.high),
              [desired_low] "r"(desired.low), [desired_high] "r"(desired.high)
            : "x16", "x17", "cc", "memory");
    } while (failed != 0);
    return found;
#else
    u128 old = u128{expected.high} << 64 | expected.low;
    __atomic_compare_exchange_n(static_cast<u128*>(target), &old, u128{desired.high} << 64 | desired.low,
                                false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return {static_cast<u64>(old), static_cast<u64>(old >> 64)};
#endif
}

}  // namespace wirt
