// Traps, interrupts and the privileged instructions (Privileged Architecture, chapters 3 and 12).
#include "base/bits.h"
#include "riscv/hart.h"

namespace wirt::riscv {

u64 Hart::pending_interrupts(Privilege level) {
    const u64 pending = mip() & mie_;
    const u64 delegated = mideleg_ | delegated_always_;
    if (level == Privilege::machine) return pending & ~delegated;
    return (pending & delegated & ~h_.hideleg) | (virtual_interrupts_ & ~injected_hint);
}

Hart::TopInterrupt Hart::top_interrupt(u64 pending, Privilege level) const {
    TopInterrupt top{irq_ssi, ~u32{0}};
    // Order of priority: MEI, MSI, MTI, SEI, SSI, STI, SGEI, VSEI, VSSI, VSTI, LCOFI (3.1.9 and "Hypervisor
    // Interrupt Registers"). It decides between equal priority numbers.
    for (const Interrupt which : {irq_mei, irq_msi, irq_mti, irq_sei, irq_ssi, irq_sti, irq_sgei, irq_vsei,
                                  irq_vssi, irq_vsti, irq_lcofi}) {
        if (!bit(pending, which)) continue;
        const u32 number = priority_number(which, level);
        if (number < top.priority) top = {which, number};
    }
    return top;
}

bool Hart::take_interrupt() {
    if (const u64 pending = pending_interrupts(Privilege::machine); pending != 0) {
        if (privilege_ != Privilege::machine || (mstatus_ & mstatus::mie) != 0) {
            ++stats_.interrupts;
            ++performance_.interrupts;
            enter_trap(top_interrupt(pending, Privilege::machine).cause, 0, true, Privilege::machine);
            return true;
        }
    }
    if (const u64 pending = pending_interrupts(Privilege::supervisor); pending != 0) {
        const bool enabled = privilege_ == Privilege::user || virtual_ ||
                             (privilege_ == Privilege::supervisor && (mstatus_ & mstatus::sie) != 0);
        if (enabled) {
            ++stats_.interrupts;
            ++performance_.interrupts;
            enter_trap(top_interrupt(pending, Privilege::supervisor).cause, 0, true, Privilege::supervisor);
            return true;
        }
    }
    if (virtual_ && (privilege_ == Privilege::user || (h_.vsstatus & mstatus::sie) != 0)) {
        const TopInterrupt top = top_guest_interrupt();
        if (top.priority != priority::none) {
            ++stats_.interrupts;
            enter_guest_trap(top.cause, 0, true);
            return true;
        }
    }
    return false;
}

void Hart::take_exception() {
    ++exceptions_;
    ++stats_.traps;
    const bool delegated = privilege_ != Privilege::machine && bit(medeleg_, fault_.cause);
    if (delegated && virtual_ && bit(h_.hedeleg, fault_.cause)) {
        enter_guest_trap(fault_.cause, fault_.value, false);
        return;
    }
    enter_trap(fault_.cause, fault_.value, false, delegated ? Privilege::supervisor : Privilege::machine);
}

void Hart::enter_trap(u64 cause, u64 value, bool interrupt, Privilege to) {
    const u64 vector_offset = interrupt ? 4 * cause : 0;
    const u64 full_cause = cause | (interrupt ? u64{1} << 63 : 0);
    stats_.count_trap(to == Privilege::supervisor ? Stats::supervisor : Stats::machine, cause, interrupt);
    const bool describes = has_h_ && !interrupt;
    const bool gva = describes && faulted_in_guest();
    const u64 instruction = describes ? trap_instruction() : 0;
    const u64 guest_physical = describes ? fault_.guest_physical >> 2 : 0;
    if (to == Privilege::supervisor) {
        if (has_h_) {
            h_.htval = guest_physical;
            h_.htinst = instruction;
            h_.hstatus &= ~(hstatus::spv | hstatus::gva | (virtual_ ? hstatus::spvp : 0));
            if (virtual_) h_.hstatus |= hstatus::spv;
            if (virtual_ && privilege_ == Privilege::supervisor) h_.hstatus |= hstatus::spvp;
            if (gva) h_.hstatus |= hstatus::gva;
        }
        scause_ = full_cause;
        sepc_ = pc_;
        stval_ = value;
        const bool enabled = (mstatus_ & mstatus::sie) != 0;
        mstatus_ &= ~(mstatus::sie | mstatus::spie | mstatus::spp);
        if (enabled) mstatus_ |= mstatus::spie;
        if (privilege_ == Privilege::supervisor) mstatus_ |= mstatus::spp;
        privilege_ = Privilege::supervisor;
        virtual_ = false;
        pc_ = (stvec_ & ~u64{3}) + ((stvec_ & 1) ? vector_offset : 0);
    } else {
        if (has_h_) {
            h_.mtval2 = guest_physical;
            h_.mtinst = instruction;
            mstatus_ &= ~(mstatus::mpv | mstatus::gva);
            if (virtual_) mstatus_ |= mstatus::mpv;
            if (gva) mstatus_ |= mstatus::gva;
        }
        mcause_ = full_cause;
        mepc_ = pc_;
        mtval_ = value;
        const bool enabled = (mstatus_ & mstatus::mie) != 0;
        mstatus_ &= ~(mstatus::mie | mstatus::mpie | mstatus::mpp);
        if (enabled) mstatus_ |= mstatus::mpie;
        mstatus_ |= static_cast<u64>(privilege_) << mstatus::mpp_shift;
        privilege_ = Privilege::machine;
        virtual_ = false;
        pc_ = (mtvec_ & ~u64{3}) + ((mtvec_ & 1) ? vector_offset : 0);
    }
    select_translation();
}

// It is read again: what needs it is rare. By the translation that it was fetched by, as long as that is
// cached: the tables may have another one by now, or none.
std::optional<u32> Hart::instruction_at_pc() {
    const auto half = [&](u64 address) -> std::optional<u32> {
        const FetchEntry& entry = fetch_set_->fetch[TlbSet::fetch_index(address)];
        u64 physical = ram_.base() + entry.page * page_size + (address & page_mask);
        if (entry.tag != (address & ~page_mask)) {
            const auto translation = translate_for(address, Access::fetch, 2);
            if (!translation) return std::nullopt;
            physical = translation->physical;
        }
        const u8* host = ram_.host(physical, 2);
        return host != nullptr ? load_le<u16>(host) : 0;
    };
    const u64 pc = position().pc;
    const auto low = half(pc);
    if (!low || (*low & 3) != 3) return low;
    const auto high = half(pc + 2);
    return high ? std::optional<u32>(*low | *high << 16) : std::nullopt;
}

// mtval is the instruction (3.1.16; Sstvala). Where it cannot be fetched any more the trap is the fetch's
// own: a hypervisor may have cleared A in an entry, and fences only when it makes the entry valid again. One
// that finds 0 reads the instruction itself by HLVX, which faults, and lets the guest try again, for ever.
Hart::Next Hart::refuse_instruction(Exception cause) {
    if (const auto raw = instruction_at_pc()) raise(cause, *raw);
    return Next::trap;
}

Hart::Next Hart::illegal_instruction() {
    return refuse_instruction(exc_illegal);
}

Hart::Next Hart::environment_call() {
    if (privilege_ == Privilege::supervisor && !virtual_ && environment_.serves_sbi()) {
        pc_ += 4;
        environment_.supervisor_call(*this);
        if (suspended_) {
            suspended_ = false;
            if (!wakeup_pending()) return Next::stop;
        }
        return Next::settle;
    }
    const bool from_guest = virtual_ && privilege_ == Privilege::supervisor;
    raise(from_guest ? exc_ecall_vs : static_cast<Exception>(exc_ecall_u + static_cast<unsigned>(privilege_)),
          0);
    return Next::trap;
}

Hart::Next Hart::trap_return_machine() {
    if (privilege_ != Privilege::machine) return illegal_instruction();
    const auto target = static_cast<Privilege>((mstatus_ & mstatus::mpp) >> mstatus::mpp_shift);
    const bool enable = (mstatus_ & mstatus::mpie) != 0;
    virtual_ = target != Privilege::machine && (mstatus_ & mstatus::mpv) != 0;
    mstatus_ = (mstatus_ & ~(mstatus::mie | mstatus::mpp | mstatus::mpv)) | mstatus::mpie;
    if (enable) mstatus_ |= mstatus::mie;
    if (target != Privilege::machine) mstatus_ &= ~mstatus::mprv;
    privilege_ = target;
    pc_ = mepc_;
    select_translation();
    return Next::resume;
}

Hart::Next Hart::trap_return_supervisor() {
    if (virtual_) return trap_return_guest();
    const bool trapped = privilege_ == Privilege::supervisor && (mstatus_ & mstatus::tsr) != 0;
    if (privilege_ == Privilege::user || trapped) return illegal_instruction();
    const bool to_supervisor = (mstatus_ & mstatus::spp) != 0;
    const bool enable = (mstatus_ & mstatus::spie) != 0;
    mstatus_ = (mstatus_ & ~(mstatus::sie | mstatus::spp | mstatus::mprv)) | mstatus::spie;
    if (enable) mstatus_ |= mstatus::sie;
    privilege_ = to_supervisor ? Privilege::supervisor : Privilege::user;
    virtual_ = (h_.hstatus & hstatus::spv) != 0;
    h_.hstatus &= ~hstatus::spv;
    pc_ = sepc_;
    select_translation();
    return Next::resume;
}

Hart::Next Hart::wait_for_interrupt() {
    // The time-out of TW, and of U-mode, is zero: the instruction is illegal there at once (3.1.6.5, 3.3.3).
    const bool limited = privilege_ != Privilege::machine && (mstatus_ & mstatus::tw) != 0;
    const bool user = privilege_ == Privilege::user;
    if (limited || (user && !virtual_)) return illegal_instruction();
    if (virtual_ && (user || (h_.hstatus & hstatus::vtw) != 0)) return virtual_instruction();
    pc_ += 4;
    ++stats_.wfi;
    if (wakeup_pending()) return Next::settle;
    return Next::stop;
}

Hart::Next Hart::sfence_vma(u64 address, u64 asid, bool has_address, bool has_asid) {
    const auto space = has_asid ? std::optional<u16>(static_cast<u16>(asid)) : std::nullopt;
    const bool user = privilege_ == Privilege::user;
    if (virtual_) {
        if (user || (h_.hstatus & hstatus::vtvm) != 0) return virtual_instruction();
        fence_guest(address, has_address, space);
    } else {
        const bool trapped = privilege_ == Privilege::supervisor && (mstatus_ & mstatus::tvm) != 0;
        if (user || trapped) return illegal_instruction();
        flush_range(has_address ? address & ~page_mask : 0, has_address ? page_size : 0, {.asid = space});
    }
    pc_ += 4;
    return Next::resume;
}

Hart::Next Hart::sfence_ordering() {
    // SFENCE.W.INVAL and SFENCE.INVAL.IR are not affected by TVM (Svinval 1.0).
    if (privilege_ == Privilege::user) return virtual_ ? virtual_instruction() : illegal_instruction();
    pc_ += 4;
    return Next::resume;
}

Hart::Next Hart::fence_i() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    environment_.await_code_marks(*this);
    drop_stale_code();
    pc_ += 4;
    return Next::settle;
}

Hart::Next Hart::relax() {
    environment_.relax(*this);
    pc_ += 4;
    return Next::resume;
}

Hart::Next Hart::wait_on_reservation(bool unlimited) {
    // TW bounds WRS.NTO as it does WFI; its time-out is zero here (Zawrs, 1.0).
    if (unlimited && privilege_ != Privilege::machine && (mstatus_ & mstatus::tw) != 0)
        return illegal_instruction();
    if (unlimited && virtual_ && (h_.hstatus & hstatus::vtw) != 0) return virtual_instruction();
    return relax();
}

}  // namespace wirt::riscv
