// Control and status registers that extensions bring: Zkr's seed and mseccfg, the state enables of Smstateen,
// and the ways to the counters of Sscofpmf and the triggers of Sdtrig. And their state.
//
// Untrusted input: every value written. Fields are WARL: what is not supported is not stored.
#include <string>

#include "base/bits.h"
#include "base/error.h"
#include "riscv/hart.h"

namespace wirt::riscv {

namespace {

constexpr u64 mseccfg_writable = mseccfg::useed | mseccfg::sseed;
// seed.OPST = ES16: sixteen bits come with it (chapter "Entropy Source").
constexpr u64 seed_es16 = u64{2} << 30;

constexpr bool is_mstateen(u16 number) {
    return number >= csr_mstateen0 && number < csr_mstateen0 + 4;
}
constexpr bool is_sstateen(u16 number) {
    return number >= csr_sstateen0 && number < csr_sstateen0 + 4;
}
constexpr bool is_hstateen(u16 number) {
    return number >= csr_hstateen0 && number < csr_hstateen0 + 4;
}
constexpr bool is_trigger(u16 number) {
    return number >= csr_tselect && number <= csr_tinfo;
}

}  // namespace

u64 Hart::mstateen_writable(unsigned index) const {
    if (index != 0) return stateen::se;
    u64 writable = stateen::se | stateen::envcfg;
    if (machine_file_ != nullptr) writable |= stateen::csrind | stateen::aia | stateen::imsic;
    return writable;
}

// Whether the mode may access the register, of those that have rules of their own here; others may be.
bool Hart::extension_csr_accessible(u16 number, bool writes) const {
    const bool machine = privilege_ == Privilege::machine;
    const bool stateen = isa_.has(Extension::smstateen) && !machine;
    const auto enabled = [&](u64 field) { return !stateen || (mstateen_[0] & field) == field; };
    switch (number) {
        case csr_seed:
            // A read that writes nothing is illegal as well: what was read is gone.
            if (!isa_.has(Extension::zkr) || !writes) return false;
            return machine ||
                   (mseccfg_ & (privilege_ == Privilege::supervisor ? mseccfg::sseed : mseccfg::useed)) != 0;
        case csr_senvcfg:
        case csr_henvcfg:
            return enabled(stateen::envcfg);
        case csr_siselect:
        case csr_vsiselect:
            return enabled(stateen::csrind);
        case csr_sireg:
        case csr_vsireg: {
            // The registers of an IMSIC's file begin at 0x70 (AIA 1.0, 3.8).
            const u64 select = virtual_ || number == csr_vsireg ? h_.vsiselect : aia_.siselect;
            return enabled(stateen::csrind | (select >= 0x70 ? stateen::imsic : 0));
        }
        case csr_stopi:
        case csr_vstopi:
        case csr_hvien:
        case csr_hvictl:
        case csr_hviprio1:
        case csr_hviprio2:
            return enabled(stateen::aia);
        case csr_stopei:
        case csr_vstopei:
            return enabled(stateen::imsic);
        default:
            break;
    }
    if (is_hstateen(number)) return machine || (mstateen_[number - csr_hstateen0] & stateen::se) != 0;
    if (is_sstateen(number)) return machine || (mstateen_[number - csr_sstateen0] & stateen::se) != 0;
    return true;
}

// Of what mstateen grants, hstateen may withhold from a guest: a virtual-instruction exception.
bool Hart::withheld_from_guest(u16 number) const {
    if (!isa_.has(Extension::smstateen)) return false;
    const auto withheld = [&](unsigned index, u64 field) {
        return (hstateen_[index] & mstateen_[index] & field) != field;
    };
    switch (number) {
        case csr_senvcfg:
            return withheld(0, stateen::envcfg);
        case csr_siselect:
            return withheld(0, stateen::csrind);
        case csr_sireg:
            return withheld(0, stateen::csrind | stateen::imsic);
        case csr_stopi:
            return withheld(0, stateen::aia);
        case csr_stopei:
            return withheld(0, stateen::imsic);
        default:
            return is_sstateen(number) && withheld(number - csr_sstateen0, stateen::se);
    }
}

bool Hart::extension_csr_read(u16 number, u64& value) {
    if (number == csr_seed && isa_.has(Extension::zkr)) {
        value = seed_es16 | environment_.draw_entropy();
        return true;
    }
    if (number == csr_mseccfg && isa_.has(Extension::zkr)) {
        value = mseccfg_;
        return true;
    }
    if (isa_.has(Extension::smstateen)) {
        if (is_mstateen(number)) {
            value = mstateen_[number - csr_mstateen0];
            return true;
        }
        if (is_hstateen(number) && has_h_) {
            const unsigned index = number - csr_hstateen0;
            // A zero in mstateen is a read-only zero here.
            value = hstateen_[index] & mstateen_[index];
            return true;
        }
        if (is_sstateen(number)) {
            // Nothing that they could withhold from U-mode is there: no custom state, no Zfinx, no Zcmt.
            value = 0;
            return true;
        }
    }
    if (isa_.has(Extension::sscofpmf)) {
        if (performance_read(number, value, ahead())) return true;
    }
    return isa_.has(Extension::sdtrig) && is_trigger(number) && trigger_read(number, value);
}

bool Hart::extension_csr_write(u16 number, u64 value) {
    if (number == csr_seed && isa_.has(Extension::zkr)) return true;
    if (number == csr_mseccfg && isa_.has(Extension::zkr)) {
        mseccfg_ = value & mseccfg_writable;
        return true;
    }
    if (isa_.has(Extension::smstateen)) {
        if (is_mstateen(number)) {
            const unsigned index = number - csr_mstateen0;
            mstateen_[index] = value & mstateen_writable(index);
            return true;
        }
        if (is_hstateen(number) && has_h_) {
            const unsigned index = number - csr_hstateen0;
            const u64 writable = mstateen_writable(index) & mstateen_[index];
            hstateen_[index] = (hstateen_[index] & ~writable) | (value & writable);
            return true;
        }
        if (is_sstateen(number)) return true;
    }
    if (isa_.has(Extension::sscofpmf)) {
        if (performance_write(number, value, ahead() - (at_insn_ != nullptr ? 1 : 0))) return true;
    }
    return isa_.has(Extension::sdtrig) && is_trigger(number) && trigger_write(number, value);
}

// Sections of their own, of harts that have the extension: the others' state is what it was.
void Hart::visit_extension_state(StateVisitor& v) {
    const std::string hart = "hart" + std::to_string(id_);
    const auto require = [&](bool legal, const char* what) {
        if (!legal) throw StateError("the saved state of " + hart + " is broken: no hart has such a " + what);
    };
    if (isa_.has(Extension::zkr)) {
        v.section(hart + ".zkr", 1);
        v.field("mseccfg", mseccfg_);
        if (v.loading()) require((mseccfg_ & ~mseccfg_writable) == 0, "mseccfg");
    }
    if (isa_.has(Extension::smstateen)) {
        v.section(hart + ".smstateen", 1);
        v.field("mstateen", mstateen_);
        v.field("hstateen", hstateen_);
        for (unsigned i = 0; v.loading() && i < 4; ++i)
            require(((mstateen_[i] | hstateen_[i]) & ~mstateen_writable(i)) == 0, "mstateen or hstateen");
    }
    if (isa_.has(Extension::sscofpmf)) {
        v.section(hart + ".sscofpmf", 1);
        if (!v.loading()) accrue(0);
        for (unsigned i = 0; i < Performance::count; ++i) {
            Performance::Counter& counter = performance_.counters[i];
            v.field("mhpmevent" + std::to_string(Performance::first + i), counter.event);
            v.field("mhpmcounter" + std::to_string(Performance::first + i), counter.value);
        }
        if (v.loading()) {
            for (Performance::Counter& counter : performance_.counters) {
                require(counts_event(counter.event & ~event_flags()), "mhpmevent");
                counter.since = event_total(counter.event, 0);
            }
            update_performance();
        }
    }
    if (isa_.has(Extension::sdtrig)) {
        v.section(hart + ".sdtrig", 1);
        v.field("tselect", triggers_.tselect);
        v.field("tdata1", triggers_.tdata1);
        v.field("tdata2", triggers_.tdata2);
        if (v.loading()) {
            require(triggers_.tselect < Triggers::count, "tselect");
            update_triggers();
        }
    }
}

}  // namespace wirt::riscv
