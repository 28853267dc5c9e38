// What the decoder and the interpreter share: handler addresses, and operand bits packed by the one for the
// other.
#pragma once

#include "riscv/isa.h"

namespace wirt::riscv {

// Handlers behind those of the instruction tables. `op_illegal` is Opcode::illegal.
enum PseudoOp : u16 {
    op_illegal = static_cast<u16>(Opcode::illegal),
    op_float_check,  // FS must not be Off; imm: what it has to be, Dirty if the block writes
    op_breakpoint,   // stop if the address is a breakpoint, trap if a trigger fires at it
    op_end,          // the block ends without a control transfer; imm: what follows, relative to the page
// Special forms of one instruction, and two or three as one (fused.def).
#define SPECIAL(id, ...) op_##id,
#define FUSED(id, ...) op_##id,
#define TRIPLE(id, ...) op_##id,
#include "riscv/isa/fused.def"
#undef SPECIAL
#undef FUSED
#undef TRIPLE
    handler_count,
};

// The tables of vector instructions lie together, and begin with this.
inline constexpr unsigned first_vector_opcode = static_cast<u16>(Opcode::vsetvli);
constexpr bool is_vector(Format format) {
    return format >= Format::VSETVLI && format <= Format::FV2;
}

// In Insn::rs2 of a CSR instruction.
enum CsrOperandBits : u8 { csr_writes = 1, csr_reads = 2, csr_ends = 4 };

struct Insn;

// Replaces handlers of a decoded block by those of special forms, pairs and triples. `ops` says what each
// slot is; what is no instruction has op_illegal there. Each slot keeps its own operands, and all but the
// first of several their own handlers, so that a trap, a stop or a miss in between needs nothing special.
void fuse(Insn* slots, const u16* ops, unsigned count, const void* const* handlers);

}  // namespace wirt::riscv
