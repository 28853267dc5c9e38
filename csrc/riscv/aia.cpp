// The hart's side of the Advanced Interrupt Architecture 1.0: Smaia and Ssaia (chapters 2 and 5), and the
// CSRs that reach its interrupt files (chapter 3). A hart without an IMSIC has none of it.
//
// miselect and siselect hold nine bits. All priority numbers that may be configurable are: eight bits each,
// those of the external interrupt aside, which come with the interrupt. mvien has the bits of SSI and SEI.
//
// Untrusted input: every value written. Fields are WARL: what is not supported is not stored.
#include <algorithm>

#include "base/bits.h"
#include "riscv/hart.h"

namespace wirt::riscv {

namespace {

constexpr u64 select_mask = 0x1ff;
constexpr u64 iprio_first = 0x30, iprio_last = 0x3f, file_first = 0x70, file_last = 0xff;
constexpr u64 mvien_writable = irq_bit(irq_ssi) | irq_bit(irq_sei);

constexpr u32 most_shown = 255;

constexpr bool is_iprio(u64 select) {
    return select >= iprio_first && select <= iprio_last;
}
constexpr bool is_file(u64 select) {
    return select >= file_first && select <= file_last;
}

}  // namespace

void Hart::connect_imsic(InterruptFile& machine, InterruptFile& supervisor,
                         std::vector<InterruptFile*> guests) {
    machine_file_ = &machine;
    supervisor_file_ = &supervisor;
    guest_files_ = std::move(guests);
    if (has_h_ && !guest_files_.empty()) delegated_always_ |= irq_bit(irq_sgei);
}

// ---------------------------------------------------------------- windows

// The CSRs whose reads and writes are one step, for messages set pending bits at any time.
bool Hart::reaches_interrupt_file(u16 number) {
    return number == csr_mireg || number == csr_sireg || number == csr_mtopei || number == csr_stopei ||
           number == csr_vsireg || number == csr_vstopei;
}

bool Hart::selects_interrupt_file(u64 select) {
    return is_file(select);
}

// 5.3: with bit 9 of mvien set, S-mode's own interrupt file is out of its reach.
bool Hart::supervisor_file_accessible(u16 number) const {
    const bool file = number == csr_stopei || is_file(aia_.siselect);
    return !(file && (aia_.mvien & irq_bit(irq_sei)) != 0);
}

// The bits of `mask` become those of `value`; false: the access is illegal.
bool Hart::interrupt_file_access(u16 number, u64 mask, u64 value, bool writes, u64& old) {
    if (machine_file_ == nullptr) return false;
    if (number == csr_vsireg || number == csr_vstopei) {
        InterruptFile* const file = has_h_ ? guest_file() : nullptr;
        if (file == nullptr) return false;
        if (number == csr_vstopei) {
            old = file->top(writes);
            return true;
        }
        return is_file(h_.vsiselect) && file->modify(static_cast<u32>(h_.vsiselect), mask, value, old);
    }
    const bool machine = number == csr_mireg || number == csr_mtopei;
    InterruptFile& file = machine ? *machine_file_ : *supervisor_file_;
    if (number == csr_mtopei || number == csr_stopei) {
        // 3.10: any write claims what a read returns.
        old = file.top(writes);
        return true;
    }
    const u64 select = machine ? aia_.miselect : aia_.siselect;
    if (is_iprio(select)) {
        return iprio_access(select, machine ? Privilege::machine : Privilege::supervisor, mask, value, old);
    }
    return is_file(select) && file.modify(static_cast<u32>(select), mask, value, old);
}

// 5.2.1, 5.4.1: the interrupts whose enable bit is writable, but for the external one.
u64 Hart::configurable_interrupts(Privilege level) const {
    if (level == Privilege::supervisor) {
        return (mideleg_ | aia_.mvien) & (irq_bit(irq_ssi) | irq_bit(irq_sti) | irq_bit(irq_lcofi));
    }
    return (interrupts() & irq_bit(irq_lcofi)) | irq_bit(irq_ssi) | irq_bit(irq_msi) | irq_bit(irq_sti) |
           irq_bit(irq_mti) | irq_bit(irq_sei);
}

bool Hart::iprio_access(u64 select, Privilege level, u64 mask, u64 value, u64& old) {
    // 5.2.1: with 64-bit registers the odd numbers do not exist.
    if ((select & 1) != 0) return false;
    const unsigned first = static_cast<unsigned>(select - iprio_first) * 4;
    u8* const bytes = (level == Privilege::machine ? aia_.miprio : aia_.siprio) + first;
    const u64 configurable = configurable_interrupts(level) >> first;
    u64 writable = 0;
    for (unsigned i = 0; i < 8; ++i) {
        if (bit(configurable, i)) writable |= u64{0xff} << (8 * i);
    }
    old = load_le<u64>(bytes) & writable;
    mask &= writable;
    store_le<u64>(bytes, (load_le<u64>(bytes) & ~mask) | (value & mask));
    return true;
}

// ---------------------------------------------------------------- registers

bool Hart::aia_read(u16 number, u64& value) {
    if (machine_file_ == nullptr) return false;
    switch (number) {
        case csr_miselect:
            value = aia_.miselect;
            return true;
        case csr_siselect:
            value = aia_.siselect;
            return true;
        case csr_mvien:
            value = aia_.mvien;
            return true;
        case csr_mvip:
            update_timer();
            value = mvip();
            return true;
        case csr_mtopi:
            value = topi(Privilege::machine);
            return true;
        case csr_stopi:
            value = topi(Privilege::supervisor);
            return true;
        default:
            return reaches_interrupt_file(number) && interrupt_file_access(number, 0, 0, false, value);
    }
}

bool Hart::aia_write(u16 number, u64 value) {
    if (machine_file_ == nullptr) return false;
    switch (number) {
        case csr_miselect:
            aia_.miselect = value & select_mask;
            return true;
        case csr_siselect:
            aia_.siselect = value & select_mask;
            return true;
        case csr_mvien:
            aia_.mvien = value & mvien_writable;
            update_virtual_interrupts();
            return true;
        case csr_mvip:
            write_mvip(value, ~u64{0});
            return true;
        default: {
            u64 old;
            return reaches_interrupt_file(number) && interrupt_file_access(number, ~u64{0}, value, true, old);
        }
    }
}

// ---------------------------------------------------------------- virtual interrupts

// 5.3: SSIP and SEIP are those of mip, or bits of their own under mvien; STIP is mip's while it is writable
// there. The bit of SEIP is the software-writable one in either case.
u64 Hart::mvip() const {
    u64 aliases = irq_bit(irq_sei);
    if ((aia_.mvien & irq_bit(irq_ssi)) == 0) aliases |= irq_bit(irq_ssi);
    if ((menvcfg_ & envcfg::stce) == 0) aliases |= irq_bit(irq_sti);
    const bool own_ssi = (aia_.mvien & irq_bit(irq_ssi)) != 0 && aia_.mvip_ssi;
    return (mip_.load(std::memory_order_acquire) & aliases) | (own_ssi ? irq_bit(irq_ssi) : 0);
}

void Hart::write_mvip(u64 value, u64 mask) {
    u64 aliases = irq_bit(irq_sei);
    if ((aia_.mvien & irq_bit(irq_ssi)) == 0) {
        aliases |= irq_bit(irq_ssi);
    } else if ((mask & irq_bit(irq_ssi)) != 0) {
        aia_.mvip_ssi = (value & irq_bit(irq_ssi)) != 0;
    }
    if ((menvcfg_ & envcfg::stce) == 0) aliases |= irq_bit(irq_sti);
    aliases &= mask;
    mip_.fetch_and(~aliases | value);
    mip_.fetch_or(value & aliases);
    update_virtual_interrupts();
}

void Hart::write_virtual_sie(u64 value) {
    const u64 own = aia_.mvien & ~mideleg_;
    aia_.sie = (aia_.sie & ~own) | (value & own);
    update_virtual_interrupts();
}

// 5.3: where mideleg has a zero and mvien a one, sip is mvip and sie a register of its own.
void Hart::update_virtual_interrupts() {
    virtual_interrupts_ = mvip() & aia_.mvien & ~mideleg_ & aia_.sie;
    if ((h_.hvictl & hvictl::vti) != 0) virtual_interrupts_ |= injected_hint;
}

// ---------------------------------------------------------------- priorities

u32 Hart::priority_number(Interrupt which, Privilege level) const {
    if (machine_file_ == nullptr) return 1;
    const bool machine = level == Privilege::machine;
    if (which == (machine ? irq_mei : irq_sei)) {
        const u32 identity = (machine ? machine_file_ : supervisor_file_)->top(false) >> 16;
        return identity != 0 ? identity : priority::no_identity;
    }
    // No interrupt that this hart has stands above the external one of its level by default.
    const u8 number =
        bit(configurable_interrupts(level), which) ? (machine ? aia_.miprio : aia_.siprio)[which] : 0;
    return number != 0 ? number : priority::default_low;
}

// 5.2.2, 5.4.2.
u64 Hart::topi(Privilege level) {
    update_timer();
    const u64 pending = pending_interrupts(level);
    if (pending == 0) return 0;
    const TopInterrupt top = top_interrupt(pending, level);
    return u64{top.cause} << 16 | std::min(top.priority, most_shown);
}

// ---------------------------------------------------------------- state

void Hart::visit_aia_state(StateVisitor& v) {
    v.field("miselect", aia_.miselect);
    v.field("siselect", aia_.siselect);
    v.field("mvien", aia_.mvien);
    v.field("virtual_sie", aia_.sie);
    v.field("mvip_ssi", aia_.mvip_ssi);
    v.field("miprio", aia_.miprio);
    v.field("siprio", aia_.siprio);
    if (!v.loading()) return;
    aia_.miselect &= select_mask;
    aia_.siselect &= select_mask;
    aia_.mvien &= mvien_writable;
}

}  // namespace wirt::riscv
