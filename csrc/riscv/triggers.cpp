// Sdtrig 1.0: address triggers of type mcontrol6, whose action is a breakpoint exception.
//
// Four triggers, each of type 6 or 15 (disabled). They compare addresses, and fire before the access. Fields
// that would make them match data, match sizes, chain them, qualify them by context or enter Debug Mode are
// zero. Where a trap handler could be interrupted by its own trigger none fires: M-mode with MIE clear, and
// S-mode with SIE clear where breakpoints are delegated to it (5.4, the first of the solutions there; so
// there is no tcontrol).
//
// Untrusted input: every value written.
#include <bit>

#include "base/bits.h"
#include "riscv/hart.h"

namespace wirt::riscv {

namespace {

constexpr u64 type_shift = 60, type_mcontrol6 = 6, type_disabled = 15;
constexpr u64 mcontrol6_load = 1, mcontrol6_store = 2, mcontrol6_execute = 4, mcontrol6_u = 8,
              mcontrol6_s = 16, mcontrol6_m = 64, mcontrol6_vu = 1u << 23, mcontrol6_vs = 1u << 24,
              mcontrol6_match = 15u << 7, mcontrol6_hit0 = 1u << 22, mcontrol6_hit1 = 1u << 25;
constexpr u64 mcontrol6_writable = mcontrol6_load | mcontrol6_store | mcontrol6_execute | mcontrol6_u |
                                   mcontrol6_s | mcontrol6_m | mcontrol6_match | mcontrol6_hit0 |
                                   mcontrol6_hit1;
// tinfo: version 1.0, and the two types.
constexpr u64 tinfo_value = u64{1} << 24 | u64{1} << type_mcontrol6 | u64{1} << type_disabled;

enum Match : u8 { equal = 0, napot = 1, not_below = 2, below = 3, mask_low = 4, mask_high = 5 };

constexpr Match match_of(u64 tdata1) {
    return static_cast<Match>(bits(tdata1, 7, 4));
}

// Of NAPOT the trailing ones and the zero above them are free.
constexpr u64 napot_mask(u64 tdata2) {
    const unsigned ones = static_cast<unsigned>(std::countr_one(tdata2));
    return ones >= 63 ? 0 : ~((u64{2} << ones) - 1);
}

constexpr bool matches(Match match, u64 tdata2, u64 address) {
    switch (match) {
        case equal:
            return address == tdata2;
        case napot:
            return ((address ^ tdata2) & napot_mask(tdata2)) == 0;
        case not_below:
            return address >= tdata2;
        case below:
            return address < tdata2;
        case mask_low:
            return (address & tdata2 >> 32) == (tdata2 & 0xffff'ffff);
        case mask_high:
            return (address >> 32 & tdata2 >> 32) == (tdata2 & 0xffff'ffff);
    }
    return false;
}

constexpr u64 kind_of(Access access) {
    return access == Access::fetch  ? mcontrol6_execute
           : access == Access::load ? mcontrol6_load
                                    : mcontrol6_store;
}

bool armed(u64 tdata1, u64 kinds) {
    return tdata1 >> type_shift == type_mcontrol6 && (tdata1 & kinds) != 0 &&
           (tdata1 & (mcontrol6_u | mcontrol6_s | mcontrol6_m | mcontrol6_vu | mcontrol6_vs)) != 0;
}

}  // namespace

u64 Hart::legal_tdata1(u64 value) const {
    if (value >> type_shift != type_mcontrol6) return type_disabled << type_shift;
    if (match_of(value) > mask_high) value &= ~mcontrol6_match;
    const u64 writable = mcontrol6_writable | (has_h_ ? mcontrol6_vs | mcontrol6_vu : 0);
    return (value & writable) | type_mcontrol6 << type_shift;
}

bool Hart::trigger_read(u16 number, u64& value) const {
    const u64 index = triggers_.tselect;
    switch (number) {
        case csr_tselect:
            value = index;
            return true;
        case csr_tdata1:
            value = triggers_.tdata1[index];
            return true;
        case csr_tdata2:
            value = triggers_.tdata2[index];
            return true;
        case csr_tdata3:
            value = 0;
            return true;
        case csr_tinfo:
            value = tinfo_value;
            return true;
        default:
            return false;
    }
}

bool Hart::trigger_write(u16 number, u64 value) {
    switch (number) {
        case csr_tselect:
            if (value < Triggers::count) triggers_.tselect = value;
            return true;
        case csr_tdata1:
            triggers_.tdata1[triggers_.tselect] = legal_tdata1(value);
            update_triggers();
            return true;
        case csr_tdata2:
            triggers_.tdata2[triggers_.tselect] = value;
            update_triggers();
            return true;
        case csr_tdata3:
        case csr_tinfo:
            return true;
        default:
            return false;
    }
}

// What is decoded and what is in the TLBs depends on what is armed: it goes when that was, or is, anything.
// Code is dropped when events are settled, for a block runs now.
void Hart::update_triggers() {
    bool fetch = false;
    bool data = false;
    for (unsigned i = 0; i < Triggers::count; ++i) {
        triggers_.tdata1[i] = legal_tdata1(triggers_.tdata1[i]);
        fetch |= armed(triggers_.tdata1[i], mcontrol6_execute);
        data |= armed(triggers_.tdata1[i], mcontrol6_load | mcontrol6_store);
    }
    if (fetch || triggers_.fetch_armed) events_.fetch_or(ev_triggers);
    if (data || triggers_.data_armed) flush_all();
    triggers_.fetch_armed = fetch;
    triggers_.data_armed = data;
}

bool Hart::trigger_fires(Access access, u64 address, unsigned size) {
    const bool machine = privilege_ == Privilege::machine;
    const bool user = privilege_ == Privilege::user;
    const bool delegated = bit(medeleg_, exc_breakpoint);
    if (machine && (mstatus_ & mstatus::mie) == 0) return false;
    if (!machine && !user && delegated) {
        if (!virtual_ && (mstatus_ & mstatus::sie) == 0) return false;
        if (virtual_ && bit(h_.hedeleg, exc_breakpoint) && (h_.vsstatus & mstatus::sie) == 0) return false;
    }
    const u64 mode = machine    ? mcontrol6_m
                     : virtual_ ? (user ? mcontrol6_vu : mcontrol6_vs)
                                : (user ? mcontrol6_u : mcontrol6_s);
    bool fires = false;
    for (unsigned i = 0; i < Triggers::count; ++i) {
        u64& tdata1 = triggers_.tdata1[i];
        if (!armed(tdata1, kind_of(access)) || (tdata1 & mode) == 0) continue;
        bool hit = false;
        for (unsigned byte = 0; byte < size && !hit; ++byte) {
            hit = matches(match_of(tdata1), triggers_.tdata2[i], address + byte);
        }
        if (!hit) continue;
        // 5.7.12: it fired before the instruction.
        tdata1 = (tdata1 & ~mcontrol6_hit1) | mcontrol6_hit0;
        fires = true;
    }
    if (fires) raise(exc_breakpoint, address);
    return fires;
}

// An AMO finds its page among those that may be stored to, and loads from it as well.
bool Hart::trigger_page(Access access, u64 address) const {
    const u64 kinds = access == Access::load ? mcontrol6_load : mcontrol6_load | mcontrol6_store;
    for (unsigned i = 0; i < Triggers::count; ++i) {
        if (!armed(triggers_.tdata1[i], kinds)) continue;
        const u64 tdata2 = triggers_.tdata2[i];
        const Match match = match_of(triggers_.tdata1[i]);
        if (match != equal && match != napot) return true;
        const u64 mask = (match == napot ? napot_mask(tdata2) : ~u64{0}) & ~page_mask;
        if (((address ^ tdata2) & mask) == 0) return true;
    }
    return false;
}

// Decoded code is that of a physical page: only the offset in it is known.
bool Hart::trigger_near(u64 pc) const {
    for (unsigned i = 0; i < Triggers::count; ++i) {
        if (!armed(triggers_.tdata1[i], mcontrol6_execute)) continue;
        const u64 tdata2 = triggers_.tdata2[i];
        const Match match = match_of(triggers_.tdata1[i]);
        if (match != equal && match != napot) return true;
        const u64 mask = (match == napot ? napot_mask(tdata2) : ~u64{0}) & page_mask;
        if (((pc ^ tdata2) & mask) == 0) return true;
    }
    return false;
}

}  // namespace wirt::riscv
