// The hypervisor extension 1.0 (Privileged Architecture, "H" chapter): its CSRs, which access to a CSR is a
// virtual-instruction exception, the interrupts of VS-level, traps into VS-mode, and what the trap
// instruction registers say. With an IMSIC the VS-level half of the Advanced Interrupt Architecture 1.0 (2.3
// and chapter 6).
//
// A CSR that VS-mode sees in the place of another has the number of that other plus 0x100. hvien has no bits,
// and hviprio1 those of the software and the timer interrupt. VMIDs have 14 bits.
//
// Untrusted input: every value written. Fields are WARL: what is not supported is not stored.
#include <algorithm>

#include "base/bits.h"
#include "riscv/hart.h"
#include "riscv/isa.h"

namespace wirt::riscv {

namespace {

constexpr u64 hstatus_writable =
    hstatus::gva | hstatus::spv | hstatus::spvp | hstatus::hu | hstatus::vtvm | hstatus::vtw | hstatus::vtsr;
// Table "Bits of hedeleg that must be writable or must be read-only zero".
constexpr u64 hedeleg_writable = 0xc'b1ff;
// Read-only zero where menvcfg has a zero.
constexpr u64 henvcfg_permitted = envcfg::adue | envcfg::pbmte | envcfg::stce;
constexpr u64 hgatp_writable = u64{0x3fff} << 44 | (((u64{1} << 44) - 1) & ~u64{3});
constexpr u64 mode_field = u64{15} << 60;
constexpr u64 vsstatus_fields =
    mstatus::sie | mstatus::spie | mstatus::spp | mstatus::fs | mstatus::vs | mstatus::sum | mstatus::mxr;
constexpr u64 hvictl_writable = hvictl::vti | hvictl::iid | hvictl::dpr | hvictl::ipriom | hvictl::iprio;
constexpr u64 hviprio1_writable = u64{0xff} << 8 | u64{0xff} << 24;
constexpr u64 vsiselect_mask = 0x1ff;

constexpr bool atp_mode_exists(u64 atp) {
    const u64 mode = atp >> 60;
    return mode == 0 || (mode >= 8 && mode <= 10);
}

// What a supervisor CSR's number stands for while V = 1.
constexpr u16 substituted(u16 number) {
    switch (number) {
        case csr_sstatus:
        case csr_sie:
        case csr_stvec:
        case csr_sscratch:
        case csr_sepc:
        case csr_scause:
        case csr_stval:
        case csr_sip:
        case csr_stimecmp:
        case csr_satp:
        case csr_siselect:
        case csr_sireg:
        case csr_stopei:
        case csr_stopi:
            return number + 0x100;
        default:
            return number;
    }
}

}  // namespace

// ---------------------------------------------------------------- registers

u64 Hart::effective_henvcfg() const {
    return h_.henvcfg & ~(henvcfg_permitted & ~menvcfg_);
}

bool Hart::hypervisor_read(u16 number, u64& value) {
    if (!has_h_) return false;
    switch (number) {
        case csr_hstatus:
            value = h_.hstatus;
            return true;
        case csr_hedeleg:
            value = h_.hedeleg;
            return true;
        case csr_hideleg:
            value = h_.hideleg;
            return true;
        case csr_hie:
            value = mie_ & hs_irqs;
            return true;
        case csr_hip:
            update_timer();
            value = mip() & hs_irqs;
            return true;
        case csr_hvip:
            value = h_.hvip | (mip_.load() & irq_bit(irq_vssi));
            return true;
        case csr_hgeie:
            value = h_.hgeie;
            return true;
        case csr_hgeip:
            value = guest_lines_.load(std::memory_order_acquire);
            return true;
        case csr_henvcfg:
            value = effective_henvcfg();
            return true;
        case csr_hcounteren:
            value = h_.hcounteren;
            return true;
        case csr_htimedelta:
            value = h_.htimedelta;
            return true;
        case csr_htval:
            value = h_.htval;
            return true;
        case csr_htinst:
            value = h_.htinst;
            return true;
        case csr_hgatp:
            value = h_.hgatp;
            return true;
        case csr_mtval2:
            value = h_.mtval2;
            return true;
        case csr_mtinst:
            value = h_.mtinst;
            return true;
        case csr_vsstatus:
            value = h_.vsstatus;
            return true;
        case csr_vsie:
            value = (mie_ & h_.hideleg) >> 1;
            return true;
        case csr_vsip:
            update_timer();
            value = (mip() & h_.hideleg) >> 1;
            return true;
        case csr_vstvec:
            value = h_.vstvec;
            return true;
        case csr_vsscratch:
            value = h_.vsscratch;
            return true;
        case csr_vsepc:
            value = h_.vsepc;
            return true;
        case csr_vscause:
            value = h_.vscause;
            return true;
        case csr_vstval:
            value = h_.vstval;
            return true;
        case csr_vstimecmp:
            value = h_.vstimecmp;
            return true;
        case csr_vsatp:
            value = h_.vsatp;
            return true;
        default:
            return machine_file_ != nullptr && hypervisor_aia_read(number, value);
    }
}

bool Hart::hypervisor_aia_read(u16 number, u64& value) {
    switch (number) {
        case csr_hvien:
        case csr_hviprio2:
            value = 0;
            return true;
        case csr_hvictl:
            value = h_.hvictl;
            return true;
        case csr_hviprio1:
            value = h_.hviprio1;
            return true;
        case csr_vsiselect:
            value = h_.vsiselect;
            return true;
        case csr_vstopi: {
            update_timer();
            const TopInterrupt top = top_guest_interrupt();
            const u64 shown = (h_.hvictl & hvictl::ipriom) != 0 ? std::min<u64>(top.priority, 255) : 1;
            value = top.priority == priority::none ? 0 : u64{top.cause} << 16 | shown;
            return true;
        }
        default:
            return false;
    }
}

bool Hart::hypervisor_write(u16 number, u64 value) {
    if (!has_h_) return false;
    const auto settle_later = [this] {
        update_timer();
        events_.fetch_or(ev_settle);
        return true;
    };
    switch (number) {
        case csr_hstatus: {
            // VGEIN is WLRL: a number that no guest interrupt file has leaves it as it is.
            const u64 vgein = (value & hstatus::vgein) >> hstatus::vgein_shift;
            u64 mask = hstatus_writable | (vgein <= guest_files_.size() ? hstatus::vgein : 0);
            if (isa_.has(Extension::ssnpm)) mask |= hstatus::hupmm;
            if ((value & hstatus::hupmm) == u64{1} << 48) value &= ~hstatus::hupmm;
            h_.hstatus = (h_.hstatus & ~mask) | (value & mask);
            refresh_guest_interrupts();
            return true;
        }
        case csr_hedeleg:
            h_.hedeleg = value & hedeleg_writable;
            return true;
        case csr_hideleg:
            h_.hideleg = value & vs_irqs;
            return true;
        case csr_hie:
            mie_ = (mie_ & ~delegated_always_) | (value & delegated_always_);
            return true;
        case csr_hip:
            write_vssip(value);
            return true;
        case csr_hvip:
            h_.hvip = value & (irq_bit(irq_vsti) | irq_bit(irq_vsei));
            write_vssip(value);
            refresh_guest_interrupts();
            return true;
        case csr_hgeie:
            h_.hgeie = value & (((u64{1} << guest_files_.size()) - 1) << 1);
            refresh_guest_interrupts();
            return true;
        case csr_hgeip:
            return true;
        case csr_henvcfg: {
            const u64 writable = henvcfg_writable() & ~(henvcfg_permitted & ~menvcfg_);
            const u64 old = h_.henvcfg;
            h_.henvcfg = (old & ~writable) | write_envcfg(old, value, writable);
            if (((old ^ h_.henvcfg) & (envcfg::adue | envcfg::pbmte)) != 0) flush_all();
            select_translation();
            return settle_later();
        }
        case csr_hcounteren:
            h_.hcounteren = static_cast<u32>(value);
            return true;
        case csr_htimedelta:
            h_.htimedelta = value;
            return settle_later();
        case csr_htval:
            h_.htval = value;
            return true;
        case csr_htinst:
            h_.htinst = value;
            return true;
        case csr_hgatp: {
            const u64 mask = hgatp_writable | (atp_mode_exists(value) ? mode_field : 0);
            h_.hgatp = (h_.hgatp & ~mask) | (value & mask);
            select_translation();
            return true;
        }
        case csr_mtval2:
            h_.mtval2 = value;
            return true;
        case csr_mtinst:
            h_.mtinst = value;
            return true;
        case csr_vsstatus:
            write_vsstatus(value);
            return true;
        case csr_vsie:
            mie_ = (mie_ & ~h_.hideleg) | (value << 1 & h_.hideleg);
            return true;
        case csr_vsip:
            if ((h_.hideleg & irq_bit(irq_vssi)) != 0) write_vssip(value << 1);
            return true;
        case csr_vstvec:
            h_.vstvec = value & ~u64{2};
            return true;
        case csr_vsscratch:
            h_.vsscratch = value;
            return true;
        case csr_vsepc:
            h_.vsepc = value & ~u64{1};
            return true;
        case csr_vscause:
            h_.vscause = value;
            return true;
        case csr_vstval:
            h_.vstval = value;
            return true;
        case csr_vstimecmp:
            h_.vstimecmp = value;
            return settle_later();
        case csr_vsatp:
            if (!atp_mode_exists(value)) {
                // Ignored when a guest writes its satp; WARL field by field otherwise.
                if (virtual_) return true;
                value = (value & ~mode_field) | (h_.vsatp & mode_field);
            }
            h_.vsatp = value;
            select_translation();
            return true;
        default:
            return machine_file_ != nullptr && hypervisor_aia_write(number, value);
    }
}

bool Hart::hypervisor_aia_write(u16 number, u64 value) {
    switch (number) {
        case csr_hvien:
        case csr_hviprio2:
        case csr_vstopi:
            return true;
        case csr_hvictl:
            h_.hvictl = value & hvictl_writable;
            update_virtual_interrupts();
            return true;
        case csr_hviprio1:
            h_.hviprio1 = value & hviprio1_writable;
            return true;
        case csr_vsiselect:
            h_.vsiselect = value & vsiselect_mask;
            return true;
        default:
            return false;
    }
}

void Hart::write_vssip(u64 value) {
    mip_.fetch_and(~irq_bit(irq_vssi) | value);
    mip_.fetch_or(value & irq_bit(irq_vssi));
}

void Hart::write_vsstatus(u64 value) {
    const u64 writable = vsstatus_fields & mstatus_writable();
    u64 next = (h_.vsstatus & ~writable & ~mstatus::sd) | (value & writable);
    if (mstatus::dirty(next)) next |= mstatus::sd;
    h_.vsstatus = next;
    select_translation();
}

// The file that hstatus.VGEIN names, if any.
InterruptFile* Hart::guest_file() const {
    const u64 vgein = (h_.hstatus & hstatus::vgein) >> hstatus::vgein_shift;
    return vgein == 0 ? nullptr : guest_files_[vgein - 1];
}

// ---------------------------------------------------------------- accesses from VS- and VU-mode

// "Virtual-instruction exceptions": an access that HS-mode would be allowed, assuming TVM = 0. What does not
// exist, or M-mode itself withholds, is an illegal instruction as anywhere.
Hart::Verdict Hart::judge_guest_access(u16 number, bool writes) {
    const bool counter = number >= csr_cycle && number < csr_cycle + 32;
    const bool user = privilege_ == Privilege::user;
    if (number == csr_seed) {
        // A guest never has it: its hypervisor may answer for it where S-mode could (chapter "Entropy
        // Source").
        const bool open = isa_.has(Extension::zkr) && writes && (mseccfg_ & mseccfg::sseed) != 0;
        return open ? Verdict::virtual_instruction : Verdict::illegal;
    }
    u64 ignored;
    const bool exists = reaches_interrupt_file(number) ? machine_file_ != nullptr : csr_read(number, ignored);
    if (!exists || (writes && (number >> 10) == 3)) return Verdict::illegal;
    const unsigned level = bits<unsigned>(number, 8, 2);
    if (level == 3) return Verdict::illegal;
    if (const auto on = unit_is_on(number)) return *on ? Verdict::allowed : Verdict::illegal;
    if (counter) {
        const unsigned index = number - csr_cycle;
        const bool there = isa_.has(index < 3 ? Extension::zicntr : Extension::zihpm);
        if (!there || !bit(mcounteren_, index)) return Verdict::illegal;
        const bool open = bit(h_.hcounteren, index) && (!user || bit(scounteren_, index));
        return open ? Verdict::allowed : Verdict::virtual_instruction;
    }
    const bool timer = number == csr_stimecmp || number == csr_vstimecmp;
    if (timer && !comparator_is_open()) return Verdict::illegal;
    // What Smstateen denies HS-mode is illegal here too; of the windows CSRIND alone decides where a guest
    // has no way to them (AIA 1.0, 2.5).
    const bool window = number == csr_vsireg || (number == csr_sireg && user);
    if (!extension_csr_accessible(window ? u16{csr_siselect} : number, writes)) return Verdict::illegal;
    if (level == 2 || (level == 1 && user)) return Verdict::virtual_instruction;
    if (withheld_from_guest(number)) return Verdict::virtual_instruction;
    const bool injected = (h_.hvictl & hvictl::vti) != 0;
    bool refused = false;
    switch (number) {
        case csr_satp:
            refused = (h_.hstatus & hstatus::vtvm) != 0;
            break;
        case csr_stimecmp:
            refused =
                !bit(h_.hcounteren, 1) || (effective_henvcfg() & envcfg::stce) == 0 || (injected && writes);
            break;
        case csr_sip:
        case csr_sie:
            refused = injected;
            break;
        case csr_sireg:
            // AIA 1.0, 2.3: nothing else is there to be selected.
            refused = guest_file() == nullptr || !selects_interrupt_file(h_.vsiselect);
            break;
        case csr_stopei:
            refused = guest_file() == nullptr;
            break;
        default:
            break;
    }
    return refused ? Verdict::virtual_instruction : Verdict::allowed;
}

bool Hart::guest_csr_access(u16 number, CsrOp op, u64 operand, bool writes, bool reads, u64& old) {
    switch (judge_guest_access(number, writes)) {
        case Verdict::illegal:
            illegal_instruction();
            return false;
        case Verdict::virtual_instruction:
            virtual_instruction();
            return false;
        case Verdict::allowed:
            break;
    }
    return perform_csr_access(substituted(number), op, operand, writes, reads, old);
}

// ---------------------------------------------------------------- interrupts

void Hart::set_guest_interrupt(unsigned file, bool level) {
    if (!has_h_) return;
    const u64 mask = u64{1} << file;
    const u64 old = level ? guest_lines_.fetch_or(mask) : guest_lines_.fetch_and(~mask);
    if (((old & mask) != 0) != level) post(ev_interrupt);
}

// mip holds what the other registers make of VSTIP, VSEIP and SGEIP.
void Hart::refresh_guest_interrupts() {
    const u64 lines = guest_lines_.load(std::memory_order_acquire);
    const u64 vgein = (h_.hstatus & hstatus::vgein) >> hstatus::vgein_shift;
    u64 pending = h_.hvip;
    if (h_.timer_due) pending |= irq_bit(irq_vsti);
    if (vgein != 0 && bit(lines, static_cast<unsigned>(vgein))) pending |= irq_bit(irq_vsei);
    if ((lines & h_.hgeie) != 0) pending |= irq_bit(irq_sgei);
    constexpr u64 shown = irq_bit(irq_vsti) | irq_bit(irq_vsei) | irq_bit(irq_sgei);
    mip_.fetch_and(~shown | pending);
    mip_.fetch_or(pending);
}

void Hart::update_guest_timer() {
    const bool due =
        (effective_henvcfg() & envcfg::stce) != 0 && environment_.time(*this) + h_.htimedelta >= h_.vstimecmp;
    if (due == h_.timer_due) return;
    h_.timer_due = due;
    refresh_guest_interrupts();
}

// In ticks of `time`; ~0 when it is off or due.
u64 Hart::guest_timer_deadline() const {
    if (!has_h_ || h_.timer_due || (effective_henvcfg() & envcfg::stce) == 0) return ~u64{0};
    const u64 now = environment_.time(*this);
    const u64 guest_now = now + h_.htimedelta;
    if (guest_now >= h_.vstimecmp) return now;
    const u64 ahead = h_.vstimecmp - guest_now;
    return ahead > ~now ? ~u64{0} : now + ahead;
}

// AIA 1.0, 6.3.3: vstopi. Without the AIA hvictl and hviprio1 are zero, and this is the order of priority of
// VS-level (SEI, SSI, STI). `cause` is as VS-mode sees it.
Hart::TopInterrupt Hart::top_guest_interrupt() {
    constexpr u32 highest = 0;
    const u64 pending = (mip() & mie_ & h_.hideleg) >> 1;
    const u64 iid = (h_.hvictl & hvictl::iid) >> hvictl::iid_shift;
    const u32 iprio = static_cast<u32>(h_.hvictl & hvictl::iprio);
    const bool injected = (h_.hvictl & hvictl::vti) != 0;

    TopInterrupt external{irq_sei, priority::none};
    if (bit(pending, irq_sei)) {
        InterruptFile* const file = guest_file();
        const u32 identity = file != nullptr ? file->top(false) >> 16 : 0;
        external.priority = priority::no_identity;
        if (identity != 0) {
            external.priority = identity;
        } else if ((h_.hstatus & hstatus::vgein) == 0 && iid == irq_sei && iprio != 0) {
            external.priority = iprio;
        }
    }
    TopInterrupt other{irq_ssi, priority::none};
    bool other_first = false;
    if (injected) {
        if (iid == irq_sei) return external;
        const bool low = (h_.hvictl & hvictl::dpr) != 0;
        other = {static_cast<Interrupt>(iid), iprio != 0 ? iprio : low ? priority::default_low : highest};
        other_first = !low;
    } else {
        for (const Interrupt which : {irq_ssi, irq_sti}) {
            if (!bit(pending, which)) continue;
            const u32 number = static_cast<u32>(bits(h_.hviprio1, which == irq_ssi ? 8 : 24, 8));
            const u32 priority = number != 0 ? number : priority::default_low;
            if (priority < other.priority) other = {which, priority};
        }
    }
    if (external.priority != other.priority) return external.priority < other.priority ? external : other;
    return other_first ? other : external;
}

// ---------------------------------------------------------------- traps

Hart::Next Hart::virtual_instruction() {
    return refuse_instruction(exc_virtual_instruction);
}

void Hart::enter_guest_trap(u64 cause, u64 value, bool interrupt) {
    stats_.count_trap(Stats::guest, cause, interrupt);
    h_.vscause = cause | (interrupt ? u64{1} << 63 : 0);
    h_.vsepc = pc_;
    h_.vstval = value;
    const bool enabled = (h_.vsstatus & mstatus::sie) != 0;
    h_.vsstatus &= ~(mstatus::sie | mstatus::spie | mstatus::spp);
    if (enabled) h_.vsstatus |= mstatus::spie;
    if (privilege_ == Privilege::supervisor) h_.vsstatus |= mstatus::spp;
    privilege_ = Privilege::supervisor;
    pc_ = (h_.vstvec & ~u64{3}) + ((h_.vstvec & 1) != 0 && interrupt ? 4 * cause : 0);
    select_translation();
}

Hart::Next Hart::trap_return_guest() {
    if (privilege_ == Privilege::user || (h_.hstatus & hstatus::vtsr) != 0) return virtual_instruction();
    const bool to_supervisor = (h_.vsstatus & mstatus::spp) != 0;
    const bool enable = (h_.vsstatus & mstatus::spie) != 0;
    h_.vsstatus = (h_.vsstatus & ~(mstatus::sie | mstatus::spp)) | mstatus::spie;
    if (enable) h_.vsstatus |= mstatus::sie;
    privilege_ = to_supervisor ? Privilege::supervisor : Privilege::user;
    pc_ = h_.vsepc;
    select_translation();
    return Next::resume;
}

// Whether the value that a trap reports is a guest virtual address (hstatus.GVA).
bool Hart::faulted_in_guest() const {
    switch (fault_.cause) {
        case exc_fetch_misaligned:
        case exc_fetch_access:
        case exc_fetch_page:
        case exc_fetch_guest_page:
        case exc_breakpoint:
            return virtual_;
        case exc_load_misaligned:
        case exc_load_access:
        case exc_load_page:
        case exc_load_guest_page:
        case exc_store_misaligned:
        case exc_store_access:
        case exc_store_page:
        case exc_store_guest_page:
            return fault_.guest_address || data_mode().guest;
        default:
            return false;
    }
}

// "Transformed Instruction or Pseudoinstruction": of an access that faulted; zero for what has no such form,
// and outside of guests, where nobody needs it.
u64 Hart::trap_instruction() {
    if (fault_.instruction != 0) return fault_.instruction;
    const bool fetch = fault_.cause == exc_fetch_misaligned || fault_.cause == exc_fetch_access ||
                       fault_.cause == exc_fetch_page || fault_.cause == exc_fetch_guest_page ||
                       fault_.cause == exc_breakpoint;
    if (fetch || !faulted_in_guest()) return 0;
    const Fault fault = fault_;
    const auto fetched = instruction_at_pc();
    fault_ = fault;
    if (!fetched) return 0;
    const u32 raw = *fetched;
    const u32 full = is_compressed(raw) ? expand(static_cast<u16>(raw)) : raw;
    const u32 funct3 = bits(full, 12, 3);
    constexpr u32 rs1_field = 31u << 15;
    u64 address = x_[bits(full, 15, 5)];
    u32 transformed;
    switch (full & 0x7f) {
        case 0x07:  // vector loads share the opcode
            if (funct3 == 0 || funct3 > 4) return 0;
            [[fallthrough]];
        case 0x03:
            transformed = full & 0x7fff;
            address += static_cast<u64>(static_cast<i64>(immediate(Format::I, full)));
            break;
        case 0x27:
            if (funct3 == 0 || funct3 > 4) return 0;
            [[fallthrough]];
        case 0x23:
            transformed = full & 0x01f0'707f;
            address += static_cast<u64>(static_cast<i64>(immediate(Format::S, full)));
            break;
        case 0x2f:
            transformed = full & ~rs1_field;
            break;
        case 0x73:
            if (funct3 != 4) return 0;
            transformed = full & ~rs1_field;
            break;
        default:
            return 0;
    }
    // Nonzero where a misaligned access faulted in its second part.
    transformed |= bits<u32>(static_cast<u32>(fault_.value - address), 0, 5) << 15;
    return is_compressed(raw) ? transformed & ~2u : transformed;
}

// ---------------------------------------------------------------- state

void Hart::visit_hypervisor_state(StateVisitor& v) {
    v.section("hypervisor" + std::to_string(id_), 1);
    v.field("virtual", virtual_);
    v.field("hstatus", h_.hstatus);
    v.field("hedeleg", h_.hedeleg);
    v.field("hideleg", h_.hideleg);
    v.field("hvip", h_.hvip);
    v.field("hgeie", h_.hgeie);
    v.field("guest_lines", guest_lines_);
    v.field("henvcfg", h_.henvcfg);
    v.field("hcounteren", h_.hcounteren);
    v.field("htimedelta", h_.htimedelta);
    v.field("htval", h_.htval);
    v.field("htinst", h_.htinst);
    v.field("hgatp", h_.hgatp);
    v.field("mtval2", h_.mtval2);
    v.field("mtinst", h_.mtinst);
    v.field("vsstatus", h_.vsstatus);
    v.field("vstvec", h_.vstvec);
    v.field("vsscratch", h_.vsscratch);
    v.field("vsepc", h_.vsepc);
    v.field("vscause", h_.vscause);
    v.field("vstval", h_.vstval);
    v.field("vsatp", h_.vsatp);
    v.field("vstimecmp", h_.vstimecmp);
    v.field("vsiselect", h_.vsiselect);
    v.field("hvictl", h_.hvictl);
    v.field("hviprio1", h_.hviprio1);
    if (v.loading()) require_legal_hypervisor_state();
}

void Hart::require_legal_hypervisor_state() const {
    const auto require_bits = [this](u64 value, u64 bits, const char* what) {
        require_legal((value & ~bits) == 0, what);
    };
    require_legal(!virtual_ || privilege_ != Privilege::machine, "virtualization mode");
    require_bits(h_.hstatus ^ u64{2} << 32,
                 hstatus_writable | hstatus::vgein | (isa_.has(Extension::ssnpm) ? hstatus::hupmm : 0),
                 "hstatus");
    require_legal((h_.hstatus & hstatus::vgein) >> hstatus::vgein_shift <= guest_files_.size(),
                  "hstatus.VGEIN");
    require_bits(h_.hedeleg, hedeleg_writable, "hedeleg");
    require_bits(h_.hideleg, vs_irqs, "hideleg");
    require_bits(h_.hvip, irq_bit(irq_vsti) | irq_bit(irq_vsei), "hvip");
    const u64 files = ((u64{1} << guest_files_.size()) - 1) << 1;
    require_bits(h_.hgeie | guest_lines_.load(), files, "hgeie or hgeip");
    require_bits(h_.henvcfg, henvcfg_writable(), "henvcfg");
    require_legal((h_.henvcfg & envcfg::cbie) != u64{2} << 4, "henvcfg.CBIE");
    require_bits(h_.hcounteren, 0xffff'ffff, "hcounteren");
    require_bits(h_.hgatp, hgatp_writable | mode_field, "hgatp");
    require_legal(atp_mode_exists(h_.hgatp) && atp_mode_exists(h_.vsatp), "hgatp.MODE or vsatp.MODE");
    require_bits(h_.vsstatus ^ u64{2} << 32, (vsstatus_fields & mstatus_writable()) | mstatus::sd,
                 "vsstatus");
    require_legal(((h_.vsstatus & mstatus::sd) != 0) == mstatus::dirty(h_.vsstatus), "vsstatus.SD");
    require_bits(h_.vstvec, ~u64{2}, "vstvec");
    require_bits(h_.vsepc, ~u64{1}, "vsepc");
    require_bits(h_.vsiselect, vsiselect_mask, "vsiselect");
    require_bits(h_.hvictl, hvictl_writable, "hvictl");
    require_bits(h_.hviprio1, hviprio1_writable, "hviprio1");
}

}  // namespace wirt::riscv
