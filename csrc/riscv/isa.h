// The instruction set as data: what the tables in isa/ say, without their semantics.
#pragma once

#include <span>
#include <string>

#include "base/types.h"

namespace wirt::riscv {

// Operand formats. The letters of the floating-point ones name the register files of rd, rs1, rs2, rs3
// (F: floating point, X: integer); _RM ones carry a rounding mode.
enum class Format : u8 {
    NONE,
    R,
    R1,
    I,
    SHAMT6,
    SHAMT5,
    S,
    B,
    U,
    J,
    FENCE,
    FENCEI,
    CSR,
    CSRI,
    SFENCE,
    CBO,
    AMO,
    LR,
    HLV,
    HSV,
    FL,
    FST,
    FFFF_RM,
    FFF_RM,
    FF_RM,
    FFF,
    XFF,
    XF,
    FX,
    XF_RM,
    FX_RM,
    FLI,
    MOPR,
    MOPRR,
    RNUM,
    // Vectors. The letters behind the first name the operands in their order: V a vector register, X an
    // integer and F a floating-point one, I a signed and U an unsigned immediate; M is v0 as an operand.
    // Where bit 25 is clear, v0 is the mask.
    VSETVLI,
    VSETIVLI,
    VSETVL,
    VL,   // loads and stores: of consecutive elements
    VLS,  // with a stride in rs2
    VLX,  // with indices in vs2
    VVV,
    VVX,
    VVI,
    VVU,
    VVU6,  // bit 26 is the highest of the immediate
    VVF,
    VMV,  // multiply-add: vs2 is the last operand
    VMX,
    VMF,
    VVVM,
    VVXM,
    VVIM,
    VVFM,
    V1,  // vd and vs1; the other fields are fixed
    VX,
    VI,
    VF,
    V2,
    VD,
    XV2,
    FV2,
    C,
};

// What a table's flags column says; the tables leave the prefix out.
enum InstructionFlags : u8 { flag_0 = 0, flag_ends = 1, flag_fp = 2, flag_csr = 4 };

enum class Opcode : u16 {
#define EXTENSION(name)
#define INSN(id, ...) id,
#define VINSN(id, ...) id,
#include "riscv/isa/all.def"
#undef VINSN
#undef INSN
#undef EXTENSION
    illegal,
};

enum class CompressedOpcode : u16 {
#define EXTENSION(name)
#define CINSN(id, ...) id,
#include "riscv/isa/compressed.def"
#undef CINSN
#undef EXTENSION
    count,
};

enum class Extension : u8 {
#define ISA_EXTENSION(name, brings) name,
#include "riscv/extensions.def"
#undef ISA_EXTENSION
    privileged,  // M-, S- and U-mode, which every hart has
#define EXTENSION_SET(name, kind, members) name,
#include "riscv/extension_sets.def"
#undef EXTENSION_SET
    count,
};
const char* extension_name(Extension extension);

class IsaConfig;

struct InstructionInfo {
    const char* name;
    u32 mask;
    u32 match;
    Format format;
    u8 flags;
    Extension extension;
    bool compressed;
};

// 32-bit instructions by Opcode, then the compressed ones.
std::span<const InstructionInfo> instructions();
const char* format_name(Format format);

// Opcode::illegal when no table has it, or none of an extension that the hart has (null: all there are).
Opcode identify(u32 raw, const IsaConfig* isa = nullptr);
const InstructionInfo& info(Opcode opcode);
const InstructionInfo& info(CompressedOpcode opcode);
// The 32-bit form of a compressed instruction; 0 (an illegal encoding) when it is reserved.
u32 expand(u16 compressed, const IsaConfig* isa = nullptr);
constexpr bool is_compressed(u32 raw) {
    return (raw & 3) != 3;
}

// Immediate of a 32-bit instruction in the given format, sign-extended as the instruction uses it.
i32 immediate(Format format, u32 raw);

// Either width; pc-relative targets are shown as absolute addresses.
std::string disassemble(u32 raw, u64 pc);
const char* register_abi_name(unsigned x);
const char* float_abi_name(unsigned f);

struct CsrInfo {
    u16 number;
    const char* name;
};
std::span<const CsrInfo> csrs();
// Null when the number has no name here.
const char* csr_name(u16 number);

}  // namespace wirt::riscv
