// vsetvli, vsetivli and vsetvl (V 1.0, chapter 6), and the way from the interpreter to a function.
#include "riscv/vector/op.h"

namespace wirt::riscv::vector {

namespace {

enum Source { Immediate, ShortImmediate, Register };

template <Source source>
Result set_configuration(Op& op) {
    const u64 type = source == Immediate        ? bits(op.raw, 20, 11)
                     : source == ShortImmediate ? bits(op.raw, 20, 10)
                                                : op.rs2();
    Unit& unit = op.unit;
    const u64 before = unit.vlmax();
    const bool keeps = source != ShortImmediate && op.vd() == 0 && op.vs1() == 0;
    const bool to_most = source != ShortImmediate && op.vd() != 0 && op.vs1() == 0;
    const u64 wanted = source == ShortImmediate ? op.uimm() : op.rs1();
    unit.set_vtype(type);
    // To keep vl where VLMAX would change is reserved (6.2).
    if (keeps && unit.vlmax() != before) unit.set_vtype(Unit::vill);
    if (unit.illegal_type()) {
        unit.vl = 0;
    } else if (to_most) {
        unit.vl = unit.vlmax();
    } else if (!keeps) {
        unit.vl = wanted < unit.vlmax() ? wanted : unit.vlmax();
    }
    op.set_rd(unit.vl);
    return Result::done;
}

constexpr Function functions[] = {
#define EXTENSION(name)
#define INSN(id, ...)
#define VINSN(id, ...) execute_##id,
#include "riscv/isa/all.def"
#undef VINSN
#undef INSN
#undef EXTENSION
};

}  // namespace

#define VINSN WIRT_VECTOR_FUNCTION
#include "riscv/isa/v_config.def"
#undef VINSN

}  // namespace wirt::riscv::vector

namespace wirt::riscv {

bool Hart::execute_vector(const Insn& insn) {
    if (vector_state_ == 0) {
        illegal_instruction();
        return false;
    }
    vector::Op op{*this, *vector_, static_cast<u32>(insn.imm)};
    const vector::Result result = vector::functions[insn.rs1 | insn.rs2 << 8](op);
    if (result == vector::Result::illegal) {
        illegal_instruction();
        return false;
    }
    mark_vector_dirty();
    // An access that traps in the middle has left its place.
    if (result == vector::Result::fault) return false;
    vector_->vstart = 0;
    return true;
}

}  // namespace wirt::riscv
