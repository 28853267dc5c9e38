// Vector bit manipulation (Zvbb, Zvkb) and carryless multiplication (Zvbc): Vector Cryptography 1.0,
// chapter 3.
#include <bit>

#include "riscv/crypto.h"
#include "riscv/vector/integer_loops.h"

namespace wirt::riscv::vector {

namespace {

template <typename T>
constexpr T reverse_bytes(T x) {
    return static_cast<T>(__builtin_bswap64(x) >> (64 - width_of<T>));
}

#define WIRT_UNARY(Name, expression)           \
    struct Name {                              \
        template <typename T>                  \
        static constexpr T apply(T a) {        \
            return static_cast<T>(expression); \
        }                                      \
    };
WIRT_UNARY(ReverseBitsInBytes, crypto::reverse_in_bytes(a))
WIRT_UNARY(ReverseBytes, reverse_bytes<T>(a))
WIRT_UNARY(ReverseBits, reverse_bytes<T>(static_cast<T>(crypto::reverse_in_bytes(a))))
WIRT_UNARY(LeadingZeros, std::countl_zero(a))
WIRT_UNARY(TrailingZeros, std::countr_zero(a))
WIRT_UNARY(PopulationCount, std::popcount(a))
#undef WIRT_UNARY

template <typename Operation>
Result unary(Op& op) {
    if (!op.same_width<vx>()) return Result::illegal;
    by_width(op.unit.sew(), [&]<typename T>() {
        T* const d = op.group<T>(op.vd());
        const T* const a = op.group<T>(op.vs2());
        op.each([=](u64 i) { d[i] = Operation::template apply<T>(a[i]); });
    });
    return Result::done;
}

// Its amount has six bits, of which the highest is bit 26 of the instruction.
Result rotate_right_immediate(Op& op) {
    if (!op.same_width<vu>()) return Result::illegal;
    binary_loop<RotateRight>(op, op.uimm() | static_cast<u64>(bit(op.raw, 26)) << 5);
    return Result::done;
}

struct CarrylessMul {
    static u64 apply(u64 a, u64 b) { return crypto::carryless_product(a, b).low; }
};
struct CarrylessMulHigh {
    static u64 apply(u64 a, u64 b) { return crypto::carryless_product(a, b).high; }
};

// Of 64 bits only.
template <typename Operation, Form form>
Result carryless(Op& op) {
    if (!op.same_width<form>() || op.unit.sew() != 3) return Result::illegal;
    u64* const d = op.group<u64>(op.vd());
    const u64 *const a = op.group<u64>(op.vs2()), *const b = op.group<u64>(op.vs1());
    const u64 scalar = op.rs1();
    op.each([=](u64 i) { d[i] = Operation::apply(a[i], form == vv ? b[i] : scalar); });
    return Result::done;
}

}  // namespace

#define VINSN WIRT_VECTOR_FUNCTION
#include "riscv/isa/zvbb.def"
#include "riscv/isa/zvbc.def"
#include "riscv/isa/zvkb.def"
#undef VINSN

}  // namespace wirt::riscv::vector
