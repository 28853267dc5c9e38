// Untrusted input: what a saved state says of vl, vtype, vstart and vxrm. Loops run to vl, so it is bounded
// here.
#include "riscv/vector/unit.h"

#include <algorithm>
#include <string>

#include "base/bits.h"
#include "base/error.h"
#include "riscv/csr_fields.h"

namespace wirt::riscv::vector {

Unit::Unit(const IsaConfig& isa)
    : vlenb_(isa.vlen() / 8),
      half_(isa.has(Extension::zvfh)      ? HalfPrecision::full
            : isa.has(Extension::zvfhmin) ? HalfPrecision::conversions
                                          : HalfPrecision::none),
      sha512_(isa.has(Extension::zvknhb)),
      file_(std::make_unique<Line[]>(32 * vlenb_ / sizeof(Line))) {}

void Unit::reset() {
    std::fill_n(reg(0), 32 * vlenb_, u8{0});
    set_vtype(vill);
    vl = vstart = 0;
    vxrm = 0;
    vxsat = false;
}

// LMUL = 2^-4 is reserved; with a fractional one SEW goes up to LMUL * ELEN (3.4.2); ELEN is 64.
bool Unit::type_is_legal(u64 value) const {
    const int lmul = static_cast<int>(sign_extend(value & 7, 3));
    const int sew = static_cast<int>(bits(value, 3, 3));
    return (value >> 8) == 0 && lmul != -4 && sew <= 3 + std::min(lmul, 0);
}

void Unit::set_vtype(u64 value) {
    if (!type_is_legal(value)) {
        vtype_ = vill;
        vlmax_ = 0;
        return;
    }
    vtype_ = value;
    lmul_ = static_cast<int>(sign_extend(value & 7, 3));
    sew_ = static_cast<unsigned>(bits(value, 3, 3));
    const u64 per_register = vlenb_ >> sew_;
    vlmax_ = lmul_ >= 0 ? per_register << lmul_ : per_register >> -lmul_;
}

u64 Unit::read_csr(u16 number) const {
    switch (number) {
        case csr_vstart:
            return vstart;
        case csr_vxsat:
            return vxsat;
        case csr_vxrm:
            return vxrm;
        case csr_vcsr:
            return static_cast<u64>(vxrm) << 1 | vxsat;
        case csr_vl:
            return vl;
        case csr_vtype:
            return vtype_;
        default:
            return vlenb_;
    }
}

void Unit::write_csr(u16 number, u64 value) {
    switch (number) {
        case csr_vstart:
            // As many bits as the largest index of an element has (3.7).
            vstart = value & (vlen() - 1);
            break;
        case csr_vxsat:
            vxsat = value & 1;
            break;
        case csr_vxrm:
            vxrm = value & 3;
            break;
        case csr_vcsr:
            vxsat = value & 1;
            vxrm = (value >> 1) & 3;
            break;
        default:
            break;
    }
}

void Unit::visit_state(StateVisitor& v, std::string_view section) {
    v.section(section, 1);
    u64 type = vtype_;
    v.field("vtype", type);
    v.field("vl", vl);
    v.field("vstart", vstart);
    v.field("vxrm", vxrm);
    v.field("vxsat", vxsat);
    for (unsigned i = 0; i < 32; ++i) v.field(std::string("v").append(std::to_string(i)), bytes(i));
    if (!v.loading()) return;
    set_vtype(type);
    if (vtype_ != type || vl > vlmax_ || vstart >= vlen() || vxrm > 3) {
        throw StateError("the saved state is broken: no vector unit has such a vtype, vl, vstart or vxrm");
    }
}

}  // namespace wirt::riscv::vector
