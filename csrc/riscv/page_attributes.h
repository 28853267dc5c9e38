// The upper bits of a page-table entry: Svnapot and Svpbmt (Privileged Architecture, chapters of those
// names).
#pragma once

#include "base/bits.h"
#include "riscv/csr_fields.h"

namespace wirt::riscv {

struct PageAttributes {
    bool napot;  // Svnapot
    bool pbmt;   // Svpbmt, and its PBMTE

    // Whether bits 63 to 54 are all of extensions that are there; PBMT = 3 is reserved.
    bool legal(u64 entry) const {
        if ((entry & pte::n) != 0 && !napot) return false;
        if ((entry & pte::pbmt) != 0 && (!pbmt || (entry & pte::pbmt) == pte::pbmt)) return false;
        return bits(entry, 54, 7) == 0;
    }
    // A pointer to the next table has none of them.
    static bool legal_pointer(u64 entry) { return (entry >> 54) == 0; }
};

// Sixteen pages with one translation, at level 0 only; the other sizes are reserved.
inline constexpr u64 napot_bytes = 64 * KiB;
constexpr bool legal_napot(u64 entry, unsigned level) {
    return (entry & pte::n) == 0 || (level == 0 && bits(entry, 10, 4) == 8);
}

}  // namespace wirt::riscv
