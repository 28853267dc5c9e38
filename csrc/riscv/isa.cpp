// The tables of isa/ as data, decoding by them, and the disassembler.
#include "riscv/isa.h"

#include <array>
#include <cstdio>
#include <vector>

#include "base/bits.h"
#include "riscv/isa_config.h"

namespace wirt::riscv {

namespace {

// --- encoding, for the expansion of compressed instructions ---
constexpr u32 enc_r(u32 base, u32 rd, u32 rs1, u32 rs2) {
    return base | rd << 7 | rs1 << 15 | rs2 << 20;
}
constexpr u32 enc_i(u32 base, u32 rd, u32 rs1, i32 imm) {
    return base | rd << 7 | rs1 << 15 | static_cast<u32>(imm) << 20;
}
constexpr u32 enc_s(u32 base, u32 rs1, u32 rs2, i32 imm) {
    const u32 v = static_cast<u32>(imm);
    return base | rs1 << 15 | rs2 << 20 | (v & 31) << 7 | ((v >> 5) & 127) << 25;
}
constexpr u32 enc_b(u32 base, u32 rs1, u32 rs2, i32 imm) {
    const u32 v = static_cast<u32>(imm);
    return base | rs1 << 15 | rs2 << 20 | bits(v, 11, 1) << 7 | bits(v, 1, 4) << 8 | bits(v, 5, 6) << 25 |
           bits(v, 12, 1) << 31;
}
constexpr u32 enc_u(u32 base, u32 rd, i32 imm) {
    return base | rd << 7 | (static_cast<u32>(imm) & 0xfffff000u);
}
constexpr u32 enc_j(u32 base, u32 rd, i32 imm) {
    const u32 v = static_cast<u32>(imm);
    return base | rd << 7 | bits(v, 12, 8) << 12 | bits(v, 11, 1) << 20 | bits(v, 1, 10) << 21 |
           bits(v, 20, 1) << 31;
}

// --- immediates of the compressed formats (figures in chapter 27) ---
constexpr i32 sx(u32 value, unsigned width) {
    return static_cast<i32>(sign_extend(value, width));
}
constexpr i32 c_imm_ci(u32 c) {
    return sx(bits(c, 2, 5) | bits(c, 12, 1) << 5, 6);
}
constexpr i32 c_shamt(u32 c) {
    return static_cast<i32>(bits(c, 2, 5) | bits(c, 12, 1) << 5);
}
constexpr i32 c_imm_ciw(u32 c) {
    return static_cast<i32>(bits(c, 11, 2) << 4 | bits(c, 7, 4) << 6 | bits(c, 6, 1) << 2 |
                            bits(c, 5, 1) << 3);
}
constexpr i32 c_imm_cl_w(u32 c) {
    return static_cast<i32>(bits(c, 10, 3) << 3 | bits(c, 6, 1) << 2 | bits(c, 5, 1) << 6);
}
constexpr i32 c_imm_cl_d(u32 c) {
    return static_cast<i32>(bits(c, 10, 3) << 3 | bits(c, 5, 2) << 6);
}
constexpr i32 c_imm_byte(u32 c) {
    return static_cast<i32>(bits(c, 6, 1) | bits(c, 5, 1) << 1);
}
constexpr i32 c_imm_half(u32 c) {
    return static_cast<i32>(bits(c, 5, 1) << 1);
}
constexpr i32 c_imm_addi16sp(u32 c) {
    return sx(bits(c, 12, 1) << 9 | bits(c, 6, 1) << 4 | bits(c, 5, 1) << 6 | bits(c, 3, 2) << 7 |
                  bits(c, 2, 1) << 5,
              10);
}
constexpr i32 c_imm_cj(u32 c) {
    return sx(bits(c, 12, 1) << 11 | bits(c, 11, 1) << 4 | bits(c, 9, 2) << 8 | bits(c, 8, 1) << 10 |
                  bits(c, 7, 1) << 6 | bits(c, 6, 1) << 7 | bits(c, 3, 3) << 1 | bits(c, 2, 1) << 5,
              12);
}
constexpr i32 c_imm_cb(u32 c) {
    return sx(bits(c, 12, 1) << 8 | bits(c, 10, 2) << 3 | bits(c, 5, 2) << 6 | bits(c, 3, 2) << 1 |
                  bits(c, 2, 1) << 5,
              9);
}
constexpr i32 c_imm_lwsp(u32 c) {
    return static_cast<i32>(bits(c, 12, 1) << 5 | bits(c, 4, 3) << 2 | bits(c, 2, 2) << 6);
}
constexpr i32 c_imm_ldsp(u32 c) {
    return static_cast<i32>(bits(c, 12, 1) << 5 | bits(c, 5, 2) << 3 | bits(c, 2, 3) << 6);
}
constexpr i32 c_imm_swsp(u32 c) {
    return static_cast<i32>(bits(c, 9, 4) << 2 | bits(c, 7, 2) << 6);
}
constexpr i32 c_imm_sdsp(u32 c) {
    return static_cast<i32>(bits(c, 10, 3) << 3 | bits(c, 7, 3) << 6);
}

std::vector<InstructionInfo> build_table() {
    std::vector<InstructionInfo> table;
    Extension extension{};
#define EXTENSION(name) extension = Extension::name;
#define INSN(id, name, mask, match, format, flags, ...) \
    table.push_back({name, mask, match, Format::format, flag_##flags, extension, false});
#define VINSN(id, name, mask, match, format, ...) INSN(id, name, mask, match, format, 0)
#include "riscv/isa/all.def"
#undef VINSN
#undef INSN
#define CINSN(id, name, mask, match, condition, expansion) \
    table.push_back({name, mask, match, Format::C, 0, extension, true});
#include "riscv/isa/compressed.def"
#undef CINSN
#undef EXTENSION
    return table;
}

const std::vector<InstructionInfo>& table() {
    static const std::vector<InstructionInfo> instance = build_table();
    return instance;
}

// Candidates by major opcode and funct3, so that decoding looks at a handful of table rows.
struct Index {
    std::array<std::vector<u16>, 32 * 8> rows;
    Index() {
        for (u16 op = 0; op < static_cast<u16>(Opcode::illegal); ++op) {
            const InstructionInfo& entry = table()[op];
            for (u32 funct3 = 0; funct3 < 8; ++funct3) {
                const u32 fixed = entry.mask & 0x7000;
                if ((funct3 << 12 & fixed) != (entry.match & fixed)) continue;
                rows[bits(entry.match, 2, 5) * 8 + funct3].push_back(op);
            }
        }
    }
};

constexpr const char* x_names[32] = {"zero", "ra", "sp", "gp", "tp",  "t0",  "t1", "t2", "s0", "s1", "a0",
                                     "a1",   "a2", "a3", "a4", "a5",  "a6",  "a7", "s2", "s3", "s4", "s5",
                                     "s6",   "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6"};
constexpr const char* f_names[32] = {"ft0", "ft1", "ft2",  "ft3",  "ft4", "ft5", "ft6",  "ft7",
                                     "fs0", "fs1", "fa0",  "fa1",  "fa2", "fa3", "fa4",  "fa5",
                                     "fa6", "fa7", "fs2",  "fs3",  "fs4", "fs5", "fs6",  "fs7",
                                     "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11"};
constexpr const char* rounding_names[8] = {"rne", "rtz", "rdn", "rup", "rmm", "?5", "?6", "dyn"};

// vtype as the assembler has it; one with a reserved field as a number.
std::string vtype_text(u32 value) {
    static constexpr const char* lmuls[8] = {"m1", "m2", "m4", "m8", nullptr, "mf8", "mf4", "mf2"};
    if (value >> 8 != 0 || bits(value, 3, 3) > 3 || lmuls[value & 7] == nullptr) return std::to_string(value);
    return "e" + std::to_string(8u << bits(value, 3, 3)) + "," + lmuls[value & 7] +
           (bit(value, 6) ? ",ta" : ",tu") + (bit(value, 7) ? ",ma" : ",mu");
}

std::string fence_set(u32 bits4) {
    std::string text;
    for (unsigned i = 0; i < 4; ++i) {
        if (bits4 & (8u >> i)) text += "iorw"[i];
    }
    return text.empty() ? "0" : text;
}

std::string vector_operands(Format format, u32 raw) {
    const auto v = [&](unsigned low) { return "v" + std::to_string(bits(raw, low, 5)); };
    const std::string vd = v(7), vs1 = v(15), vs2 = v(20), mask = bit(raw, 25) ? "" : ",v0.t";
    const std::string rd = x_names[bits(raw, 7, 5)], rs1 = x_names[bits(raw, 15, 5)];
    const std::string fs1 = f_names[bits(raw, 15, 5)];
    const std::string simm = std::to_string(sign_extend(bits(raw, 15, 5), 5));
    const std::string uimm = std::to_string(bits(raw, 15, 5));
    switch (format) {
        case Format::VSETVLI:
            return rd + "," + rs1 + "," + vtype_text(bits(raw, 20, 11));
        case Format::VSETIVLI:
            return rd + "," + uimm + "," + vtype_text(bits(raw, 20, 10));
        case Format::VSETVL:
            return rd + "," + rs1 + "," + x_names[bits(raw, 20, 5)];
        case Format::VL:
            return vd + ",(" + rs1 + ")" + mask;
        case Format::VLS:
            return vd + ",(" + rs1 + ")," + x_names[bits(raw, 20, 5)] + mask;
        case Format::VLX:
            return vd + ",(" + rs1 + ")," + vs2 + mask;
        case Format::VVV:
            return vd + "," + vs2 + "," + vs1 + mask;
        case Format::VVX:
            return vd + "," + vs2 + "," + rs1 + mask;
        case Format::VVI:
            return vd + "," + vs2 + "," + simm + mask;
        case Format::VVU:
            return vd + "," + vs2 + "," + uimm + mask;
        case Format::VVU6:
            return vd + "," + vs2 + "," + std::to_string(bits(raw, 15, 5) | bits(raw, 26, 1) << 5) + mask;
        case Format::VVF:
            return vd + "," + vs2 + "," + fs1 + mask;
        case Format::VMV:
            return vd + "," + vs1 + "," + vs2 + mask;
        case Format::VMX:
            return vd + "," + rs1 + "," + vs2 + mask;
        case Format::VMF:
            return vd + "," + fs1 + "," + vs2 + mask;
        case Format::VVVM:
            return vd + "," + vs2 + "," + vs1 + ",v0";
        case Format::VVXM:
            return vd + "," + vs2 + "," + rs1 + ",v0";
        case Format::VVIM:
            return vd + "," + vs2 + "," + simm + ",v0";
        case Format::VVFM:
            return vd + "," + vs2 + "," + fs1 + ",v0";
        case Format::V1:
            return vd + "," + vs1;
        case Format::VX:
            return vd + "," + rs1;
        case Format::VI:
            return vd + "," + simm;
        case Format::VF:
            return vd + "," + fs1;
        case Format::V2:
            return vd + "," + vs2 + mask;
        case Format::VD:
            return vd + mask;
        case Format::XV2:
            return rd + "," + vs2 + mask;
        case Format::FV2:
            return std::string(f_names[bits(raw, 7, 5)]) + "," + vs2;
        default:
            return "";
    }
}

}  // namespace

std::span<const InstructionInfo> instructions() {
    return table();
}

const InstructionInfo& info(Opcode opcode) {
    return table()[static_cast<u16>(opcode)];
}

const InstructionInfo& info(CompressedOpcode opcode) {
    return table()[static_cast<std::size_t>(Opcode::illegal) + static_cast<std::size_t>(opcode)];
}

const char* format_name(Format format) {
    static constexpr const char* names[] = {
        "NONE",     "R",      "R1",     "I",     "SHAMT6",  "SHAMT5", "S",     "B",    "U",
        "J",        "FENCE",  "FENCEI", "CSR",   "CSRI",    "SFENCE", "CBO",   "AMO",  "LR",
        "HLV",      "HSV",    "FL",     "FST",   "FFFF_RM", "FFF_RM", "FF_RM", "FFF",  "XFF",
        "XF",       "FX",     "XF_RM",  "FX_RM", "FLI",     "MOPR",   "MOPRR", "RNUM", "VSETVLI",
        "VSETIVLI", "VSETVL", "VL",     "VLS",   "VLX",     "VVV",    "VVX",   "VVI",  "VVU",
        "VVU6",     "VVF",    "VMV",    "VMX",   "VMF",     "VVVM",   "VVXM",  "VVIM", "VVFM",
        "V1",       "VX",     "VI",     "VF",    "V2",      "VD",     "XV2",   "FV2",  "C"};
    return names[static_cast<unsigned>(format)];
}

Opcode identify(u32 raw, const IsaConfig* isa) {
    static const Index index;
    if ((raw & 3) != 3) return Opcode::illegal;
    for (const u16 op : index.rows[bits(raw, 2, 5) * 8 + bits(raw, 12, 3)]) {
        const InstructionInfo& entry = table()[op];
        if ((raw & entry.mask) != entry.match) continue;
        if (isa != nullptr && !isa->has(static_cast<Opcode>(op))) continue;
        // Static rounding modes 5 and 6 are reserved (chapter 20, "Floating-Point Control and Status
        // Register").
        const u32 rm = bits(raw, 12, 3);
        const bool rounds = entry.format == Format::FFFF_RM || entry.format == Format::FFF_RM ||
                            entry.format == Format::FF_RM || entry.format == Format::XF_RM ||
                            entry.format == Format::FX_RM;
        if (rounds && (rm == 5 || rm == 6)) return Opcode::illegal;
        // AES has ten rounds at most beside the one of the number 10 itself (chapter "Scalar Cryptography").
        if (entry.format == Format::RNUM && bits(raw, 20, 4) > 10) return Opcode::illegal;
        return static_cast<Opcode>(op);
    }
    return Opcode::illegal;
}

u32 expand(u16 compressed, const IsaConfig* isa) {
    const u32 c = compressed;
    const u32 RD = bits(c, 7, 5);
    const u32 RS2 = bits(c, 2, 5);
    const u32 RDC = bits(c, 2, 3) + 8;
    const u32 RS1C = bits(c, 7, 3) + 8;
#define EXTENSION(name)
#define CINSN(id, name, mask, match, condition, expansion)                                            \
    if ((c & (mask)) == (match) && (condition) && (isa == nullptr || isa->has(CompressedOpcode::id))) \
        return (expansion);
#include "riscv/isa/compressed.def"
#undef CINSN
#undef EXTENSION
    return 0;
}

i32 immediate(Format format, u32 raw) {
    switch (format) {
        case Format::I:
        case Format::FL:
            return static_cast<i32>(raw) >> 20;
        case Format::SHAMT6:
            return static_cast<i32>(bits(raw, 20, 6));
        case Format::SHAMT5:
            return static_cast<i32>(bits(raw, 20, 5));
        case Format::RNUM:
            return static_cast<i32>(bits(raw, 20, 4));
        case Format::S:
        case Format::FST:
            return sx(bits(raw, 7, 5) | bits(raw, 25, 7) << 5, 12);
        case Format::B:
            return sx(
                bits(raw, 8, 4) << 1 | bits(raw, 25, 6) << 5 | bits(raw, 7, 1) << 11 | bits(raw, 31, 1) << 12,
                13);
        case Format::U:
            return static_cast<i32>(raw & 0xfffff000u);
        case Format::J:
            return sx(bits(raw, 21, 10) << 1 | bits(raw, 20, 1) << 11 | bits(raw, 12, 8) << 12 |
                          bits(raw, 31, 1) << 20,
                      21);
        case Format::CSR:
        case Format::CSRI:
            return static_cast<i32>(raw >> 20);
        default:
            return 0;
    }
}

const char* register_abi_name(unsigned x) {
    return x < 32 ? x_names[x] : "?";
}

const char* float_abi_name(unsigned f) {
    return f < 32 ? f_names[f] : "?";
}

const char* csr_name(u16 number) {
    for (const CsrInfo& entry : csrs()) {
        if (entry.number == number) return entry.name;
    }
    return nullptr;
}

std::string disassemble(u32 raw, u64 pc) {
    char text[96];
    const bool compressed = is_compressed(raw);
    const u32 full = compressed ? expand(static_cast<u16>(raw)) : raw;
    const Opcode op = identify(full);
    if (op == Opcode::illegal) {
        std::snprintf(text, sizeof text, compressed ? ".2byte 0x%04x" : ".4byte 0x%08x",
                      compressed ? raw & 0xffff : raw);
        return text;
    }
    const InstructionInfo& entry = info(op);
    const char* rd = x_names[bits(full, 7, 5)];
    const char* rs1 = x_names[bits(full, 15, 5)];
    const char* rs2 = x_names[bits(full, 20, 5)];
    const char* fd = f_names[bits(full, 7, 5)];
    const char* fs1 = f_names[bits(full, 15, 5)];
    const char* fs2 = f_names[bits(full, 20, 5)];
    const char* fs3 = f_names[bits(full, 27, 5)];
    const i32 imm = immediate(entry.format, full);
    const unsigned long long target = pc + static_cast<u64>(static_cast<i64>(imm));
    const u32 rm = bits(full, 12, 3);
    std::string rounding = rm == 7 ? "" : std::string(",") + rounding_names[rm];
    std::string name = entry.name;
    auto format = [&](const char* pattern, auto... arguments) {
        std::snprintf(text, sizeof text, pattern, arguments...);
        return name + " " + text;
    };
    switch (entry.format) {
        case Format::NONE:
        case Format::FENCEI:
        case Format::C:
            return name;
        case Format::R:
            return format("%s,%s,%s", rd, rs1, rs2);
        case Format::R1:
            return format("%s,%s", rd, rs1);
        case Format::I:
            if (op == Opcode::jalr || (full & 0x7f) == 0x03) return format("%s,%d(%s)", rd, imm, rs1);
            return format("%s,%s,%d", rd, rs1, imm);
        case Format::SHAMT6:
        case Format::SHAMT5:
        case Format::RNUM:
            return format("%s,%s,%d", rd, rs1, imm);
        case Format::S:
            return format("%s,%d(%s)", rs2, imm, rs1);
        case Format::B:
            return format("%s,%s,0x%llx", rs1, rs2, target);
        case Format::U:
            return format("%s,0x%x", rd, static_cast<u32>(imm) >> 12);
        case Format::J:
            return format("%s,0x%llx", rd, target);
        case Format::FENCE:
            return format("%s,%s", fence_set(bits(full, 24, 4)).c_str(),
                          fence_set(bits(full, 20, 4)).c_str());
        case Format::CSR:
        case Format::CSRI: {
            const u16 number = static_cast<u16>(full >> 20);
            char fallback[8];
            std::snprintf(fallback, sizeof fallback, "0x%x", number);
            const char* csr_text = csr_name(number) ? csr_name(number) : fallback;
            if (entry.format == Format::CSR) return format("%s,%s,%s", rd, csr_text, rs1);
            return format("%s,%s,%u", rd, csr_text, bits(full, 15, 5));
        }
        case Format::SFENCE:
            return format("%s,%s", rs1, rs2);
        case Format::CBO:
            return format("(%s)", rs1);
        case Format::AMO:
        case Format::LR:
            name += bit(full, 26) ? (bit(full, 25) ? ".aqrl" : ".aq") : (bit(full, 25) ? ".rl" : "");
            if (entry.format == Format::LR) return format("%s,(%s)", rd, rs1);
            return format("%s,%s,(%s)", rd, rs2, rs1);
        case Format::HLV:
            return format("%s,(%s)", rd, rs1);
        case Format::HSV:
            return format("%s,(%s)", rs2, rs1);
        case Format::FL:
            return format("%s,%d(%s)", fd, imm, rs1);
        case Format::FST:
            return format("%s,%d(%s)", fs2, imm, rs1);
        case Format::FFFF_RM:
            return format("%s,%s,%s,%s%s", fd, fs1, fs2, fs3, rounding.c_str());
        case Format::FFF_RM:
            return format("%s,%s,%s%s", fd, fs1, fs2, rounding.c_str());
        case Format::FF_RM:
            return format("%s,%s%s", fd, fs1, rounding.c_str());
        case Format::FFF:
            return format("%s,%s,%s", fd, fs1, fs2);
        case Format::XFF:
            return format("%s,%s,%s", rd, fs1, fs2);
        case Format::XF:
            return format("%s,%s", rd, fs1);
        case Format::FX:
            return format("%s,%s", fd, rs1);
        case Format::XF_RM:
            return format("%s,%s%s", rd, fs1, rounding.c_str());
        case Format::FX_RM:
            return format("%s,%s%s", fd, rs1, rounding.c_str());
        case Format::FLI:
            return format("%s,%u", fd, bits(full, 15, 5));
        case Format::MOPR:
            name += "." + std::to_string(bits(full, 20, 2) | bits(full, 26, 2) << 2 | bits(full, 30, 1) << 4);
            return format("%s,%s", rd, rs1);
        case Format::MOPRR:
            name += "." + std::to_string(bits(full, 26, 2) | bits(full, 30, 1) << 2);
            return format("%s,%s,%s", rd, rs1, rs2);
        default:
            return name + " " + vector_operands(entry.format, full);
    }
}

}  // namespace wirt::riscv
