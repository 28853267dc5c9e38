// Control and status registers (Privileged Architecture 1.13, chapters 2, 3 and 12).
//
// Untrusted input: every value written. Fields are WARL: what is not supported is not stored.
#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "base/bits.h"
#include "base/error.h"
#include "riscv/hart.h"
#include "riscv/isa.h"
#include "riscv/vector/unit.h"

namespace wirt::riscv {

namespace {

constexpr u64 supervisor_irqs = irq_bit(irq_ssi) | irq_bit(irq_sti) | irq_bit(irq_sei);
constexpr u64 all_irqs = supervisor_irqs | irq_bit(irq_msi) | irq_bit(irq_mti) | irq_bit(irq_mei);
// Every exception but the ecall from M-mode, which is never delegated.
constexpr u64 delegable_exceptions = 0xb3ff;
constexpr u64 guest_exceptions = u64{1} << exc_ecall_vs | u64{1} << exc_fetch_guest_page |
                                 u64{1} << exc_load_guest_page | u64{1} << exc_virtual_instruction |
                                 u64{1} << exc_store_guest_page;

constexpr u64 mstatus_fields = mstatus::sie | mstatus::mie | mstatus::spie | mstatus::mpie | mstatus::spp |
                               mstatus::mpp | mstatus::fs | mstatus::vs | mstatus::mprv | mstatus::sum |
                               mstatus::mxr | mstatus::tvm | mstatus::tw | mstatus::tsr;

constexpr u64 pmp_address_mask = (u64{1} << 54) - 1;
constexpr u8 pmpcfg_writable = 0x9f;
constexpr u64 fixed_counters = 5;  // bits of mcountinhibit

// UXL and SXL are fixed at 64 bits.
constexpr u64 mstatus_fixed = u64{2} << 32 | u64{2} << 34;

// 146 years of a deterministic hart: sums with slices do not wrap below it.
constexpr u64 most_cycles = u64{1} << 62;

constexpr bool satp_mode_exists(u64 satp) {
    const u64 mode = satp >> 60;
    return mode == 0 || (mode >= 8 && mode <= 10);
}

// R = 0 with W = 1 is reserved.
constexpr bool pmp_permission_exists(u8 cfg) {
    return (cfg & 3) != 2;
}

std::vector<CsrInfo> build_csrs() {
    std::vector<CsrInfo> list = {
        {csr_fflags, "fflags"},
        {csr_frm, "frm"},
        {csr_fcsr, "fcsr"},
        {csr_vstart, "vstart"},
        {csr_vxsat, "vxsat"},
        {csr_vxrm, "vxrm"},
        {csr_vcsr, "vcsr"},
        {csr_vl, "vl"},
        {csr_vtype, "vtype"},
        {csr_vlenb, "vlenb"},
        {csr_sstatus, "sstatus"},
        {csr_sie, "sie"},
        {csr_stvec, "stvec"},
        {csr_scounteren, "scounteren"},
        {csr_senvcfg, "senvcfg"},
        {csr_sscratch, "sscratch"},
        {csr_sepc, "sepc"},
        {csr_scause, "scause"},
        {csr_stval, "stval"},
        {csr_sip, "sip"},
        {csr_stimecmp, "stimecmp"},
        {csr_satp, "satp"},
        {csr_mstatus, "mstatus"},
        {csr_misa, "misa"},
        {csr_medeleg, "medeleg"},
        {csr_mideleg, "mideleg"},
        {csr_mie, "mie"},
        {csr_mtvec, "mtvec"},
        {csr_mcounteren, "mcounteren"},
        {csr_menvcfg, "menvcfg"},
        {csr_mcountinhibit, "mcountinhibit"},
        {csr_mscratch, "mscratch"},
        {csr_mepc, "mepc"},
        {csr_mcause, "mcause"},
        {csr_mtval, "mtval"},
        {csr_mip, "mip"},
        {csr_mcycle, "mcycle"},
        {csr_minstret, "minstret"},
        {csr_cycle, "cycle"},
        {csr_time, "time"},
        {csr_instret, "instret"},
        {csr_mvendorid, "mvendorid"},
        {csr_marchid, "marchid"},
        {csr_mimpid, "mimpid"},
        {csr_mhartid, "mhartid"},
        {csr_mconfigptr, "mconfigptr"},
        {csr_siselect, "siselect"},
        {csr_sireg, "sireg"},
        {csr_stopei, "stopei"},
        {csr_stopi, "stopi"},
        {csr_mvien, "mvien"},
        {csr_mvip, "mvip"},
        {csr_miselect, "miselect"},
        {csr_mireg, "mireg"},
        {csr_mtopei, "mtopei"},
        {csr_mtopi, "mtopi"},
        {csr_scountovf, "scountovf"},
        {csr_seed, "seed"},
        {csr_mseccfg, "mseccfg"},
        {csr_tselect, "tselect"},
        {csr_tdata1, "tdata1"},
        {csr_tdata2, "tdata2"},
        {csr_tdata3, "tdata3"},
        {csr_tinfo, "tinfo"},
        {csr_vsstatus, "vsstatus"},
        {csr_vsie, "vsie"},
        {csr_vstvec, "vstvec"},
        {csr_vsscratch, "vsscratch"},
        {csr_vsepc, "vsepc"},
        {csr_vscause, "vscause"},
        {csr_vstval, "vstval"},
        {csr_vsip, "vsip"},
        {csr_vstimecmp, "vstimecmp"},
        {csr_vsatp, "vsatp"},
        {csr_vsiselect, "vsiselect"},
        {csr_vsireg, "vsireg"},
        {csr_vstopei, "vstopei"},
        {csr_vstopi, "vstopi"},
        {csr_mtinst, "mtinst"},
        {csr_mtval2, "mtval2"},
        {csr_hstatus, "hstatus"},
        {csr_hedeleg, "hedeleg"},
        {csr_hideleg, "hideleg"},
        {csr_hie, "hie"},
        {csr_htimedelta, "htimedelta"},
        {csr_hcounteren, "hcounteren"},
        {csr_hgeie, "hgeie"},
        {csr_hvien, "hvien"},
        {csr_hvictl, "hvictl"},
        {csr_henvcfg, "henvcfg"},
        {csr_htval, "htval"},
        {csr_hip, "hip"},
        {csr_hvip, "hvip"},
        {csr_hviprio1, "hviprio1"},
        {csr_hviprio2, "hviprio2"},
        {csr_htinst, "htinst"},
        {csr_hgatp, "hgatp"},
        {csr_hgeip, "hgeip"},
    };
    static constexpr std::array<const char*, 2> pmpcfg = {"pmpcfg0", "pmpcfg2"};
    for (u16 i = 0; i < 2; ++i) list.push_back({static_cast<u16>(csr_pmpcfg0 + 2 * i), pmpcfg[i]});
    // Numbered families; their names live as long as the process.
    static std::vector<std::string> names;
    names.reserve(16 + 3 * 29 + 3 * 4);
    const auto family = [&](const char* stem, u16 first_number, u16 first_index, u16 count) {
        for (u16 i = 0; i < count; ++i) {
            names.push_back(stem + std::to_string(first_index + i));
            list.push_back({static_cast<u16>(first_number + i), names.back().c_str()});
        }
    };
    family("pmpaddr", csr_pmpaddr0, 0, 16);
    family("mhpmevent", csr_mhpmevent3, 3, 29);
    family("mhpmcounter", csr_mhpmcounter3, 3, 29);
    family("hpmcounter", csr_hpmcounter3, 3, 29);
    family("mstateen", csr_mstateen0, 0, 4);
    family("sstateen", csr_sstateen0, 0, 4);
    family("hstateen", csr_hstateen0, 0, 4);
    std::sort(list.begin(), list.end(),
              [](const CsrInfo& a, const CsrInfo& b) { return a.number < b.number; });
    return list;
}

}  // namespace

std::span<const CsrInfo> csrs() {
    static const std::vector<CsrInfo> list = build_csrs();
    return list;
}

u64 Hart::mip() {
    u64 value = mip_.load(std::memory_order_acquire);
    // AIA 1.0, 5.3: the software-writable SEIP is a bit of mvip alone then.
    if ((aia_.mvien & irq_bit(irq_sei)) != 0) value &= ~irq_bit(irq_sei);
    return value | (seip_line_.load(std::memory_order_acquire) ? irq_bit(irq_sei) : 0);
}

void Hart::update_timer() {
    if (has_h_) update_guest_timer();
    if ((menvcfg_ & envcfg::stce) == 0) return;
    if (environment_.time(*this) >= stimecmp_) {
        mip_.fetch_or(irq_bit(irq_sti));
    } else {
        mip_.fetch_and(~irq_bit(irq_sti));
    }
}

// CBIE = 2 is reserved: such a write leaves the field as it is. So is PMM = 1, which becomes 0.
u64 Hart::write_envcfg(u64 old, u64 value, u64 writable) {
    if ((value & envcfg::cbie) == u64{2} << 4) value = (value & ~envcfg::cbie) | (old & envcfg::cbie);
    if ((value & envcfg::pmm) == u64{1} << 32) value &= ~envcfg::pmm;
    return value & writable;
}

void Hart::update_unit_states() {
    const auto state = [this](u64 field, unsigned shift) {
        const u64 own = (mstatus_ & field) >> shift;
        const u64 guest = virtual_ ? (h_.vsstatus & field) >> shift : own;
        return static_cast<u8>(std::min(own, guest));
    };
    float_state_ = state(mstatus::fs, mstatus::fs_shift);
    vector_state_ = state(mstatus::vs, mstatus::vs_shift);
}

// "When V=1, modifying the floating-point state causes both fields to be set to Dirty."
void Hart::mark_float_dirty() {
    mstatus_ |= mstatus::fs | mstatus::sd;
    if (virtual_) h_.vsstatus |= mstatus::fs | mstatus::sd;
    float_state_ = 3;
}

void Hart::mark_vector_dirty() {
    mstatus_ |= mstatus::vs | mstatus::sd;
    if (virtual_) h_.vsstatus |= mstatus::vs | mstatus::sd;
    vector_state_ = 3;
}

void Hart::update_float_mode() {
    float_fast_ = frm_ == 0 && (fflags_ & 1) != 0;
}

u64 Hart::misa() const {
    u64 value = u64{2} << 62 | u64{1} << ('s' - 'a') | u64{1} << ('u' - 'a');
    for (const auto& [letter, there] : {
             std::pair{'i', isa_.has(Extension::i)},
             std::pair{'m', isa_.has(Extension::m)},
             std::pair{'a', isa_.has(Extension::a)},
             std::pair{'f', isa_.has(Extension::f)},
             std::pair{'d', isa_.has(Extension::d)},
             std::pair{'c', isa_.has(Extension::c)},
             std::pair{'v', isa_.has(Extension::v)},
             std::pair{'h', has_h_},
             std::pair{'b', isa_.has(Extension::zba) && isa_.has(Extension::zbb) && isa_.has(Extension::zbs)},
         }) {
        if (there) value |= u64{1} << (letter - 'a');
    }
    return value;
}

u64 Hart::mstatus_writable() const {
    return (mstatus_fields | (has_h_ ? mstatus::mpv | mstatus::gva : 0)) &
           ~(isa_.has(Extension::f) ? 0 : mstatus::fs) & ~(vector_ ? 0 : mstatus::vs);
}

u64 Hart::senvcfg_writable() const {
    u64 writable = envcfg::fiom;
    if (isa_.has(Extension::zicbom)) writable |= envcfg::cbie | envcfg::cbcfe;
    if (isa_.has(Extension::zicboz)) writable |= envcfg::cbze;
    if (isa_.has(Extension::ssnpm)) writable |= envcfg::pmm;
    return writable;
}

u64 Hart::interrupts() const {
    return all_irqs | delegated_always_ | (isa_.has(Extension::sscofpmf) ? irq_bit(irq_lcofi) : 0);
}

u64 Hart::supervisor_interrupts() const {
    return interrupts() & (supervisor_irqs | irq_bit(irq_lcofi));
}

u64 Hart::menvcfg_writable() const {
    u64 writable = senvcfg_writable() & ~envcfg::pmm;
    if (isa_.has(Extension::smnpm)) writable |= envcfg::pmm;
    if (isa_.has(Extension::svpbmt)) writable |= envcfg::pbmte;
    if (isa_.has(Extension::svadu)) writable |= envcfg::adue;
    // The SBI of the monitor keeps its time in stimecmp, whether the guest may see that register or not.
    if (isa_.has(Extension::sstc) || environment_.serves_sbi()) writable |= envcfg::stce;
    return writable;
}

// PMM is there by Ssnpm, as it is in senvcfg.
u64 Hart::henvcfg_writable() const {
    return (menvcfg_writable() & ~envcfg::pmm) | (isa_.has(Extension::ssnpm) ? envcfg::pmm : 0);
}

void Hart::write_mstatus(u64 value, u64 mask) {
    u64 next = (mstatus_ & ~mask) | (value & mask);
    // MPP = 2 is no mode: the field keeps its value.
    if ((next & mstatus::mpp) == u64{2} << mstatus::mpp_shift)
        next = (next & ~mstatus::mpp) | (mstatus_ & mstatus::mpp);
    next &= ~mstatus::sd;
    if (mstatus::dirty(next)) next |= mstatus::sd;
    mstatus_ = next;
    select_translation();
}

void Hart::require_legal(bool legal, const char* what) const {
    if (legal) return;
    throw StateError("the saved state of hart " + std::to_string(id_) + " is broken: no hart has such a " +
                     what);
}

// What no guest could have brought about is not taken from a saved state: much of it is used as an index.
void Hart::require_legal_state() const {
    const auto require = [this](bool legal, const char* what) { require_legal(legal, what); };
    const auto require_bits = [&](u64 value, u64 bits, const char* what) {
        require((value & ~bits) == 0, what);
    };
    require(privilege_ == Privilege::user || privilege_ == Privilege::supervisor ||
                privilege_ == Privilege::machine,
            "privilege mode");
    require(cycles_ <= most_cycles && exceptions_ <= cycles_, "count of cycles");
    require_bits(pc_, ~u64{1}, "pc");
    require_bits(fflags_, 31, "fflags");
    require_bits(frm_, 7, "frm");
    require_bits(mstatus_ ^ mstatus_fixed, mstatus_writable() | mstatus::sd, "mstatus");
    require((mstatus_ & mstatus::mpp) != u64{2} << mstatus::mpp_shift, "mstatus.MPP");
    require(((mstatus_ & mstatus::sd) != 0) == mstatus::dirty(mstatus_), "mstatus.SD");
    require_bits(mip_.load(), interrupts(), "mip");
    require_bits(mie_, interrupts(), "mie");
    require_bits(mideleg_, supervisor_interrupts(), "mideleg");
    require_bits(medeleg_, delegable_exceptions | (has_h_ ? guest_exceptions : 0), "medeleg");
    require_bits(mtvec_ | stvec_, ~u64{2}, "trap vector");
    require_bits(mepc_ | sepc_, ~u64{1}, "mepc or sepc");
    require(satp_mode_exists(satp_), "satp.MODE");
    require_bits(menvcfg_, menvcfg_writable(), "menvcfg");
    require_bits(senvcfg_, senvcfg_writable(), "senvcfg");
    for (const u64 configuration : {menvcfg_, senvcfg_})
        require(
            (configuration & envcfg::cbie) != u64{2} << 4 && (configuration & envcfg::pmm) != u64{1} << 32,
            "envcfg");
    require_bits(mcounteren_ | scounteren_, 0xffff'ffff, "counter enable");
    require_bits(mcountinhibit_, fixed_counters | (isa_.has(Extension::sscofpmf) ? Performance::mask : 0),
                 "mcountinhibit");
    for (const u8 cfg : pmpcfg_) {
        require_bits(cfg, pmpcfg_writable, "pmpcfg");
        require(pmp_permission_exists(cfg), "pmpcfg");
    }
    for (const u64 address : pmpaddr_) require_bits(address, pmp_address_mask, "pmpaddr");
}

// None where the register is not the floating-point or the vector unit's.
std::optional<bool> Hart::unit_is_on(u16 number) const {
    if (number >= csr_fflags && number <= csr_fcsr) return float_state_ != 0;
    if (is_vector_csr(number)) return vector_ && vector_state_ != 0;
    return std::nullopt;
}

// Sstc 1.0: below M-mode a comparator needs STCE and mcounteren.TM.
bool Hart::comparator_is_open() const {
    return isa_.has(Extension::sstc) && (menvcfg_ & envcfg::stce) != 0 && bit(mcounteren_, 1);
}

bool Hart::csr_accessible(u16 number, bool writes) const {
    if (writes && (number >> 10) == 3) return false;
    // S-mode has the hypervisor's numbers too; what does not exist is found out later.
    const unsigned level = privilege_ == Privilege::supervisor ? 2 : static_cast<unsigned>(privilege_);
    if (level < bits<unsigned>(number, 8, 2)) return false;
    if (const auto on = unit_is_on(number)) return *on;
    switch (number) {
        case csr_satp:
        case csr_hgatp:
            return !(privilege_ == Privilege::supervisor && (mstatus_ & mstatus::tvm) != 0);
        case csr_stimecmp:
        case csr_vstimecmp:
            return privilege_ == Privilege::machine ? isa_.has(Extension::sstc) : comparator_is_open();
        case csr_sireg:
        case csr_stopei:
            if (privilege_ != Privilege::machine && !supervisor_file_accessible(number)) return false;
            break;
        default:
            break;
    }
    if (!extension_csr_accessible(number, writes)) return false;
    if (number >= csr_cycle && number < csr_cycle + 32) {
        const unsigned counter = number - csr_cycle;
        if (!isa_.has(counter < 3 ? Extension::zicntr : Extension::zihpm)) return false;
        if (privilege_ != Privilege::machine && !bit(mcounteren_, counter)) return false;
        if (privilege_ == Privilege::user && !bit(scounteren_, counter)) return false;
    }
    return true;
}

bool Hart::csr_read(u16 number, u64& value) {
    // The counters show what came before this instruction.
    const auto counter = [&](u64 offset, unsigned index) {
        if (bit(mcountinhibit_, index)) return offset;
        return position().cycles - (index == 0 ? 0 : exceptions_) + offset;
    };
    switch (number) {
        case csr_fflags:
            value = fflags_;
            return true;
        case csr_frm:
            value = frm_;
            return true;
        case csr_fcsr:
            value = static_cast<u64>(frm_) << 5 | fflags_;
            return true;
        case csr_mcycle:
        case csr_cycle:
            value = counter(cycle_offset_, 0);
            return true;
        case csr_minstret:
        case csr_instret:
            value = counter(instret_offset_, 2);
            return true;
        case csr_time:
            value = environment_.time(*this) + (virtual_ ? h_.htimedelta : 0);
            return true;

        case csr_sstatus:
            value = mstatus_ & sstatus_visible;
            return true;
        case csr_sie:
            value = (mie_ & mideleg_) | (aia_.sie & aia_.mvien & ~mideleg_);
            return true;
        case csr_stvec:
            value = stvec_;
            return true;
        case csr_scounteren:
            value = scounteren_;
            return true;
        case csr_senvcfg:
            value = senvcfg_;
            return true;
        case csr_sscratch:
            value = sscratch_;
            return true;
        case csr_sepc:
            value = sepc_;
            return true;
        case csr_scause:
            value = scause_;
            return true;
        case csr_stval:
            value = stval_;
            return true;
        case csr_sip:
            update_timer();
            value = (mip() & mideleg_) | (mvip() & aia_.mvien & ~mideleg_);
            return true;
        case csr_stimecmp:
            value = stimecmp_;
            return true;
        case csr_satp:
            value = satp_;
            return true;

        case csr_mvendorid:
        case csr_marchid:
        case csr_mimpid:
        case csr_mconfigptr:
            value = 0;
            return true;
        case csr_mhartid:
            value = id_;
            return true;
        case csr_mstatus:
            value = mstatus_;
            return true;
        case csr_misa:
            value = misa();
            return true;
        case csr_medeleg:
            value = medeleg_;
            return true;
        case csr_mideleg:
            value = mideleg_ | delegated_always_;
            return true;
        case csr_mie:
            value = mie_;
            return true;
        case csr_mtvec:
            value = mtvec_;
            return true;
        case csr_mcounteren:
            value = mcounteren_;
            return true;
        case csr_menvcfg:
            value = menvcfg_;
            return true;
        case csr_mcountinhibit:
            value = mcountinhibit_;
            return true;
        case csr_mscratch:
            value = mscratch_;
            return true;
        case csr_mepc:
            value = mepc_;
            return true;
        case csr_mcause:
            value = mcause_;
            return true;
        case csr_mtval:
            value = mtval_;
            return true;
        case csr_mip:
            update_timer();
            value = mip();
            return true;
        case csr_pmpcfg0:
        case csr_pmpcfg0 + 2:
            value = load_le<u64>(pmpcfg_ + (number == csr_pmpcfg0 ? 0 : 8));
            return true;
        default:
            break;
    }
    if (is_vector_csr(number)) {
        if (!vector_) return false;
        value = vector_->read_csr(number);
        return true;
    }
    if (number >= csr_pmpaddr0 && number < csr_pmpaddr0 + 16) {
        value = pmpaddr_[number - csr_pmpaddr0];
        return true;
    }
    if (extension_csr_read(number, value)) return true;
    // Zihpm: the further counters are there and count nothing.
    const bool hpm = (number >= csr_mhpmcounter3 && number < csr_mhpmcounter3 + 29) ||
                     (number >= csr_hpmcounter3 && number < csr_hpmcounter3 + 29) ||
                     (number >= csr_mhpmevent3 && number < csr_mhpmevent3 + 29);
    value = 0;
    return hpm || hypervisor_read(number, value) || aia_read(number, value);
}

bool Hart::csr_write(u16 number, u64 value) {
    // The write of a counter counts for itself: what is read back at once is what was written (3.1.10).
    const u64 own = at_insn_ != nullptr ? 1 : 0;
    const auto write_cycle = [&](u64 count) {
        cycle_offset_ = bit(mcountinhibit_, 0) ? count : count - (position().cycles + own);
    };
    const auto write_instret = [&](u64 count) {
        instret_offset_ = bit(mcountinhibit_, 2) ? count : count - (position().cycles - exceptions_ + own);
    };
    switch (number) {
        case csr_fflags:
            fflags_ = value & 31;
            mark_float_dirty();
            update_float_mode();
            return true;
        case csr_frm:
            frm_ = value & 7;
            mark_float_dirty();
            update_float_mode();
            return true;
        case csr_fcsr:
            fflags_ = value & 31;
            frm_ = (value >> 5) & 7;
            mark_float_dirty();
            update_float_mode();
            return true;
        case csr_vstart:
        case csr_vxsat:
        case csr_vxrm:
        case csr_vcsr:
            if (!vector_) return false;
            vector_->write_csr(number, value);
            mark_vector_dirty();
            return true;

        case csr_sstatus:
            write_mstatus(value, sstatus_writable & mstatus_writable());
            return true;
        case csr_sie:
            mie_ = (mie_ & ~mideleg_) | (value & mideleg_);
            write_virtual_sie(value);
            return true;
        case csr_stvec:
            stvec_ = value & ~u64{2};
            return true;
        case csr_scounteren:
            scounteren_ = static_cast<u32>(value);
            return true;
        case csr_senvcfg:
            senvcfg_ = write_envcfg(senvcfg_, value, senvcfg_writable());
            select_translation();
            return true;
        case csr_sscratch:
            sscratch_ = value;
            return true;
        case csr_sepc:
            sepc_ = value & ~u64{1};
            return true;
        case csr_scause:
            scause_ = value;
            return true;
        case csr_stval:
            stval_ = value;
            return true;
        case csr_sip: {
            const u64 writable = (irq_bit(irq_ssi) | irq_bit(irq_lcofi)) & mideleg_;
            mip_.fetch_and(~writable | value);
            mip_.fetch_or(value & writable);
            if ((aia_.mvien & ~mideleg_ & irq_bit(irq_ssi)) != 0) write_mvip(value, irq_bit(irq_ssi));
            return true;
        }
        case csr_stimecmp:
            stimecmp_ = value;
            update_timer();
            events_.fetch_or(ev_settle);
            return true;
        case csr_satp: {
            // "If satp is written with an unsupported MODE, the entire write has no effect" (12.1.11).
            if (!satp_mode_exists(value)) return true;
            satp_ = value;
            select_translation();
            return true;
        }

        case csr_mstatus:
            write_mstatus(value, mstatus_writable());
            return true;
        case csr_misa:
            return true;
        case csr_medeleg:
            medeleg_ = value & (delegable_exceptions | (has_h_ ? guest_exceptions : 0));
            return true;
        case csr_mideleg:
            mideleg_ = value & supervisor_interrupts();
            update_virtual_interrupts();
            return true;
        case csr_mie:
            mie_ = value & interrupts();
            return true;
        case csr_mtvec:
            mtvec_ = value & ~u64{2};
            return true;
        case csr_mcounteren:
            mcounteren_ = static_cast<u32>(value);
            return true;
        case csr_menvcfg: {
            const u64 old = menvcfg_;
            menvcfg_ = write_envcfg(menvcfg_, value, menvcfg_writable());
            if (((old ^ menvcfg_) & envcfg::stce) != 0) mip_.fetch_and(~irq_bit(irq_sti));
            if (((old ^ menvcfg_) & (envcfg::adue | envcfg::pbmte)) != 0) flush_all();
            select_translation();
            update_timer();
            events_.fetch_or(ev_settle);
            return true;
        }
        case csr_mcountinhibit: {
            // This instruction is still counted by the old setting.
            u64 cycle = 0;
            u64 instret = 0;
            csr_read(csr_mcycle, cycle);
            csr_read(csr_minstret, instret);
            cycle += bit(mcountinhibit_, 0) ? 0 : own;
            instret += bit(mcountinhibit_, 2) ? 0 : own;
            const bool programmable = isa_.has(Extension::sscofpmf);
            if (programmable) accrue(ahead() - own);
            mcountinhibit_ = value & (fixed_counters | (programmable ? Performance::mask : 0));
            write_cycle(cycle);
            write_instret(instret);
            if (programmable) update_performance();
            return true;
        }
        case csr_mcycle:
            write_cycle(value);
            return true;
        case csr_minstret:
            write_instret(value);
            return true;
        case csr_mscratch:
            mscratch_ = value;
            return true;
        case csr_mepc:
            mepc_ = value & ~u64{1};
            return true;
        case csr_mcause:
            mcause_ = value;
            return true;
        case csr_mtval:
            mtval_ = value;
            return true;
        case csr_mip: {
            u64 writable = irq_bit(irq_ssi) | irq_bit(irq_sei);
            if ((menvcfg_ & envcfg::stce) == 0) writable |= irq_bit(irq_sti);
            if (isa_.has(Extension::sscofpmf)) writable |= irq_bit(irq_lcofi);
            if ((aia_.mvien & irq_bit(irq_sei)) != 0) writable &= ~irq_bit(irq_sei);
            writable |= delegated_always_ & irq_bit(irq_vssi);
            mip_.fetch_and(~writable | value);
            mip_.fetch_or(value & writable);
            return true;
        }
        case csr_pmpcfg0:
        case csr_pmpcfg0 + 2:
            for (unsigned i = 0; i < 8; ++i) {
                u8& cfg = pmpcfg_[(number == csr_pmpcfg0 ? 0 : 8) + i];
                if ((cfg & 0x80) != 0) continue;  // locked until reset (3.7.1.2)
                u8 next = static_cast<u8>(value >> (8 * i)) & pmpcfg_writable;
                if (!pmp_permission_exists(next)) next &= static_cast<u8>(~2u);
                cfg = next;
            }
            flush_all();
            return true;
        default:
            break;
    }
    if (number >= csr_pmpaddr0 && number < csr_pmpaddr0 + 16) {
        const unsigned i = number - csr_pmpaddr0;
        const bool next_locks =
            i < 15 && (pmpcfg_[i + 1] & 0x98) == 0x88;  // locked, TOR: its base is this one
        if ((pmpcfg_[i] & 0x80) == 0 && !next_locks) {
            pmpaddr_[i] = value & pmp_address_mask;
            flush_all();
        }
        return true;
    }
    if (extension_csr_write(number, value)) return true;
    return (number >= csr_mhpmcounter3 && number < csr_mhpmcounter3 + 29) ||
           (number >= csr_mhpmevent3 && number < csr_mhpmevent3 + 29) || hypervisor_write(number, value) ||
           aia_write(number, value);
}

bool Hart::csr_access(u16 number, CsrOp op, u64 operand, bool writes, bool reads, u64& old) {
    if (virtual_) return guest_csr_access(number, op, operand, writes, reads, old);
    if (csr_accessible(number, writes)) return perform_csr_access(number, op, operand, writes, reads, old);
    illegal_instruction();
    return false;
}

bool Hart::perform_csr_access(u16 number, CsrOp op, u64 operand, bool writes, bool reads, u64& old) {
    const auto done = [this](bool exists) {
        if (!exists) illegal_instruction();
        return exists;
    };
    old = 0;
    if (reaches_interrupt_file(number)) {
        // A message may come at any time: what is read and what is written are one step.
        const u64 mask = !writes ? 0 : op == CsrOp::write ? ~u64{0} : operand;
        return done(interrupt_file_access(number, mask, op == CsrOp::clear ? 0 : operand, writes, old));
    }
    if ((reads || op != CsrOp::write || !writes) && !csr_read(number, old)) return done(false);
    if (!writes) return true;
    u64 value = operand;
    if (op != CsrOp::write) {
        u64 base = old;
        // Set and clear act on the software-writable SEIP, not on the wired-OR that is read (3.1.9).
        if (number == csr_mip) base = mip_.load();
        value = op == CsrOp::set ? base | operand : base & ~operand;
    }
    return done(csr_write(number, value));
}

std::optional<u64> Hart::peek_csr(u16 number) {
    at_insn_ = nullptr;
    u64 value;
    if (!csr_read(number, value)) return std::nullopt;
    return value;
}

bool Hart::poke_csr(u16 number, u64 value) {
    at_insn_ = nullptr;
    if ((number >> 10) == 3 || !csr_write(number, value)) return false;
    return true;
}

}  // namespace wirt::riscv
