// Which special forms and pairs (isa/fused.def) a decoded block's slots become.
#include <array>
#include <vector>

#include "riscv/block.h"
#include "riscv/csr_fields.h"
#include "riscv/interpreter.h"
#include "riscv/softfloat.h"

namespace wirt::riscv {

namespace {

// What the conditions of the table are made of.
#define B_USES_A (b.rs1 == a.rd)
#define B_USES_A_AS_RS2 (b.rs2 == a.rd)
#define DYNAMIC ((a.imm >> 8) == 7)
#define DYNAMIC_B ((b.imm >> 8) == 7)
#define HOST_FMA fp::detail::host_has_fma

struct SpecialRule {
    Opcode of;
    u16 handler;
    bool (*fits)(const Insn& a);
};

struct PairRule {
    Opcode first;
    Opcode second;
    u16 handler;
    bool (*fits)(const Insn& a, const Insn& b);
};

constexpr SpecialRule specials[] = {
#define SPECIAL(id, of, condition, ...) {Opcode::of, op_##id, [](const Insn& a) { return condition; }},
#define FUSED(...)
#define TRIPLE(...)
#include "riscv/isa/fused.def"
#undef SPECIAL
#undef FUSED
#undef TRIPLE
};

constexpr PairRule pairs[] = {
#define SPECIAL(...)
#define TRIPLE(...)
#define FUSED(id, first, second, condition, ...) \
    {Opcode::first, Opcode::second, op_##id,     \
     []([[maybe_unused]] const Insn& a, [[maybe_unused]] const Insn& b) -> bool { return condition; }},
#include "riscv/isa/fused.def"
#undef SPECIAL
#undef FUSED
#undef TRIPLE
};

struct TripleRule {
    Opcode first;
    Opcode second;
    Opcode third;
    u16 handler;
    bool (*fits)(const Insn& a, const Insn& b, const Insn& c);
};

constexpr TripleRule triples[] = {
#define SPECIAL(...)
#define FUSED(...)
#define TRIPLE(id, first, second, third, condition, ...)                \
    {Opcode::first, Opcode::second, Opcode::third, op_##id,             \
     []([[maybe_unused]] const Insn& a, [[maybe_unused]] const Insn& b, \
        [[maybe_unused]] const Insn& c) -> bool { return condition; }},
#include "riscv/isa/fused.def"
#undef SPECIAL
#undef FUSED
#undef TRIPLE
};

// The rules by what their first instruction is.
struct Index {
    static constexpr std::size_t opcodes = static_cast<std::size_t>(Opcode::illegal) + 1;
    std::array<std::vector<const SpecialRule*>, opcodes> special;
    std::array<std::vector<const PairRule*>, opcodes> pair;
    std::array<std::vector<const TripleRule*>, opcodes> triple;
    Index() {
        for (const SpecialRule& rule : specials) special[static_cast<std::size_t>(rule.of)].push_back(&rule);
        for (const PairRule& rule : pairs) pair[static_cast<std::size_t>(rule.first)].push_back(&rule);
        for (const TripleRule& rule : triples) triple[static_cast<std::size_t>(rule.first)].push_back(&rule);
    }
};

}  // namespace

void fuse(Insn* slots, const u16* ops, unsigned count, const void* const* handlers) {
    static const Index index;
    for (unsigned i = 0; i < count; ++i) {
        for (const SpecialRule* rule : index.special[ops[i]]) {
            if (!rule->fits(slots[i])) continue;
            slots[i].handler = handlers[rule->handler];
            break;
        }
    }
    // How many slots are one from slot i on.
    const auto fused_at = [&](unsigned i) -> unsigned {
        for (const TripleRule* rule : index.triple[ops[i]]) {
            if (i + 2 >= count || static_cast<u16>(rule->second) != ops[i + 1] ||
                static_cast<u16>(rule->third) != ops[i + 2] ||
                !rule->fits(slots[i], slots[i + 1], slots[i + 2]))
                continue;
            slots[i].handler = handlers[rule->handler];
            return 3;
        }
        for (const PairRule* rule : index.pair[ops[i]]) {
            if (static_cast<u16>(rule->second) != ops[i + 1] || !rule->fits(slots[i], slots[i + 1])) continue;
            slots[i].handler = handlers[rule->handler];
            return 2;
        }
        return 1;
    };
    for (unsigned i = 0; i + 1 < count;) i += fused_at(i);
}

}  // namespace wirt::riscv
