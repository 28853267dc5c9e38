// One stage of address translation: the walk through page tables that satp, vsatp and hgatp share (Privileged
// Architecture 12.3.2, 12.4 to 12.6, and "Guest Physical Address Translation" of the hypervisor extension).
//
// Untrusted input: the tables. A walk is bounded by its levels; each entry is read once, atomically.
#pragma once

#include "base/bits.h"
#include "memory/guest_ram.h"
#include "riscv/csr_fields.h"
#include "riscv/page_attributes.h"

namespace wirt::riscv {

// Levels of the mode in satp.MODE and hgatp.MODE; 0 for Bare.
constexpr unsigned levels_of(u64 atp) {
    const u64 mode = atp >> 60;
    return mode == 8 ? 3 : mode == 9 ? 4 : mode == 10 ? 5 : 0;
}

constexpr Exception page_fault(Access access) {
    return access == Access::fetch ? exc_fetch_page : access == Access::load ? exc_load_page : exc_store_page;
}
constexpr Exception access_fault(Access access) {
    return access == Access::fetch  ? exc_fetch_access
           : access == Access::load ? exc_load_access
                                    : exc_store_access;
}

struct WalkRules {
    u64 root;  // address of the first table
    unsigned levels;
    unsigned widened;  // further bits of the first index: 2 for the second stage
    Access access;
    bool executes;  // HLVX: a load that needs X in the place of R
    bool user;      // needs U, as the second stage always does; otherwise U is a fault...
    bool sum;       // ...unless this says that a load or store may go there
    bool mxr;
    bool adue;
    PageAttributes attributes;
};

struct WalkLeaf {
    u64 physical;
    u64 extent;
    u64 table;  // that the entry is in
};

// `refused`: `entry_at` has raised a fault.
enum class WalkEnd : u8 { found, page_fault, refused };

// Where a table's entry is: `host` is null when it was refused.
struct WalkEntry {
    u64* host;
    u64 physical;
};

// `entry_at(address, access)` finds an entry for a load, or for the store that updates A and D. With `update`
// false nothing is changed.
template <typename EntryAt>
WalkEnd walk_tables(u64 address, const WalkRules& rules, bool update, memory::GuestRam& ram,
                    EntryAt&& entry_at, WalkLeaf& leaf) {
    u64 table = rules.root;
    for (unsigned level = rules.levels; level-- > 0;) {
        const unsigned width = level + 1 == rules.levels ? 9 + rules.widened : 9;
        const u64 entry_address = table + bits(address, 12 + 9 * level, width) * 8;
        const WalkEntry at = entry_at(entry_address, Access::load);
        if (at.host == nullptr) return WalkEnd::refused;
        u64 entry = __atomic_load_n(at.host, __ATOMIC_ACQUIRE);
    again:
        // Bits 63..54 belong to Svnapot and Svpbmt, or are reserved (12.4.1).
        if ((entry & pte::v) == 0 || (entry & (pte::r | pte::w)) == pte::w ||
            ((entry >> 54) != 0 && !rules.attributes.legal(entry))) {
            return WalkEnd::page_fault;
        }
        u64 target = bits(entry, 10, 44) << page_shift;
        if ((entry & (pte::r | pte::x)) == 0) {
            if ((entry & (pte::d | pte::a | pte::u)) != 0 || !PageAttributes::legal_pointer(entry))
                return WalkEnd::page_fault;
            table = target;
            continue;
        }
        if ((entry & pte::u) != 0) {
            if (!rules.user && (rules.access == Access::fetch || !rules.sum)) return WalkEnd::page_fault;
        } else if (rules.user) {
            return WalkEnd::page_fault;
        }
        const u64 permits = rules.access == Access::fetch || rules.executes ? entry & pte::x
                            : rules.access == Access::store                 ? entry & pte::w
                            : rules.mxr                                     ? entry & (pte::r | pte::x)
                                                                            : entry & pte::r;
        u64 extent = page_size << (9 * level);
        if (permits == 0 || (target & (extent - 1)) != 0 || !legal_napot(entry, level))
            return WalkEnd::page_fault;
        if ((entry & pte::n) != 0) {
            extent = napot_bytes;
            target &= ~(napot_bytes - 1);
        }

        const u64 needed = entry | pte::a | (rules.access == Access::store ? pte::d : 0);
        if (needed != entry) {
            // Svadu: with ADUE clear the bits are software's business (12.4.1, step 9).
            if (!rules.adue) return WalkEnd::page_fault;
            const WalkEntry to = entry_at(entry_address, Access::store);
            if (to.host == nullptr) return WalkEnd::refused;
            if (update) {
                ram.will_write(to.physical, 8);
                // The PTE must still be what was checked; if not, it is looked at again as it is now.
                if (!__atomic_compare_exchange_n(to.host, &entry, needed, false, __ATOMIC_SEQ_CST,
                                                 __ATOMIC_ACQUIRE))
                    goto again;
                ram.note_write(to.physical, 8);
            }
        }
        leaf = {target | (address & (extent - 1)), extent, table};
        return WalkEnd::found;
    }
    return WalkEnd::page_fault;
}

}  // namespace wirt::riscv
